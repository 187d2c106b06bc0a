//! Transactions sent and not yet final: from the first 8 bytes of their hash to when they were due.
//!
//! Every node announces every transaction's hash, so most look-ups miss, some hundred thousand a second on a machine
//! that the cluster needs. Hence open addressing over plain arrays, with the hash's own bits as the slot. Two
//! transactions with the same 8 bytes count as one: at a billion in flight together that is one chance in forty.

/// A hash table from `u64` to `u64` with linear probing and removal by shifting back.
#[derive(Debug)]
pub(super) struct Pending {
    slots: Vec<Slot>,
    used: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// 0 marks a free slot.
    key: u64,
    due_ns: u64,
}

const SLOTS_MIN: usize = 1024;

impl Pending {
    /// An empty table.
    pub(super) fn new() -> Self {
        Self {
            slots: vec![Slot::default(); SLOTS_MIN],
            used: 0,
        }
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Puts `key` in, over an earlier entry of the same key.
    pub(super) fn insert(&mut self, key: u64, due_ns: u64) {
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let key = key.max(1);
        let at = self.find(key);
        if self.slots[at].key == 0 {
            self.used += 1;
        }
        self.slots[at] = Slot { key, due_ns };
    }

    /// Takes `key` out and returns when it was due.
    pub(super) fn remove(&mut self, key: u64) -> Option<u64> {
        let mut free = self.find(key.max(1));
        let taken = self.slots[free];
        if taken.key == 0 {
            return None;
        }
        self.used -= 1;
        let mask = self.slots.len() - 1;
        let mut next = (free + 1) & mask;
        while self.slots[next].key != 0 {
            // An entry may move back to the free slot only if that does not put it before its home.
            let home = self.home(self.slots[next].key);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(free) & mask) {
                self.slots[free] = self.slots[next];
                free = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[free] = Slot::default();
        Some(taken.due_ns)
    }

    /// The slot of `key`, or the free one where it belongs. At most half of the slots are used, so there is one.
    fn find(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = self.home(key);
        while self.slots[at].key != key && self.slots[at].key != 0 {
            at = (at + 1) & mask;
        }
        at
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose the slot")]
    fn home(&self, key: u64) -> usize {
        key as usize & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        let larger = vec![Slot::default(); self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, larger);
        for slot in old.into_iter().filter(|slot| slot.key != 0) {
            let at = self.find(slot.key);
            self.slots[at] = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((0_u64..64, any::<bool>(), any::<u64>()), 0..2_000), high in any::<u64>()) {
            let mut table = Pending::new();
            let mut model = BTreeMap::new();
            for (low, add, due) in steps {
                // Keys that share their low bits collide, and those near the end wrap around.
                let key = (high & !0xffff) | (low % 8 + 1020) | (low / 8) << 10;
                if add {
                    table.insert(key, due);
                    model.insert(key, due);
                } else {
                    prop_assert_eq!(table.remove(key), model.remove(&key));
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for (key, due) in model {
                prop_assert_eq!(table.remove(key), Some(due));
            }
            prop_assert_eq!(table.len(), 0);
        }
    }

    #[test]
    fn grows_with_its_content_and_keeps_it() {
        let mut table = Pending::new();
        for i in 0..10_000_u64 {
            table.insert(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), i);
        }
        assert_eq!(table.len(), 10_000);
        for i in 0..10_000_u64 {
            assert_eq!(table.remove(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)), Some(i));
        }
    }
}
