//! The golden vectors: bytes and hashes that never change, in `vectors/*.json`, for Rust and Solidity alike.
//!
//! A difference here means a new protocol version: old signatures, receipts and logs would no longer verify. To write
//! vectors for review, name a directory; existing files are never overwritten, so move the old ones away first:
//! `FUSION_WRITE_VECTORS=/some/empty/dir cargo test -p fusion-types --test vectors`

#[cfg(test)]
#[path = "properties/sample.rs"]
mod sample;

#[cfg(test)]
mod vectors {
    use std::path::{Path, PathBuf};

    use alloy_primitives::{B256, Bytes, hex};
    use ed25519_dalek::Signer;
    use fusion_types::{
        BlockId, Certificate, Committee, Cursor, DecidedBlock, Epoch, Genesis, Header, Height, L1Origin, Lane,
        LaneAbsence, MerkleProof, MerkleTree, NetworkId, Ordering, Receipt, RollupBlock, RollupId, RollupKind,
        Rotation, Round, SettlementConfig, VoteKind, decode_exact, encode, initial_head, leaf_hash,
        proposal_sign_bytes, quorum_power, transaction_hash, vote_sign_bytes,
    };
    use serde_json::{Value, json};

    use crate::sample::{self, Network, payloads};

    fn hex(bytes: impl AsRef<[u8]>) -> Value {
        hex::encode_prefixed(bytes).into()
    }

    fn hexes<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Value {
        items.into_iter().map(hex).collect()
    }

    fn header_json(header: &Header) -> Value {
        let mut json = json!({
            "network": hex(header.network.0),
            "height": header.height.0,
            "parent": hex(header.parent.0),
            "epoch": header.epoch.0,
            "committee": hex(header.committee),
            "proposer": hex(header.proposer.0),
            "timeMs": header.time_ms,
            "l1Origin": { "number": header.l1_origin.number, "hash": hex(header.l1_origin.hash) },
            "lanesRoot": hex(header.lanes_root),
            "stateRoot": hex(header.state_root),
        });
        if let Some(forced_to) = header.forced_to {
            json["forcedTo"] = forced_to.into();
        }
        json
    }

    fn lane_json(lane: &Lane) -> Value {
        json!({
            "rollup": lane.rollup.0,
            "firstSequence": lane.first_sequence,
            "count": lane.count,
            "parentHead": hex(lane.parent_head),
            "head": hex(lane.head),
            "transactionsRoot": hex(lane.transactions_root),
        })
    }

    fn proof_json(proof: &MerkleProof) -> Value {
        json!({ "index": proof.index, "count": proof.count, "siblings": hexes(&proof.siblings) })
    }

    fn certificate_json(certificate: &Certificate) -> Value {
        let signatures = certificate.signatures.iter();
        json!({
            "epoch": certificate.epoch.0,
            "height": certificate.height.0,
            "round": certificate.round.0,
            "block": hex(certificate.block.0),
            "signatures": signatures
                .map(|entry| json!({ "validator": entry.validator, "signature": hex(entry.signature) }))
                .collect::<Value>(),
        })
    }

    fn cursor_json(cursor: &Cursor) -> Value {
        json!({ "rollup": cursor.rollup.0, "sequence": cursor.sequence, "head": hex(cursor.head) })
    }

    fn committee_json(committee: &Committee) -> Value {
        let validators = committee.validators().iter();
        json!({
            "epoch": committee.epoch().0,
            "validators": validators
                .map(|v| json!({ "id": hex(v.id.0), "peer": hex(v.peer), "power": v.power }))
                .collect::<Value>(),
        })
    }

