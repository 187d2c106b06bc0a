//! The promises, checked from outside: nothing here calls a predicate of the code under test. Sign bytes are laid out
//! again from their description, quorums counted again, stream heads chained again.
//!
//! - *agreement*: no two nodes decide different blocks at a height; each block stands on the one below it, in time too;
//! - *certified*: a decided block comes with valid precommits of more than two thirds of the validators;
//! - *signs once*: an honest validator never signs two values for one (height, round, kind), across all its lives;
//! - *final stays final*: what a node published or a client was told is in every log that reaches so far, for ever;
//! - *gapless*: a rollup's lanes are numbered from 0 without gap or repeat, and chained; no transaction stands twice in
//!   a stream;
//! - *no false evidence*: what convicts a validator was signed by a validator that is not honest;
//! - *honest peers*: no honest node accuses an honest one of breaking the protocol, or ends itself;
//! - *contradictions are noticed*: a node that received two contradicting signatures at its height has evidence of
//!   them;
//! - *forced in order*: what was queued on L1 is consumed in its order, by the first block that may, at the head of its
//!   lane (`forced.rs`);
//! - *nonces in order*: the numbers of `evm` transactions stand in lanes, and are taken and refused, as the pool
//!   promises (`nonces.rs`);
//! - *bounded*: nothing in a node grows beyond its capacity (`bounds.rs`).

mod bounds;
mod forced;
mod nonces;

pub(crate) use bounds::Room;
pub(crate) use forced::{Forced, Terms};
pub(crate) use nonces::Nonces;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::{B256, Bytes, keccak256};
use ed25519_dalek::{Signature, VerifyingKey};
use fusion_consensus::{Evidence, Message};
use fusion_sequencer::core::CoreSizes;
use fusion_types::{BlockId, Certificate, DecidedBlock, L1Origin, TxHash, VoteKind};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which.
    pub(crate) promise: &'static str,
    /// How.
    pub(crate) what: String,
}

/// Height, round, and what was signed there: 0 proposal, 1 prevote, 2 precommit.
pub(crate) type Deed = (B256, u64, u32, u8);

/// A transaction's place: height and sequence number.
pub(crate) type Place = (u64, u64);

/// Everything that any node ever made visible.
#[derive(Debug)]
pub(crate) struct Checker {
    network: B256,
    /// Public keys of the validators, ascending, and whether each is honest.
    validators: Vec<(B256, bool)>,
    decided: BTreeMap<u64, (BlockId, u64)>,
    streams: BTreeMap<u64, (u64, B256)>,
    places: BTreeMap<(u64, TxHash), Place>,
    published: Vec<u64>,
    signed: BTreeMap<Deed, B256>,
    /// What each node received of whom is not honest.
    heard: BTreeMap<(usize, Deed), B256>,
    /// Contradictions that a node must have noticed, by validator and height: the first such node, and what was
    /// contradicted.
    contradictions: BTreeMap<(B256, u64), (usize, Deed)>,
    /// By validator and height, the highest decided height when it was first convicted.
    convicted: BTreeMap<(B256, u64), u64>,
    violation: Option<Violation>,
    pub(crate) nonces: Nonces,
    /// None where nothing settles.
    pub(crate) forced: Option<Forced>,
    room: Room,
    pub(crate) transactions: u64,
    pub(crate) later_rounds: u64,
}

impl Checker {
    pub(crate) fn new(
        network: B256,
        validators: Vec<(B256, bool)>,
        nonces: Nonces,
        room: Room,
        nodes: usize,
        terms: Option<Terms>,
    ) -> Self {
        Self {
            network,
            validators,
            decided: BTreeMap::new(),
            streams: BTreeMap::new(),
            places: BTreeMap::new(),
            published: vec![0; nodes],
            signed: BTreeMap::new(),
            heard: BTreeMap::new(),
            contradictions: BTreeMap::new(),
            convicted: BTreeMap::new(),
            violation: None,
            nonces,
            forced: terms.map(Forced::new),
            room,
            transactions: 0,
            later_rounds: 0,
        }
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Notes the first broken promise.
    pub(crate) fn fail(&mut self, promise: &'static str, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { promise, what });
        }
    }

    /// The highest decided height.
    pub(crate) fn height(&self) -> u64 {
        self.decided.last_key_value().map_or(0, |(height, _)| *height)
    }

