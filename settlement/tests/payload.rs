//! What a batch carries comes back byte for byte, whole or one rollup alone, and nothing else passes for it.

#[cfg(test)]
#[path = "../../types/tests/properties/sample.rs"]
mod sample;

#[cfg(test)]
mod payload {
    use std::sync::Arc;

    use alloy_primitives::{B256, Bytes, keccak256};
    use fusion_settlement::batcher::{BlockFacts, CutRule, Cutter, Payload, PayloadError, blobs};
    use fusion_types::{RollupId, SealedBlock, State, StreamHead};
    use proptest::prelude::*;

    use crate::sample::{Network, payloads};

    /// A network, the state before the blocks, and the blocks.
    fn decided(heights: u64) -> (Network, State, Vec<Arc<SealedBlock>>) {
        let mut network = Network::new(&[1, 1, 1, 1]);
        network.decide(&[(902, payloads("before the batch", 3))]);
        let before = network.state.clone();
        let blocks = (0..heights).map(|height| {
            let count = usize::try_from(height % 5).unwrap();
            let mut lanes = Vec::new();
            for rollup in [901, 902, 910] {
                let name = format!("{rollup} at {height}");
                if count > 0 && (height + rollup) % 3 > 0 {
                    lanes.push((rollup, payloads(&name, count)));
                }
            }
            network.decide(&lanes).block
        });
        let blocks = blocks.collect();
        (network, before, blocks)
    }

    fn payload_of(network: &Network, before: &State, blocks: &[Arc<SealedBlock>]) -> Payload {
        Payload::of(blocks, before, network.genesis.committee())
    }

    #[test]
    fn every_block_comes_back_byte_for_byte_through_blobs() {
        let (network, before, blocks) = decided(40);
        let payload = payload_of(&network, &before, &blocks);
        let packed = blobs::pack(payload.bytes()).unwrap();
        let read = Payload::parse(blobs::unpack(&packed).unwrap()).unwrap();
        assert_eq!(read, payload);
        let committee = network.genesis.committee();
        let (again, after) = read.blocks(network.genesis.network(), &before, committee).unwrap();
        assert_eq!(again.len(), 40);
        for (again, block) in again.iter().zip(&blocks) {
            assert_eq!(again.encoded(), block.encoded());
        }
        assert_eq!(after, network.state);
    }

    #[test]
    fn a_rollup_reads_its_part_alone_and_proves_it() {
        let (network, before, blocks) = decided(40);
        let payload = payload_of(&network, &before, &blocks);
        assert_eq!(payload.rollups().collect::<Vec<_>>(), [901, 902, 910].map(RollupId));
        for rollup in payload.rollups() {
            let stream = before.streams[&rollup];
            let part = payload.stream(rollup, stream).unwrap().unwrap();
            assert!(part.proof.proves(payload.namespaces_root(), part.namespace.leaf()));
            assert_eq!(part.after, network.state.streams[&rollup]);
            assert_eq!(part.namespace.head, part.after.head);
            assert_eq!(part.namespace.first_sequence, stream.next_sequence);
            assert_eq!(stream.next_sequence + part.namespace.count, part.after.next_sequence);
            let decided = blocks.iter().filter_map(|block| block.block().lane(rollup));
            let decided: Vec<Bytes> = decided.flat_map(|lane| lane.transactions.clone()).collect();
            let read: Vec<Bytes> = part.lanes.into_iter().flat_map(|lane| lane.transactions).collect();
            assert_eq!(read, decided);
        }
        let absent = RollupId(905);
        assert_eq!(payload.stream(absent, before.streams[&absent]), Ok(None));
    }

    #[test]
    fn a_part_that_does_not_continue_its_stream_is_refused() {
        let (network, before, blocks) = decided(10);
        let payload = payload_of(&network, &before, &blocks);
        let rollup = RollupId(902);
        let stream = before.streams[&rollup];
        for wrong in [
            StreamHead {
                next_sequence: stream.next_sequence + 1,
                ..stream
            },
            StreamHead {
                head: B256::repeat_byte(1),
                ..stream
            },
        ] {
            assert_eq!(payload.stream(rollup, wrong), Err(PayloadError::Leaf(rollup)));
        }
    }

