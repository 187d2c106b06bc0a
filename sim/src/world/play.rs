//! A script, played: who hears whom follows from the stage of who speaks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::B512;
use fusion_consensus::Message;
use fusion_types::VoteKind;

use super::{What, World};
use crate::faults::Fault;
use crate::plan::Flaw;
use crate::script::{STAGES, Script};

/// How often to look whether the script is over.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A script is over when nobody gets to a new stage for so long: longer than all timeouts of its last round together.
const SILENCE: Duration = Duration::from_secs(5);

/// How far a script is.
#[derive(Debug)]
pub(super) struct Play {
    script: Script,
    /// The stage of each process.
    stages: Vec<usize>,
    moved_at: Duration,
    /// What was said across sets, by whom to whom; what was repeated, once.
    held: BTreeMap<(usize, usize), Vec<Message>>,
    /// What each process signed.
    signed: Vec<BTreeSet<B512>>,
}

impl Play {
    pub(super) fn new(script: Script, processes: usize) -> Self {
        Self {
            script,
            stages: vec![0; processes],
            moved_at: Duration::ZERO,
            held: BTreeMap::new(),
            signed: vec![BTreeSet::new(); processes],
        }
    }
}

impl World {
    /// All start at once and are connected, each with a transaction of its own and a clock of its own, so that a node
    /// and its twin never propose the same.
    pub(super) fn begin_play(&mut self) {
        let story = self.plan.script.clone();
        self.trace
            .tell(self.now, || story.map_or(String::new(), |script| script.to_string()));
        for node in 0..self.nodes.len() {
            self.nodes[node].clock.jump(10 * i64::try_from(node).unwrap_or(0));
            self.restart(node);
        }
        for _ in self.plan.nodes..self.nodes.len() {
            self.faults.count(Fault::Twins);
        }
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                self.dial(a, b);
            }
        }
        for node in 0..self.nodes.len() {
            self.submit_at(node);
        }
        self.after(LOOK_EVERY, What::Scene);
        self.after(Duration::from_millis(500), What::Clients);
        self.after(self.plan.faults_until, What::Heal);
    }

    /// What a process signs shows its stage.
    fn note_stage(&mut self, from: usize, message: &Message) {
        let identity = self.nodes[from].identity;
        let own = self.genesis.committee().validators()[identity].id;
        let Some(play) = &mut self.play else { return };
        let (height, round, precommits, signature) = match message {
            Message::Vote(vote) if vote.validator == own => {
                let precommits = vote.kind == VoteKind::Precommit;
                (vote.height, vote.round, precommits, vote.signature)
            }
            Message::Proposal(proposal) if proposal.proposer == own => {
                (proposal.height, proposal.round, false, proposal.signature)
            }
            _ => return,
        };
        play.signed[from].insert(signature);
        let stage = height.0.saturating_sub(1) + u64::from(round.0) + u64::from(precommits);
        let stage = usize::try_from(stage).unwrap_or(STAGES);
        if stage > play.stages[from] {
            play.stages[from] = stage;
            if stage <= STAGES {
                play.moved_at = self.now;
            }
            self.trace.tell(self.now, || format!("{from}: is at stage {stage}"));
        }
    }

    /// The message, unless its receiver is in another set: then it is held back.
    pub(super) fn unless_apart(&mut self, from: usize, to: usize, message: Message) -> Option<Message> {
        self.note_stage(from, &message);
        match &mut self.play {
            Some(play) if self.healed_at.is_none() && !play.script.hears(play.stages[from], from, to) => {
                let held = play.held.entry((from, to)).or_default();
                if !held.contains(&message) {
                    held.push(message);
                }
                None
            }
            _ => Some(message),
        }
    }

    /// Whether a certificate would show a twin that its other half signed something else. It would stop; whoever runs
    /// twins on purpose keeps that from them. Decided blocks pass: without them a twin would be of no use at later
    /// heights.
    pub(super) fn tells_of_other_half(&self, to: usize, message: &Message) -> bool {
        let Some(play) = &self.play else { return false };
        let own = self.nodes[to].identity;
        let is_foreign = |(validator, signature): (u32, B512)| {
            usize::try_from(validator) == Ok(own) && !play.signed[to].contains(&signature)
        };
        match message {
            Message::Polka(polka) => polka
                .signatures
                .iter()
                .any(|entry| is_foreign((entry.validator, entry.signature))),
            Message::RoundCertificate(certificate) => certificate
                .votes
                .iter()
                .any(|vote| is_foreign((vote.validator, vote.signature))),
            _ => false,
        }
    }

    /// Heals when all honest processes are through, or nothing moves any more.
    pub(super) fn scene(&mut self) {
        let Some(play) = &self.play else { return };
        let mut honest = (0..self.plan.nodes).filter(|node| self.plan.flaw(*node) != Some(&Flaw::Twin));
        let is_through = honest.all(|node| play.stages[node] >= STAGES);
        if is_through || self.now > play.moved_at + SILENCE {
            self.heal();
        } else {
            self.after(LOOK_EVERY, What::Scene);
        }
    }

    /// What was held back arrives after all, in the order in which it was said.
    pub(super) fn end_play(&mut self) {
        let held = self.play.as_mut().map(|play| std::mem::take(&mut play.held));
        for ((from, to), messages) in held.unwrap_or_default() {
            for message in messages {
                self.transmit(from, to, message);
            }
        }
    }
}
