//! What goes into a block, and whether a block is right: [`build`] and its twin [`check`].
//!
//! Every block that `build` makes passes `check` on every node with the same state and window, whose view of L1 reaches as
//! far. What both decide is the ordering policy that the crate's documentation states.
//!
//! An L1 origin is judged by the node's own view of L1: one that the view has under another hash is wrong for ever, one that
//! it does not have yet is neither right nor wrong ([`Invalid::may_pass_later`]). In which round a proposer may adopt a new
//! one is no rule of validity: a block goes on from the round that it was built for into later ones with its polka, and one
//! that everybody can verify does no harm in any.
//!
//! Not a rule of validity: that an `evm` payload is a transaction with a good signature. Nobody but the rollup can
//! judge a payload to the end, and the rollup skips what it cannot execute. A junk payload wastes the share of its own
//! rollup, whereas a rule would cost every node a signature recovery for each transaction and split the committee where
//! two decoders differ. Only a `priority` lane needs the facts, to check its order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use alloy_primitives::{Address, B256, Bytes};
use fusion_types::limits::{
    BATCH_LANE_BYTES, BLOCK_BYTES_MAX, BLOCK_OVERHEAD_BYTES, BLOCK_TRANSACTIONS_MAX, CLOCK_DRIFT_MAX_MS,
    TRANSACTION_OVERHEAD_BYTES,
};
use fusion_types::{
    Block, Committee, Epoch, Header, Height, L1Origin, Lane, LaneBody, NetworkId, Ordering, RollupConfig, RollupId,
    SealError, SealedBlock, State, TxHash, ValidatorId, merkle_root,
};

use crate::cursor::Cursor;
use crate::invalid::Invalid;
use crate::l1::{Due, ForcedLane, L1View};
use crate::pool::Pool;
use crate::transaction::{EvmFacts, FactsOf, PoolTransaction};
use crate::window::Window;

/// How large a proposer makes its block. Other nodes check the protocol's limits only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLimits {
    /// Stop adding at this size of all transactions but the forced ones, in bytes. Exceeded only by a block with a single
    /// transaction.
    pub bytes_target: usize,
    /// Most transactions, but for forced ones.
    pub transactions_max: usize,
}

/// What a proposer knows beyond its pool and the state.
#[derive(Debug, Clone, Copy)]
pub struct BuildContext<'a> {
    /// The network.
    pub network: NetworkId,
    /// Epoch of the height to build.
    pub epoch: Epoch,
    /// Hash of its committee.
    pub committee: B256,
    /// Who builds.
    pub proposer: ValidatorId,
    /// Its clock, Unix milliseconds.
    pub now_ms: u64,
    /// `State::root()` of the state to build on; computed once per height by the caller.
    pub state_root: B256,
    /// The L1 block to adopt: the parent's origin, or one above it that `l1` has.
    pub l1_origin: L1Origin,
    /// What is known of L1; none where nothing settles. Complete at the state.
    pub l1: Option<&'a L1View>,
    /// What the streams carried up to the parent block.
    pub window: &'a Window,
    /// Size of the block.
    pub limits: BlockLimits,
}

/// What a validator knows beyond the block and the state.
#[derive(Clone, Copy)]
pub struct CheckContext<'a> {
    /// The network.
    pub network: NetworkId,
    /// Epoch of the block's height.
    pub epoch: Epoch,
    /// Its committee.
    pub committee: &'a Committee,
    /// Hash of that committee.
    pub committee_hash: B256,
    /// The validator's clock, Unix milliseconds.
    pub now_ms: u64,
    /// `State::root()` of the state that the block builds on; computed once per height by the caller.
    pub state_root: B256,
    /// The registered rollups, ascending by id.
    pub rollups: &'a [RollupConfig],
    /// What is known of L1; none where nothing settles.
    pub l1: Option<&'a L1View>,
    /// What the streams carried up to the parent block.
    pub window: &'a Window,
    /// Decodes the payloads of `priority` lanes.
    pub facts_of: &'a FactsOf<'a>,
}

impl Default for BlockLimits {
    /// As large as the protocol allows.
    fn default() -> Self {
        Self {
            bytes_target: BLOCK_BYTES_MAX,
            transactions_max: BLOCK_TRANSACTIONS_MAX,
        }
    }
}

impl std::fmt::Debug for CheckContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckContext")
            .field("network", &self.network)
            .field("epoch", &self.epoch)
            .field("now_ms", &self.now_ms)
            .finish_non_exhaustive()
    }
}

