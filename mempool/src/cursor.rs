//! A lane's executable transactions in the order in which a proposal takes them, one at a time.
//!
//! `fcfs`: by place. `priority`: the greedy merge of the senders' runs, best head first. Touches what it yields, not
//! the rest of the lane.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::{btree_map, btree_set};
use std::iter::Peekable;

use alloy_primitives::Address;
use fusion_types::Ordering;

use crate::lane::{Head, Lane};
use crate::transaction::PoolTransaction;

/// Reads one lane.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    lane: &'a Lane,
    order: Order<'a>,
    next: Option<&'a PoolTransaction>,
}

#[derive(Debug)]
enum Order<'a> {
    Fcfs(btree_map::Values<'a, u64, usize>),
    Priority {
        heads: Peekable<btree_set::Iter<'a, Head>>,
        /// Senders of whom something was taken: their next head, and its index in their queue.
        successors: BinaryHeap<Reverse<(Head, usize)>>,
    },
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(lane: &'a Lane) -> Self {
        let order = match lane.config.ordering {
            Ordering::Fcfs => Order::Fcfs(lane.entries.ready()),
            Ordering::Priority => Order::Priority {
                heads: lane.heads.iter().peekable(),
                successors: BinaryHeap::new(),
            },
        };
        let mut cursor = Self {
            lane,
            order,
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
            Order::Fcfs(ready) => ready.next().copied(),
            Order::Priority { heads, successors } => {
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
