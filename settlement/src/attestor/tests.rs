//! Networks of attestors with a wire between them that loses, repeats and reorders; encodings that differ by member.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use fusion_types::{BatchDomain, BlockId, Epoch, Height, L1Origin, NetworkId};
use proptest::prelude::*;

use super::*;

const TURN: Duration = Duration::from_secs(5);
const REPEAT: Duration = Duration::from_secs(2);

fn domain() -> BatchDomain {
    BatchDomain {
        chain_id: 1,
        inbox: Address::repeat_byte(9),
    }
}

fn batch(number: u64, content: u8) -> Batch {
    Batch {
        network: NetworkId(B256::repeat_byte(1)),
        number,
        epoch: Epoch(0),
        first_height: Height(number + 1),
        last_height: Height(number + 1),
        parent: B256::ZERO,
        last_block: BlockId(B256::repeat_byte(content)),
        namespaces: B256::ZERO,
        l1_origin: L1Origin::default(),
        forced_to: 0,
        forced_hash: B256::ZERO,
        next_committee: B256::ZERO,
        faults: B256::ZERO,
    }
}

fn key(member: usize) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256([u8::try_from(member).unwrap(), 7])).unwrap()
}

fn roster(members: usize) -> Vec<Address> {
    (0..members).map(|member| key(member).address()).collect()
}

fn attestor(own: Option<usize>, members: usize) -> Attestor {
    let config = AttestorConfig {
        domain: domain(),
        roster: roster(members),
        own,
        turn: TURN,
        repeat: REPEAT,
    };
    Attestor::new(config, 0)
}

fn attest(member: usize, number: u64, hash: B256, data: B256) -> Attestation {
    let mut attestation = Attestation {
        epoch: Epoch(0),
        number,
        batch: hash,
        data,
        signature: B512::ZERO,
    };
    let signature = key(member).sign_hash_sync(&attestation.digest(&domain())).unwrap();
    attestation.signature = pack(&signature);
    attestation
}

/// Every member encodes alike in length only.
fn encoding(member: usize, number: u64) -> (B256, Bytes) {
    let payload = Bytes::from(format!("batch {number} as {member} has it").into_bytes());
    (keccak256(&payload), payload)
}

/// Whether L1's verifier would take a certificate, written from its README alone.
fn is_good(certificate: &[u8], members: usize, number: u64, data: B256) -> bool {
    let width = members.div_ceil(8);
    let (bitmap, signatures) = certificate.split_at(width);
    let signers: Vec<usize> = (0..members)
        .filter(|member| bitmap[width - 1 - member / 8] >> (member % 8) & 1 == 1)
        .collect();
    let spare = bitmap.iter().map(|byte| byte.count_ones() as usize).sum::<usize>() - signers.len();
    let hash = batch(number, 1).hash();
    spare == 0
        && signatures.len() == 64 * signers.len()
        && signers.len() >= members - (members - 1) / 3
        && signers
            .iter()
            .zip(signatures.chunks(64))
            .all(|(member, signature)| attest(*member, number, hash, data).signature == B512::from_slice(signature))
}

/// What goes from one member to another.
#[derive(Clone, Debug)]
enum Wire {
    Offer(Offer),
    Attest(Attestation),
}

struct Network {
    members: Vec<Option<Attestor>>,
    wire: Vec<(usize, Wire)>,
    certified: Vec<BTreeSet<u64>>,
    now: Duration,
}

impl Network {
    fn new(members: usize, dead: &[usize]) -> Self {
        let member = |at| (!dead.contains(&at)).then(|| attestor(Some(at), members));
        Self {
            members: (0..members).map(member).collect(),
            wire: Vec::new(),
            certified: vec![BTreeSet::new(); members],
            now: Duration::ZERO,
        }
    }

