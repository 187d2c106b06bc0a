//! Messages of heights that are not begun: peers that decided a moment earlier are already there.
//!
//! They are kept as they came, unverified, apart for each peer and height, so that no peer can crowd out another, and
//! go through the ordinary door when their height begins.

use std::collections::BTreeMap;

use fusion_types::Height;

use crate::wire::{Message, PeerId};

/// Messages kept of one peer for one height: two votes and a proposal for each of a few rounds.
const MESSAGES_MAX: usize = 32;

/// Votes inside certificates kept of one peer for one height; 128 members make the largest certificate.
const SIGNATURES_MAX: usize = 512;

/// Messages for later.
#[derive(Debug, Default)]
pub(crate) struct Future {
    kept: BTreeMap<(Height, PeerId), Vec<Message>>,
}

impl Future {
    /// Keeps a message, unless it is known or the peer's room is full.
    pub(crate) fn keep(&mut self, height: Height, peer: PeerId, message: Message) {
        let kept = self.kept.entry((height, peer)).or_default();
        let signatures: usize = kept.iter().map(signatures).sum();
        let fits = kept.len() < MESSAGES_MAX && signatures + self::signatures(&message) <= SIGNATURES_MAX;
        if fits && !kept.contains(&message) {
            kept.push(message);
        }
    }

    /// Most messages of one peer and height, most signatures in them, and how many peers and heights there are.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let count = |messages: &Vec<Message>| messages.iter().map(signatures).sum();
        (
            self.kept.values().map(Vec::len).max().unwrap_or(0),
            self.kept.values().map(count).max().unwrap_or(0),
            self.kept.len(),
        )
    }

    /// Takes out the messages of `height` and forgets those below.
    pub(crate) fn take(&mut self, height: Height) -> Vec<(PeerId, Message)> {
        let later = self.kept.split_off(&(height.next(), PeerId::LOWEST));
        let taken = std::mem::replace(&mut self.kept, later);
        let of_height = taken.into_iter().filter(|((at, _), _)| *at == height);
        of_height
            .flat_map(|((_, peer), messages)| messages.into_iter().map(move |message| (peer, message)))
            .collect()
    }
}

fn signatures(message: &Message) -> usize {
    match message {
        Message::Polka(polka) => polka.signatures.len(),
        Message::RoundCertificate(certificate) => certificate.votes.len(),
        _ => 1,
    }
}
