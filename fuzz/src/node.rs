//! `fusion_sequencer::core::Core::turn`: the whole node but its disk, sockets and clocks, fed like the engine and by
//! users besides.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use fusion_consensus::{GuardState, Message, PeerId};
use fusion_mempool::PoolTransaction;
use fusion_sequencer::core::{Action, Core, CoreConfig, Event, Now, Recovery, RequestId};
use fusion_sequencer::ingress;
use fusion_sequencer::store::Record;
use fusion_types::{Certificate, Height, LaneHashes, SealedBlock, State, ValidatorId};

use crate::engine::{Ledger, peer};
use crate::fixture::{GENESIS_MS, ROLLUPS, fixture, id_of};
use crate::messages::{Author, Script};

/// Turns of one script.
const TURNS_MAX: usize = 200;

/// Actions of one turn: what consensus may say in it, and records that were held back.
const ACTIONS_MAX: usize = 1024;

/// A core and its surroundings.
struct Shell {
    author: Author,
    own: Option<ValidatorId>,
    core: Core,
    now: Duration,
    unix_ms: u64,
    requests: u64,
    waiting: usize,
    state: State,
    wal: Vec<(Height, Bytes)>,
    guard: Option<Bytes>,
    bodies: Vec<Arc<SealedBlock>>,
    decided: Vec<Arc<SealedBlock>>,
    ledger: Ledger,
    ended: bool,
}

/// One script.
pub fn turn(data: &[u8]) {
    let mut script = Script::new(data);
    let honest = Some(usize::from(script.byte() % 5)).filter(|member| *member < 4);
    let mut shell = Shell::new(honest);
    for _ in 0..TURNS_MAX {
        if script.is_over() || shell.ended {
            break;
        }
        shell.act(&mut script);
    }
}

/// Transactions of both `evm` rollups, signed once: two senders, three nonces, three tips.
pub fn signed() -> &'static [PoolTransaction] {
    static SIGNED: OnceLock<Vec<PoolTransaction>> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let mut all = Vec::new();
        for (at, rollup) in fixture().genesis.rollups()[..2].iter().enumerate() {
            for key in [B256::repeat_byte(1), B256::repeat_byte(2)] {
                for (nonce, tip) in [(0, 5), (0, 6), (1, 9), (1, 1), (2, 7)] {
                    let transaction = TxEip1559 {
                        chain_id: ROLLUPS[at].0,
                        nonce,
                        gas_limit: ingress::GAS_MIN,
                        max_fee_per_gas: 30,
                        max_priority_fee_per_gas: tip,
                        to: TxKind::Call(Address::repeat_byte(1)),
                        value: U256::from(1),
                        ..TxEip1559::default()
                    };
                    let signature = sign_message(key, transaction.signature_hash()).expect("the key is sound");
                    let payload = transaction.into_signed(signature).encoded_2718();
                    all.push(ingress::admit(rollup, payload.into()).expect("it is a signed transfer"));
                }
            }
        }
        all
    })
}

fn core(honest: Option<usize>, recovery: Recovery) -> Core {
    let key = honest.map(|member| fixture().keys[member].clone());
    let config = CoreConfig::new(fixture().genesis.clone(), key);
    Core::new(config, recovery).expect("what a core made durable, it starts from")
}

impl Shell {
    fn new(honest: Option<usize>) -> Self {
        let state = fixture().states[0].clone();
        let recovery = Recovery {
            state: state.clone(),
            wal: Vec::new(),
            wal_readable: true,
            guard: None,
            bodies: Vec::new(),
            evidence: Vec::new(),
        };
        let mut shell = Self {
            author: Author { honest },
            own: honest.map(|member| id_of(&fixture().keys[member])),
            core: core(honest, recovery),
            now: Duration::ZERO,
            unix_ms: GENESIS_MS,
            requests: 0,
            waiting: 0,
            state,
            wal: Vec::new(),
            guard: None,
            bodies: Vec::new(),
            decided: Vec::new(),
            ledger: Ledger::default(),
            ended: false,
        };
        let actions = shell.core.start(shell.time());
        shell.carry_out(actions);
        shell
    }

