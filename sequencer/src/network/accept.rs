//! Answers handshakes, without letting strangers use up what validators need.
//!
//! Promises bounded work for handshakes that nobody authenticated yet: a bound on how many run at once in all and
//! for each address, proof of address when many run, and a rate for each address that brings unknown keys or breaks
//! off. Addresses of validators have no rate and a reserve of their own: strangers, even at the same address, cannot
//! lock a validator out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fusion_types::limits::COMMITTEE_MAX;
use tokio::time::{Instant, timeout};

use super::counters::add;
use super::ending::Loss;
use super::locked;
use super::mesh::Mesh;
use super::quic::Knock;

/// Handshakes that may run at once; more are refused.
const HANDSHAKES_MAX: usize = 256;
/// Handshakes that may run beyond these, from addresses of validators.
const VALIDATOR_HANDSHAKES_MAX: usize = COMMITTEE_MAX;
/// From this many on, an address must be proven first.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Handshakes of one address that may run at once.
const ADDRESS_HANDSHAKES_MAX: u32 = 32;
/// Strangers' handshakes that one address may bring at once.
const ADDRESS_BURST: u32 = 32;
/// How long it takes one address to earn another.
const ADDRESS_EARN: Duration = Duration::from_millis(500);
/// Addresses remembered. Full, it forgets those that owe least.
const ADDRESSES_MAX: usize = 4096;

/// Answers every handshake until the node stops.
pub(super) async fn answer_all(mesh: Arc<Mesh>) {
    let quota = Arc::new(Mutex::new(Quota::default()));
    while let Some(knock) = mesh.sockets.knock().await {
        let address = knock.address();
        let verdict = {
            let known = mesh.is_validator_ip(address.ip());
            locked(&quota).judge(address.ip(), knock.has_proven_address(), known, Instant::now())
        };
        match verdict {
            Verdict::Answer => {
                tokio::spawn(answer(mesh.clone(), quota.clone(), knock, address));
            }
            Verdict::Prove => {
                add(&mesh.counters.handshakes_retried, 1);
                knock.ask_for_proof();
            }
            Verdict::Refuse => {
                add(&mesh.counters.handshakes_refused, 1);
                knock.refuse();
            }
        }
    }
}

async fn answer(mesh: Arc<Mesh>, quota: Arc<Mutex<Quota>>, knock: Knock, address: SocketAddr) {
    let answered = timeout(mesh.timing.handshake, knock.answer()).await;
    let charged = match answered.unwrap_or(Err(Loss::Silent)) {
        Ok(link) => {
            let peer = link.peer();
            let stranger = !mesh.validators.contains(&peer);
            if let Err(code) = mesh.admit(link, None) {
                tracing::debug!(%peer, %address, %code, "peer turned away");
            }
            stranger
        }
        Err(failure) => {
            add(&mesh.counters.handshakes_failed, 1);
            if failure == Loss::OtherNetwork {
                tracing::warn!(%address, %failure, "refused a peer");
            } else {
                tracing::debug!(%address, %failure, "handshake failed");
            }
            // Who did not prove an address must not be able to spend another's allowance.
            !matches!(failure, Loss::Silent | Loss::ClosedHere)
        }
    };
    locked(&quota).finish(address.ip(), charged, Instant::now());
}

/// What to do with a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answer,
    Prove,
    Refuse,
}

/// Handshakes that run, and what each address has used up.
#[derive(Debug, Default)]
struct Quota {
    running: usize,
    addresses: BTreeMap<IpAddr, Account>,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    running: u32,
    /// When the address will owe nothing.
    free: Instant,
}

