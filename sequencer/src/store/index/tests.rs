//! Runs and manifests, without a database.

use alloy_primitives::B256;
use fusion_types::{BlockId, Height, NetworkId, RollupId};
use proptest::prelude::*;

use super::run::{self, Chunk, ChunkWriter, LAST};
use super::{Manifest, Tree};

#[test]
fn values_and_keys_keep_their_parts() {
    for (height, small) in [(0, 0), (1, 32_767), ((1 << 48) - 1, 65_535)] {
        let value = run::value(Height(height), small);
        assert_eq!(run::parts(value), (Height(height), u32::try_from(small).unwrap()));
    }
    let key = run::lane_key(RollupId(901), 77);
    assert_eq!(run::lane_of(&key), Some((RollupId(901), 77)));
    let hash = B256::repeat_byte(3);
    assert_eq!(run::lane_of(&run::transaction_key(RollupId(901), &hash)), None);
    assert_ne!(
        run::transaction_key(RollupId(901), &hash),
        run::transaction_key(RollupId(902), &hash)
    );
}

proptest! {
    #[test]
    fn a_run_finds_what_a_map_finds(keys in prop::collection::vec(0_u64..5000, 1..3000), probes in prop::collection::vec(0_u64..5100, 50)) {
        let mut keys = keys;
        keys.sort_unstable();
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let mut writer = ChunkWriter::new(5);
        for (value, key) in (0..).zip(&keys) {
            if let Some(chunk) = writer.push(&run::lane_key(RollupId(1), *key), value) {
                tree.put_chunk(chunk).unwrap();
            }
        }
        tree.put_chunk(writer.finish()).unwrap();
        for probe in probes {
            let found = tree.floor(5, &run::lane_key(RollupId(1), probe)).unwrap();
            let expected = keys.partition_point(|key| *key <= probe).checked_sub(1);
            let expected = expected.map(|at| (run::lane_key(RollupId(1), keys[at]), at as u64));
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_damaged_chunk_or_manifest_is_not_believed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut writer = ChunkWriter::new(1);
        for sequence in 0..9 {
            writer.push(&run::lane_key(RollupId(1), sequence), sequence);
        }
        let (key, mut bytes) = writer.finish();
        prop_assert_eq!(Chunk::decode(&key, &bytes).map(|chunk| (chunk.len(), chunk.upper)), Some((9, LAST)));
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert!(Chunk::decode(&key, &bytes).is_none());

        let network = NetworkId(B256::repeat_byte(1));
        let manifest = Manifest {
            height: Height(7),
            block: BlockId(B256::repeat_byte(2)),
            next_run: 9,
            runs: vec![(3, 1), (8, 0)],
            dropped: vec![4],
        };
        let mut bytes = manifest.encode(network);
        prop_assert_eq!(Manifest::decode(&bytes, network), Some(manifest));
        prop_assert!(Manifest::decode(&bytes, NetworkId(B256::ZERO)).is_none());
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert!(Manifest::decode(&bytes, network).is_none());
    }
}

#[test]
fn a_lost_chunk_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(dir.path()).unwrap();
    let mut writer = ChunkWriter::new(1);
    let mut chunks = Vec::new();
    for sequence in 0..2000 {
        chunks.extend(writer.push(&run::lane_key(RollupId(1), sequence), sequence));
    }
    chunks.push(writer.finish());
    chunks.remove(1);
    for chunk in chunks {
        tree.put_chunk(chunk).unwrap();
    }
    let results: Vec<bool> = (0..2000)
        .map(|n| tree.floor(1, &run::lane_key(RollupId(1), n)).is_ok())
        .collect();
    assert_eq!(results.iter().filter(|found| !**found).count(), 64);
    assert!(tree.floor(2, &run::lane_key(RollupId(1), 0)).is_err());
}
