//! From batches that every member knows to certificates: who makes a batch's bytes, who signs them, when it is enough.
//!
//! Every member cuts the same batches out of the decided blocks, so that nobody has to be told what a batch is. What differs
//! is its *data*: compressors do not agree. So one member makes the bytes and *offers* them; the others decode them, compare
//! with their own blocks, and sign the batch together with these data. Turns rotate with the batch's number; whoever is next
//! makes an offer of its own when nothing is certified after a while. A member may sign one batch with several data, which
//! wedges nothing: a certificate needs a quorum for one of them.
//!
//! Promises: asks for a signature only for a batch that this node cut itself, with data that were decoded and compared, or
//! that it encoded; a certificate holds the quorum's signatures by different members of the roster; everything kept is
//! bounded ([`WINDOW`], [`OFFERS_MAX`]). Pure: time comes in, effects go out. Leaves to others: the sign guard and its
//! durability (before [`Input::Signed`]), encoding, decoding and KZG (answers to [`Output::Encode`], [`Output::Check`]),
//! and posting.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::{B256, B512, Bytes, keccak256};
use fusion_types::{Attestation, Batch, Offer};

mod words;
pub use words::{AttestorConfig, Certified, Input, Output};

mod certificate;
pub use certificate::{certificate, pack, quorum, recover};

#[cfg(test)]
mod tests;

/// Numbers from the first that is not posted for which offers and attestations are taken.
pub const WINDOW: u64 = 8;

/// Offers of one number that wait to be looked at, and payloads of others' offers that are kept. What is beyond comes again:
/// makers repeat what is not certified.
pub const OFFERS_MAX: usize = 4;

/// The attestations of one network's batches. See the file's head.
#[derive(Debug)]
pub struct Attestor {
    config: AttestorConfig,
    /// The first number that is not posted.
    floor: u64,
    numbers: BTreeMap<u64, Number>,
}

/// What is known of one number.
#[derive(Debug, Default)]
struct Number {
    cut: Option<Cut>,
    offers: Vec<Kept>,
    /// By member, what it signed.
    signed: BTreeMap<usize, Vec<Attestation>>,
    is_encoding: bool,
    is_certified: bool,
}

#[derive(Debug)]
struct Cut {
    batch: Batch,
    hash: B256,
    at: Duration,
}

#[derive(Debug)]
struct Kept {
    attestation: Attestation,
    maker: usize,
    /// Empty when it was refused, or gave way to others.
    payload: Bytes,
    /// keccak256 of the payload that was looked at.
    payload_hash: B256,
    step: Step,
    /// When this node sent it last.
    sent_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// This node has not cut the batch yet.
    Waiting,
    Checking,
    Sound,
    Refused,
}

impl Attestor {
    /// Begins where `floor` is the next number to be posted.
    pub fn new(config: AttestorConfig, floor: u64) -> Self {
        Self {
            config,
            floor,
            numbers: BTreeMap::new(),
        }
    }

    /// Whether a batch of this number is wanted now: [`Input::Cut`] of others is dropped.
    pub fn wants(&self, number: u64) -> bool {
        self.is_open(number) && self.numbers.get(&number).is_none_or(|number| number.cut.is_none())
    }

    /// The numbers that this node has cut and that are not certified, with the members whose attestation it has.
    pub fn waiting(&self) -> impl Iterator<Item = (u64, usize)> {
        let waiting = self
            .numbers
            .iter()
            .filter(|(_, number)| number.cut.is_some() && !number.is_certified);
        waiting.map(|(at, number)| (*at, number.signed.len()))
    }

