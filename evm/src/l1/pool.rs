//! The pool, as strict as those of real nodes: what anvil lets through and mainnet does not must fail here already.
//!
//! An account has either blob or other transactions pending (geth keeps two pools and lets an address be in one). Blob transactions
//! leave no gap in nonces and are replaced only for twice all three fees; others may wait behind a gap and are replaced for a tenth
//! more. What an account has pending must be payable in sum. Bounded in number, bytes and per account: the newest is refused.
//!
//! EIP-7702: another's transaction can use up the nonce and the funds of an account that has code or has signed an authorization
//! which waits here. Such an account has one transaction pending, which must be in turn and may be replaced; and who has more
//! pending is no authority of a transaction. Source: geth 2026-08, `validateAuth` and `checkDelegationLimit` of both pools.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_consensus::Transaction as _;
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_eips::eip7594::BlobTransactionSidecarEip7594;
use alloy_primitives::{Address, B256, TxKind, U256};
use revm::context_interface::cfg::gas;

use super::{Refusal, Submission};
use crate::chain::{AccountFields, Transaction};
use crate::params;

/// A transaction in the pool.
#[derive(Clone, Debug)]
struct Pooled {
    /// What arrived.
    submission: Submission,
    /// Wei that it costs at most.
    cost: U256,
    /// Its place in the order of arrival.
    arrival: u64,
}

impl Pooled {
    fn is_blob(&self) -> bool {
        self.submission.sidecar.is_some()
    }
}

/// The pool. It knows no state: callers hand in the account that they ask about.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    accounts: BTreeMap<Address, BTreeMap<u64, Pooled>>,
    by_hash: BTreeMap<B256, (Address, u64)>,
    /// In how many transactions an account has authorizations.
    authorities: BTreeMap<Address, usize>,
    bytes: usize,
    arrivals: u64,
}

impl Pool {
    /// Adds a transaction of an account, whose fields are those of the latest block.
    ///
    /// # Errors
    /// What real nodes refuse, in their words; then the pool is as it was.
    pub fn insert(&mut self, submission: Submission, account: AccountFields, block_gas: u64) -> Result<(), Refusal> {
        let hash = submission.hash();
        if self.by_hash.contains_key(&hash) {
            return Err(Refusal::AlreadyKnown);
        }
        check_gas(&submission.transaction, block_gas)?;
        let (sender, nonce) = (submission.transaction.signer(), submission.transaction.nonce());
        if nonce < account.nonce {
            return Err(Refusal::NonceTooLow {
                next: account.nonce,
                nonce,
            });
        }
        let cost = cost(&submission.transaction).ok_or(Refusal::CostOverflow)?;
        let replaced = self.check_place(&submission, account)?;
        let (replaced_bytes, replaced_cost) = replaced.map_or((0, U256::ZERO), |old| (old.submission.bytes, old.cost));
        let queued = self.queued_cost(&sender).saturating_sub(replaced_cost);
        if queued.saturating_add(cost) > account.balance {
            return Err(Refusal::InsufficientFunds {
                balance: account.balance,
                queued,
                cost,
            });
        }
        let is_new = replaced.is_none();
        self.check_delegation(&submission, account)?;
        if (is_new && self.by_hash.len() >= params::POOL_TRANSACTIONS_MAX)
            || self.bytes - replaced_bytes + submission.bytes > params::POOL_BYTES_MAX
        {
            return Err(Refusal::Full);
        }
        self.remove_at(sender, nonce);
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.put(Pooled {
            submission,
            cost,
            arrival,
        });
        Ok(())
    }

    /// Takes back a transaction that a reorg dropped. Where there is no room for it, later ones of its account make it: they could not
    /// be mined without it. Source: geth, which drops the highest nonces of an account that has too many after a reorg (`recheck` of
    /// the blob pool, `list.Cap` of the other).
    ///
    /// # Errors
    /// As [`Pool::insert`]; then the pool is as it was.
    pub(super) fn requeue(
        &mut self,
        submission: &Submission,
        account: AccountFields,
        block_gas: u64,
    ) -> Result<(), Refusal> {
        let (sender, nonce) = (submission.transaction.signer(), submission.transaction.nonce());
        let mut displaced = Vec::new();
        loop {
            let Err(refusal) = self.insert(submission.clone(), account, block_gas) else {
                return Ok(());
            };
            let lacks_room = matches!(
                refusal,
                Refusal::AccountFull(_) | Refusal::Full | Refusal::InsufficientFunds { .. }
            );
            let last = self
                .accounts
                .get(&sender)
                .and_then(|pending| pending.keys().next_back());
            let later = last.copied().filter(|last| lacks_room && *last > nonce);
            let Some(later) = later.and_then(|later| self.remove_at(sender, later)) else {
                displaced.into_iter().for_each(|pooled| self.put(pooled));
                return Err(refusal);
            };
            displaced.push(later);
        }
    }