/// The block that this node proposes on `state`, sealed with the hashes that the pool knows. The pool is unchanged
/// until the block is decided. Cost O(rollups + taken · log taken), whatever else waits.
///
/// # Errors
/// [`SealError`] when the block breaks a limit: a defect of this file.
pub fn build(pool: &Pool, state: &State, context: &BuildContext<'_>) -> Result<SealedBlock, SealError> {
    let height = state.height.next();
    let due = due(context.l1, context.l1_origin, state, context.window);
    let cursors: Vec<Cursor<'_>> = pool
        .cursors(&due)
        .filter(|cursor| state.streams.contains_key(&cursor.rollup()))
        .collect();
    let room = Room::beside(&due, cursors.len(), context.l1);
    let shares = share(cursors, height, context.limits, &room);
    let forced_to = forced_to(&due, state);
    let mut contents: BTreeMap<RollupId, ForcedLane> = due.lanes.clone();
    for (rollup, taken) in shares {
        let lane = contents.entry(rollup).or_default();
        lane.hashes.extend(taken.iter().map(|transaction| transaction.hash));
        lane.payloads
            .extend(taken.iter().map(|transaction| transaction.payload.clone()));
    }
    let (lanes, hashes): (Vec<LaneBody>, Vec<Vec<TxHash>>) = contents
        .into_iter()
        .map(|(rollup, content)| {
            let stream = state.streams[&rollup];
            let body = LaneBody {
                lane: Lane::new(rollup, height, stream.next_sequence, stream.head, &content.hashes),
                transactions: content.payloads,
            };
            (body, content.hashes)
        })
        .unzip();
    let leaves: Vec<B256> = lanes.iter().map(|lane| lane.lane.leaf()).collect();
    let header = Header {
        network: context.network,
        height,
        parent: state.block,
        epoch: context.epoch,
        committee: context.committee,
        proposer: context.proposer,
        time_ms: context.now_ms.max(state.time_ms.saturating_add(1)),
        l1_origin: context.l1_origin,
        lanes_root: merkle_root(&leaves),
        state_root: context.state_root,
        forced_to,
    };
    SealedBlock::with_hashes(&Block { header, lanes }, hashes)
}

/// Whether `block` may be decided on `state`. That its body belongs to its header and keeps the size limits is what
/// [`SealedBlock`] stands for.
///
/// # Errors
/// [`Invalid`] names the first rule that it breaks.
pub fn check(block: &SealedBlock, state: &State, context: &CheckContext<'_>) -> Result<(), Invalid> {
    check_header(block.header(), state, context)?;
    let due = check_forced(block, state, context)?;
    for (body, hashes) in block.lanes() {
        let rollup = body.lane.rollup;
        let config = context.rollups.binary_search_by_key(&rollup, |config| config.id);
        let config = config.map_err(|_| Invalid::UnknownRollup(rollup))?;
        let config = &context.rollups[config];
        let stream = state.streams.get(&rollup).ok_or(Invalid::UnknownRollup(rollup))?;
        if body.lane.first_sequence != stream.next_sequence || body.lane.parent_head != stream.head {
            return Err(Invalid::Stream(rollup));
        }
        check_repeats(rollup, hashes, context.window)?;
        match config.ordering {
            Ordering::Fcfs => {}
            Ordering::Priority => {
                let forced = due.hashes(rollup).len();
                check_priority(
                    config,
                    &hashes[forced..],
                    &body.transactions[forced..],
                    context.facts_of,
                )?;
            }
        }
    }
    Ok(())
}

fn check_header(header: &Header, state: &State, context: &CheckContext<'_>) -> Result<(), Invalid> {
    let expected_height = state.height.next();
    if header.network != context.network {
        return Err(Invalid::Network(header.network));
    }
    if header.height != expected_height {
        return Err(Invalid::Height {
            given: header.height,
            expected: expected_height,
        });
    }
    if header.parent != state.block {
        return Err(Invalid::Parent {
            given: header.parent,
            expected: state.block,
        });
    }
    if header.epoch != context.epoch {
        return Err(Invalid::Epoch {
            given: header.epoch,
            expected: context.epoch,
        });
    }
    if header.committee != context.committee_hash {
        return Err(Invalid::Committee {
            given: header.committee,
            expected: context.committee_hash,
        });
    }
    if context.committee.index_of(header.proposer).is_none() {
        return Err(Invalid::Proposer(header.proposer));
    }
    if context.l1.is_none() && header.l1_origin != state.l1_origin {
        return Err(Invalid::L1Origin {
            given: header.l1_origin,
            expected: state.l1_origin,
        });
    }
    if header.state_root != context.state_root {
        return Err(Invalid::StateRoot {
            given: header.state_root,
            expected: context.state_root,
        });
    }
    check_time(header.time_ms, state.time_ms, context.now_ms)
}

