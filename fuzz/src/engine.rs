//! `fusion_consensus::Engine::step`, fed with whatever three of four validators and the shell may come up with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fusion_consensus::{
    CommitteeSchedule, Engine, EngineConfig, Evidence, FatalError, GuardState, GuardVerdict, Input, Message, Output,
    PeerId, Recovery, Timeouts, Tip, WalRecord, wire,
};
use fusion_types::{BlockId, DecidedBlock, Epoch, Height, Round, SealedBlock, State, ValidatorId, VoteKind};

use crate::fixture::{fixture, id_of};
use crate::messages::{Author, Script, candidate};

/// Inputs of one script: beyond, nothing new happens.
const INPUTS_MAX: usize = 300;

/// Outputs of one step: repetitions of a height's votes and certificates, and what a decision releases. A network of
/// four stays far below.
const OUTPUTS_MAX: usize = 256;

/// What a key signed, by its place.
#[derive(Debug, Default)]
pub struct Ledger {
    votes: BTreeMap<(Height, Round, bool), Option<BlockId>>,
    proposals: BTreeMap<(Height, Round), (BlockId, Option<Round>)>,
}

impl Ledger {
    /// Takes note of a message that leaves; `own` must not contradict itself.
    pub fn leaves(&mut self, message: &Message, own: ValidatorId, guard: Option<&GuardState>) {
        match message {
            Message::Vote(vote) if vote.validator == own => {
                let place = (vote.height, vote.round, vote.kind == VoteKind::Prevote);
                let first = *self.votes.entry(place).or_insert(vote.block);
                assert_eq!(first, vote.block, "two votes for {place:?}");
                let verdict = guard.map(|guard| guard.check_vote(Epoch(0), vote));
                assert!(
                    !matches!(verdict, None | Some(GuardVerdict::Sign)),
                    "a vote before its guard"
                );
            }
            Message::Proposal(proposal) if proposal.proposer == own => {
                let value = (proposal.block, proposal.valid_round);
                let place = (proposal.height, proposal.round);
                let first = *self.proposals.entry(place).or_insert(value);
                assert_eq!(first, value, "two proposals for {place:?}");
                let verdict = guard.map(|guard| guard.check_proposal(Epoch(0), proposal));
                assert!(
                    !matches!(verdict, None | Some(GuardVerdict::Sign)),
                    "a proposal before its guard"
                );
            }
            _ => {}
        }
    }
}

/// The peer of a member, or of a stranger.
pub fn peer(byte: u8) -> PeerId {
    let validators = fixture().genesis.committee().validators();
    match validators.get(usize::from(byte % 6)) {
        Some(validator) => PeerId(validator.peer),
        None => PeerId(alloy_primitives::B256::repeat_byte(byte % 6)),
    }
}

/// An engine and the shell around it: a disk that keeps what it is given, and answers that come when the script says.
struct Shell {
    author: Author,
    own: Option<ValidatorId>,
    engine: Engine,
    state: State,
    now: Duration,
    started: bool,
    /// Whether questions are answered at once.
    prompt: bool,
    questions: Vec<Input>,
    wal: Vec<WalRecord>,
    guard: Option<GuardState>,
    bodies: Vec<Arc<SealedBlock>>,
    evidence: Vec<Evidence>,
    ledger: Ledger,
    ended: bool,
}

/// One script.
pub fn step(data: &[u8]) {
    let mut script = Script::new(data);
    let honest = Some(usize::from(script.byte() % 5)).filter(|member| *member < 4);
    let mut shell = Shell::new(honest);
    for _ in 0..INPUTS_MAX {
        if script.is_over() || shell.ended {
            break;
        }
        shell.act(&mut script);
    }
}

fn engine(honest: Option<usize>, recovery: Recovery) -> Engine {
    let genesis = &fixture().genesis;
    let config = EngineConfig {
        network: genesis.network(),
        schedule: CommitteeSchedule::new(Arc::new(genesis.committee().clone())),
        key: honest.map(|member| fixture().keys[member].clone()),
        timeouts: Timeouts::default(),
        block_interval_idle: Duration::from_secs(1),
    };
    Engine::new(config, recovery).expect("the guard is this key's")
}

impl Shell {
    fn new(honest: Option<usize>) -> Self {
        let state = fixture().states[0].clone();
        let recovery = Recovery {
            tip: Tip {
                height: state.height,
                id: state.block,
            },
            rotation: state.rotation.clone(),
            wal: Vec::new(),
            wal_readable: true,
            guard: None,
            bodies: Vec::new(),
            evidence: Vec::new(),
        };
        Self {
            author: Author { honest },
            own: honest.map(|member| id_of(&fixture().keys[member])),
            engine: engine(honest, recovery),
            state,
            now: Duration::ZERO,
            started: false,
            prompt: true,
            questions: Vec::new(),
            wal: Vec::new(),
            guard: None,
            bodies: Vec::new(),
            evidence: Vec::new(),
            ledger: Ledger::default(),
            ended: false,
        }
    }

