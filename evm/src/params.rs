//! Parameters of the protocol and bounds of this program, each with its unit and source or reason.

use alloy_eips::{eip1559::BaseFeeParams, eip7840::BlobParams};
use alloy_primitives::{Address, U256, address};
use revm::primitives::hardfork::SpecId;

/// The rules of execution. Source: EIP-7607 (Fusaka).
pub const SPEC: SpecId = SpecId::OSAKA;

/// Target 14 and at most 21 blobs in a block, at most 6 in a transaction, update fraction 11,684,671.
/// Source: EIP-7892 (BPO2, mainnet since 2026-01-07), EIP-7594 (blobs of a transaction), EIP-7918 (reserve price).
pub const BLOBS: BlobParams = BlobParams::bpo2();

/// A block twice its target raises the base fee by an eighth. Source: EIP-1559.
pub const BASE_FEE: BaseFeeParams = BaseFeeParams::ethereum();

/// Most gas of one transaction. Source: EIP-7825.
pub const TRANSACTION_GAS_MAX: u64 = 1 << 24;

/// Most bytes of a block in RLP: 10 MiB less 2 MiB for the beacon block around it. Source: EIP-7934.
pub const BLOCK_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Gas of a block. Source: mainnet's since late 2025 (EIP-7935).
pub const BLOCK_GAS: u64 = 60_000_000;

/// Wei per gas of the first block. Source: EIP-1559 (`INITIAL_BASE_FEE`).
pub const INITIAL_BASE_FEE: u64 = 1_000_000_000;

/// Whose balance grows by the tips. No key of it is known.
pub const BENEFICIARY: Address = address!("0x00000000000000000000000000000000000f0510");

/// Bytes of a transaction without its sidecar. Source: geth, `txMaxSize` of its pools.
pub const TRANSACTION_BYTES_MAX: usize = 4 * 32 * 1024;

/// Most wei that a transaction sent over RPC may pay for its gas: 1 ether. Source: geth, `rpc.txfeecap`.
pub const TRANSACTION_FEE_MAX: u128 = 1_000_000_000_000_000_000;

/// Percent by which both fees of a transaction must rise to replace it. Source: geth, `txpool.pricebump`.
pub const REPLACE_PERCENT: u128 = 10;

/// The same for blob transactions and their three fees. Source: geth, `blobpool.pricebump`; reth, Erigon, Nethermind have the same.
pub const REPLACE_BLOB_PERCENT: u128 = 100;

/// Least tip that the pool takes, in wei per gas. Source: geth, `miner.gasprice` and the pools' `MinTip`.
pub const TIP_MIN: u128 = 1;

/// What `eth_maxPriorityFeePerGas` answers, in wei per gas: what nodes say of a chain that is not busy.
pub const TIP_SUGGESTED: u128 = 1_000_000_000;

/// Blob transactions that one account may have pending. Source: geth, `maxTxsPerAccount` of its blob pool.
pub const BLOB_TRANSACTIONS_PER_ACCOUNT: usize = 16;

/// Other transactions that one account may have pending. Source: geth, `txpool.accountqueue`.
pub const TRANSACTIONS_PER_ACCOUNT: usize = 64;

/// Transactions in the pool. Source: geth, `txpool.globalslots`. The newest is refused when it is full.
pub const POOL_TRANSACTIONS_MAX: usize = 4096;

/// Bytes in the pool, sidecars included. Room for 240 transactions of 6 blobs; the newest is refused when it is full.
pub const POOL_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Gas of one `eth_call`. Source: geth, `rpc.gascap`.
pub const CALL_GAS_MAX: u64 = 50_000_000;

/// Blocks whose state can be asked for or returned to, at least the 64 of the deepest reorg that tests make.
pub const STATES_RETAINED: usize = 256;

/// Blocks with their transactions and logs: 3 days of one second. The oldest leave.
pub const BLOCKS_RETAINED: usize = 262_144;

/// Bytes of blocks with their transactions and logs, and of what they changed: 262,144 empty blocks take a half of it. The oldest
/// leave, and with them the states that one can return to.
pub const BLOCK_BYTES_RETAINED: usize = 1024 * 1024 * 1024;

/// Bytes of blobs that the beacon API serves: 8,192 blobs. The oldest blocks' leave.
pub const BLOB_BYTES_RETAINED: usize = 1024 * 1024 * 1024;

/// Slots for which blobs are kept, if there is room. Source: consensus specs, 4,096 epochs of 32 slots.
pub const BLOB_SLOTS_RETAINED: u64 = 4096 * 32;

/// Logs of one answer, above which a narrower question has to be asked.
pub const LOGS_MAX: usize = 20_000;

/// Blocks that one `eth_getLogs` may look through.
pub const LOGS_BLOCKS_MAX: u64 = 100_000;

/// Blocks of one `eth_feeHistory`, and percentiles of it. Source: geth.
pub const FEE_HISTORY_BLOCKS_MAX: u64 = 1024;
/// Most percentiles of one `eth_feeHistory`. Source: geth, `maxQueryLimit`.
pub const FEE_HISTORY_PERCENTILES_MAX: usize = 100;

/// Blocks of one `anvil_mine`, and of a reorg.
pub const MINE_BLOCKS_MAX: u64 = 1024;

/// Snapshots held at a time; the oldest leaves.
pub const SNAPSHOTS_MAX: usize = 64;

/// Bytes of the pools that they hold, each counted as if it shared nothing: two full ones. The oldest leave.
pub const SNAPSHOT_BYTES_MAX: usize = 2 * POOL_BYTES_MAX;

/// Blocks below the head that are called safe and finalized: 32 and 64, an epoch and two, as behind an ideal beacon chain.
pub const SAFE_DISTANCE: u64 = 32;
/// See [`SAFE_DISTANCE`].
pub const FINALIZED_DISTANCE: u64 = 64;

/// The chain id unless set otherwise: what local chains are called.
pub const CHAIN_ID: u64 = 1337;

/// Wei of each developer account: 10,000 ether.
pub const DEV_BALANCE: U256 = U256::from_limbs([1_864_712_049_423_024_128, 542, 0, 0]);

/// The accounts of the mnemonic "test test test test test test test test test test test junk" (path m/44'/60'/0'/0/i) and their
/// private keys, which the whole world knows.
pub const DEV_ACCOUNTS: [(Address, &str); 10] = [
    (
        address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    ),
    (
        address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    ),
    (
        address!("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    ),
    (
        address!("0x90F79bf6EB2c4f870365E785982E1f101E93b906"),
        "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    ),
    (
        address!("0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
        "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    ),
    (
        address!("0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
        "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    ),
    (
        address!("0x976EA74026E726554dB657fA54763abd0C3a0aa9"),
        "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    ),
    (
        address!("0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"),
        "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    ),
    (
        address!("0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"),
        "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    ),
    (
        address!("0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"),
        "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
    ),
];

// A reorg returns to a state that is still there, and a block that is finalized by the usual distance is one of them.
const _: () = assert!(STATES_RETAINED > 64 && FINALIZED_DISTANCE < STATES_RETAINED as u64);
const _: () = assert!(STATES_RETAINED <= BLOCKS_RETAINED);