    /// The transaction of a hash.
    #[must_use]
    pub fn find(&self, hash: &B256) -> Option<&Submission> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        Some(&self.accounts.get(sender)?.get(nonce)?.submission)
    }

    /// Takes a transaction out.
    pub fn remove(&mut self, hash: &B256) -> Option<Submission> {
        let (sender, nonce) = *self.by_hash.get(hash)?;
        self.remove_at(sender, nonce).map(|pooled| pooled.submission)
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.accounts.clear();
        self.by_hash.clear();
        self.authorities.clear();
        self.bytes = 0;
    }

    /// How many transactions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// Bytes of all transactions with their sidecars.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All transactions, by sender and nonce.
    pub fn iter(&self) -> impl Iterator<Item = &Submission> {
        let accounts = self.accounts.values().flat_map(BTreeMap::values);
        accounts.map(|pooled| &pooled.submission)
    }

    /// The nonce that an account's next transaction should have, after those pending without a gap.
    #[must_use]
    pub fn next_nonce(&self, address: &Address, account: AccountFields) -> u64 {
        let pending = self.accounts.get(address);
        let mut next = account.nonce;
        while pending.is_some_and(|pending| pending.contains_key(&next)) {
            next += 1;
        }
        next
    }

    /// Who has transactions here.
    pub fn senders(&self) -> impl Iterator<Item = Address> {
        self.accounts.keys().copied()
    }

    /// The sidecar of a transaction in the pool.
    #[must_use]
    pub fn sidecar(&self, hash: &B256) -> Option<Arc<BlobTransactionSidecarEip7594>> {
        self.find(hash)?.sidecar.clone()
    }

    /// What a block at these fees (wei per gas, wei per blob gas) can take, in its order: the best tip first, of equal tips the one
    /// that arrived first, of one sender by nonce. `account` gives the fields of a sender.
    pub fn executable(
        &self,
        base_fee: u64,
        blob_fee: u128,
        account: impl Fn(&Address) -> AccountFields,
    ) -> Vec<Transaction> {
        let pays = |pooled: &&Pooled| pooled.pays(base_fee, blob_fee);
        let head = |sender: &Address, nonce: u64| {
            let pooled = self.accounts.get(sender)?.get(&nonce).filter(pays)?;
            let tip = pooled.submission.transaction.effective_tip_per_gas(base_fee)?;
            Some((std::cmp::Reverse(tip), pooled.arrival, *sender, nonce))
        };
        let mut heads: BTreeSet<_> = self
            .senders()
            .filter_map(|sender| head(&sender, account(&sender).nonce))
            .collect();
        let mut order = Vec::new();
        while let Some((_, _, sender, nonce)) = heads.pop_first() {
            if let Some(pooled) = self.accounts.get(&sender).and_then(|pending| pending.get(&nonce)) {
                order.push(pooled.submission.transaction.clone());
            }
            heads.extend(nonce.checked_add(1).and_then(|next| head(&sender, next)));
        }
        order
    }

    /// Drops what the state has overtaken: used nonces, blob transactions behind a gap, what can no longer be paid.
    pub fn settle(&mut self, account: impl Fn(&Address) -> AccountFields) {
        let senders: Vec<Address> = self.senders().collect();
        for sender in senders {
            let fields = account(&sender);
            let mut next = fields.nonce;
            let mut drop_rest = false;
            for (nonce, is_blob, cost) in self.pending_of(&sender) {
                let is_gapped = is_blob && nonce > next;
                drop_rest |= is_gapped;
                if nonce < fields.nonce || drop_rest || cost > fields.balance {
                    self.remove_at(sender, nonce);
                } else if nonce == next {
                    next += 1;
                }
            }
        }
    }

    fn pending_of(&self, sender: &Address) -> Vec<(u64, bool, U256)> {
        let pending = self.accounts.get(sender).into_iter().flatten();
        pending
            .map(|(nonce, pooled)| (*nonce, pooled.is_blob(), pooled.cost))
            .collect()
    }

    fn queued_cost(&self, sender: &Address) -> U256 {
        let pending = self.accounts.get(sender).into_iter().flat_map(BTreeMap::values);
        pending.fold(U256::ZERO, |sum, pooled| sum.saturating_add(pooled.cost))
    }

    /// Whether the transaction may have its place among those of its sender, and which one it replaces there.
    fn check_place(&self, submission: &Submission, account: AccountFields) -> Result<Option<&Pooled>, Refusal> {
        let (sender, nonce) = (submission.transaction.signer(), submission.transaction.nonce());
        let is_blob = submission.sidecar.is_some();
        let pending = self.accounts.get(&sender);
        if let Some(other) = pending.and_then(|pending| pending.values().next())
            && other.is_blob() != is_blob
        {
            return Err(Refusal::Reserved(sender));
        }
        if let Some(old) = pending.and_then(|pending| pending.get(&nonce)) {
            check_replacement(&old.submission.transaction, &submission.transaction, is_blob)?;
            return Ok(Some(old));
        }
        let gap = self.next_nonce(&sender, account);
        if is_blob && nonce > gap {
            return Err(Refusal::NonceGap { nonce, gap });
        }
        let limit = if is_blob {
            params::BLOB_TRANSACTIONS_PER_ACCOUNT
        } else {
            params::TRANSACTIONS_PER_ACCOUNT
        };
        let number = pending.map_or(0, BTreeMap::len);
        if number >= limit {
            return Err(Refusal::AccountFull(number));
        }
        Ok(None)
    }

    /// The rules on accounts whose nonce and funds others can use: see the [module](super::pool).
    fn check_delegation(&self, submission: &Submission, account: AccountFields) -> Result<(), Refusal> {
        let (sender, nonce) = (submission.transaction.signer(), submission.transaction.nonce());
        if account.code_hash != AccountFields::EMPTY.code_hash || self.authorities.contains_key(&sender) {
            let next = self.next_nonce(&sender, account);
            let is_replacement = (account.nonce..next).contains(&nonce);
            let is_only = next == account.nonce.saturating_add(1);
            if next == account.nonce && nonce != next {
                return Err(Refusal::DelegatedGap);
            }
            if next > account.nonce && !(is_replacement && (is_only || submission.sidecar.is_none())) {
                return Err(Refusal::DelegatedFull);
            }
        }
        for authority in &submission.authorities {
            let pending = self.accounts.get(authority);
            let has_blobs = pending.is_some_and(|pending| pending.values().any(Pooled::is_blob));
            if has_blobs || pending.map_or(0, BTreeMap::len) > 1 {
                return Err(Refusal::AuthorityReserved(*authority));
            }
        }
        Ok(())
    }

    fn put(&mut self, pooled: Pooled) {
        let submission = &pooled.submission;
        let (sender, nonce) = (submission.transaction.signer(), submission.transaction.nonce());
        self.bytes += submission.bytes;
        self.by_hash.insert(submission.hash(), (sender, nonce));
        for authority in &submission.authorities {
            *self.authorities.entry(*authority).or_default() += 1;
        }
        self.accounts.entry(sender).or_default().insert(nonce, pooled);
    }

    fn remove_at(&mut self, sender: Address, nonce: u64) -> Option<Pooled> {
        let pending = self.accounts.get_mut(&sender)?;
        let pooled = pending.remove(&nonce)?;
        if pending.is_empty() {
            self.accounts.remove(&sender);
        }
        self.by_hash.remove(&pooled.submission.hash());
        self.bytes -= pooled.submission.bytes;
        for authority in &pooled.submission.authorities {
            let left = self.authorities.get(authority).map_or(0, |number| number - 1);
            if left == 0 {
                self.authorities.remove(authority);
            } else {
                self.authorities.insert(*authority, left);
            }
        }
        Some(pooled)
    }
}