    fn act(&mut self, script: &mut Script<'_>) {
        if !self.started {
            self.started = true;
            self.feed(Input::Start);
        }
        match script.byte() % 32 {
            0 => self.now += Duration::from_millis(u64::from(script.byte())),
            1 | 2 => self.now = self.engine.deadline().unwrap_or(self.now).max(self.now),
            3 => self.feed(Input::PeerConnected {
                peer: peer(script.byte()),
            }),
            4 => self.feed(Input::PeerDisconnected {
                peer: peer(script.byte()),
            }),
            5 => self.feed(Input::WorkWaiting),
            6 => self.restart(script.byte()),
            7 => self.prompt = !self.prompt,
            8 | 9 => {
                let at = usize::from(script.byte()) % self.questions.len().max(1);
                if at < self.questions.len() {
                    let answer = self.questions.remove(at);
                    self.feed(answer);
                }
            }
            10 => self.now += Duration::from_secs(script.number().min(1 << 20)),
            _ => {
                let from = peer(script.byte());
                if let Some(message) = self.author.message(script, &self.state) {
                    self.feed(Input::Received { peer: from, message });
                }
            }
        }
        if self.engine.deadline().is_some_and(|at| at <= self.now) {
            self.feed(Input::DeadlinePassed);
        }
    }

    /// The process was killed: what was durable is all that is left. With `byte` odd, the write-ahead log is lost.
    fn restart(&mut self, byte: u8) {
        let lost = byte % 4 == 1;
        if lost {
            self.wal.clear();
        }
        let recovery = Recovery {
            tip: Tip {
                height: self.state.height,
                id: self.state.block,
            },
            rotation: self.state.rotation.clone(),
            wal: self.wal.clone(),
            wal_readable: !lost,
            guard: self.guard,
            bodies: self.bodies.clone(),
            evidence: self.evidence.clone(),
        };
        self.engine = engine(self.author.honest, recovery);
        self.questions.clear();
        self.feed(Input::Start);
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            if let Input::Checked {
                height,
                id,
                valid: true,
                ..
            } = &input
            {
                // The body was logged when it was asked about; it counts from here. An answer may also come when its
                // height is over, and its body gone with it: the engine is to ignore it.
                let is_late = *height < self.engine.height();
                assert!(is_late || self.bodies.iter().any(|body| body.id() == *id));
            }
            let outputs = self.engine.step(self.now, input);
            assert!(outputs.len() <= OUTPUTS_MAX, "{} outputs of one step", outputs.len());
            for output in &outputs {
                match output {
                    Output::Persist(record) => self.wal.push(record.clone()),
                    Output::PersistGuard(guard) => self.guard = Some(*guard),
                    _ => {}
                }
            }
            for output in outputs {
                let answer = self.carry_out(output);
                if self.ended {
                    return;
                }
                inputs.extend(answer);
            }
        }
    }

    fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::NeedBlock { height, round } => {
                let own = self.author.honest.expect("only validators propose");
                let block = candidate(&self.state, u8::try_from(own).expect("there are four"));
                self.bodies.push(block.clone());
                self.ask(Input::Propose { height, round, block })
            }
            Output::CheckBlock { height, round, block } => {
                let id = block.id();
                assert_eq!(block.header().parent, self.state.block);
                let valid = block.header().state_root == self.state.root() && block.header().time_ms < u64::MAX;
                self.bodies.push(block);
                self.ask(Input::Checked {
                    height,
                    round,
                    id,
                    valid,
                })
            }
            Output::Send { message, .. } => {
                assert!(message.encode().len() <= message.class().bytes_max());
                if let Some(own) = self.own {
                    self.ledger.leaves(&message, own, self.guard.as_ref());
                }
                None
            }
            Output::Decided(decided) => self.decided(&decided),
            Output::ServeSync { from, to, .. } => {
                assert!(from <= to && to <= self.state.height && to.0 - from.0 < wire::SYNC_BLOCKS_MAX);
                None
            }
            Output::ServeBlock { height, .. } => {
                assert!(height <= self.state.height);
                None
            }
            Output::Evidence(evidence) => {
                let genesis = &fixture().genesis;
                assert!(
                    evidence.verify(genesis.network(), genesis.committee()),
                    "evidence that proves nothing"
                );
                assert_ne!(Some(evidence.validator()), self.own, "evidence against the honest");
                self.evidence.push(evidence);
                None
            }
            Output::Fatal(error) => {
                // Nobody else has this key, and the disk keeps what it is given.
                assert!(
                    !matches!(error, FatalError::Guard(_) | FatalError::KeyInUse(_)),
                    "{error}"
                );
                self.ended = true;
                None
            }
            Output::Persist(_) | Output::PersistGuard(_) | Output::Fault { .. } => None,
        }
    }

    fn ask(&mut self, answer: Input) -> Option<Input> {
        if self.prompt {
            return Some(answer);
        }
        self.questions.push(answer);
        None
    }

    fn decided(&mut self, decided: &DecidedBlock) -> Option<Input> {
        let genesis = &fixture().genesis;
        let verified = decided.certificate.verify(genesis.network(), genesis.committee());
        assert_eq!(verified, Ok(()), "a decision without its certificate");
        assert_eq!(decided.certificate.block, decided.block.id());
        let applied = self
            .state
            .apply(decided.block.block(), decided.block.id(), genesis.committee());
        if applied.is_err() {
            // Three of four can decide what no state takes: then the shell ends.
            self.ended = true;
            return None;
        }
        self.wal.clear();
        self.bodies.clear();
        Some(Input::Advanced {
            tip: Tip {
                height: self.state.height,
                id: self.state.block,
            },
            rotation: self.state.rotation.clone(),
        })
    }
}
