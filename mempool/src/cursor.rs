//! A lane's executable transactions in the order in which a proposal takes them, one at a time.
//!
//! `fcfs`: by place. `priority`: the greedy merge of the senders' runs, best head first. Touches what it yields, not
//! the rest of the lane. What the block carries anyway, because it was forced in, is left out; in a `priority` lane with all
//! else of its sender, since a run without one of its heads is no part of the merge.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::{btree_map, btree_set};
use std::iter::Peekable;

use alloy_primitives::Address;
use fusion_types::{Ordering, TxHash};

use crate::lane::{Head, Lane};
use crate::transaction::PoolTransaction;

/// Reads one lane.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    lane: &'a Lane,
    order: Order<'a>,
    left_out: &'a [TxHash],
    next: Option<&'a PoolTransaction>,
}

#[derive(Debug)]
enum Order<'a> {
    Fcfs(btree_map::Values<'a, u64, usize>),
    Priority {
        heads: Peekable<btree_set::Iter<'a, Head>>,
        /// Senders of whom something was taken: their next head, and its index in their queue.
        successors: BinaryHeap<Reverse<(Head, usize)>>,
        /// Senders of what is left out.
        left_out: Vec<Address>,
    },
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(lane: &'a Lane, left_out: &'a [TxHash]) -> Self {
        let sender_of = |hash: &TxHash| {
            let entry = lane.entries.get(lane.entries.find(hash)?)?;
            entry.transaction.evm.map(|facts| facts.sender)
        };
        let order = match lane.config.ordering {
            Ordering::Fcfs => Order::Fcfs(lane.entries.ready()),
            Ordering::Priority => Order::Priority {
                heads: lane.heads.iter().peekable(),
                successors: BinaryHeap::new(),
                left_out: left_out.iter().filter_map(sender_of).collect(),
            },
        };
        let mut cursor = Self {
            lane,
            order,
            left_out,
            next: None,
        };
        cursor.advance();
        cursor
    }

    /// The lane that it reads.
    pub(crate) fn lane(&self) -> &'a Lane {
        self.lane
    }

    /// The transaction that comes next.
    pub(crate) fn peek(&self) -> Option<&'a PoolTransaction> {
        self.next
    }

    /// Moves on to the one after.
    pub(crate) fn advance(&mut self) {
        let slot = match &mut self.order {
            Order::Fcfs(ready) => {
                let is_left_out = |slot: &usize| {
                    let entry = self.lane.entries.get(*slot);
                    entry.is_some_and(|entry| self.left_out.contains(&entry.transaction.hash))
                };
                ready
                    .find(|slot| self.left_out.is_empty() || !is_left_out(slot))
                    .copied()
            }
            Order::Priority {
                heads,
                successors,
                left_out,
            } => {
                while heads.next_if(|(_, _, sender)| left_out.contains(sender)).is_some() {}
                let untouched = heads.peek().copied();
                let touched = successors.peek().map(|Reverse((head, _))| *head);
                let head = match (untouched, touched) {
                    (Some(untouched), Some(touched)) if touched < *untouched => {
                        successors.pop().map(|Reverse(head)| head)
                    }
                    (Some(_), _) => heads.next().map(|head| (*head, 0)),
                    (None, _) => successors.pop().map(|Reverse(head)| head),
                };
                head.map(|((_, _, address), at)| {
                    let queue = &self.lane.senders[&address].queue;
                    successors.extend(successor(self.lane, address, at + 1));
                    queue[at].slot
                })
            }
        };
        self.next = slot.map(|slot| {
            let entry = self.lane.entries.get(slot);
            &entry.expect("whatever is executable has an entry").transaction
        });
    }
}

/// The sender's executable transaction at `at` of its queue.
fn successor(lane: &Lane, address: Address, at: usize) -> Option<Reverse<(Head, usize)>> {
    let queued = lane.senders[&address].queue.get(at)?;
    let place = queued.place?;
    Some(Reverse(((Reverse(queued.tip), place, address), at)))
}
