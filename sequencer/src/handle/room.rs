//! Whether users' transactions are read at all.
//!
//! A node that reads more than the chain carries spends on reading what blocks need. So the node thread says after every
//! turn how many of its users' transactions wait and how many may, and whoever takes transactions from a user enters
//! here before anything is decoded, and is inside until the node has answered. A rollup whose own transactions are few
//! is let in all the same: another's flood must not close the door to it.
//!
//! Only loads and stores of single numbers, none of which is read by what another says: nothing here needs an order, and
//! being a turn late is no harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fusion_mempool::Reject;
use fusion_types::{RollupConfig, RollupId};

/// How full the node is.
#[derive(Debug)]
pub struct Room {
    waiting: AtomicUsize,
    most: AtomicUsize,
    inside: AtomicUsize,
    /// Rollups that have their share of what may wait, where that is used up.
    full: BTreeMap<RollupId, AtomicBool>,
}

impl Room {
    /// Room for everything, until the node says otherwise.
    pub fn new(rollups: &[RollupConfig]) -> Self {
        let full = rollups.iter().map(|rollup| (rollup.id, AtomicBool::new(false)));
        Self {
            waiting: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            inside: AtomicUsize::new(0),
            full: full.collect(),
        }
    }

    /// So many transactions wait to be ordered, and so many may; `has_share` tells of a rollup whether its share of
    /// these is used up.
    pub fn set(&self, waiting: usize, most: usize, has_share: impl Fn(RollupId) -> bool) {
        let is_used_up = waiting.saturating_add(self.inside.load(Ordering::Relaxed)) >= most;
        for (rollup, full) in &self.full {
            full.store(is_used_up && has_share(*rollup), Ordering::Relaxed);
        }
        self.waiting.store(waiting, Ordering::Relaxed);
        self.most.store(most, Ordering::Relaxed);
    }

    /// A request's hold on the room, with nothing inside yet.
    pub fn request(self: &Arc<Self>) -> Inside {
        Inside {
            room: self.clone(),
            count: 0,
        }
    }

    /// The answer to whoever brings transactions of `rollup`, if there is no room; where it is not said of which, if
    /// there is none for any.
    pub fn overload(&self, rollup: Option<RollupId>) -> Option<Reject> {
        match rollup {
            Some(rollup) => self.refuses(rollup),
            None => self
                .full
                .keys()
                .map(|rollup| self.refuses(*rollup))
                .min_by_key(Option::is_some)?,
        }
    }

    fn refuses(&self, rollup: RollupId) -> Option<Reject> {
        let inside = self.inside.load(Ordering::Relaxed);
        let waiting = self.waiting.load(Ordering::Relaxed).saturating_add(inside);
        let most = self.most.load(Ordering::Relaxed);
        let has_share = || self.full.get(&rollup).is_none_or(|full| full.load(Ordering::Relaxed));
        // What is being read is bounded for everybody.
        let is_full = inside >= most || waiting >= most && has_share();
        is_full.then_some(Reject::Overload { waiting, most })
    }
}

/// The transactions of one request that are read, checked and handed to the node. They leave when it is dropped.
#[derive(Debug)]
pub struct Inside {
    room: Arc<Room>,
    count: usize,
}

impl Inside {
    /// Makes place for one more transaction.
    ///
    /// # Errors
    /// [`Reject::Overload`]: more waits than is ordered in the time that users are made to wait.
    pub fn enter(&mut self, rollup: RollupId) -> Result<(), Reject> {
        if let Some(overload) = self.room.refuses(rollup) {
            return Err(overload);
        }
        self.room.inside.fetch_add(1, Ordering::Relaxed);
        self.count += 1;
        Ok(())
    }

    /// The last one that entered was no good, and takes no place on the way to the node.
    pub fn leave(&mut self) {
        if self.count > 0 {
            self.room.inside.fetch_sub(1, Ordering::Relaxed);
            self.count -= 1;
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.room.inside.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use fusion_types::{Ordering as OrderingPolicy, RollupKind};

    use super::*;

    const LOUD: RollupId = RollupId(901);
    const QUIET: RollupId = RollupId(902);

    fn room() -> Arc<Room> {
        let rollup = |id| RollupConfig {
            id,
            kind: RollupKind::Opaque,
            ordering: OrderingPolicy::Fcfs,
            weight: 1,
        };
        Arc::new(Room::new(&[rollup(LOUD), rollup(QUIET)]))
    }

    #[test]
    fn what_is_inside_takes_room_until_its_request_ends() {
        let room = room();
        room.set(8, 10, |_| true);
        let (mut first, mut second) = (room.request(), room.request());
        assert_eq!(first.enter(LOUD), Ok(()));
        assert_eq!(second.enter(LOUD), Ok(()));
        room.set(8, 10, |_| true);
        let overload = Reject::Overload { waiting: 10, most: 10 };
        assert_eq!(first.enter(LOUD), Err(overload.clone()));
        assert_eq!(second.enter(QUIET), Err(overload));
        drop(first);
        assert_eq!(second.enter(LOUD), Ok(()));
        assert!(second.enter(LOUD).is_err());
        second.leave();
        assert_eq!(second.enter(LOUD), Ok(()), "what was no good left its place");
        drop(second);
        room.set(9, 10, |_| true);
        assert_eq!(room.request().enter(LOUD), Ok(()), "nothing is left inside");
    }

    #[test]
    fn what_is_being_read_is_bounded_for_everybody() {
        let room = room();
        room.set(0, 2, |_| false);
        let mut request = room.request();
        assert_eq!((request.enter(LOUD), request.enter(QUIET)), (Ok(()), Ok(())));
        let overload = Err(Reject::Overload { waiting: 2, most: 2 });
        assert_eq!(
            (request.enter(LOUD), request.enter(QUIET)),
            (overload.clone(), overload)
        );
    }

    #[test]
    fn what_one_overload_says_of_a_rollup_ends_with_it() {
        let room = room();
        room.set(50, 10, |_| true);
        room.set(5, 10, |_| true);
        let mut loud = room.request();
        for _ in 0..5 {
            assert_eq!(loud.enter(LOUD), Ok(()));
        }
        assert_eq!(loud.enter(QUIET), Ok(()), "nobody said that it has its share");
        room.set(5, 10, |rollup| rollup == LOUD);
        assert!(loud.enter(LOUD).is_err());
        assert_eq!(loud.enter(QUIET), Ok(()));
    }

    #[test]
    fn a_rollup_below_its_share_is_let_in_when_another_fills_the_node() {
        let room = room();
        room.set(50, 10, |rollup| rollup == LOUD);
        assert!(room.request().enter(LOUD).is_err());
        assert_eq!(room.request().enter(QUIET), Ok(()));
        // A rollup that is not registered has no share; who decodes says what is wrong with it.
        assert!(room.request().enter(RollupId(7)).is_err());
        let overload = Reject::Overload { waiting: 50, most: 10 };
        assert_eq!(room.overload(Some(LOUD)), Some(overload.clone()));
        assert_eq!(room.overload(Some(QUIET)), None);
        assert_eq!(room.overload(None), None, "it may be for the quiet one");
        room.set(50, 10, |_| true);
        assert!(room.request().enter(QUIET).is_err());
        assert_eq!(room.overload(None), Some(overload));
    }
}
