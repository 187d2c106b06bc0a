//! What the pool costs per transaction: inserting, building, checking, removing what is decided.
//!
//! Run by hand: `cargo run --release -p fusion-mempool --example cost`. Prints microseconds per transaction of a pool
//! that holds a standing backlog and a full dedup window, for an opaque rollup and for `evm` rollups of both orders.
//! Counts time on the processor, as Linux tells it, so that other work on the machine matters less.

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, b256};
use fusion_mempool::{
    BlockLimits, BuildContext, CheckContext, EvmFacts, Origin, Pool, PoolLimits, PoolTransaction, build, check,
};
use fusion_types::{
    Committee, Epoch, Genesis, Ordering, RollupConfig, RollupId, RollupKind, SealedBlock, State, TxHash, Validator,
    ValidatorId, transaction_hash,
};

/// Public key of RFC 8032 §7.1, test 1.
const VALIDATOR: B256 = b256!("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");

const SENDERS: u64 = 2000;
const PAYLOAD_BYTES: usize = 512;
const PER_BLOCK: u64 = 450;
const BLOCKS: u64 = 300;
const BACKLOG: u64 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    measure("opaque", RollupKind::Opaque, Ordering::Fcfs)?;
    measure("evm fcfs", RollupKind::Evm, Ordering::Fcfs)?;
    measure("evm priority", RollupKind::Evm, Ordering::Priority)
}

/// Processor time spent in a step, and transactions that went through it.
#[derive(Debug, Default)]
struct Spent {
    time: Duration,
    count: u64,
}

impl Spent {
    fn add<T>(&mut self, count: u64, work: impl FnOnce() -> T) -> T {
        let start = processor_time();
        let result = work();
        self.time += processor_time().saturating_sub(start);
        self.count += count;
        result
    }

    fn print(&self, name: &str) {
        let micros = self.time.as_secs_f64() * 1e6 / self.count.max(1) as f64;
        println!("  {name:<10} {micros:>7.3} µs a transaction");
    }
}

fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

#[derive(Debug, Default)]
struct Costs {
    insert: Spent,
    build: Spent,
    seal: Spent,
    check: Spent,
    decided: Spent,
}

fn measure(name: &str, kind: RollupKind, ordering: Ordering) -> Result<(), Box<dyn std::error::Error>> {
    let rollup = RollupConfig {
        id: RollupId(901),
        kind,
        ordering,
        weight: 1,
    };
    let validator = Validator {
        id: ValidatorId(VALIDATOR),
        peer: VALIDATOR,
        power: 1,
    };
    let genesis = Genesis::new(
        "cost".to_owned(),
        0,
        Committee::new(Epoch(0), vec![validator])?,
        vec![rollup],
    )?;
    let mut pool = Pool::new(genesis.rollups(), PoolLimits::default());
    let mut state = genesis.state();
    let mut costs = Costs::default();
    let mut n = 0;
    for height in 0..BLOCKS {
        let incoming = if height == 0 { BACKLOG } else { PER_BLOCK };
        let batch: Vec<PoolTransaction> = (n..n + incoming).map(|n| transaction(&rollup, n)).collect();
        n += incoming;
        costs.insert.add(incoming, || -> Result<(), fusion_mempool::Reject> {
            for transaction in batch {
                pool.insert(transaction, Origin::Local, Duration::from_millis(height * 10))?;
            }
            Ok(())
        })?;
        decide(&genesis, &mut pool, &mut state, &mut costs)?;
    }
    println!(
        "{name}: {} waiting, {PER_BLOCK} a block of {PAYLOAD_BYTES} bytes",
        pool.len()
    );
    costs.insert.print("insert");
    costs.build.print("build");
    costs.seal.print("(seal)");
    costs.check.print("check");
    costs.decided.print("decided");
    Ok(())
}

fn decide(
    genesis: &Genesis,
    pool: &mut Pool,
    state: &mut State,
    costs: &mut Costs,
) -> Result<(), Box<dyn std::error::Error>> {
    let facts_of = |_: &RollupConfig, _: TxHash, payload: &Bytes| facts(payload);
    let (committee_hash, state_root) = (genesis.committee().hash(), state.root());
    let now_ms = state.time_ms + 1;
    let context = BuildContext {
        network: genesis.network(),
        epoch: Epoch(0),
        committee: committee_hash,
        proposer: ValidatorId(VALIDATOR),
        now_ms,
        state_root,
        l1_origin: state.l1_origin,
        l1: None,
        window: pool.window(),
        limits: BlockLimits {
            transactions_max: usize::try_from(PER_BLOCK)?,
            ..BlockLimits::default()
        },
    };
    let block = costs.build.add(PER_BLOCK, || build(pool, state, &context))?;
    let block = costs
        .seal
        .add(PER_BLOCK, || SealedBlock::decode(block.encoded().clone()))?;
    let context = CheckContext {
        network: genesis.network(),
        epoch: Epoch(0),
        committee: genesis.committee(),
        committee_hash,
        now_ms,
        state_root,
        rollups: genesis.rollups(),
        l1: None,
        window: pool.window(),
        facts_of: &facts_of,
    };
    costs.check.add(PER_BLOCK, || check(&block, state, &context))?;
    costs.decided.add(PER_BLOCK, || {
        pool.proposed(&block);
        pool.decided(&block, &facts_of);
    });
    state.apply(block.block(), block.id(), genesis.committee())?;
    Ok(())
}

/// The `n`th transaction: its sender's next. Later nonces pay less, so that no sender is left behind for ever.
fn transaction(rollup: &RollupConfig, n: u64) -> PoolTransaction {
    let mut payload = vec![0; PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&n.to_be_bytes());
    PoolTransaction {
        rollup: rollup.id,
        hash: transaction_hash(&payload),
        evm: (rollup.kind == RollupKind::Evm).then(|| facts(&payload)).flatten(),
        payload: payload.into(),
    }
}

fn facts(payload: &[u8]) -> Option<EvmFacts> {
    let n = u64::from_be_bytes(payload.get(..8)?.try_into().ok()?);
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    let tip = u128::from(1_000_000 - n / SENDERS * 1000 + spread);
    // Spread like hashes, as real addresses are.
    let sender = Address::from_word(transaction_hash(&(n % SENDERS).to_be_bytes()));
    Some(EvmFacts {
        sender,
        nonce: n / SENDERS,
        max_fee: tip,
        tip,
    })
}