    /// The last height that a node published.
    pub(crate) fn published(&self, node: usize) -> u64 {
        self.published[node]
    }

    /// The final place of a transaction.
    pub(crate) fn place(&self, rollup: u64, hash: &TxHash) -> Option<Place> {
        self.places.get(&(rollup, *hash)).copied()
    }

    fn is_honest(&self, validator: B256) -> bool {
        self.validators.iter().any(|(id, honest)| *id == validator && *honest)
    }

    /// A node published a decided block.
    pub(crate) fn decided(&mut self, node: usize, decided: &DecidedBlock) {
        let height = decided.block.header().height.0;
        let before = self.published[node];
        if before + 1 != height {
            self.fail(
                "gapless",
                format!("node {node} published height {height} after {before}"),
            );
        }
        self.published[node] = height;
        self.agrees(node, decided);
        for body in &decided.block.block().lanes {
            self.nonces.published(node, body.lane.rollup.0, &body.transactions);
        }
    }

    /// A node took a user's transaction of an `evm` rollup.
    pub(crate) fn took(&mut self, node: usize, rollup: u64, payload: &Bytes) {
        if let Err(what) = self.nonces.took(node, rollup, payload) {
            self.fail("nonces in order", what);
        }
    }

    /// How large the parts of a node are after a turn.
    pub(crate) fn grew(&mut self, node: usize, sizes: &CoreSizes) {
        let peers = self.validators.len() - 1;
        if let Some(what) = bounds::exceeded(sizes, &self.room, peers) {
            self.fail("bounded", format!("node {node}: {what}"));
        }
    }

    fn agrees(&mut self, node: usize, decided: &DecidedBlock) {
        let header = decided.block.header();
        let (height, id) = (header.height.0, decided.block.id());
        match self.decided.get(&height) {
            Some((first, _)) if *first != id => {
                let what = format!("height {height} is {first} and, at node {node}, {id}");
                self.fail("agreement", what);
            }
            Some(_) => {}
            None => {
                if let Some((below, time_ms)) = self.decided.get(&(height - 1)).copied()
                    && (below != header.parent || header.time_ms <= time_ms)
                {
                    let what = format!(
                        "height {height} of time {} does not follow {below} of {time_ms}",
                        header.time_ms
                    );
                    self.fail("agreement", what);
                }
                if decided.certificate.block != id || decided.certificate.height != header.height {
                    self.fail(
                        "certified",
                        format!("height {height}: the certificate is of another block"),
                    );
                }
                self.certified(&decided.certificate);
                self.decided.insert(height, (id, header.time_ms));
                self.streams_continue(decided);
                self.later_rounds += u64::from(decided.certificate.round.0 > 0);
            }
        }
    }

    fn certified(&mut self, certificate: &Certificate) {
        let mut bytes = self.place_bytes(b"fusion/v1/vote", certificate.height.0, certificate.round.0);
        bytes.extend_from_slice(&[2, 1]);
        bytes.extend_from_slice(certificate.block.0.as_slice());
        let mut signers = BTreeSet::new();
        for entry in &certificate.signatures {
            let key = self.validators.get(entry.validator as usize);
            let key = key.and_then(|(id, _)| VerifyingKey::from_bytes(&id.0).ok());
            let signature = Signature::from_bytes(&entry.signature.0);
            if key.is_some_and(|key| key.verify_strict(&bytes, &signature).is_ok()) {
                signers.insert(entry.validator);
            }
        }
        if signers.len() * 3 <= self.validators.len() * 2 {
            let (valid, members) = (signers.len(), self.validators.len());
            let what = format!(
                "height {}: {valid} valid precommits of {members} validators",
                certificate.height
            );
            self.fail("certified", what);
        }
    }

