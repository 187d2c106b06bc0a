//! Blocks in a core: when to propose, what to propose, whether a proposal is right, and what a decision changes.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Bytes;
use fusion_consensus::wire::{FORWARDED_MAX, TRANSACTIONS_BYTES_MAX};
use fusion_consensus::{Forwarded, Input, Message, PeerId, Recipient, Tip};
use fusion_mempool::{BlockLimits, BuildContext, CheckContext, EvmFacts, Invalid, Pool, PoolLimits, build, check};
use fusion_types::limits::{BLOCK_TRANSACTIONS_MAX, CLOCK_DRIFT_MAX_MS};
use fusion_types::{DecidedBlock, Height, RollupConfig, Round, SealedBlock, TxHash};

use super::postponed::{Asked, Until};
use super::{Action, Core, Now};
use crate::ingress;
use crate::relay::{Dispatch, Key, Outlook};
use crate::store::Record;

impl Core {
    /// When the block that consensus asks for should be proposed: at once if there is something to order or others
    /// already wait for it, but not sooner than the least interval after the last proposal; else when the idle interval
    /// has passed. Never before this node's clock allows a time above the parent's.
    pub(super) fn propose_at(&self) -> Duration {
        let later_round = self.need.is_some_and(|need| need.round > Round(0));
        let at = if later_round || self.has_work() || self.engine.is_stirred() {
            self.paced_until()
        } else {
            self.height_started + self.config.block_interval_idle
        };
        at.max(self.clock_allows_at)
    }

    /// No block is proposed before: the least interval after the last proposal.
    fn paced_until(&self) -> Duration {
        let last = self.last_proposal;
        last.map_or(Duration::ZERO, |at| at + self.config.block_interval_min)
    }

    /// Proposes if consensus waits for a block and the time has come.
    pub(super) fn try_propose(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Some(need) = self.need else { return };
        // A parent from the limit of the drift, or a clock set back: our time must not exceed what others accept.
        let due_ms = self.state.time_ms.saturating_add(1);
        let ahead_ms = due_ms.saturating_sub(now.unix_ms.saturating_add(CLOCK_DRIFT_MAX_MS / 2));
        self.clock_allows_at = now.monotonic + Duration::from_millis(ahead_ms.min(CLOCK_WAIT_MAX_MS));
        // What is due is not known: L1 is waited for, and meanwhile the round goes to the next proposer.
        if now.monotonic < self.propose_at() || !self.knows_what_is_due() {
            return;
        }
        self.need = None;
        // Without a block that passes, the round goes to the next proposer.
        let Some(block) = self.build_block(now, need.round) else {
            return;
        };
        self.log_body(&block, actions);
        self.proposed(now, &block, actions);
        self.consensus(
            now,
            Input::Propose {
                height: need.height,
                round: need.round,
                block,
            },
            actions,
        );
    }

    /// A block that passes the check that followers make. A transaction that makes it fail is not proposed again, and
    /// at last an empty block goes out: a bad transaction may cost its place, never the round.
    fn build_block(&mut self, now: Now, round: Round) -> Option<Arc<SealedBlock>> {
        let empty = Pool::new(&[], PoolLimits::default());
        for attempt in 0..=BUILD_ATTEMPTS {
            let context = BuildContext {
                network: self.network,
                epoch: self.committee.epoch(),
                committee: self.committee_hash,
                proposer: self.validator?,
                now_ms: now.unix_ms,
                state_root: self.state_root,
                l1_origin: self.origin_to_adopt(now, round),
                l1: self.l1.as_ref(),
                window: self.pool.window(),
                limits: BlockLimits {
                    bytes_target: self.block_size.bytes(round),
                    transactions_max: BLOCK_TRANSACTIONS_MAX,
                },
            };
            let pool = if attempt < BUILD_ATTEMPTS { &self.pool } else { &empty };
            let sealed = match build(pool, &self.state, &context) {
                Ok(sealed) => sealed,
                Err(error) => {
                    tracing::error!(%error, "own proposal does not seal");
                    continue;
                }
            };
            let Err(invalid) = self.check(now, &sealed) else {
                return Some(Arc::new(sealed));
            };
            tracing::error!(%invalid, height = %sealed.header().height, attempt, "own proposal fails the check");
            self.set_aside(&invalid);
        }
        None
    }

    /// Keeps the transaction that a failed proposal names from being proposed again. Other failures are not a
    /// transaction's fault.
    fn set_aside(&mut self, invalid: &Invalid) {
        if let Invalid::Repeated { rollup, hash }
        | Invalid::Undecodable { rollup, hash }
        | Invalid::NonceOrder { rollup, hash, .. }
        | Invalid::TipOrder { rollup, hash, .. } = invalid
        {
            self.pool.proposal_failed(*rollup, &[*hash]);
        }
    }

