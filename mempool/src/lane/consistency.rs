//! What must hold in a lane between two calls, for tests that put it through any history.

use super::*;

/// What holds in every lane between two calls.
pub(crate) fn assert_consistent(lane: &Lane) {
    let entries = &lane.entries;
    assert!(lane.remembered_senders <= lane.senders_max && lane.remembered.len() <= 2 * lane.senders_max);
    let remembered = lane.senders.values().filter(|sender| sender.decided.is_some());
    assert_eq!(remembered.count(), lane.remembered_senders);
    let mut queued = 0;
    for (address, sender) in &lane.senders {
        let queue = &sender.queue;
        assert!(
            !queue.is_empty() || sender.decided.is_some(),
            "a sender is kept for a reason"
        );
        assert!(queue.iter().zip(queue.iter().skip(1)).all(|(a, b)| a.nonce < b.nonce));
        assert!(queue.iter().all(|q| sender.stale(q.nonce).is_none()));
        let run = sender.run(lane.unfamiliar);
        assert!(queue.iter().enumerate().all(|(at, q)| q.place.is_some() == (at < run)));
        assert!(
            queue
                .iter()
                .take(run)
                .zip(queue.iter().take(run).skip(1))
                .all(|(a, b)| a.place < b.place)
        );
        let held = queue.iter().map(|q| entries.get(q.slot).unwrap());
        assert!(held.clone().zip(queue).all(|(entry, q)| entry.place == q.place));
        assert!(
            held.clone()
                .zip(queue)
                .all(|(e, q)| e.transaction.evm.unwrap().nonce == q.nonce)
        );
        assert_eq!(
            sender.bytes,
            held.map(|entry| footprint(&entry.transaction)).sum::<usize>()
        );
        assert_eq!(lane.blocked.contains(address), run == 0 && !queue.is_empty());
        queued += queue.len();
    }
    if lane.config.kind == RollupKind::Evm {
        assert_eq!(queued, entries.len());
    }
    match lane.config.ordering {
        Ordering::Fcfs => assert_eq!(entries.ready().len(), entries.executable()),
        Ordering::Priority => {
            let head = |(address, sender): (&Address, &Sender)| {
                let first = sender.queue.front()?;
                Some((Reverse(first.tip), first.place?, *address))
            };
            assert!(
                lane.heads
                    .iter()
                    .copied()
                    .eq(BTreeSet::from_iter(lane.senders.iter().filter_map(head)))
            );
            assert_eq!(entries.cheaper_than(u128::MAX).count(), entries.len());
        }
    }
}