    fn sign_bytes() -> Value {
        let network = NetworkId(B256::repeat_byte(0x11));
        let block = BlockId(B256::repeat_byte(0x22));
        let (epoch, height, round) = (Epoch(3), Height(1_000_001), Round(2));
        let key = sample::key(1);
        let entry = |kind: &str, block: Option<BlockId>, valid_round: Option<Round>, bytes: &[u8]| {
            json!({
                "kind": kind,
                "network": hex(network.0),
                "epoch": epoch.0,
                "height": height.0,
                "round": round.0,
                "block": block.map(|id| hex(id.0)),
                "validRound": valid_round.map(|round| round.0),
                "bytes": hex(bytes),
                "key": hex(key.verifying_key().as_bytes()),
                "signature": hex(key.sign(bytes).to_bytes()),
            })
        };
        let vote = |name, kind, block| {
            let bytes = vote_sign_bytes(network, epoch, height, round, kind, block);
            entry(name, block, None, &bytes)
        };
        let proposal = |valid_round| {
            let bytes = proposal_sign_bytes(network, epoch, height, round, valid_round, block);
            entry("proposal", Some(block), valid_round, &bytes)
        };
        json!([
            vote("prevote", VoteKind::Prevote, Some(block)),
            vote("prevote", VoteKind::Prevote, None),
            vote("precommit", VoteKind::Precommit, Some(block)),
            vote("precommit", VoteKind::Precommit, None),
            proposal(None),
            proposal(Some(Round(0))),
            proposal(Some(Round(1))),
        ])
    }

    fn merkle() -> Value {
        let trees = (0..=9_u8).map(|count| {
            let data: Vec<Vec<u8>> = (0..count).map(|n| vec![n; usize::from(n)]).collect();
            let leaves: Vec<B256> = data.iter().map(|bytes| leaf_hash(bytes)).collect();
            let tree = MerkleTree::new(leaves.clone());
            let proofs = (0..leaves.len()).map(|index| proof_json(&tree.proof(index).unwrap()));
            json!({
                "leaves": hexes(&data),
                "leafHashes": hexes(&leaves),
                "root": hex(tree.root()),
                "proofs": proofs.collect::<Value>(),
            })
        });
        trees.collect()
    }

    fn committees() -> Value {
        let of = |powers: &[u64]| {
            let (committee, _) = sample::committee(powers);
            let proposers = (1..=20).map(|height| Rotation::default().proposer(&committee, Height(height), Round(0)));
            json!({
                "committee": committee_json(&committee),
                "encoded": hex(encode(&committee)),
                "hash": hex(committee.hash()),
                "totalPower": committee.total_power(),
                "quorum": committee.quorum(),
                "proposersOfHeights1To20": proposers.collect::<Vec<_>>(),
            })
        };
        let quorums = (1..=20).chain([100, 128, 1 << 50]);
        json!({
            "committees": [of(&[1]), of(&[1, 1, 1, 1]), of(&[10, 1, 5, 3])],
            "quorums": quorums.map(|total| json!({ "total": total, "quorum": quorum_power(total) })).collect::<Value>(),
        })
    }

    fn genesis(network: &Network) -> Value {
        let genesis = &network.genesis;
        let rollups = genesis.rollups().iter().map(|rollup| {
            json!({
                "id": rollup.id.0,
                "kind": match rollup.kind { RollupKind::Evm => "evm", RollupKind::Opaque => "opaque" },
                "ordering": match rollup.ordering { Ordering::Fcfs => "fcfs", Ordering::Priority => "priority" },
                "weight": rollup.weight,
                "initialHead": hex(initial_head(genesis.network(), rollup.id)),
            })
        });
        json!({
            "name": genesis.name(),
            "timeMs": genesis.time_ms(),
            "committee": committee_json(genesis.committee()),
            "rollups": rollups.collect::<Value>(),
            "encoded": hex(encode(genesis)),
            "network": hex(genesis.network().0),
            "header": header_json(&genesis.block().header),
            "block": hex(genesis.block().id().0),
            "stateRoot": hex(genesis.state().root()),
        })
    }