/// What is due at the origin that a block adopts; nothing where nothing settles.
fn due(l1: Option<&L1View>, origin: L1Origin, state: &State, window: &Window) -> Due {
    let nothing = || Due {
        to: state.forced_cursor,
        ..Due::default()
    };
    l1.map_or_else(nothing, |l1| l1.due(origin, state, window))
}

/// The header's field: set exactly if the cursor moves.
fn forced_to(due: &Due, state: &State) -> Option<u64> {
    Some(due.to).filter(|to| *to != state.forced_cursor)
}

/// Whether the block adopts an L1 block of this L1 and carries what is due there, as the beginning of its lanes. Returns
/// that.
fn check_forced(block: &SealedBlock, state: &State, context: &CheckContext<'_>) -> Result<Due, Invalid> {
    let header = block.header();
    if let Some(l1) = context.l1 {
        let (bytes, bytes_max) = (block.block().batch_bytes() as u64, l1.rules().block_bytes_max);
        if bytes > bytes_max {
            return Err(Invalid::Large { bytes, bytes_max });
        }
        l1.check_origin(header.l1_origin)?;
    }
    let due = due(context.l1, header.l1_origin, state, context.window);
    let (given, expected) = (header.forced_to, forced_to(&due, state));
    if given != expected {
        return Err(Invalid::ForcedTo { given, expected });
    }
    let mut missing: BTreeMap<RollupId, &ForcedLane> = due.lanes.iter().map(|(rollup, lane)| (*rollup, lane)).collect();
    for (body, hashes) in block.lanes() {
        let rollup = body.lane.rollup;
        if missing
            .remove(&rollup)
            .is_some_and(|lane| !hashes.starts_with(&lane.hashes))
        {
            return Err(Invalid::Forced(rollup));
        }
    }
    match missing.first_key_value() {
        Some((rollup, _)) => Err(Invalid::Forced(*rollup)),
        None => Ok(due),
    }
}

fn check_time(given: u64, parent: u64, now: u64) -> Result<(), Invalid> {
    if given <= parent {
        return Err(Invalid::TimeBack { given, parent });
    }
    if now.saturating_add(CLOCK_DRIFT_MAX_MS) < given {
        return Err(Invalid::TimeAhead { given, now });
    }
    Ok(())
}

fn check_repeats(rollup: RollupId, hashes: &[TxHash], window: &Window) -> Result<(), Invalid> {
    let repeated = |hash: &TxHash| Invalid::Repeated { rollup, hash: *hash };
    if let Some(hash) = hashes.iter().find(|hash| window.sequence_of(rollup, hash).is_some()) {
        return Err(repeated(hash));
    }
    let mut sorted: Vec<&TxHash> = hashes.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(repeated(pair[0])),
        None => Ok(()),
    }
}

/// A `priority` lane is the greedy merge of its senders' transactions: at each step the one that comes next pays the
/// highest effective tip among every sender's lowest remaining nonce in the lane. Among equals the proposer chooses.
fn check_priority(
    config: &RollupConfig,
    hashes: &[TxHash],
    payloads: &[Bytes],
    facts_of: &FactsOf<'_>,
) -> Result<(), Invalid> {
    let rollup = config.id;
    let mut order: Vec<EvmFacts> = Vec::with_capacity(hashes.len());
    let mut remaining: BTreeMap<Address, VecDeque<u128>> = BTreeMap::new();
    let mut last_nonce: BTreeMap<Address, u64> = BTreeMap::new();
    for (hash, payload) in hashes.iter().zip(payloads) {
        let hash = *hash;
        let facts = facts_of(config, hash, payload).ok_or(Invalid::Undecodable { rollup, hash })?;
        let nonce = facts.nonce;
        if last_nonce.insert(facts.sender, nonce).is_some_and(|last| nonce <= last) {
            return Err(Invalid::NonceOrder { rollup, hash, nonce });
        }
        remaining
            .entry(facts.sender)
            .or_default()
            .push_back(facts.effective_tip());
        order.push(facts);
    }
    // The heads' tips as a heap. A sender's tips enter it one after the other, so the best head is at its top.
    let mut heads: BinaryHeap<u128> = remaining.values_mut().filter_map(VecDeque::pop_front).collect();
    for (facts, hash) in order.iter().zip(hashes) {
        let tip = facts.effective_tip();
        let best = heads
            .pop()
            .expect("every transaction that is left has its sender's head in the heap");
        if tip < best {
            return Err(Invalid::TipOrder {
                rollup,
                hash: *hash,
                tip,
                best,
            });
        }
        // `tip` is itself a head, so it is not above the best: they are equal, and one of that value is gone.
        heads.extend(remaining.get_mut(&facts.sender).and_then(VecDeque::pop_front));
    }
    Ok(())
}