    fn step(&mut self, at: usize, input: Input) {
        let Some(attestor) = &mut self.members[at] else { return };
        let outputs = attestor.step(self.now, input);
        for output in outputs {
            match output {
                Output::Encode(number) => {
                    let (data, payload) = encoding(at, number);
                    self.step(at, Input::Encoded { number, data, payload });
                }
                Output::Check { number, data, payload } => {
                    let outcome = if keccak256(&payload) == data {
                        Ok(())
                    } else {
                        Err("other bytes".to_owned())
                    };
                    self.step(at, Input::Checked { number, data, outcome });
                }
                Output::Sign {
                    number, batch, data, ..
                } => {
                    self.step(at, Input::Signed(attest(at, number, batch, data)));
                }
                Output::Offer(offer) => self.broadcast(at, &Wire::Offer(offer)),
                Output::Attest(attestation) => self.broadcast(at, &Wire::Attest(attestation)),
                Output::Certified(certified) => {
                    let number = certified.batch.number;
                    assert!(is_good(
                        &certified.certificate,
                        self.members.len(),
                        number,
                        certified.data
                    ));
                    assert_eq!(keccak256(&certified.payload), certified.data);
                    assert!(self.certified[at].insert(number), "{number} is certified twice");
                }
                Output::Refused { reason, .. } => assert_eq!(reason, "other bytes"),
                Output::Contradiction(_) => panic!("nobody contradicts itself"),
            }
        }
    }

    fn broadcast(&mut self, from: usize, message: &Wire) {
        for to in (0..self.members.len()).filter(|to| *to != from) {
            self.wire.push((to, message.clone()));
        }
    }

    fn deliver(&mut self, at: usize) {
        let (to, message) = self.wire.swap_remove(at);
        let input = match message {
            Wire::Offer(offer) => Input::Offered(offer),
            Wire::Attest(attestation) => Input::Attested(attestation),
        };
        self.step(to, input);
    }

    fn everyone(&mut self, input: impl Fn() -> Input) {
        for at in 0..self.members.len() {
            self.step(at, input());
        }
    }

    /// Until nothing is on the wire any more, for so long.
    fn settle(&mut self, seconds: u64) {
        for _ in 0..seconds {
            while !self.wire.is_empty() {
                self.deliver(0);
            }
            self.now += Duration::from_secs(1);
            self.everyone(|| Input::Tick);
        }
        while !self.wire.is_empty() {
            self.deliver(0);
        }
    }
}

#[test]
fn a_quorum_is_n_minus_a_third_of_n_minus_one() {
    let expected = [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 3),
        (5, 4),
        (6, 5),
        (7, 5),
        (9, 7),
        (10, 7),
        (64, 43),
        (128, 86),
    ];
    for (members, needed) in expected {
        assert_eq!(quorum(members), needed, "of {members}");
    }
}

#[test]
fn one_alone_certifies_at_once() {
    let mut network = Network::new(1, &[]);
    network.step(0, Input::Cut(batch(0, 1)));
    assert_eq!(network.certified[0], [0].into());
}

#[test]
fn the_first_in_turn_offers_and_all_members_have_the_certificate() {
    let mut network = Network::new(4, &[]);
    network.everyone(|| Input::Cut(batch(2, 1)));
    let offers: Vec<_> = network
        .wire
        .iter()
        .filter(|(_, m)| matches!(m, Wire::Offer(_)))
        .collect();
    assert_eq!(offers.len(), 3, "one member's offer, to three");
    let Wire::Offer(offer) = &offers[0].1 else {
        unreachable!()
    };
    assert_eq!(recover(&offer.attestation, &domain()), Some(key(2).address()));
    network.settle(0);
    assert!(network.certified.iter().all(|numbers| *numbers == [2].into()));
}

#[test]
fn whoever_is_next_offers_when_the_first_is_dead() {
    let mut network = Network::new(4, &[1]);
    network.everyone(|| Input::Cut(batch(1, 1)));
    network.settle(4);
    assert!(network.certified.iter().all(BTreeSet::is_empty), "not before its turn");
    network.settle(3);
    assert!([0, 2, 3].iter().all(|at| network.certified[*at].contains(&1)));
}

