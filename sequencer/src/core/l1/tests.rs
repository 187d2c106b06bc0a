//! Whole cores that see L1 each in its own time: blocks go on, and what is queued there comes in.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use ed25519_dalek::SigningKey;
use fusion_consensus::{Message, PeerId, Recipient};
use fusion_types::{
    BlockId, Committee, Epoch, ForcedItem, Genesis, Ordering, RollupConfig, RollupId, RollupKind, SealedBlock,
    SettlementConfig, Validator, ValidatorId, VoteKind,
};

use super::*;
use crate::core::{Action, CoreConfig, Event, Recovery};

const ROLLUP: RollupId = RollupId(7);
const STEP: Duration = Duration::from_millis(5);
const PER_BLOCK: u32 = 2;

fn hash(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

/// L1 block `number`, from 1; each has the one item that is its number as text.
fn l1_block(number: u64) -> L1Block {
    let item = |number: u64, before: B256| {
        let mut item = ForcedItem {
            index: u32::try_from(number - 1).unwrap(),
            rollup: ROLLUP,
            sender: Address::ZERO,
            payload: Bytes::from(number.to_string().into_bytes()),
            accumulator: B256::ZERO,
        };
        item.accumulator = item.accumulator_after(before, number);
        item
    };
    let before = (1..number).fold(B256::ZERO, |before, below| item(below, before).accumulator);
    L1Block {
        number,
        hash: hash(number),
        parent: hash(number - 1),
        forced_count: u32::try_from(number).unwrap(),
        forced: vec![item(number, before)],
    }
}

/// Four cores without disks, between which every message takes one step.
struct Cluster {
    cores: Vec<Core>,
    inboxes: Vec<Vec<Event>>,
    now: Duration,
    decided: Vec<Vec<Arc<SealedBlock>>>,
    /// Who precommitted what.
    precommits: Vec<(usize, BlockId)>,
}

impl Cluster {
    fn new() -> Self {
        let mut keys: Vec<SigningKey> = (1..=4).map(|n| SigningKey::from_bytes(&[n; 32])).collect();
        keys.sort_by_key(|key| key.verifying_key().to_bytes());
        let validator = |key: &SigningKey| {
            let id = B256::from(key.verifying_key().to_bytes());
            Validator {
                id: ValidatorId(id),
                peer: keccak256(id),
                power: 1,
            }
        };
        let committee = Committee::new(Epoch(0), keys.iter().map(validator).collect()).unwrap();
        let rollup = RollupConfig {
            id: ROLLUP,
            kind: RollupKind::Opaque,
            ordering: Ordering::Fcfs,
            weight: 1,
        };
        let rules = SettlementConfig {
            l1_chain_id: 1,
            l1_start: L1Origin {
                number: 0,
                hash: hash(0),
            },
            forced_per_block: PER_BLOCK,
            forced_bytes_max: 100,
            block_bytes_max: 200_000,
            batch_bytes: 200_000,
            batch_age_ms: 1,
            batch_idle_ms: 1,
        };
        let genesis = Genesis::new("cores".to_owned(), 1_000, committee, vec![rollup]).unwrap();
        let genesis = Arc::new(genesis.settling(rules).unwrap());
        let core = |key: &SigningKey| {
            let mut config = CoreConfig::new(genesis.clone(), Some(key.clone()));
            config.l1_margin = Duration::from_millis(20);
            config.block_interval_idle = Duration::from_millis(50);
            let recovery = Recovery {
                state: genesis.state(),
                wal: Vec::new(),
                wal_readable: true,
                guard: None,
                bodies: Vec::new(),
                evidence: Vec::new(),
            };
            Core::new(config, recovery).unwrap()
        };
        let mut cluster = Self {
            cores: keys.iter().map(core).collect(),
            inboxes: vec![Vec::new(), Vec::new(), Vec::new(), Vec::new()],
            now: Duration::from_secs(1),
            decided: vec![Vec::new(); 4],
            precommits: Vec::new(),
        };
        let now = cluster.now();
        for node in 0..4 {
            let actions = cluster.cores[node].start(now);
            cluster.carry_out(node, actions);
            for other in (0..4).filter(|other| *other != node) {
                let peer = cluster.peer(other);
                cluster.inboxes[node].push(Event::Connected { peer });
            }
        }
        cluster
    }

    fn peer(&self, node: usize) -> PeerId {
        PeerId(self.cores[0].committee.validators()[node].peer)
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.now,
            unix_ms: 1_000 + u64::try_from(self.now.as_millis()).unwrap(),
        }
    }

    fn carry_out(&mut self, node: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, message } => {
                    if let Message::Vote(vote) = &message
                        && let (VoteKind::Precommit, Some(block)) = (vote.kind, vote.block)
                    {
                        self.precommits.push((node, block));
                    }
                    for other in (0..4).filter(|other| *other != node) {
                        let peer = self.peer(node);
                        if to == Recipient::Validators || to == Recipient::Peer(self.peer(other)) {
                            let message = message.clone();
                            self.inboxes[other].push(Event::Received { peer, message });
                        }
                    }
                }
                Action::Decided(decided) => self.decided[node].push(decided.block),
                Action::Fatal(reason) => panic!("{reason}"),
                _ => {}
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            let now = self.now();
            let inboxes: Vec<Vec<Event>> = self.inboxes.iter_mut().map(std::mem::take).collect();
            for (node, events) in inboxes.into_iter().enumerate() {
                let actions = self.cores[node].turn(now, events);
                self.carry_out(node, actions);
            }
        }
    }

    /// The watcher of a node feeds what the node wants, up to `head`.
    fn watch(&mut self, node: usize, head: u64) {
        let wanted = self.cores[node].l1_wanted().unwrap();
        let first = wanted.block.min(wanted.item + 1).max(1);
        let blocks: Vec<L1Block> = (first..=head).map(l1_block).collect();
        self.inboxes[node].push(Event::L1(blocks));
    }

    fn heights(&self) -> Vec<u64> {
        self.cores.iter().map(|core| core.state().height.0).collect()
    }

    fn carried(&self) -> Vec<Bytes> {
        let lanes = self.decided[0].iter().flat_map(|block| &block.block().lanes);
        lanes.flat_map(|lane| lane.transactions.clone()).collect()
    }
}