    fn time(&self) -> Now {
        Now {
            monotonic: self.now,
            unix_ms: self
                .unix_ms
                .saturating_add(u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn act(&mut self, script: &mut Script<'_>) {
        let mut events = Vec::new();
        for _ in 0..=script.byte() % 3 {
            self.event(script, &mut events);
        }
        let actions = self.core.turn(self.time(), events);
        assert!(actions.len() <= ACTIONS_MAX, "{} actions of one turn", actions.len());
        self.carry_out(actions);
    }

    fn event(&mut self, script: &mut Script<'_>, events: &mut Vec<Event>) {
        match script.byte() % 32 {
            0 => self.now += Duration::from_millis(u64::from(script.byte())),
            1..=3 => self.now = self.core.deadline().unwrap_or(self.now).max(self.now),
            4 => events.push(Event::Connected {
                peer: peer(script.byte()),
            }),
            5 => events.push(Event::Disconnected {
                peer: peer(script.byte()),
            }),
            6 => {
                // What came in and was not taken is lost with the process.
                events.clear();
                self.restart(script.byte());
            }
            7 | 8 => {
                let transactions = transactions(script);
                self.waiting += 1;
                self.requests += 1;
                let request = RequestId(self.requests);
                events.push(Event::Submitted { request, transactions });
            }
            9 => {
                let by_member = script.byte().is_multiple_of(2);
                events.push(Event::Relayed {
                    transactions: transactions(script),
                    by_member,
                });
            }
            10 => self.unix_ms = GENESIS_MS.wrapping_add(script.number()).wrapping_sub(script.number()),
            11 => self.now += Duration::from_secs(script.number().min(1 << 20)),
            _ => {
                let from: PeerId = peer(script.byte());
                if let Some(message) = self.author.message(script, &self.state) {
                    events.push(Event::Received { peer: from, message });
                }
            }
        }
    }

    /// What was durable is all that is left.
    fn restart(&mut self, byte: u8) {
        let lost = byte % 4 == 1;
        let next = self.state.height.next();
        let current = self.wal.iter().filter(|(height, _)| !lost && *height == next);
        let recovery = Recovery {
            state: self.state.clone(),
            wal: current.map(|(_, bytes)| bytes.clone()).collect(),
            wal_readable: !lost,
            guard: self.guard.clone(),
            bodies: self.bodies.clone(),
            evidence: Vec::new(),
        };
        if lost {
            self.wal.clear();
        }
        self.core = core(self.author.honest, recovery);
        for block in self.decided.iter().rev() {
            if !self.core.restore(&LaneHashes::from(&**block)) {
                break;
            }
        }
        self.waiting = 0;
        let actions = self.core.start(self.time());
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in &actions {
            if let Action::Persist(record) = action {
                self.persist(record);
            }
        }
        for action in actions {
            match action {
                Action::Send { message, .. } => self.leaves(&message),
                Action::Reply { outcomes, .. } => {
                    assert!(!outcomes.is_empty() && 0 < self.waiting);
                    self.waiting -= 1;
                }
                Action::Decided(decided) => {
                    // Not always the last: a turn may decide several heights, and all are durable before any is told.
                    let of_height = |block: &&Arc<SealedBlock>| block.header().height == decided.block.header().height;
                    let durable = self.decided.iter().find(of_height);
                    let durable = durable.expect("its decision was made durable before");
                    assert_eq!(durable.id(), decided.block.id());
                }
                Action::ServeSync { from, to, .. } => assert!(from <= to && to <= self.state.height),
                Action::ServeBlock { height, .. } => assert!(height <= self.state.height),
                Action::Fatal(why) => {
                    assert!(!why.contains("sign guard") && !why.contains("another process"), "{why}");
                    self.ended = true;
                }
                Action::Persist(_) | Action::Fault { .. } | Action::Evidence(_) => {}
            }
        }
        if !self.ended {
            assert_eq!(self.waiting, 0, "a user waits for good");
            assert_eq!(self.core.state(), &self.state, "the core is ahead of what is durable");
        }
    }

    fn persist(&mut self, record: &Record) {
        match record {
            Record::Body(block) => self.bodies.push(block.clone()),
            Record::Decision(certificate) => self.decide(certificate),
            Record::Wal { height, bytes } => self.wal.push((*height, bytes.clone())),
            Record::Guard(bytes) => self.guard = Some(bytes.clone()),
        }
    }

    fn decide(&mut self, certificate: &Certificate) {
        let genesis = &fixture().genesis;
        assert_eq!(certificate.verify(genesis.network(), genesis.committee()), Ok(()));
        let block = self.bodies.iter().find(|body| body.id() == certificate.block);
        let block = block.expect("a body is durable before its decision").clone();
        let applied = self.state.apply(block.block(), block.id(), genesis.committee());
        assert_eq!(applied, Ok(()), "a decision that no state takes");
        self.bodies.clear();
        self.decided.push(block);
    }

    fn leaves(&mut self, message: &Message) {
        assert!(message.encode().len() <= message.class().bytes_max());
        if let Some(own) = self.own {
            let guard = self
                .guard
                .as_ref()
                .map(|bytes| GuardState::decode(bytes).expect("the core wrote it"));
            self.ledger.leaves(message, own, guard.as_ref());
        }
    }
}

fn transactions(script: &mut Script<'_>) -> Vec<PoolTransaction> {
    let mut all = Vec::new();
    for _ in 0..=script.byte() % 4 {
        let at = usize::from(script.byte() % 32);
        all.extend(match signed().get(at) {
            Some(transaction) => Some(transaction.clone()),
            None => ingress::admit(&fixture().genesis.rollups()[2], Bytes::copy_from_slice(script.bytes())).ok(),
        });
    }
    if all.is_empty() {
        all.push(signed()[0].clone());
    }
    all
}