    #[test]
    fn a_batch_of_another_place_or_network_is_refused() {
        let (network, before, blocks) = decided(10);
        let payload = payload_of(&network, &before, &blocks);
        let (committee, id) = (network.genesis.committee(), network.genesis.network());
        let late = &network.state;
        assert!(payload.blocks(id, late, committee).is_err());
        let other = fusion_types::NetworkId(B256::repeat_byte(7));
        assert_eq!(
            payload.blocks(other, &before, committee).unwrap_err(),
            PayloadError::Leaf(RollupId(0))
        );
    }

    #[test]
    fn a_batch_of_empty_blocks_has_the_blocks_alone() {
        let mut network = Network::new(&[1, 1, 1, 1]);
        let before = network.state.clone();
        let blocks: Vec<_> = (0..5).map(|_| network.decide(&[]).block).collect();
        let payload = payload_of(&network, &before, &blocks);
        assert_eq!(payload.rollups().count(), 0);
        let committee = network.genesis.committee();
        let (again, after) = payload.blocks(network.genesis.network(), &before, committee).unwrap();
        assert_eq!(again.last().unwrap().id(), blocks[4].id());
        assert_eq!(after, network.state);
    }

    #[test]
    fn what_the_rule_cuts_fits_six_blobs_however_badly_it_compresses() {
        let mut network = Network::new(&[1, 1, 1, 1]);
        let before = network.state.clone();
        // Bytes end the batch here, not age.
        let mut cutter = Cutter::new(CutRule {
            age_ms: u64::MAX,
            ..CutRule::default()
        });
        let mut blocks = Vec::new();
        // Hashes do not compress; transactions of 33 bytes have the most overhead for their size that RLP gives here.
        let mut noise = B256::ZERO;
        let complete = loop {
            let transactions = (0..500).map(|_| {
                noise = keccak256(noise);
                Bytes::from([noise.as_slice(), &[0x80]].concat())
            });
            let decided = network.decide(&[(903, transactions.collect())]);
            blocks.push(decided.block.clone());
            let complete = cutter.push(BlockFacts::of(&decided.block, false));
            if !complete.is_empty() {
                break complete;
            }
        };
        let heights = complete[0].clone();
        blocks.retain(|block| heights.contains(&block.header().height));
        let payload = payload_of(&network, &before, &blocks);
        let packed = blobs::pack(payload.bytes()).expect("six blobs hold it");
        let carried: usize = blocks.iter().map(|block| block.encoded().len()).sum();
        assert!(carried > 580_000, "{carried} bytes are no full batch");
        assert!(packed.len() >= 5, "{} blobs: the noise was compressed", packed.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        // Where the encoder had a choice, another choice is the same content: `data` binds the bytes, the leaves do not.
        #[test]
        fn a_changed_byte_changes_no_content_unnoticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (network, before, blocks) = decided(8);
            let payload = payload_of(&network, &before, &blocks);
            let mut bytes = payload.bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (committee, id) = (network.genesis.committee(), network.genesis.network());
            let read = Payload::parse(bytes).and_then(|changed| {
                let (again, after) = changed.blocks(id, &before, committee)?;
                Ok((changed.namespaces_root(), again, after))
            });
            if let Ok((root, again, after)) = read {
                prop_assert_eq!(root, payload.namespaces_root(), "byte {} of the payload", at);
                prop_assert!(again.iter().map(SealedBlock::id).eq(blocks.iter().map(|block| block.id())));
                prop_assert_eq!(after, network.state);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (network, before, _) = decided(1);
            let mut framed = vec![1, 0, 0, 0, 1];
            framed.extend([0; 8]);
            framed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            framed.extend([0; 32]);
            framed.extend(&bytes);
            for bytes in [bytes, framed] {
                if let Ok(payload) = Payload::parse(bytes) {
                    let committee = network.genesis.committee();
                    prop_assert!(payload.blocks(network.genesis.network(), &before, committee).is_err());
                }
            }
        }
    }
}
