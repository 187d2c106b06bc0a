//! The state: accounts, storage and code, what each block changed in it, and its root.
//!
//! Promises that [`State::undo`] brings back exactly what was there, and that the root is Ethereum's (a Merkle Patricia trie over
//! hashed keys). Maps are ordered, so that nothing depends on a hasher's seed. Code is never forgotten.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256, map::AddressMap};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, TrieAccount};
use revm::state::{Account, AccountInfo, Bytecode};

use super::trie::Trie;

/// What an account is without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountFields {
    /// Wei.
    pub balance: U256,
    /// Transactions sent, or contracts created.
    pub nonce: u64,
    /// Keccak of its code; of nothing if it has none.
    pub code_hash: B256,
}

impl AccountFields {
    /// What an address is that was never used.
    pub const EMPTY: Self = Self {
        balance: U256::ZERO,
        nonce: 0,
        code_hash: KECCAK_EMPTY,
    };
}

/// What a block changed: the values before it. An account that was not there is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Undo {
    accounts: BTreeMap<Address, Option<AccountFields>>,
    slots: BTreeMap<(Address, U256), U256>,
}

impl Undo {
    /// The account before the block, if the block changed it.
    pub(super) fn account(&self, address: &Address) -> Option<Option<AccountFields>> {
        self.accounts.get(address).copied()
    }

    /// The slot before the block, if the block changed it.
    pub(super) fn slot(&self, address: Address, slot: U256) -> Option<U256> {
        self.slots.get(&(address, slot)).copied()
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn bytes_held(&self) -> usize {
        let account = size_of::<(Address, Option<AccountFields>)>();
        let slot = size_of::<((Address, U256), U256)>();
        size_of::<Self>() + self.accounts.len() * account + self.slots.len() * slot
    }
}

/// The state after the latest block.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    accounts: BTreeMap<Address, AccountFields>,
    storage: BTreeMap<Address, BTreeMap<U256, U256>>,
    codes: BTreeMap<B256, Bytecode>,
    /// The trie of accounts, true for all but those of `stale`.
    trie: Trie,
    /// The tries of contracts, true for all but `stale_slots`.
    storage_tries: BTreeMap<Address, Trie>,
    stale: BTreeSet<Address>,
    stale_slots: BTreeSet<(Address, U256)>,
}

impl State {
    pub(super) fn account(&self, address: &Address) -> Option<AccountFields> {
        self.accounts.get(address).copied()
    }

    pub(super) fn slot(&self, address: Address, slot: U256) -> U256 {
        let slots = self.storage.get(&address);
        slots.and_then(|slots| slots.get(&slot)).copied().unwrap_or_default()
    }

    pub(super) fn code(&self, hash: &B256) -> Bytecode {
        self.codes.get(hash).cloned().unwrap_or_default()
    }

    /// The account as revm wants it, with its code.
    pub(super) fn info(&self, fields: AccountFields) -> AccountInfo {
        AccountInfo {
            balance: fields.balance,
            nonce: fields.nonce,
            code_hash: fields.code_hash,
            account_id: None,
            code: Some(self.code(&fields.code_hash)),
        }
    }

    /// Puts code at an address, without a record of what was there. For the genesis block.
    pub(super) fn deploy(&mut self, address: Address, code: &Bytes) {
        let code_hash = keccak256(code);
        self.codes.insert(code_hash, Bytecode::new_raw(code.clone()));
        // EIP-161: a contract's nonce begins at 1.
        let fields = AccountFields {
            nonce: 1,
            code_hash,
            ..AccountFields::EMPTY
        };
        self.put_account(address, Some(fields));
    }

    /// Sets an account, or removes it, and records what was there unless `undo` has it from before.
    pub(super) fn set_account(&mut self, undo: &mut Undo, address: Address, fields: Option<AccountFields>) {
        let before = self.account(&address);
        if before != fields {
            undo.accounts.entry(address).or_insert(before);
            self.put_account(address, fields);
        }
    }

    /// Takes over what a transaction changed. Accounts that it left empty are removed (EIP-161).
    pub(super) fn commit(&mut self, undo: &mut Undo, changes: AddressMap<Account>) {
        for (address, account) in changes {
            if !account.is_touched() {
                continue;
            }
            if account.is_selfdestructed() || account.is_empty() {
                // EIP-6780: what is destroyed was created in the same transaction, so it has no storage here.
                self.set_account(undo, address, None);
                continue;
            }
            let info = account.info;
            if let Some(code) = info.code
                && info.code_hash != KECCAK_EMPTY
            {
                self.codes.entry(info.code_hash).or_insert(code);
            }
            let fields = AccountFields {
                balance: info.balance,
                nonce: info.nonce,
                code_hash: info.code_hash,
            };
            self.set_account(undo, address, Some(fields));
            for (slot, value) in account.storage {
                if value.is_changed() {
                    let before = self.slot(address, slot);
                    undo.slots.entry((address, slot)).or_insert(before);
                    self.put_slot(address, slot, value.present_value);
                }
            }
        }
    }

    /// Brings back what was there before the block of `undo`.
    pub(super) fn undo(&mut self, undo: Undo) {
        for (address, before) in undo.accounts {
            self.put_account(address, before);
        }
        for ((address, slot), before) in undo.slots {
            self.put_slot(address, slot, before);
        }
    }

    /// The root of the accounts' trie. Costs what changed since it was last asked for.
    pub(super) fn root(&mut self) -> B256 {
        for (address, slot) in std::mem::take(&mut self.stale_slots) {
            let (key, value) = (keccak256(B256::from(slot)), self.slot(address, slot));
            let trie = self.storage_tries.entry(address).or_default();
            if value.is_zero() {
                trie.remove(key);
            } else {
                trie.insert(key, alloy_rlp::encode(value));
            }
            if trie.is_empty() {
                self.storage_tries.remove(&address);
            }
        }
        for address in std::mem::take(&mut self.stale) {
            let key = keccak256(address);
            let Some(fields) = self.accounts.get(&address) else {
                self.trie.remove(key);
                continue;
            };
            let storage_root = self.storage_tries.get_mut(&address).map_or(EMPTY_ROOT_HASH, Trie::root);
            let leaf = TrieAccount::new(fields.nonce, fields.balance, storage_root, fields.code_hash);
            self.trie.insert(key, alloy_rlp::encode(leaf));
        }
        self.trie.root()
    }

    fn put_account(&mut self, address: Address, fields: Option<AccountFields>) {
        match fields {
            Some(fields) => self.accounts.insert(address, fields),
            None => self.accounts.remove(&address),
        };
        self.stale.insert(address);
    }

    fn put_slot(&mut self, address: Address, slot: U256, value: U256) {
        let slots = self.storage.entry(address).or_default();
        if value.is_zero() {
            slots.remove(&slot);
        } else {
            slots.insert(slot, value);
        }
        if slots.is_empty() {
            self.storage.remove(&address);
        }
        self.stale.insert(address);
        self.stale_slots.insert((address, slot));
    }
}