impl Pooled {
    fn pays(&self, base_fee: u64, blob_fee: u128) -> bool {
        let transaction = &self.submission.transaction;
        transaction.max_fee_per_gas() >= u128::from(base_fee)
            && transaction.max_fee_per_blob_gas().is_none_or(|fee| fee >= blob_fee)
    }
}

/// Gas that its bytes take (EIP-2028, 2930, 3860, 7702), their floor (EIP-7623), and what a block has.
fn check_gas(transaction: &Transaction, block_gas: u64) -> Result<(), Refusal> {
    let gas = transaction.gas_limit();
    if gas > block_gas {
        return Err(Refusal::BlockGas);
    }
    let is_create = transaction.kind() == TxKind::Create;
    let limit = revm::primitives::eip3860::MAX_INITCODE_SIZE;
    if is_create && transaction.input().len() > limit {
        return Err(Refusal::Initcode {
            size: transaction.input().len(),
            limit,
        });
    }
    let (addresses, keys) = transaction.access_list().map_or((0, 0), |list| {
        let keys: usize = list.iter().map(|item| item.storage_keys.len()).sum();
        (list.len() as u64, keys as u64)
    });
    let authorizations = transaction.authorization_list().map_or(0, <[_]>::len) as u64;
    let needed = gas::calculate_initial_tx_gas(
        params::SPEC,
        transaction.input(),
        is_create,
        addresses,
        keys,
        authorizations,
        None,
    );
    if gas < needed.initial_total_gas() {
        return Err(Refusal::IntrinsicGas {
            gas,
            needed: needed.initial_total_gas(),
        });
    }
    if gas < needed.floor_gas() {
        return Err(Refusal::FloorGas {
            gas,
            needed: needed.floor_gas(),
        });
    }
    Ok(())
}