    /// Consensus asks whether a proposal is right. A right one is logged before anything can be signed for it. One
    /// whose time is still ahead of our clock gets its answer when the clock is there, and one that adopts an L1 block that
    /// we do not see yet when we see more: the only verdicts that may change. A polka is an answer to the latter too: of those
    /// who prevoted, more than a third of power is honest and saw it. Otherwise one node that is blind to L1 could hold up a
    /// height at which others are locked.
    pub(super) fn check_block(&mut self, now: Now, asked: Asked, actions: &mut Vec<Action>) -> Option<Input> {
        let Asked { height, round, block } = &asked;
        let outcome = match self.check(now, block) {
            Err(Invalid::L1Unseen(_)) if self.engine.has_polka(block.id()) => Ok(()),
            outcome => outcome,
        };
        let header = block.header();
        if self.validator != Some(header.proposer) && header.parent == self.state.block {
            let parent_ms = self.state.time_ms;
            self.clocks
                .proposed(header.proposer, header.time_ms, parent_ms, now.unix_ms);
        }
        self.proposed(now, block, actions);
        if let Err(open) = &outcome
            && open.may_pass_later()
        {
            tracing::warn!(%height, %round, proposer = %header.proposer, %open, "no answer to a proposal yet");
            let until = match open {
                Invalid::TimeAhead { given, .. } => {
                    let ahead_ms = given.saturating_sub(now.unix_ms.saturating_add(CLOCK_DRIFT_MAX_MS));
                    Until::Clock(now.monotonic + Duration::from_millis(ahead_ms.clamp(1, CLOCK_WAIT_MAX_MS)))
                }
                _ => Until::L1,
            };
            self.postponed.keep(until, asked);
            return None;
        }
        match &outcome {
            Ok(()) => self.log_body(block, actions),
            Err(invalid) => {
                let (id, proposer) = (block.id(), block.header().proposer);
                tracing::warn!(%height, %round, block = %id, %proposer, %invalid, "proposal refused");
            }
        }
        Some(Input::Checked {
            height: *height,
            round: *round,
            id: block.id(),
            valid: outcome.is_ok(),
        })
    }

    /// Looks again at proposals whose time was ahead of our clock, and, when more of L1 is known, at those that adopt what
    /// was not seen yet.
    pub(super) fn check_postponed(&mut self, now: Now, actions: &mut Vec<Action>) {
        let grew = std::mem::take(&mut self.l1_grew);
        let engine = &self.engine;
        let due = self.postponed.due(now.monotonic, |id| grew || engine.has_polka(id));
        for asked in due {
            if let Some(answer) = self.check_block(now, asked, actions) {
                self.consensus(now, answer, actions);
            }
        }
    }

    fn check(&self, now: Now, block: &SealedBlock) -> Result<(), Invalid> {
        let context = CheckContext {
            network: self.network,
            epoch: self.committee.epoch(),
            committee: &self.committee,
            committee_hash: self.committee_hash,
            now_ms: now.unix_ms,
            state_root: self.state_root,
            rollups: self.genesis.rollups(),
            l1: self.l1.as_ref(),
            window: self.pool.window(),
            facts_of: &|rollup, hash, payload| self.facts(rollup, hash, payload),
        };
        check(block, &self.state, &context)
    }

    /// The body goes to the log before our prevote for it leaves, so that a block on which nodes are locked survives
    /// the loss of power on all of them.
    fn log_body(&mut self, block: &Arc<SealedBlock>, actions: &mut Vec<Action>) {
        if self.bodies_logged.insert(block.id()) {
            actions.push(Action::Persist(Record::Body(block.clone())));
        }
    }

    fn proposed(&mut self, now: Now, block: &SealedBlock, actions: &mut Vec<Action>) {
        self.pool.proposed(block);
        if self.proposal_known {
            return;
        }
        self.proposal_known = true;
        self.last_proposal = Some(now.monotonic);
        let (outlook, pool) = (self.outlook(now), &self.pool);
        let dispatch = self.relay.proposed(
            outlook,
            block.block().transaction_count(),
            |(rollup, hash)| pool.is_in_flight(*rollup, hash),
            |(rollup, hash)| pool.get(*rollup, hash).is_some(),
        );
        self.relay_out(&dispatch, actions);
    }