/// The defect that it is for: where a batch is one encoding, its maker can split the signatures for ever.
#[test]
fn a_maker_that_shows_everybody_another_encoding_wedges_nothing() {
    let mut network = Network::new(4, &[0]);
    network.everyone(|| Input::Cut(batch(0, 1)));
    for to in 1..4 {
        let payload = Bytes::from(format!("to {to}").into_bytes());
        let attestation = attest(0, 0, batch(0, 1).hash(), keccak256(&payload));
        network.step(to, Input::Offered(Offer { attestation, payload }));
    }
    network.settle(3);
    assert!(network.certified.iter().all(BTreeSet::is_empty));
    network.settle(4);
    assert!((1..4).all(|at| network.certified[at].contains(&0)));
}

#[test]
fn another_batch_or_other_bytes_are_not_signed_and_the_reason_is_said() {
    let mut member = attestor(Some(1), 4);
    let now = Duration::ZERO;
    member.step(now, Input::Cut(batch(0, 1)));
    let (data, payload) = encoding(0, 0);
    let attestation = attest(0, 0, batch(0, 2).hash(), data);
    let outputs = member.step(now, Input::Offered(Offer { attestation, payload }));
    let [
        Output::Refused {
            maker,
            number: 0,
            reason,
        },
    ] = &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    assert_eq!(*maker, key(0).address());
    assert!(reason.contains(&batch(0, 2).hash().to_string()) && reason.contains(&batch(0, 1).hash().to_string()));
    let (data, payload) = encoding(2, 0);
    let attestation = attest(2, 0, batch(0, 1).hash(), data);
    let outputs = member.step(
        now,
        Input::Offered(Offer {
            attestation,
            payload: payload.clone(),
        }),
    );
    assert_eq!(
        outputs,
        [Output::Check {
            number: 0,
            data,
            payload
        }]
    );
    let outcome = Err("its blocks are others".to_owned());
    let outputs = member.step(
        now,
        Input::Checked {
            number: 0,
            data,
            outcome,
        },
    );
    assert!(matches!(&outputs[..], [Output::Refused { .. }]), "{outputs:?}");
}

#[test]
fn two_batches_of_one_number_by_one_member_are_a_contradiction_and_two_data_are_none() {
    let mut member = attestor(Some(1), 4);
    let mut tell = |hash, data| member.step(Duration::ZERO, Input::Attested(attest(0, 3, hash, data)));
    let (one, two) = (B256::repeat_byte(1), B256::repeat_byte(2));
    assert_eq!(tell(one, one), []);
    assert_eq!(tell(one, two), []);
    let outputs = tell(two, one);
    let pair = (attest(0, 3, one, one), attest(0, 3, two, one));
    assert_eq!(outputs, [Output::Contradiction(Box::new(pair))]);
}

#[test]
fn strangers_far_numbers_and_damaged_signatures_leave_nothing_behind() {
    let mut member = attestor(Some(1), 4);
    let hash = batch(0, 1).hash();
    for attestation in [attest(9, 0, hash, hash), attest(0, WINDOW, hash, hash), {
        let mut damaged = attest(0, 0, hash, hash);
        damaged.signature.0[40] ^= 1;
        damaged
    }] {
        assert_eq!(member.step(Duration::ZERO, Input::Attested(attestation)), []);
    }
    assert!(member.numbers.is_empty());
}

/// A packed s has 255 bits: hardly any of them is above half of the curve's order, but those are refused as L1 refuses them.
#[test]
fn a_signature_with_a_high_s_is_nobodys() {
    let half = alloy_primitives::b256!("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0");
    let mut attestation = attest(0, 0, B256::ZERO, B256::ZERO);
    let mut with_s = |last: u8| {
        attestation.signature.0[32..].copy_from_slice(half.as_slice());
        attestation.signature.0[63] = last;
        recover(&attestation, &domain())
    };
    assert!(with_s(0xa0).is_some());
    assert_eq!(with_s(0xa1), None);
}

