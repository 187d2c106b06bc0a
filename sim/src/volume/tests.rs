//! The model keeps what a disk promises, and no more.

#[cfg(test)]
mod model {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    use super::super::{Counts, SimVolume};

    const FILE: &str = "/file";

    fn path() -> &'static Path {
        Path::new(FILE)
    }

    /// A disk with a durable file of one page of ones.
    fn volume(seed: u64) -> SimVolume {
        let volume = SimVolume::new(seed);
        let shared = volume.shared();
        let file = shared.create(path()).unwrap();
        file.write_all_at(&[1; 4096], 0).unwrap();
        file.sync_data().unwrap();
        shared.sync_folder(Path::new("/")).unwrap();
        volume
    }

    fn restart(volume: &SimVolume) {
        volume.power_off();
        volume.power_on();
    }

    fn read(volume: &SimVolume, at: &str) -> Option<Vec<u8>> {
        let file = volume.shared().open(Path::new(at)).ok()?;
        let mut bytes = vec![9; 20_000];
        let count = file.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(count);
        Some(bytes)
    }

    #[test]
    fn what_was_synced_survives_always() {
        for seed in 0..100 {
            let volume = volume(seed);
            let file = volume.shared().open(path()).unwrap();
            file.write_all_at(&[2; 5000], 3000).unwrap();
            file.sync_data().unwrap();
            restart(&volume);
            assert_eq!(read(&volume, FILE).unwrap(), [vec![1; 3000], vec![2; 5000]].concat());
        }
    }

    #[test]
    fn what_was_not_synced_survives_in_any_part_and_the_rest_is_as_it_was() {
        let mut seen = BTreeSet::new();
        for seed in 0..300 {
            let volume = volume(seed);
            let file = volume.shared().open(path()).unwrap();
            file.write_all_at(&[2; 2048], 1024).unwrap();
            file.write_all_at(&[3; 1024], 2048).unwrap();
            restart(&volume);
            let bytes = read(&volume, FILE).unwrap();
            assert_eq!(bytes.len(), 4096);
            assert!(bytes[..1024].iter().chain(&bytes[3072..]).all(|byte| *byte == 1));
            assert!(bytes[1024..2048].iter().all(|byte| [1, 2].contains(byte)));
            seen.insert(bytes);
        }
        let whole = [vec![1; 1024], vec![2; 1024], vec![3; 1024], vec![1; 1024]].concat();
        assert!(seen.contains(&whole) && seen.contains(&vec![1; 4096]));
        assert!(seen.len() > 50, "{}", seen.len());
    }

    #[test]
    fn an_append_may_leave_its_length_and_zeros() {
        let grown = |seed| {
            let volume = volume(seed);
            volume
                .shared()
                .open(path())
                .unwrap()
                .write_all_at(&[2; 512], 4096)
                .unwrap();
            restart(&volume);
            read(&volume, FILE).unwrap()[4096..].to_vec()
        };
        let seen: BTreeSet<_> = (0..100).map(grown).collect();
        assert!(
            [vec![], vec![0; 512], vec![2; 512]]
                .iter()
                .all(|end| seen.contains(end))
        );
    }

    #[test]
    fn a_name_lasts_only_when_its_folder_is_synced() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let volume = volume(seed);
            let shared = volume.shared();
            shared.create_folder(Path::new("/a")).unwrap();
            shared
                .create(Path::new("/a/new"))
                .unwrap()
                .write_all_at(b"new", 0)
                .unwrap();
            shared.open(Path::new("/a/new")).unwrap().sync_data().unwrap();
            shared.sync_folder(Path::new("/a")).unwrap();
            shared.link(path(), Path::new("/second")).unwrap();
            shared.rename(Path::new("/second"), Path::new("/third")).unwrap();
            let synced = seed % 2 == 0;
            if synced {
                shared.sync_folder(Path::new("/")).unwrap();
            }
            restart(&volume);
            assert_eq!(read(&volume, FILE).unwrap().len(), 4096);
            let names = ["/a/new", "/second", "/third"].map(|name| read(&volume, name).is_some());
            assert!(!synced || names == [true, false, true]);
            seen.insert(names);
        }
        for lost in [[false, false, false], [false, true, false], [true, false, false]] {
            assert!(seen.contains(&lost), "{seen:?}");
        }
    }

    #[test]
    fn a_rename_takes_the_place_of_a_file_wholly_or_not_at_all() {
        let mut seen = BTreeSet::new();
        for seed in 0..50 {
            let volume = volume(seed);
            let shared = volume.shared();
            let draft = shared.create(Path::new("/draft")).unwrap();
            draft.write_all_at(b"draft", 0).unwrap();
            draft.sync_all().unwrap();
            shared.rename(Path::new("/draft"), path()).unwrap();
            restart(&volume);
            seen.insert(read(&volume, FILE).unwrap());
        }
        assert_eq!(seen, BTreeSet::from([b"draft".to_vec(), vec![1; 4096]]));
    }

    #[test]
    fn after_a_failed_sync_the_data_is_seen_and_gone() {
        let mut lost = 0;
        for seed in 0..100 {
            let volume = volume(seed);
            let file = volume.shared().open(path()).unwrap();
            file.write_all_at(&[2; 4096], 4096).unwrap();
            volume.fail_syncs(1, Some(path()));
            assert!(file.sync_data().is_err());
            assert_eq!(read(&volume, FILE).unwrap()[4096..], [2; 4096]);
            file.sync_data().unwrap();
            restart(&volume);
            lost += u64::from(read(&volume, FILE).unwrap()[4096..] != [2; 4096]);
            assert_eq!(volume.counts().syncs_failed, 1);
        }
        assert!((60..100).contains(&lost), "{lost}");
    }

    #[test]
    fn a_failing_disk_fails_as_often_as_it_is_told_and_only_where() {
        let volume = volume(1);
        let shared = volume.shared();
        let (file, other) = (
            shared.open(path()).unwrap(),
            shared.create(Path::new("/other")).unwrap(),
        );
        volume.fail_reads(2, Some(path()));
        let mut buffer = [0; 8];
        assert!(file.read_at(&mut buffer, 0).is_err() && file.read_at(&mut buffer, 0).is_err());
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
        volume.fail_syncs(u64::MAX, Some(Path::new("/other")));
        assert!((0..10).all(|_| other.sync_data().is_err()));
        file.sync_data().unwrap();
        volume.slow_syncs(Duration::from_secs(2));
        file.sync_data().unwrap();
        assert_eq!(volume.take_waited(), Duration::from_secs(2));
        assert_eq!(volume.take_waited(), Duration::ZERO);
        volume.power_on();
        shared.open(path()).unwrap().read_at(&mut buffer, 0).unwrap();
    }

    #[test]
    fn a_full_disk_refuses_to_grow_and_overwrites() {
        let volume = volume(1);
        let file = volume.shared().open(path()).unwrap();
        volume.set_space(Some(1000));
        file.allocate(5000).unwrap();
        assert_eq!(file.allocate(6000).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        assert!(file.write_all_at(&[1; 4096], 4096).is_err());
        file.write_all_at(&[2; 5000], 0).unwrap();
        file.set_length(1000).unwrap();
        file.allocate(6000).unwrap_err();
        volume.set_space(None);
        file.allocate(6000).unwrap();
        assert_eq!(volume.counts().full, 3);
    }

    #[test]
    fn the_power_goes_between_any_two_operations_and_the_dead_do_nothing() {
        for operation in 1..=4 {
            let volume = volume(operation);
            let shared = volume.shared();
            let file = shared.open(path()).unwrap();
            volume.power_off_after(operation);
            let results = [
                file.write_all_at(&[2; 100], 0).is_ok(),
                file.sync_data().is_ok(),
                shared.create(Path::new("/new")).is_ok(),
                shared.sync_folder(Path::new("/")).is_ok(),
            ];
            let survived = results.iter().take_while(|ok| **ok).count() as u64;
            assert_eq!(
                (survived, results.iter().filter(|ok| **ok).count() as u64),
                (operation - 1, survived)
            );
            assert!(volume.is_off() && shared.open(path()).is_err());
            volume.power_on();
            assert!(file.sync_data().is_err(), "a file of the life before");
            assert!(operation < 3 || read(&volume, FILE).unwrap()[..100] == [2; 100]);
            assert_eq!(volume.counts().crashes_inside, 1);
        }
    }

    #[test]
    fn a_process_that_dies_loses_nothing_until_the_power_goes() {
        let mut seen = BTreeSet::new();
        for seed in 0..50 {
            let volume = volume(seed);
            let file = volume.shared().open(path()).unwrap();
            volume.kill_after(1);
            assert!(file.write_all_at(&[2; 4096], 0).is_err() && volume.is_off());
            volume.start_again();
            assert!(file.sync_data().is_err(), "a file of the process before");
            assert_eq!(read(&volume, FILE).unwrap(), [2; 4096]);
            restart(&volume);
            seen.insert(read(&volume, FILE).unwrap());
            assert_eq!(volume.counts().kills, 1);
        }
        assert!(seen.len() > 2);
    }

    #[test]
    fn damage_at_rest_is_there_in_the_next_life() {
        let volume = volume(1);
        volume.flip(path(), 8 * 10 + 3);
        volume.zero(path(), 20..30);
        volume.overwrite(path(), b"xyz", 40);
        volume.cut(path(), 100);
        restart(&volume);
        let mut expected = vec![1; 100];
        expected[10] ^= 8;
        expected[20..30].fill(0);
        expected[40..43].copy_from_slice(b"xyz");
        assert_eq!(read(&volume, FILE).unwrap(), expected);
        assert_eq!(volume.bytes(path(), 0..200), expected);
        assert_eq!(volume.length(path()), Some(100));
        volume.remove(path());
        restart(&volume);
        assert!(read(&volume, FILE).is_none() && volume.files().is_empty());
    }

    #[test]
    fn a_backup_brings_everything_back_and_a_swap_one_file() {
        let volume = volume(1);
        let backup = volume.snapshot();
        let shared = volume.shared();
        let file = shared.open(path()).unwrap();
        file.write_all_at(&[2; 4096], 0).unwrap();
        file.sync_data().unwrap();
        drop(shared.create(Path::new("/other")).unwrap());
        shared.sync_folder(Path::new("/")).unwrap();
        volume.restore_file(&backup, path());
        assert_eq!(read(&volume, FILE).unwrap(), [1; 4096]);
        assert_eq!(volume.files().len(), 2);
        volume.restore(&backup);
        volume.power_on();
        assert_eq!(volume.files(), [path()]);
        let another = SimVolume::new(2);
        another.restore(&backup);
        another.power_on();
        drop(another.shared().create(Path::new("/other")).unwrap());
        assert_eq!(
            read(&another, FILE).unwrap(),
            [1; 4096],
            "files that are new are other files"
        );
        assert_eq!((volume.counts().swapped, volume.counts().restored), (1, 1));
    }

    #[test]
    fn same_seed_same_fate() {
        let fate = |seed| {
            let volume = volume(seed);
            let file = volume.shared().open(path()).unwrap();
            (0..50_u8).for_each(|n| file.write_all_at(&[n; 700], u64::from(n) * 300).unwrap());
            restart(&volume);
            (
                read(&volume, FILE),
                volume.counts(),
                volume.operations(),
                volume.shared().salt().unwrap(),
            )
        };
        assert_eq!(fate(7), fate(7));
        let mut all = Counts::default();
        (0..20).for_each(|seed| all.add(&fate(seed).1));
        let kinds = [
            all.writes_kept,
            all.writes_lost,
            all.writes_cut,
            all.writes_holed,
            all.zero_tails,
        ];
        assert!(kinds.iter().all(|count| *count > 50), "{all:?}");
    }
}