    /// `domain 32 ‖ network 32 ‖ epoch 8 ‖ height 8 ‖ round 4`, in epoch 0.
    fn place_bytes(&self, domain: &[u8], height: u64, round: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(121);
        bytes.extend_from_slice(domain);
        bytes.resize(32, 0);
        bytes.extend_from_slice(self.network.as_slice());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&height.to_be_bytes());
        bytes.extend_from_slice(&round.to_be_bytes());
        bytes
    }

    /// Whether the validator that a vote or proposal names signed it for this network.
    fn is_signed(&self, message: &Message) -> bool {
        let (signer, signature, bytes) = match message {
            Message::Vote(vote) => {
                let mut bytes = self.place_bytes(b"fusion/v1/vote", vote.height.0, vote.round.0);
                bytes.push(if vote.kind == VoteKind::Prevote { 1 } else { 2 });
                bytes.push(u8::from(vote.block.is_some()));
                bytes.extend_from_slice(vote.block.map_or(B256::ZERO, |id| id.0).as_slice());
                (vote.validator.0, vote.signature, bytes)
            }
            Message::Proposal(proposal) => {
                let mut bytes = self.place_bytes(b"fusion/v1/proposal", proposal.height.0, proposal.round.0);
                bytes.push(u8::from(proposal.valid_round.is_some()));
                let valid_round = proposal.valid_round.map_or(0, |round| round.0);
                bytes.extend_from_slice(&valid_round.to_be_bytes());
                bytes.extend_from_slice(proposal.block.0.as_slice());
                (proposal.proposer.0, proposal.signature, bytes)
            }
            _ => return false,
        };
        let key = self.validators.iter().find(|(id, _)| *id == signer);
        let key = key.and_then(|(id, _)| VerifyingKey::from_bytes(&id.0).ok());
        key.is_some_and(|key| key.verify_strict(&bytes, &Signature::from_bytes(&signature.0)).is_ok())
    }

    fn streams_continue(&mut self, decided: &DecidedBlock) {
        let height = decided.block.header().height.0;
        let by_honest = self.is_honest(decided.block.header().proposer.0);
        let forced = self.forced_first(decided);
        for body in &decided.block.block().lanes {
            let lane = &body.lane;
            let head = forced.get(&lane.rollup.0).copied().unwrap_or(0);
            if let Err(what) = self.nonces.lane(
                lane.rollup.0,
                by_honest,
                body.transactions.get(head..).unwrap_or_default(),
            ) {
                let what = format!("rollup {} at height {height}: {what}", lane.rollup);
                self.fail("nonces in order", what);
            }
            let rollup = lane.rollup.0;
            let network = self.network;
            let start = || {
                let seed = [b"fusion/v1/stream", network.as_slice(), &rollup.to_be_bytes()].concat();
                (0, keccak256(seed))
            };
            let (next, head) = *self.streams.entry(rollup).or_insert_with(start);
            if lane.first_sequence != next || lane.parent_head != head || lane.count != body.transactions.len() as u64 {
                let what = format!(
                    "rollup {rollup} at height {height}: {} transactions from {} with count {}, after {next}",
                    body.transactions.len(),
                    lane.first_sequence,
                    lane.count
                );
                self.fail("gapless", what);
            }
            for (at, payload) in body.transactions.iter().enumerate() {
                let place = (height, next + at as u64);
                if let Some(before) = self.places.insert((rollup, keccak256(payload)), place) {
                    self.fail(
                        "gapless",
                        format!("rollup {rollup}: one transaction at {before:?} and {place:?}"),
                    );
                }
            }
            self.transactions += lane.count;
            self.streams.insert(rollup, (next + lane.count, lane.head));
        }
    }

    /// How many transactions each lane begins with because they were forced in.
    fn forced_first(&mut self, decided: &DecidedBlock) -> BTreeMap<u64, usize> {
        let places = &self.places;
        let carried = |rollup: u64, hash: &TxHash| places.contains_key(&(rollup, *hash));
        let header = decided.block.header();
        let result = match &mut self.forced {
            Some(forced) => forced.decided(decided, &carried),
            None if header.forced_to.is_some() || header.l1_origin != L1Origin::default() => Err("it names L1".into()),
            None => Ok(BTreeMap::new()),
        };
        match result {
            Ok(heads) => heads,
            Err(what) => {
                self.fail("forced in order", format!("height {}: {what}", header.height));
                BTreeMap::new()
            }
        }
    }

    /// A client reads a transaction that was final at `place` from a node that says it is further.
    pub(crate) fn read(&mut self, node: usize, rollup: u64, hash: &TxHash, place: Place, found: Option<Place>) {
        if found != Some(place) {
            let what = format!("rollup {rollup}: {hash} was final at {place:?}, node {node} has {found:?}");
            self.fail("final stays final", what);
        }
    }

    /// A node restarted with a log up to `tip`: it must hold all that it ever published, and nothing else than what is
    /// decided.
    pub(crate) fn restarted(
        &mut self,
        node: usize,
        tip: u64,
        log: &dyn Fn(u64) -> Option<Arc<DecidedBlock>>,
        may_be_old: bool,
    ) {
        self.nonces.forgot(node);
        let published = self.published[node];
        if published > tip && !may_be_old {
            let what = format!("node {node} published height {published}, after a restart its log has {tip}");
            self.fail("final stays final", what);
        }
        for height in published.min(tip).max(1)..=tip {
            match log(height) {
                Some(decided) => self.agrees(node, &decided),
                None => self.fail(
                    "final stays final",
                    format!("node {node} lost height {height} of {tip}"),
                ),
            }
        }
        self.published[node] = tip;
    }

    /// An honest node sent a message.
    pub(crate) fn sent(&mut self, message: &Message) {
        let Some((deed, value)) = deed(message) else { return };
        if !self.is_signed(message) {
            self.fail("signs once", format!("a signature that does not verify: {message:?}"));
        }
        let first = *self.signed.entry(deed).or_insert(value);
        if first != value && self.is_honest(deed.0) {
            let (validator, height, round, kind) = deed;
            let kind = ["proposals", "prevotes", "precommits"][usize::from(kind)];
            self.fail(
                "signs once",
                format!("{validator} signed two {kind} for height {height}, round {round}"),
            );
        }
    }

    /// A node that works at `working_at` received a message. Whose contradiction it is, and where, if it contradicts
    /// one that the same process received before.
    pub(crate) fn received(&mut self, node: usize, working_at: u64, message: &Message) -> Option<(B256, u64)> {
        let (deed, value) = deed(message)?;
        if self.is_honest(deed.0) || deed.1 != working_at || !self.is_signed(message) {
            return None;
        }
        let first = *self.heard.entry((node, deed)).or_insert(value);
        let place = (deed.0, deed.1);
        if first == value || self.contradictions.contains_key(&place) {
            return None;
        }
        self.contradictions.insert(place, (node, deed));
        Some(place)
    }

    /// A process ended, and what it had heard but not made durable with it. `unseen` are contradictions that it never
    /// got to look at.
    pub(crate) fn forgot(&mut self, node: usize, unseen: &[(B256, u64)]) {
        self.heard.retain(|(other, _), _| *other != node);
        self.contradictions
            .retain(|place, (other, _)| *other != node || !unseen.contains(place));
    }

    /// A node found evidence.
    pub(crate) fn evidence(&mut self, node: usize, evidence: &Evidence) {
        let accused = evidence.validator().0;
        let now = self.height();
        self.convicted.entry((accused, evidence.height().0)).or_insert(now);
        if self.is_honest(accused) {
            self.fail(
                "no false evidence",
                format!("node {node} accuses {accused}: {evidence:?}"),
            );
        }
    }

    /// Contradictions that nodes received and of which nobody has evidence: the node, and what was contradicted.
    pub(crate) fn unnoticed(&self) -> Vec<(usize, Deed)> {
        let unnoticed = self.contradictions.iter();
        let unnoticed = unnoticed.filter(|(place, _)| !self.convicted.contains_key(place));
        unnoticed.map(|(_, seen)| *seen).collect()
    }

    /// Contradictions of which the first evidence came more than two blocks after their height.
    pub(crate) fn noticed_late(&self) -> usize {
        let found = self
            .contradictions
            .keys()
            .filter_map(|place| Some((place.1, self.convicted.get(place)?)));
        found.filter(|(height, found)| **found > height + 2).count()
    }
}

/// What a message signs where, as one comparable value.
pub(crate) fn deed(message: &Message) -> Option<(Deed, B256)> {
    match message {
        Message::Vote(vote) => {
            let kind = match vote.kind {
                VoteKind::Prevote => 1,
                VoteKind::Precommit => 2,
            };
            let value = vote.block.map_or(B256::ZERO, |id| id.0);
            Some(((vote.validator.0, vote.height.0, vote.round.0, kind), value))
        }
        Message::Proposal(proposal) => {
            let valid_round = proposal.valid_round.map_or(0, |round| u64::from(round.0) + 1);
            let value = keccak256([proposal.block.0.as_slice(), &valid_round.to_be_bytes()].concat());
            Some(((proposal.proposer.0, proposal.height.0, proposal.round.0, 0), value))
        }
        _ => None,
    }
}