    /// A block is decided: it becomes durable, the state moves on, and the next height starts.
    pub(super) fn decided(&mut self, now: Now, decided: DecidedBlock, actions: &mut Vec<Action>) -> Option<Input> {
        let block = decided.block.clone();
        let applied = if block.header().state_root == self.state_root {
            self.state
                .apply(block.block(), block.id(), &self.committee)
                .map_err(|error| error.to_string())
        } else {
            Err(format!(
                "state_root of height {} is {}, ours is {}",
                block.header().height,
                block.header().state_root,
                self.state_root
            ))
        };
        if let Err(reason) = applied {
            // More than two thirds signed what our own rules refuse: only a broken node or a broken committee gets
            // here.
            actions.push(Action::Fatal(format!(
                "a decided block does not continue the replicated state: {reason}"
            )));
            self.stopped = true;
            return None;
        }
        self.log_body(&block, actions);
        self.block_size.decided(decided.certificate.round);
        actions.push(Action::Persist(Record::Decision(decided.certificate.clone())));
        actions.push(Action::Decided(decided));
        self.state_root = self.state.root();
        // Nonces of transactions that this pool never held are not worth a signature recovery on every node.
        self.pool.decided(&block, &|_, _, _| None);
        if let Some(view) = &mut self.l1 {
            view.decided(&self.state);
        }
        self.bodies_logged.clear();
        self.postponed.clear();
        self.need = None;
        self.height_started = now.monotonic;
        self.proposal_known = false;
        self.work_told = false;
        let outlook = self.outlook(now);
        let pooled = |(rollup, hash): &Key| self.pool.get(*rollup, hash).is_some();
        let (height, count) = (block.header().height, block.block().transaction_count());
        let gone = self.relay.gone();
        let dispatch = self.relay.decided(height, count, outlook, pooled);
        // A node whose users come late to a full chain has half of its part of it at once, and grows from there.
        let part = (count / self.committee.validators().len() / 2) as u64;
        let taken = part.max(self.relay.gone() - gone);
        self.backlog.decided(now.monotonic, taken, self.waiting());
        self.relay_out(&dispatch, actions);
        let tip = Tip {
            height: block.header().height,
            id: block.id(),
        };
        Some(Input::Advanced {
            tip,
            rotation: self.state.rotation.clone(),
        })
    }

    /// Sends transactions to the validators that a dispatch names, this node left out.
    pub(super) fn relay_out(&self, dispatch: &Dispatch, actions: &mut Vec<Action>) {
        for (validator, keys) in &dispatch.to {
            let index = self
                .committee
                .index_of(*validator)
                .filter(|_| Some(*validator) != self.validator);
            if let Some(index) = index {
                let peer = PeerId(self.committee.validators()[index].peer);
                self.forward(Recipient::Peer(peer), keys, actions);
            }
        }
        self.forward(Recipient::Validators, &dispatch.to_all, actions);
    }

    /// Sends pooled transactions in messages that fit their frames.
    fn forward(&self, to: Recipient, keys: &[Key], actions: &mut Vec<Action>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut send = |batch: Vec<Forwarded>| {
            if !batch.is_empty() {
                actions.push(Action::Send {
                    to,
                    message: Message::Transactions(batch),
                });
            }
        };
        for transaction in keys.iter().filter_map(|(rollup, hash)| self.pool.get(*rollup, hash)) {
            let size = transaction.payload.len() + FORWARDED_OVERHEAD_BYTES;
            if bytes + size > TRANSACTIONS_BYTES_MAX || batch.len() == FORWARDED_MAX {
                send(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += size;
            batch.push(Forwarded {
                rollup: transaction.rollup,
                payload: transaction.payload.clone(),
                sender: transaction.evm.as_ref().map(|facts| facts.sender),
            });
        }
        send(batch);
    }

    /// Where the chain stands, for relaying.
    pub(super) fn outlook(&self, now: Now) -> Outlook {
        let height = self.state.height.next();
        let seat = |height: Height| {
            let index = self.state.rotation.proposer(&self.committee, height, Round(0));
            self.committee.validators()[index].id
        };
        Outlook {
            now: now.monotonic,
            height,
            proposed: self.proposal_known,
            closing: self.engine.has_precommitted(),
            current: seat(height),
            next: seat(height.next()),
            own: self.validator,
            members: self.committee.validators().len(),
        }
    }

    /// What a payload of an `evm` rollup says, for checking the order of a lane by priority: a function of the payload
    /// alone, or validity would differ between nodes. A signature is recovered unless this node did so before.
    fn facts(&self, rollup: &RollupConfig, hash: TxHash, payload: &Bytes) -> Option<EvmFacts> {
        let known = self.pool.recovered_facts(rollup.id, &hash);
        known.or_else(|| ingress::admit(rollup, payload.clone()).ok()?.evm)
    }
}

/// Proposals built before an empty one is: each failure sets its cause aside.
const BUILD_ATTEMPTS: u32 = 3;

/// Longest wait for our own clock in one go, in milliseconds; then it is looked at again.
const CLOCK_WAIT_MAX_MS: u64 = 1000;

/// Bytes that a forwarded transaction takes beside its payload: list and string prefixes, rollup, sender.
const FORWARDED_OVERHEAD_BYTES: usize = 48;