#[test]
fn offers_are_bounded_before_the_batch_is_known() {
    let mut member = attestor(Some(0), 7);
    for maker in 1..7 {
        let (data, payload) = encoding(maker, 0);
        let attestation = attest(maker, 0, batch(0, 1).hash(), data);
        member.step(Duration::ZERO, Input::Offered(Offer { attestation, payload }));
    }
    assert_eq!(member.numbers[&0].offers.len(), OFFERS_MAX);
    let checks = member.step(Duration::ZERO, Input::Cut(batch(0, 1)));
    let checks: Vec<_> = checks
        .iter()
        .filter_map(|output| match output {
            Output::Check { data, .. } => Some(*data),
            _ => None,
        })
        .collect();
    assert_eq!(checks.len(), OFFERS_MAX);
    // All are signed in the end, and few of their bytes are kept.
    for data in checks {
        member.step(
            Duration::ZERO,
            Input::Checked {
                number: 0,
                data,
                outcome: Ok(()),
            },
        );
    }
    for maker in [5, 6] {
        let (data, payload) = encoding(maker, 0);
        let attestation = attest(maker, 0, batch(0, 1).hash(), data);
        member.step(Duration::ZERO, Input::Offered(Offer { attestation, payload }));
        let outputs = member.step(
            Duration::ZERO,
            Input::Checked {
                number: 0,
                data,
                outcome: Ok(()),
            },
        );
        assert!(matches!(&outputs[..], [Output::Sign { .. }]), "{outputs:?}");
    }
    let held = member.numbers[&0].offers.iter().filter(|kept| !kept.payload.is_empty());
    assert_eq!(held.count(), OFFERS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever is lost, doubled or late: as long as a quorum lives, everybody alive has every certificate in the end.
    #[test]
    fn a_living_quorum_certifies_everything(
        members in 1_usize..8,
        dead in proptest::collection::btree_set(0_usize..8, 0..3),
        script in proptest::collection::vec((0_u8..8, any::<u16>()), 0..400),
    ) {
        let dead: Vec<usize> = dead.into_iter().filter(|at| *at < members).take((members - 1) / 3).collect();
        let mut network = Network::new(members, &dead);
        let mut cut = vec![0_u64; members];
        for (act, random) in script {
            let at = usize::from(random) % members;
            match act {
                0 | 1 if cut[at] < 3 => {
                    let number = cut[at];
                    cut[at] += 1;
                    network.step(at, Input::Cut(batch(number, 1)));
                }
                2 => {
                    network.now += Duration::from_millis(u64::from(random));
                    network.everyone(|| Input::Tick);
                }
                3 if !network.wire.is_empty() => {
                    let lost = usize::from(random) % network.wire.len();
                    network.wire.swap_remove(lost);
                }
                4 if !network.wire.is_empty() => {
                    let twice = network.wire[usize::from(random) % network.wire.len()].clone();
                    network.wire.push(twice);
                }
                _ if !network.wire.is_empty() => {
                    let next = usize::from(random) % network.wire.len();
                    network.deliver(next);
                }
                _ => {}
            }
        }
        for (at, next) in cut.into_iter().enumerate() {
            for number in next..3 {
                network.step(at, Input::Cut(batch(number, 1)));
            }
        }
        let alive = |at: &usize| !dead.contains(at);
        for _ in 0..60 {
            if (0..members).filter(alive).all(|at| network.certified[at].len() == 3) {
                break;
            }
            network.settle(1);
        }
        for at in (0..members).filter(alive) {
            prop_assert_eq!(&network.certified[at], &BTreeSet::from([0, 1, 2]), "member {}", at);
        }
    }
}