#[test]
fn blocks_go_on_and_carry_the_queue_while_every_node_sees_another_head() {
    let mut cluster = Cluster::new();
    for head in 3..30_u64 {
        for node in 0..4 {
            cluster.watch(node, head - node as u64 % 3);
        }
        cluster.run(Duration::from_millis(200));
    }
    cluster.run(Duration::from_secs(3));
    let heights = cluster.heights();
    assert!(heights.iter().all(|height| *height >= 50), "{heights:?}");
    let carried: Vec<Bytes> = (1..=29).map(|n: u64| Bytes::from(n.to_string().into_bytes())).collect();
    assert_eq!(cluster.carried(), carried[..cluster.carried().len()]);
    assert!(cluster.carried().len() >= 27, "{}", cluster.carried().len());
}

#[test]
fn what_a_minority_sees_costs_rounds_and_binds_when_the_others_see_it() {
    let mut cluster = Cluster::new();
    cluster.run(Duration::from_millis(500));
    cluster.watch(0, 5);
    cluster.watch(1, 5);
    let before = cluster.heights()[0];
    cluster.run(Duration::from_secs(15));
    let meanwhile = cluster.heights()[0];
    assert!(meanwhile > before + 5, "{before} to {meanwhile}");
    assert!(
        cluster.decided[0]
            .iter()
            .all(|block| block.header().l1_origin.number == 0)
    );
    cluster.watch(2, 5);
    cluster.watch(3, 5);
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.cores[3].state().l1_origin.number, 5);
    assert_eq!(
        cluster.carried(),
        ["1", "2", "3", "4", "5"].map(|text| Bytes::from(text.as_bytes()))
    );
    let consumed: Vec<u64> = cluster.decided[0]
        .iter()
        .filter_map(|block| block.header().forced_to)
        .collect();
    assert_eq!(consumed, [2, 4, 5], "no more than a block takes");
}

#[test]
fn a_proposal_that_adopts_what_is_not_seen_yet_is_answered_when_it_is() {
    let mut cluster = Cluster::new();
    cluster.run(Duration::from_millis(500));
    for node in 0..3 {
        cluster.watch(node, 1);
    }
    // Three of four see it: they decide, and the fourth follows.
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.cores[3].state().l1_origin.number, 1);
    // Now two of them: the others have no answer, until they see it before the round is over.
    let (height, decided) = (cluster.heights()[0], cluster.decided[0].len());
    while cluster.cores[2].sizes().postponed == 0 {
        cluster.watch(0, 2);
        cluster.watch(1, 2);
        cluster.run(STEP);
        assert!(cluster.heights()[0] < height + 50);
    }
    cluster.watch(2, 2);
    cluster.watch(3, 2);
    cluster.run(Duration::from_millis(60));
    assert_eq!(cluster.cores[0].state().l1_origin.number, 2);
    assert!(cluster.decided[0].len() > decided);
}

#[test]
fn what_a_polka_vouches_for_a_node_need_not_see() {
    let mut cluster = Cluster::new();
    for node in 0..3 {
        cluster.watch(node, 1);
    }
    cluster.run(Duration::from_secs(3));
    let mut adopting = cluster.decided[3].iter();
    let adopting = adopting
        .find(|block| block.header().l1_origin.number == 1)
        .unwrap()
        .id();
    assert!(cluster.precommits.contains(&(3, adopting)));
}

#[test]
fn a_network_that_does_not_settle_wants_nothing_of_l1() {
    let cluster = Cluster::new();
    let mut config = cluster.cores[0].config.clone();
    let genesis = &config.genesis;
    let plain = Genesis::new("cores".to_owned(), 1_000, genesis.committee().clone(), Vec::new()).unwrap();
    config.genesis = Arc::new(plain);
    let recovery = Recovery {
        state: config.genesis.state(),
        wal: Vec::new(),
        wal_readable: true,
        guard: None,
        bodies: Vec::new(),
        evidence: Vec::new(),
    };
    let mut core = Core::new(config, recovery).unwrap();
    assert_eq!(core.l1_wanted(), None);
    let now = cluster.now();
    core.start(now);
    core.turn(now, vec![Event::L1(vec![l1_block(1)])]);
    assert_eq!(core.sizes().l1_blocks, 0);
}