    /// The same network, were it to settle: its genesis, and a header that adopts an L1 block and consumes forced
    /// transactions.
    fn settling(genesis: &Genesis) -> Value {
        let rules = SettlementConfig {
            l1_chain_id: 11_155_111,
            l1_start: L1Origin {
                number: 1_000_000,
                hash: B256::repeat_byte(0x33),
            },
            forced_per_block: 32,
            forced_bytes_max: 16_384,
            block_bytes_max: 640_000,
            batch_bytes: 600_000,
            batch_age_ms: 5_000,
            batch_idle_ms: 3_600_000,
        };
        let genesis = genesis.clone().settling(rules).unwrap();
        let mut header = genesis.block().header;
        header.height = Height(1);
        header.parent = genesis.block().id();
        header.l1_origin = L1Origin {
            number: 1_000_007,
            hash: B256::repeat_byte(0x44),
        };
        header.forced_to = Some(3);
        json!({
            "settlement": {
                "l1ChainId": rules.l1_chain_id,
                "l1Start": { "number": rules.l1_start.number, "hash": hex(rules.l1_start.hash) },
                "forcedPerBlock": rules.forced_per_block,
                "forcedBytesMax": rules.forced_bytes_max,
                "blockBytesMax": rules.block_bytes_max,
                "batchBytes": rules.batch_bytes,
                "batchAgeMs": rules.batch_age_ms,
                "batchIdleMs": rules.batch_idle_ms,
            },
            "encodedGenesis": hex(encode(&genesis)),
            "network": hex(genesis.network().0),
            "block": hex(genesis.block().id().0),
            "header": header_json(&header),
            "encodedHeader": hex(encode(&header)),
            "id": hex(header.id().0),
        })
    }

    fn header(decided: &DecidedBlock) -> Value {
        let header = decided.block.header();
        json!({ "header": header_json(header), "encoded": hex(encode(header)), "id": hex(header.id().0) })
    }

    fn lanes(decided: &DecidedBlock) -> Value {
        let height = decided.block.header().height;
        let lanes = decided.block.lanes().map(|(body, hashes)| {
            json!({
                "lane": lane_json(&body.lane),
                "height": height.0,
                "transactions": hexes(&body.transactions),
                "transactionHashes": hexes(hashes),
                "encoded": hex(encode(&body.lane)),
                "leaf": hex(body.lane.leaf()),
                "head": hex(body.lane.computed_head(height)),
            })
        });
        json!({ "lanes": lanes.collect::<Value>(), "lanesRoot": hex(decided.block.header().lanes_root) })
    }

    fn certificate(network: &Network, decided: &DecidedBlock) -> Value {
        let quorum = network.certificate(&decided.block, Round(7), &[0, 2, 3]);
        let of = |certificate: &Certificate| {
            json!({
                "certificate": certificate_json(certificate),
                "encoded": hex(encode(certificate)),
                "power": certificate.power(network.genesis.committee()),
            })
        };
        json!([of(&decided.certificate), of(&quorum)])
    }

    fn receipt(decided: &DecidedBlock) -> Value {
        let of = |rollup, index| {
            let receipt = Receipt::of(decided.block.block(), &decided.certificate, RollupId(rollup), index).unwrap();
            json!({
                "transaction": hex(receipt.transaction),
                "sequence": receipt.sequence,
                "lane": lane_json(&receipt.lane),
                "transactionProof": proof_json(&receipt.transaction_proof),
                "laneProof": proof_json(&receipt.lane_proof),
                "header": header_json(&receipt.header),
                "certificate": certificate_json(&receipt.certificate),
                "encoded": hex(encode(&receipt)),
            })
        };
        json!([of(901, 0), of(902, 2), of(905, 0)])
    }

    fn rollup_block(network: &Network, before: &Cursor, decided: &DecidedBlock) -> Value {
        let block = RollupBlock::of(decided.block.block(), &decided.certificate, before.rollup).unwrap();
        let after = block.verify(network.genesis.network(), network.genesis.committee(), before);
        json!({
            "header": header_json(&block.header),
            "lane": lane_json(&block.body.lane),
            "transactions": hexes(&block.body.transactions),
            "laneProof": proof_json(&block.lane_proof),
            "certificate": certificate_json(&block.certificate),
            "encoded": hex(encode(&block)),
            "cursorBefore": cursor_json(before),
            "cursorAfter": cursor_json(&after.unwrap()),
        })
    }

    fn absence(decided: &DecidedBlock) -> Value {
        let side = |side: &Option<(Lane, MerkleProof)>| {
            let side = side.as_ref();
            side.map(|(lane, proof)| json!({ "lane": lane_json(lane), "proof": proof_json(proof) }))
        };
        let of = |rollup| {
            let absence = LaneAbsence::of(decided.block.block(), RollupId(rollup)).unwrap();
            let lanes_root = hex(decided.block.header().lanes_root);
            json!({
                "rollup": rollup,
                "lanesRoot": lanes_root,
                "before": side(&absence.before),
                "after": side(&absence.after),
            })
        };
        json!([of(900), of(904), of(906)])
    }