/// Takes transactions from the lanes by weighted fair queueing: the next one is that which its lane finishes first if
/// every lane is served at the speed of its weight. So a lane that wants no more than its share gets all it wants, and
/// what it leaves goes to the others by weight. Returns the lanes that got something, ascending by rollup.
fn share<'a>(
    mut cursors: Vec<Cursor<'a>>,
    height: Height,
    limits: BlockLimits,
    room: &Room,
) -> Vec<(RollupId, Vec<&'a PoolTransaction>)> {
    let count_max = limits.transactions_max.clamp(1, room.count);
    let bytes_target = limits.bytes_target.min(room.bytes);
    let mut budget = Budget {
        bytes: bytes_target,
        count: count_max,
        // There is room for so many bytes and so many transactions: a short one uses up the share of this many bytes.
        charge_min: (bytes_target / count_max).max(1),
    };
    let lanes = cursors.len();
    let mut taken: Vec<Vec<&PoolTransaction>> = vec![Vec::new(); lanes];
    let favoured = usize::try_from(height.0 % lanes.max(1) as u64).unwrap_or(0);
    let mut queue: BinaryHeap<Reverse<(u64, usize, usize)>> = BinaryHeap::new();
    for offset in 0..lanes {
        let at = (favoured + offset) % lanes;
        let Some(first) = cursors[at].peek() else { continue };
        // One lane, another at each height, has its first transaction taken at no charge: otherwise one that exceeds
        // its lane's share of a block would wait for as long as the others are busy.
        let finish = if offset == 0 {
            0
        } else {
            cursors[at].finish(0, budget.charge(first))
        };
        queue.push(Reverse((finish, offset, at)));
    }
    while let Some(Reverse((finish, offset, at))) = queue.pop() {
        let Some(next) = cursors[at].peek() else { continue };
        let alone = finish == 0 && next.payload.len() + TRANSACTION_OVERHEAD_BYTES <= room.bytes;
        if !budget.take(next, alone) {
            // The lane's order leaves no other to try; shorter ones of other lanes may still fit.
            continue;
        }
        taken[at].push(next);
        cursors[at].advance();
        if let Some(next) = cursors[at].peek() {
            queue.push(Reverse((cursors[at].finish(finish, budget.charge(next)), offset, at)));
        }
    }
    let lanes = cursors.iter().map(Cursor::rollup).zip(taken);
    lanes.filter(|(_, taken)| !taken.is_empty()).collect()
}

/// What a block has room for beside what it must carry.
#[derive(Debug)]
struct Room {
    bytes: usize,
    count: usize,
}

impl Room {
    /// If `lanes` have transactions beside those that are due, for which the genesis leaves room.
    fn beside(due: &Due, lanes: usize, l1: Option<&L1View>) -> Self {
        let most = BLOCK_BYTES_MAX - BLOCK_OVERHEAD_BYTES;
        let settled = l1.map_or(most, |l1| {
            let bytes_max = usize::try_from(l1.rules().block_bytes_max).unwrap_or(most);
            bytes_max.saturating_sub((due.lanes.len() + lanes) * BATCH_LANE_BYTES)
        });
        let forced = due.bytes + due.count * TRANSACTION_OVERHEAD_BYTES;
        Self {
            bytes: settled.min(most).saturating_sub(forced),
            count: BLOCK_TRANSACTIONS_MAX - due.count,
        }
    }
}

/// What is left of a block.
#[derive(Debug)]
struct Budget {
    bytes: usize,
    count: usize,
    charge_min: usize,
}

impl Budget {
    /// What a transaction costs its lane's share, bytes.
    fn charge(&self, transaction: &PoolTransaction) -> usize {
        (transaction.payload.len() + TRANSACTION_OVERHEAD_BYTES).max(self.charge_min)
    }

    /// Takes a transaction's room, if there is enough or it is the first and `alone` says that it may have it all.
    fn take(&mut self, transaction: &PoolTransaction, alone: bool) -> bool {
        let bytes = transaction.payload.len() + TRANSACTION_OVERHEAD_BYTES;
        if self.count == 0 || (self.bytes < bytes && !alone) {
            return false;
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        self.count -= 1;
        true
    }
}

impl Cursor<'_> {
    fn rollup(&self) -> RollupId {
        self.lane().config.id
    }

    /// When the lane finishes `charge` more bytes after `virtual_time`: 2^32 units are one byte at weight 1.
    fn finish(&self, virtual_time: u64, charge: usize) -> u64 {
        virtual_time.saturating_add(((charge as u64) << 32) / u64::from(self.lane().config.weight.max(1)))
    }
}

#[cfg(test)]
mod tests;