    /// Takes what happened at `now`.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Cut(batch) => self.cut(now, batch, &mut outputs),
            Input::Encoded { number, data, payload } => self.encoded(number, data, payload, &mut outputs),
            Input::Offered(offer) => self.offered(now, offer, &mut outputs),
            Input::Checked { number, data, outcome } => self.checked(number, data, outcome, &mut outputs),
            Input::Attested(attestation) => {
                self.attested(attestation, &mut outputs);
            }
            Input::Signed(attestation) => self.signed(now, attestation, &mut outputs),
            Input::Posted(next) => {
                self.floor = next;
                self.numbers.retain(|number, _| *number >= next);
            }
            Input::Tick => self.tick(now, &mut outputs),
        }
        outputs
    }

    fn is_open(&self, number: u64) -> bool {
        number >= self.floor && number - self.floor < WINDOW
    }

    /// How many members are in turn before `member` for a number.
    fn rank(&self, member: usize, number: u64) -> usize {
        let members = self.config.roster.len().max(1);
        let first = usize::try_from(number % members as u64).unwrap_or(0);
        (member + members - first) % members
    }

    fn cut(&mut self, now: Duration, batch: Batch, outputs: &mut Vec<Output>) {
        let at = batch.number;
        if !self.wants(at) {
            return;
        }
        let number = self.numbers.entry(at).or_default();
        let hash = batch.hash();
        number.cut = Some(Cut { batch, hash, at: now });
        for kept in &mut number.offers {
            if kept.step == Step::Waiting {
                outputs.push(look(kept, hash, &self.config));
            }
        }
        self.take_turn(now, at, outputs);
        self.certify(at, outputs);
    }

    /// Asks for an offer of this node's own if its turn has come.
    fn take_turn(&mut self, now: Duration, at: u64, outputs: &mut Vec<Output>) {
        let Some(own) = self.config.own else { return };
        let rank = u32::try_from(self.rank(own, at)).unwrap_or(u32::MAX);
        let Some(number) = self.numbers.get_mut(&at) else {
            return;
        };
        let Some(cut) = number.cut.as_ref() else { return };
        let due = cut.at.saturating_add(self.config.turn.saturating_mul(rank));
        let has_own = number.offers.iter().any(|kept| kept.maker == own);
        if now >= due && !has_own && !number.is_encoding && !number.is_certified {
            number.is_encoding = true;
            outputs.push(Output::Encode(at));
        }
    }

    fn encoded(&mut self, at: u64, data: B256, payload: Bytes, outputs: &mut Vec<Output>) {
        let (Some(own), Some(number)) = (self.config.own, self.numbers.get_mut(&at)) else {
            return;
        };
        number.is_encoding = false;
        let Some(cut) = number.cut.as_ref().filter(|_| !number.is_certified) else {
            return;
        };
        // Without the signature yet: it is sent when that is there.
        let attestation = Attestation {
            epoch: cut.batch.epoch,
            number: at,
            batch: cut.hash,
            data,
            signature: B512::ZERO,
        };
        number.offers.push(Kept {
            attestation,
            maker: own,
            payload_hash: keccak256(&payload),
            payload,
            step: Step::Sound,
            sent_at: None,
        });
        outputs.push(sign(&attestation));
    }

    fn offered(&mut self, now: Duration, offer: Offer, outputs: &mut Vec<Output>) {
        let Offer { attestation, payload } = offer;
        let at = attestation.number;
        let Some(maker) = self.attested(attestation, outputs) else {
            return;
        };
        let number = self.numbers.entry(at).or_default();
        if number.is_certified {
            self.answer(at, attestation.data, outputs);
            self.show_certified(now, at, attestation.data, outputs);
            return;
        }
        // A second encoding by one maker would cost a second check: each has one.
        if let Some(known) = number.offers.iter_mut().find(|kept| kept.maker == maker) {
            let data = known.attestation.data;
            if known.step == Step::Sound && known.payload.is_empty() && known.payload_hash == keccak256(&payload) {
                known.payload = payload;
            }
            self.answer(at, data, outputs);
            self.certify(at, outputs);
            self.shed(at);
            return;
        }
        let unseen = |kept: &&Kept| matches!(kept.step, Step::Waiting | Step::Checking);
        if number.offers.iter().filter(unseen).count() >= OFFERS_MAX {
            return;
        }
        let mut kept = Kept {
            attestation,
            maker,
            payload_hash: keccak256(&payload),
            payload,
            step: Step::Waiting,
            sent_at: None,
        };
        if let Some(cut) = &number.cut {
            outputs.push(look(&mut kept, cut.hash, &self.config));
        }
        number.offers.push(kept);
    }

    /// Lets go of payloads beyond what is kept: of others' offers, those that the fewest members signed.
    fn shed(&mut self, at: u64) {
        let own = self.config.own;
        let Some(number) = self.numbers.get_mut(&at) else {
            return;
        };
        let signers = |data: B256| {
            let signed = number.signed.values();
            signed.filter(|said| said.iter().any(|said| said.data == data)).count()
        };
        let held = number.offers.iter().enumerate();
        let held =
            held.filter(|(_, kept)| kept.step == Step::Sound && !kept.payload.is_empty() && Some(kept.maker) != own);
        let mut held: Vec<(usize, usize)> = held.map(|(at, kept)| (signers(kept.attestation.data), at)).collect();
        held.sort_unstable();
        for (_, offer) in held.iter().take(held.len().saturating_sub(OFFERS_MAX)) {
            number.offers[*offer].payload = Bytes::new();
        }
    }

    /// Whoever repeats an offer has not seen this node's attestation of it.
    fn answer(&self, at: u64, data: B256, outputs: &mut Vec<Output>) {
        let own = self.config.own.and_then(|own| self.numbers.get(&at)?.signed.get(&own));
        let said = own.and_then(|signed| signed.iter().find(|attestation| attestation.data == data));
        outputs.extend(said.map(|attestation| Output::Attest(*attestation)));
    }

    /// Whoever offers other bytes of a certified batch missed the certificate: it gets the bytes and their signatures.
    fn show_certified(&mut self, now: Duration, at: u64, data: B256, outputs: &mut Vec<Output>) {
        let repeat = self.config.repeat;
        let Some(number) = self.numbers.get_mut(&at).filter(|number| number.is_certified) else {
            return;
        };
        let Some(kept) = number.offers.first_mut().filter(|kept| kept.attestation.data != data) else {
            return;
        };
        if kept.sent_at.is_none_or(|sent| now >= sent.saturating_add(repeat)) {
            outputs.push(send(kept, now));
            let shown = kept.attestation.data;
            let signed = number.signed.values().flatten();
            outputs.extend(
                signed
                    .filter(|said| said.data == shown)
                    .map(|said| Output::Attest(*said)),
            );
        }
    }

    fn checked(&mut self, at: u64, data: B256, outcome: Result<(), String>, outputs: &mut Vec<Output>) {
        let Some(number) = self.numbers.get_mut(&at) else {
            return;
        };
        let same = |kept: &&mut Kept| kept.attestation.data == data && kept.step == Step::Checking;
        let Some(kept) = number.offers.iter_mut().find(same) else {
            return;
        };
        match outcome {
            Ok(()) => {
                kept.step = Step::Sound;
                if self.config.own.is_some() {
                    outputs.push(sign(&kept.attestation));
                }
                self.certify(at, outputs);
                self.shed(at);
            }
            Err(reason) => {
                kept.step = Step::Refused;
                kept.payload = Bytes::new();
                let maker = self.config.roster[kept.maker];
                outputs.push(Output::Refused {
                    maker,
                    number: at,
                    reason,
                });
            }
        }
    }

    fn signed(&mut self, now: Duration, attestation: Attestation, outputs: &mut Vec<Output>) {
        let Some(own) = self.config.own else { return };
        if self.attested(attestation, outputs) != Some(own) {
            return;
        }
        let Some(number) = self.numbers.get_mut(&attestation.number) else {
            return;
        };
        let mine = |kept: &&mut Kept| kept.maker == own && kept.attestation.data == attestation.data;
        match number.offers.iter_mut().find(mine) {
            Some(kept) => {
                kept.attestation = attestation;
                outputs.push(send(kept, now));
            }
            None => outputs.push(Output::Attest(attestation)),
        }
    }

    /// Keeps an attestation; who signed it, if that is a member and the number is open.
    fn attested(&mut self, attestation: Attestation, outputs: &mut Vec<Output>) -> Option<usize> {
        if !self.is_open(attestation.number) {
            return None;
        }
        // What is repeated costs no recovery.
        let known = self.numbers.get(&attestation.number);
        let known = known.and_then(|number| number.signed.iter().find(|(_, signed)| signed.contains(&attestation)));
        if let Some((member, _)) = known {
            return Some(*member);
        }
        let signer = recover(&attestation, &self.config.domain)?;
        let member = self.config.roster.iter().position(|address| *address == signer)?;
        let number = self.numbers.entry(attestation.number).or_default();
        let signed = number.signed.entry(member).or_default();
        if let Some(first) = signed
            .iter()
            .find(|first| first.batch != attestation.batch && first.epoch == attestation.epoch)
        {
            outputs.push(Output::Contradiction(Box::new((*first, attestation))));
            return None;
        }
        let is_new = signed.iter().all(|known| known.data != attestation.data);
        // One for each maker's offer.
        if is_new && signed.len() < self.config.roster.len() {
            signed.push(attestation);
            self.certify(attestation.number, outputs);
        }
        Some(member)
    }

    /// Says so when a quorum signed data that this node knows to be sound.
    fn certify(&mut self, at: u64, outputs: &mut Vec<Output>) {
        let Some(number) = self.numbers.get(&at).filter(|number| !number.is_certified) else {
            return;
        };
        let Some(cut) = &number.cut else { return };
        let found = number
            .offers
            .iter()
            .filter(|kept| kept.step == Step::Sound && !kept.payload.is_empty())
            .find_map(|kept| {
                let data = kept.attestation.data;
                let fits = |attestation: &&Attestation| {
                    attestation.data == data && attestation.batch == cut.hash && attestation.epoch == cut.batch.epoch
                };
                let signed = number.signed.iter();
                let signatures = signed.filter_map(|(member, all)| Some((*member, all.iter().find(fits)?.signature)));
                let certificate = certificate(self.config.roster.len(), signatures)?;
                Some((data, certificate, kept.payload.clone()))
            });
        let Some((data, certificate, payload)) = found else {
            return;
        };
        let certified = Certified {
            batch: cut.batch.clone(),
            data,
            certificate,
            payload,
            rank: self.config.own.map(|own| self.rank(own, at)),
        };
        outputs.push(Output::Certified(Box::new(certified)));
        if let Some(number) = self.numbers.get_mut(&at) {
            number.is_certified = true;
            number.offers.retain(|kept| kept.attestation.data == data);
        }
    }

    fn tick(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        let open: Vec<u64> = self.numbers.keys().copied().collect();
        for at in open {
            self.take_turn(now, at, outputs);
            let repeat = self.config.repeat;
            let Some(number) = self.numbers.get_mut(&at) else {
                continue;
            };
            let due = |kept: &&mut Kept| kept.sent_at.is_some_and(|sent| now >= sent.saturating_add(repeat));
            outputs.extend(number.offers.iter_mut().filter(due).map(|kept| send(kept, now)));
        }
    }
}

/// Begins to look at an offer of the batch that this node knows as `own`.
fn look(kept: &mut Kept, own: B256, config: &AttestorConfig) -> Output {
    let Attestation {
        number, batch, data, ..
    } = kept.attestation;
    if batch != own {
        kept.step = Step::Refused;
        kept.payload = Bytes::new();
        return Output::Refused {
            maker: config.roster[kept.maker],
            number,
            reason: format!("its batch is {batch}, this node's own blocks make {own}"),
        };
    }
    kept.step = Step::Checking;
    let payload = kept.payload.clone();
    Output::Check { number, data, payload }
}

fn sign(attestation: &Attestation) -> Output {
    Output::Sign {
        epoch: attestation.epoch,
        number: attestation.number,
        batch: attestation.batch,
        data: attestation.data,
    }
}

fn send(kept: &mut Kept, now: Duration) -> Output {
    kept.sent_at = Some(now);
    Output::Offer(Offer {
        attestation: kept.attestation,
        payload: kept.payload.clone(),
    })
}