    /// All vectors, by file name: made of the sample network's second block.
    fn computed() -> Vec<(&'static str, Value)> {
        let mut network = Network::new(&[1; 4]);
        network.decide(&[(902, payloads("first", 3))]);
        let stream = network.state.streams[&RollupId(902)];
        let cursor = Cursor {
            rollup: RollupId(902),
            sequence: stream.next_sequence,
            head: stream.head,
        };
        let lanes_of_second = [
            (901, payloads("a", 1)),
            (902, payloads("b", 5)),
            (905, payloads("c", 2)),
        ];
        let second = network.decide(&lanes_of_second);
        vec![
            ("sign_bytes.json", sign_bytes()),
            ("merkle.json", merkle()),
            ("committee.json", committees()),
            ("genesis.json", genesis(&network)),
            ("header.json", header(&second)),
            ("settling.json", settling(&network.genesis)),
            ("lanes.json", lanes(&second)),
            ("certificate.json", certificate(&network, &second)),
            ("receipt.json", receipt(&second)),
            ("rollup_block.json", rollup_block(&network, &cursor, &second)),
            ("absence.json", absence(&second)),
        ]
    }

    fn directory() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
    }

    fn read(name: &str) -> Value {
        let path = directory().join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap()).unwrap()
    }

    #[test]
    fn every_vector_is_what_the_code_computes() {
        let computed = computed();
        if let Some(target) = std::env::var_os("FUSION_WRITE_VECTORS") {
            for (name, value) in &computed {
                let path = Path::new(&target).join(name);
                assert!(!path.exists(), "{} exists and is not overwritten", path.display());
                std::fs::write(path, format!("{value:#}\n")).unwrap();
            }
        }
        for (name, value) in &computed {
            assert_eq!(&read(name), value, "{name}");
        }
        let mut files: Vec<_> = std::fs::read_dir(directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort_unstable();
        let mut names: Vec<_> = computed.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.sort_unstable();
        assert_eq!(files, names, "no vector without a test");
    }

    /// What another implementation does: nothing but the files.
    #[test]
    fn the_files_alone_decode_and_verify() {
        let genesis: Genesis = decode_exact(&bytes(&read("genesis.json")["encoded"])).unwrap();
        let (network, committee) = (genesis.network(), genesis.committee());
        assert_eq!(read("genesis.json")["network"], hex(network.0));
        let settling = read("settling.json");
        let settled: Genesis = decode_exact(&bytes(&settling["encodedGenesis"])).unwrap();
        assert_eq!(hex(settled.network().0), settling["network"]);
        let header: Header = decode_exact(&bytes(&settling["encodedHeader"])).unwrap();
        assert_eq!(hex(header.id().0), settling["id"]);
        assert_eq!(header.forced_to, Some(3));
        for entry in read("certificate.json").as_array().unwrap() {
            let certificate: Certificate = decode_exact(&bytes(&entry["encoded"])).unwrap();
            assert_eq!(certificate.verify(network, committee), Ok(()));
        }
        for entry in read("receipt.json").as_array().unwrap() {
            let receipt: Receipt = decode_exact(&bytes(&entry["encoded"])).unwrap();
            assert_eq!(receipt.verify(network, committee), Ok(()));
        }
        let rollup_block = read("rollup_block.json");
        let block: RollupBlock = decode_exact(&bytes(&rollup_block["encoded"])).unwrap();
        let before = Cursor {
            rollup: RollupId(rollup_block["cursorBefore"]["rollup"].as_u64().unwrap()),
            sequence: rollup_block["cursorBefore"]["sequence"].as_u64().unwrap(),
            head: B256::from_slice(&bytes(&rollup_block["cursorBefore"]["head"])),
        };
        let after = block.verify(network, committee, &before).unwrap();
        assert_eq!(cursor_json(&after), rollup_block["cursorAfter"]);
        for lane in read("lanes.json")["lanes"].as_array().unwrap() {
            let payloads = lane["transactions"].as_array().unwrap().iter();
            let hashes: Value = payloads
                .map(|payload| hex(transaction_hash(&Bytes::from(bytes(payload)))))
                .collect();
            assert_eq!(hashes, lane["transactionHashes"]);
        }
    }
}