impl Quota {
    /// Judges a handshake from `ip`, and counts it as running if it is answered.
    fn judge(&mut self, ip: IpAddr, proven: bool, known: bool, now: Instant) -> Verdict {
        let reserve = if known { VALIDATOR_HANDSHAKES_MAX } else { 0 };
        if self.running >= HANDSHAKES_MAX + reserve {
            return Verdict::Refuse;
        }
        if self.running >= HANDSHAKES_UNPROVEN_MAX && !proven {
            return Verdict::Prove;
        }
        let account = self.account(ip, now);
        let owed = account.free.saturating_duration_since(now);
        if !known && (account.running >= ADDRESS_HANDSHAKES_MAX || owed > ADDRESS_EARN * (ADDRESS_BURST - 1)) {
            return Verdict::Refuse;
        }
        account.running += 1;
        self.running += 1;
        Verdict::Answer
    }

    /// Ends a handshake that was answered; `charged` if it was a stranger's.
    fn finish(&mut self, ip: IpAddr, charged: bool, now: Instant) {
        self.running = self.running.saturating_sub(1);
        let account = self.account(ip, now);
        account.running = account.running.saturating_sub(1);
        if charged {
            account.free = account.free.max(now) + ADDRESS_EARN;
        }
    }

    fn account(&mut self, ip: IpAddr, now: Instant) -> &mut Account {
        let key = site(ip);
        if !self.addresses.contains_key(&key) && self.addresses.len() >= ADDRESSES_MAX {
            self.addresses
                .retain(|_, account| account.running > 0 || account.free > now);
            let least = self
                .addresses
                .iter()
                .min_by_key(|(_, account)| (account.running, account.free));
            if let (true, Some(least)) = (self.addresses.len() >= ADDRESSES_MAX, least.map(|(ip, _)| *ip)) {
                self.addresses.remove(&least);
            }
        }
        self.addresses.entry(key).or_insert(Account { running: 0, free: now })
    }
}

/// What counts as one address: an IPv4 address, or an IPv6 /48, which is what one site is given.
fn site(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn an_address_that_brings_strangers_is_refused_until_it_has_earned_another() {
        let mut quota = Quota::default();
        let now = Instant::now();
        for _ in 0..ADDRESS_BURST {
            assert_eq!(quota.judge(ip(1), false, false, now), Verdict::Answer);
            quota.finish(ip(1), true, now);
        }
        assert_eq!(quota.judge(ip(1), false, false, now), Verdict::Refuse);
        assert_eq!(
            quota.judge(ip(1), false, true, now),
            Verdict::Answer,
            "a validator's address"
        );
        assert_eq!(
            quota.judge(ip(2), false, false, now),
            Verdict::Answer,
            "another address"
        );
        assert_eq!(quota.judge(ip(1), false, false, now + ADDRESS_EARN), Verdict::Answer);
    }

    #[test]
    fn many_handshakes_at_once_must_prove_their_address_and_too_many_are_refused() {
        let mut quota = Quota::default();
        let now = Instant::now();
        let many = |index: usize| IpAddr::from([10, 1, 0, u8::try_from(index % 256).unwrap()]);
        for index in 0..HANDSHAKES_UNPROVEN_MAX {
            assert_eq!(quota.judge(many(index), false, false, now), Verdict::Answer);
        }
        assert_eq!(quota.judge(ip(9), false, false, now), Verdict::Prove);
        for index in HANDSHAKES_UNPROVEN_MAX..HANDSHAKES_MAX {
            assert_eq!(quota.judge(many(index), true, false, now), Verdict::Answer);
        }
        assert_eq!(quota.judge(ip(9), true, false, now), Verdict::Refuse);
        assert_eq!(
            quota.judge(ip(8), true, true, now),
            Verdict::Answer,
            "a validator's address"
        );
        quota.finish(ip(8), false, now);
        quota.finish(many(0), false, now);
        assert_eq!(quota.judge(ip(9), true, false, now), Verdict::Answer);
    }

    #[test]
    fn the_memory_of_addresses_is_bounded() {
        let mut quota = Quota::default();
        let now = Instant::now();
        for index in 0..u32::try_from(ADDRESSES_MAX).unwrap() * 2 {
            let ip = IpAddr::from(index.to_be_bytes());
            quota.judge(ip, true, false, now);
            quota.finish(ip, true, now);
        }
        assert!(quota.addresses.len() <= ADDRESSES_MAX);
    }
}