/// Most wei that a transaction takes from its sender.
fn cost(transaction: &Transaction) -> Option<U256> {
    let gas = U256::from(transaction.gas_limit()).checked_mul(U256::from(transaction.max_fee_per_gas()))?;
    let blobs = transaction.blob_versioned_hashes().map_or(0, <[B256]>::len) as u64;
    let blob_fee = U256::from(transaction.max_fee_per_blob_gas().unwrap_or_default());
    let blob_cost = blob_fee.checked_mul(U256::from(blobs * DATA_GAS_PER_BLOB))?;
    gas.checked_add(blob_cost)?.checked_add(transaction.value())
}

/// Whether `new` offers enough more than `old`. Each fee must reach the old one with the percentage on it, rounded up, and exceed it:
/// for a blob transaction exactly twice is enough. Sources: geth 2026-08, `list.Add` of the legacy pool and `validateTx` of the blob
/// pool (round down); reth 2026-08, `is_underpriced` (rounds up; refused exactly twice until 2024-12, v1.1.3); Besu 2026-03,
/// `isBumpedBy`; Erigon, `addLocked`; Nethermind, `CompareReplacedBlobTx`, which alone also refuses fewer blobs than before.
fn check_replacement(old: &Transaction, new: &Transaction, is_blob: bool) -> Result<(), Refusal> {
    let tip = |transaction: &Transaction| {
        let fee = transaction.max_fee_per_gas();
        transaction.max_priority_fee_per_gas().unwrap_or(fee)
    };
    let blobs = |transaction: &Transaction| transaction.blob_versioned_hashes().map_or(0, <[B256]>::len);
    if blobs(new) < blobs(old) {
        let detail = format!("new tx has {} blobs < {} queued", blobs(new), blobs(old));
        return Err(Refusal::ReplacementUnderpriced(Some(detail)));
    }
    let fees = [
        ("gas tip cap", tip(old), tip(new)),
        ("gas fee cap", old.max_fee_per_gas(), new.max_fee_per_gas()),
        (
            "blob gas fee cap",
            old.max_fee_per_blob_gas().unwrap_or_default(),
            new.max_fee_per_blob_gas().unwrap_or_default(),
        ),
    ];
    let percent = if is_blob {
        params::REPLACE_BLOB_PERCENT
    } else {
        params::REPLACE_PERCENT
    };
    for (name, old, new) in fees.into_iter().take(if is_blob { 3 } else { 2 }) {
        let least = old.saturating_add(old.saturating_mul(percent).div_ceil(100));
        if new < least || new <= old {
            let detail =
                is_blob.then(|| format!("new tx {name} {new} < {old} queued + {percent}% replacement penalty"));
            return Err(Refusal::ReplacementUnderpriced(detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
