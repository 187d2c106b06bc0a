//! Who proposes: turns by voting power, and a bench for those who stayed silent.
//!
//! A dead proposer would cost its round a timeout at every turn. So a decided block shows who was
//! scheduled before its proposer and stayed silent; those are benched for a number of heights that grows with
//! each miss. A benched validator still votes, and proposes in later rounds when all others fail. No more power is
//! benched than may be faulty: when a bad network silences more, some of them are sound, and fewer and fewer proposers
//! would decide for long what is ordered. Everything here is a function of decided headers, and the state root commits
//! to it.

use std::collections::BTreeMap;

use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

use crate::block::{Height, Round};
use crate::committee::{Committee, Validator, ValidatorId};
use crate::encoding::{decode_bounded, encode_items, items_length};
use crate::limits::{BENCH_FACTOR, BENCH_HEIGHTS_BASE, BENCH_HEIGHTS_MAX, COMMITTEE_MAX};

/// Turns per validator of average power in one cycle: how finely power is honoured.
const TURNS_PER_VALIDATOR: u64 = 16;

/// The validators on the bench.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rotation {
    benched: BTreeMap<ValidatorId, Bench>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bench {
    misses: u32,
    until: Height,
}

#[derive(RlpEncodable, RlpDecodable)]
struct BenchEntry {
    id: ValidatorId,
    misses: u32,
    until: Height,
}

impl Rotation {
    /// Indices of all validators in the order in which they propose at `height`: position = round.
    /// Starts at the height's turn; benched validators come last.
    pub fn order(&self, committee: &Committee, height: Height) -> Vec<usize> {
        let turns = committee.turns();
        let start = usize::try_from(height.0 % turns.len() as u64).unwrap_or(0);
        let count = committee.validators().len();
        let mut seen = vec![false; count];
        let (mut ready, mut benched) = (Vec::with_capacity(count), Vec::new());
        for turn in turns[start..].iter().chain(&turns[..start]) {
            let index = *turn as usize;
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            if self.is_benched(committee.validators()[index].id, height) {
                benched.push(index);
            } else {
                ready.push(index);
            }
            if ready.len() + benched.len() == count {
                break;
            }
        }
        ready.extend(benched);
        ready
    }

    /// Index of the proposer of `height` and `round`.
    pub fn proposer(&self, committee: &Committee, height: Height, round: Round) -> usize {
        let order = self.order(committee, height);
        order[round.0 as usize % order.len()]
    }

    /// Whether `id` is passed over at `height` while others are ready.
    pub fn is_benched(&self, id: ValidatorId, height: Height) -> bool {
        self.benched.get(&id).is_some_and(|bench| height < bench.until)
    }

    /// Takes note of the decided block of `height`: its proposer is forgiven, those scheduled before it are benched
    /// (as many as may be faulty, and nobody who may not), and those who left the committee are forgotten. Nothing
    /// changes for a proposer who is no member.
    pub fn decided(&mut self, committee: &Committee, height: Height, proposer: ValidatorId) {
        if committee.index_of(proposer).is_none() {
            return;
        }
        self.benched.retain(|id, _| committee.index_of(*id).is_some());
        let faulty_max = committee.total_power() - committee.quorum();
        for index in self.order(committee, height) {
            let Validator { id, power, .. } = committee.validators()[index];
            if id == proposer {
                break;
            }
            if self.is_benched(id, height) || faulty_max < power {
                continue;
            }
            let misses = self.benched.get(&id).map_or(1, |bench| bench.misses.saturating_add(1));
            let grown = BENCH_FACTOR.saturating_pow(misses - 1);
            let heights = BENCH_HEIGHTS_BASE.saturating_mul(grown).min(BENCH_HEIGHTS_MAX);
            self.benched.insert(
                id,
                Bench {
                    misses,
                    until: Height(height.0.saturating_add(heights)),
                },
            );
        }
        self.benched.remove(&proposer);
        self.let_back(committee, height, faulty_max);
    }

    /// Lets the benched propose again until no more power is on the bench than may be faulty: first those who would be
    /// back soonest, of equals the one with the lowest id. Their misses still count. While more are silent than may be
    /// faulty, each height may so cost a timeout for those too many.
    fn let_back(&mut self, committee: &Committee, height: Height, faulty_max: u64) {
        let mut power: u64 = committee
            .validators()
            .iter()
            .filter(|validator| self.is_benched(validator.id, height.next()))
            .map(|validator| validator.power)
            .sum();
        while faulty_max < power {
            let benched = self.benched.iter_mut().filter(|(_, bench)| height.next() < bench.until);
            let Some((id, bench)) = benched.min_by_key(|(id, bench)| (bench.until, **id)) else {
                return;
            };
            bench.until = height;
            let index = committee.index_of(*id);
            power -= index.map_or(0, |index| committee.validators()[index].power);
        }
    }

    fn entries(&self) -> Vec<BenchEntry> {
        self.benched
            .iter()
            .map(|(id, bench)| BenchEntry {
                id: *id,
                misses: bench.misses,
                until: bench.until,
            })
            .collect()
    }
}

impl Encodable for Rotation {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        encode_items(&self.entries(), out);
    }

    fn length(&self) -> usize {
        items_length(&self.entries())
    }
}

impl Decodable for Rotation {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let entries: Vec<BenchEntry> = decode_bounded(buf, COMMITTEE_MAX)?;
        if entries.windows(2).any(|pair| pair[1].id <= pair[0].id) {
            return Err(alloy_rlp::Error::Custom("benched validators are out of order"));
        }
        let benched = entries
            .into_iter()
            .map(|e| {
                (
                    e.id,
                    Bench {
                        misses: e.misses,
                        until: e.until,
                    },
                )
            })
            .collect();
        Ok(Self { benched })
    }
}

/// One cycle of turns by smooth weighted round robin: in every stretch of the cycle each validator
/// appears in proportion to its power, to within one turn.
pub(crate) fn turns(validators: &[Validator], total_power: u64) -> Vec<u32> {
    let equal = validators.iter().all(|v| v.power == validators[0].power);
    let per_cycle = if equal { 1 } else { TURNS_PER_VALIDATOR } * validators.len() as u64;
    let weights: Vec<i128> = validators
        .iter()
        .map(|v| i128::from(v.power) * i128::from(per_cycle) / i128::from(total_power))
        .map(|weight| weight.max(1))
        .collect();
    let sum: i128 = weights.iter().sum();
    let mut credit = vec![0_i128; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..sum {
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight;
        }
        // The first of those with the most credit, so that the order is one on every machine.
        let (mut chosen, mut most) = (0, credit[0]);
        for (index, value) in credit.iter().enumerate() {
            if most < *value {
                (chosen, most) = (index, *value);
            }
        }
        credit[chosen] -= sum;
        turns.push(u32::try_from(chosen).unwrap_or(0));
    }
    turns
}
