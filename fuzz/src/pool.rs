//! The mempool's pure rules: `check` on any block, and `build ⇒ check` on any pool.

use std::time::Duration;

use alloy_primitives::{Address, Bytes};
use fusion_mempool::{
    BlockLimits, BuildContext, CheckContext, EvmFacts, Origin, Pool, PoolLimits, PoolTransaction, Window, build, check,
};
use fusion_types::{
    Block, Epoch, LaneHashes, RollupConfig, RollupKind, SealedBlock, State, TxHash, decode_exact, transaction_hash,
};

use crate::fixture::{GENESIS_MS, fixture, mend};
use crate::messages::Script;

/// The wall clock of every check.
const NOW_MS: u64 = GENESIS_MS + 1_000_000;

/// A payload of this target spells its facts, so that decoding is reading: sender, nonce, fee, tip.
fn facts(payload: &Bytes) -> Option<EvmFacts> {
    let [sender, nonce, fee, tip, ..] = payload[..] else {
        return None;
    };
    Some(EvmFacts {
        sender: Address::repeat_byte(sender),
        nonce: u64::from(nonce),
        max_fee: u128::from(fee),
        tip: u128::from(tip),
    })
}

fn facts_of(_: &RollupConfig, _: TxHash, payload: &Bytes) -> Option<EvmFacts> {
    facts(payload)
}

fn context<'a>(state: &State, window: &'a Window) -> CheckContext<'a> {
    let genesis = &fixture().genesis;
    CheckContext {
        network: genesis.network(),
        epoch: Epoch(0),
        committee: genesis.committee(),
        committee_hash: state.committee,
        now_ms: NOW_MS,
        state_root: state.root(),
        rollups: genesis.rollups(),
        l1: None,
        window,
        facts_of: &facts_of,
    }
}

/// Any block against a chain's state: a byte that says which fields are made right, then the block. What passes
/// applies.
pub fn check_block(data: &[u8]) {
    let Some((right, bytes)) = data.split_first() else {
        return;
    };
    let Ok(mut block) = decode_exact::<Block>(bytes) else {
        return;
    };
    let at = usize::from(right & 3);
    let state = &fixture().states[at];
    adjust(&mut block, state, right >> 2);
    let Ok(sealed) = SealedBlock::new(&block) else { return };
    let mut pool = Pool::new(fixture().genesis.rollups(), PoolLimits::default());
    for decided in fixture().blocks[..at].iter().rev() {
        if !pool.restore(&LaneHashes::from(&*decided.block), state) {
            break;
        }
    }
    if check(&sealed, state, &context(state, pool.window())).is_ok() {
        let mut after = state.clone();
        after
            .apply(sealed.block(), sealed.id(), fixture().genesis.committee())
            .expect("a block that passes the check applies");
        pool.decided(&sealed, &facts_of);
        let again = check(&sealed, &after, &context(&after, pool.window()));
        assert!(again.is_err(), "a block that is decided passes again");
    }
}

/// Makes a block's header and streams right where bits of `right` say so, and its hashes always.
fn adjust(block: &mut Block, state: &State, right: u8) {
    let header = &mut block.header;
    if right & 1 != 0 {
        header.network = fixture().genesis.network();
        header.height = state.height.next();
        header.parent = state.block;
    }
    if right & 2 != 0 {
        header.epoch = Epoch(0);
        header.committee = state.committee;
        header.proposer = fixture().genesis.committee().validators()[0].id;
    }
    if right & 4 != 0 {
        header.l1_origin = state.l1_origin;
        header.state_root = state.root();
    }
    if right & 8 != 0 {
        header.time_ms = state.time_ms.saturating_add(1 + header.time_ms % 1000);
    }
    if right & 16 != 0 {
        let rollups = fixture().genesis.rollups();
        for (body, rollup) in block.lanes.iter_mut().zip(rollups) {
            let stream = state.streams[&rollup.id];
            body.lane.rollup = rollup.id;
            body.lane.first_sequence = stream.next_sequence;
            body.lane.parent_head = stream.head;
        }
    }
    mend(block);
}

