//! Batches hash, pack and prove here as they do in the contracts: both sides read `contracts/vectors/settlement.json`,
//! which neither wrote.

#[cfg(test)]
mod contracts {
    use std::path::Path;

    use alloy_primitives::{Address, B256, Bytes};
    use fusion_types::{
        Batch, BatchDomain, BlockId, Epoch, ForcedItem, Height, L1Origin, MerkleTree, Namespace, NetworkId, RollupId,
        blob_data, calldata_data, leaf_hash,
    };
    use serde_json::Value;

    fn vectors() -> Value {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/vectors/settlement.json");
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    }

    fn hash(value: &Value) -> B256 {
        value.as_str().unwrap().parse().unwrap()
    }

    fn bytes(value: &Value) -> Bytes {
        value.as_str().unwrap().parse().unwrap()
    }

    /// Numbers are JSON numbers or decimal texts there.
    fn number(value: &Value) -> u64 {
        let text = value.as_str().map(|text| text.parse().unwrap());
        text.or_else(|| value.as_u64()).unwrap()
    }

    fn batch(fields: &Value) -> Batch {
        Batch {
            network: NetworkId(hash(&fields["network"])),
            number: number(&fields["number"]),
            epoch: Epoch(number(&fields["epoch"])),
            first_height: Height(number(&fields["firstHeight"])),
            last_height: Height(number(&fields["lastHeight"])),
            parent: hash(&fields["parent"]),
            last_block: BlockId(hash(&fields["lastBlock"])),
            namespaces: hash(&fields["namespaces"]),
            l1_origin: L1Origin {
                number: number(&fields["l1Number"]),
                hash: hash(&fields["l1Hash"]),
            },
            forced_to: number(&fields["forcedTo"]),
            forced_hash: hash(&fields["forcedHash"]),
            next_committee: hash(&fields["nextCommittee"]),
            faults: hash(&fields["faults"]),
        }
    }

    #[test]
    fn a_batch_has_the_hash_the_digest_and_the_header_that_the_inbox_computes() {
        let vectors = vectors();
        let given = &vectors["batch"];
        let batch = batch(&given["fields"]);
        let domain = BatchDomain {
            chain_id: number(&vectors["chainId"]),
            inbox: vectors["inbox"].as_str().unwrap().parse::<Address>().unwrap(),
        };
        assert_eq!(batch.hash(), hash(&given["hash"]));
        let data = hash(&given["data"]);
        assert_eq!(batch.attestation_digest(&domain, data), hash(&given["digest"]));
        assert_eq!(batch.header_bytes(data), bytes(&given["header"]));
        let read = Batch::from_header_bytes(&bytes(&given["header"]), batch.network, batch.parent, batch.forced_hash);
        assert_eq!(read, Ok((batch.clone(), data)));
        let short = Batch {
            next_committee: B256::ZERO,
            faults: B256::ZERO,
            ..batch
        };
        assert_eq!(short.hash(), hash(&given["shortHash"]));
        assert_eq!(short.header_bytes(data), bytes(&given["shortHeader"]));
    }

    #[test]
    fn data_are_bound_as_the_inbox_binds_them() {
        let vectors = vectors();
        let given = &vectors["batch"];
        let blobs: Vec<B256> = given["blobs"].as_array().unwrap().iter().map(hash).collect();
        assert_eq!(blob_data(&blobs), hash(&given["data"]));
        assert_eq!(calldata_data(&bytes(&given["calldata"])), hash(&given["calldataData"]));
    }

    #[test]
    fn forced_transactions_chain_as_the_queue_chains_them() {
        let vectors = vectors();
        let mut word = B256::ZERO;
        for (index, given) in (0..).zip(vectors["forced"].as_array().unwrap()) {
            let item = ForcedItem {
                index,
                rollup: RollupId(number(&given["rollup"])),
                sender: given["sender"].as_str().unwrap().parse::<Address>().unwrap(),
                payload: bytes(&given["payload"]),
                accumulator: hash(&given["item"]),
            };
            let block = number(&given["block"]);
            word = item.accumulator_after(word, block);
            assert_eq!((word, item.l1_number()), (item.accumulator, block));
        }
        assert!(!word.is_zero());
    }

    #[test]
    fn a_rollup_proves_its_part_and_its_transactions_to_the_inbox() {
        let vectors = vectors();
        let given = &vectors["namespaces"];
        let leaves = given["leaves"].as_array().unwrap();
        let namespace = |leaf: &Value| Namespace {
            rollup: RollupId(number(&leaf["rollup"])),
            first_sequence: number(&leaf["firstSequence"]),
            count: number(&leaf["count"]),
            head: hash(&leaf["head"]),
            transactions_root: hash(&leaf["transactionsRoot"]),
        };
        let tree = MerkleTree::new(leaves.iter().map(|leaf| namespace(leaf).leaf()).collect());
        assert_eq!(tree.root(), hash(&given["root"]));
        for (at, leaf) in leaves.iter().enumerate() {
            assert_eq!(namespace(leaf).leaf(), hash(&leaf["leaf"]));
            let siblings: Vec<B256> = leaf["proof"]["siblings"].as_array().unwrap().iter().map(hash).collect();
            assert_eq!(tree.proof(at).unwrap().siblings, siblings);
        }
        let transactions = given["transactions"].as_array().unwrap().iter();
        let tree = MerkleTree::new(transactions.map(|tx| leaf_hash(hash(tx).as_slice())).collect());
        for (at, proof) in given["transactionProofs"].as_array().unwrap().iter().enumerate() {
            let siblings: Vec<B256> = proof["siblings"].as_array().unwrap().iter().map(hash).collect();
            assert_eq!(tree.proof(at).unwrap().siblings, siblings);
        }
    }
}