/// Any pool: a script of insertions, proposals, decisions and time. Whatever is built passes the check.
pub fn build_check(data: &[u8]) {
    let mut script = Script::new(data);
    let genesis = &fixture().genesis;
    let limits = limits(&mut script);
    let mut pool = Pool::new(genesis.rollups(), limits);
    let mut state = genesis.state();
    let mut now = Duration::ZERO;
    let mut heights = 0;
    while !script.is_over() && heights < 64 {
        match script.byte() % 12 {
            0 => now += Duration::from_secs(u64::from(script.byte())),
            1 => drop(pool.expire(now)),
            2..=4 => {
                let sealed = propose(&mut script, &mut pool, &state);
                heights += 1;
                if script.byte().is_multiple_of(4) {
                    // Another node's proposal won; this one failed.
                    for (body, hashes) in sealed.lanes() {
                        drop(pool.proposal_failed(body.lane.rollup, hashes));
                    }
                } else {
                    decide(&mut pool, &mut state, &sealed);
                }
            }
            _ => insert(&mut script, &mut pool, now),
        }
        assert!(pool.bytes() <= limits.bytes_max, "{} bytes in the pool", pool.bytes());
        assert!(pool.executable() <= pool.len() && pool.is_empty() == (pool.executable() == 0));
    }
    let sealed = propose(&mut script, &mut pool, &state);
    decide(&mut pool, &mut state, &sealed);
}

fn limits(script: &mut Script<'_>) -> PoolLimits {
    let sizes = [2_000, 6_000, 20_000, 1 << 20];
    let mut size = || sizes[usize::from(script.byte() % 4)];
    let (bytes_max, rollup_bytes_max, sender_bytes_max) = (size(), size(), size());
    PoolLimits {
        bytes_max,
        rollup_bytes_max: rollup_bytes_max.min(bytes_max),
        sender_bytes_max: sender_bytes_max.min(rollup_bytes_max).min(bytes_max),
        sender_transactions_max: usize::from(script.byte() % 8) + 1,
        nonce_gap_max: u64::from(script.byte() % 8),
        gap_lifetime: Duration::from_secs(100),
        senders_max: usize::from(script.byte() % 8) + 3,
    }
}

fn insert(script: &mut Script<'_>, pool: &mut Pool, now: Duration) {
    let rollup = fixture().genesis.rollups()[usize::from(script.byte() % 3)];
    let filler = usize::from(script.byte());
    let mut payload = vec![script.byte() % 4, script.byte() % 12, script.byte(), script.byte()];
    payload.resize(4 + filler * usize::from(filler % 16 == 15) + filler % 16, 0);
    let payload = Bytes::from(payload);
    let transaction = PoolTransaction {
        rollup: rollup.id,
        hash: transaction_hash(&payload),
        evm: (rollup.kind == RollupKind::Evm).then(|| facts(&payload)).flatten(),
        payload,
    };
    let origin = match script.byte() % 3 {
        0 => Origin::Local,
        1 => Origin::Peer,
        _ => Origin::Member,
    };
    let (hash, before) = (transaction.hash, pool.len());
    match pool.insert(transaction, origin, now) {
        Ok(()) => assert!(pool.get(rollup.id, &hash).is_some(), "what was taken is there"),
        Err(_) => assert_eq!(pool.len(), before, "a refusal changes nothing"),
    }
}

fn propose(script: &mut Script<'_>, pool: &mut Pool, state: &State) -> SealedBlock {
    let genesis = &fixture().genesis;
    let limits = BlockLimits {
        bytes_target: usize::from(script.byte()) * 16,
        transactions_max: usize::from(script.byte()),
    };
    let context_of_build = BuildContext {
        network: genesis.network(),
        epoch: Epoch(0),
        committee: state.committee,
        proposer: genesis.committee().validators()[0].id,
        now_ms: NOW_MS.min(state.time_ms + u64::from(script.byte())),
        state_root: state.root(),
        l1_origin: state.l1_origin,
        l1: None,
        window: pool.window(),
        limits,
    };
    let sealed = build(pool, state, &context_of_build).expect("a block that is built keeps the limits");
    let checked = check(&sealed, state, &context(state, pool.window()));
    assert_eq!(checked, Ok(()), "a block that is built fails the check");
    assert!(sealed.block().transaction_count() <= limits.transactions_max.max(1));
    pool.proposed(&sealed);
    sealed
}

fn decide(pool: &mut Pool, state: &mut State, sealed: &SealedBlock) {
    state
        .apply(sealed.block(), sealed.id(), fixture().genesis.committee())
        .expect("a block that passes the check applies");
    pool.decided(sealed, &facts_of);
    for (body, hashes) in sealed.lanes() {
        for hash in hashes {
            assert!(pool.get(body.lane.rollup, hash).is_none(), "what is decided has left");
            assert!(pool.window().sequence_of(body.lane.rollup, hash).is_some());
        }
    }
}
