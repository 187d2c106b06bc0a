//! Promises of the encoding: one per value, everything else refused, and nothing panics.

use alloy_primitives::{B256, B512, Bytes};
use alloy_rlp::{Decodable, Encodable};
use fusion_types::limits::SETTLED_BLOCK_BYTES_MAX;
use fusion_types::{
    Block, BlockId, Certificate, Committee, CommitteeSignature, Cursor, Epoch, Genesis, Header, Height, L1Origin, Lane,
    LaneBody, MerkleProof, NetworkId, Ordering, Receipt, RollupBlock, RollupConfig, RollupId, RollupKind, Rotation,
    Round, SealedBlock, SettlementConfig, State, StreamHead, Validator, ValidatorId, decode_exact, encode,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::sample;

fn hash() -> impl Strategy<Value = B256> {
    any::<[u8; 32]>().prop_map(B256::from)
}

/// Numbers of every length, since each length is a case of its own in RLP.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift)
}

fn header() -> impl Strategy<Value = Header> {
    let numbers = (number(), number(), number(), number());
    let hashes = (hash(), hash(), hash(), hash(), hash(), hash(), hash());
    let forced_to = proptest::option::of(number());
    (numbers, hashes, forced_to).prop_map(
        |((height, epoch, time_ms, l1), (a, b, c, d, e, f, g), forced_to)| Header {
            network: NetworkId(a),
            height: Height(height),
            parent: BlockId(b),
            epoch: Epoch(epoch),
            committee: c,
            proposer: ValidatorId(d),
            time_ms,
            l1_origin: L1Origin { number: l1, hash: e },
            lanes_root: f,
            state_root: g,
            forced_to,
        },
    )
}

fn lane() -> impl Strategy<Value = Lane> {
    let numbers = (number(), number(), number());
    (numbers, hash(), hash(), hash()).prop_map(|((rollup, first_sequence, count), a, b, c)| Lane {
        rollup: RollupId(rollup),
        first_sequence,
        count,
        parent_head: a,
        head: b,
        transactions_root: c,
    })
}

fn body() -> impl Strategy<Value = LaneBody> {
    let payload = vec(any::<u8>(), 0..80).prop_map(Bytes::from);
    (lane(), vec(payload, 0..6)).prop_map(|(lane, transactions)| LaneBody { lane, transactions })
}

fn block() -> impl Strategy<Value = Block> {
    (header(), vec(body(), 0..4)).prop_map(|(header, lanes)| Block { header, lanes })
}

fn certificate() -> impl Strategy<Value = Certificate> {
    let signature = (any::<u32>(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(validator, r, s)| {
        let signature = B512::from_slice(&[r, s].concat());
        CommitteeSignature { validator, signature }
    });
    (number(), number(), any::<u32>(), hash(), vec(signature, 0..5)).prop_map(
        |(epoch, height, round, block, signatures)| Certificate {
            epoch: Epoch(epoch),
            height: Height(height),
            round: Round(round),
            block: BlockId(block),
            signatures,
        },
    )
}

fn proof() -> impl Strategy<Value = MerkleProof> {
    (number(), number(), vec(hash(), 0..33)).prop_map(|(index, count, siblings)| MerkleProof { index, count, siblings })
}

fn receipt() -> impl Strategy<Value = Receipt> {
    (hash(), number(), lane(), proof(), proof(), header(), certificate()).prop_map(
        |(transaction, sequence, lane, a, b, header, certificate)| Receipt {
            transaction,
            sequence,
            lane,
            transaction_proof: a,
            lane_proof: b,
            header,
            certificate,
        },
    )
}

fn rollup_block() -> impl Strategy<Value = RollupBlock> {
    (header(), body(), proof(), certificate()).prop_map(|(header, body, lane_proof, certificate)| RollupBlock {
        header,
        body,
        lane_proof,
        certificate,
    })
}

fn committee() -> impl Strategy<Value = Committee> {
    let validators = vec((1_u64..1 << 40, hash()), 1..9);
    (number(), validators).prop_map(|(epoch, seats)| {
        let validators = (1_u8..).zip(seats).map(|(n, (power, mut peer))| {
            peer.0[0] = n;
            Validator {
                id: ValidatorId(B256::from(sample::key(n).verifying_key().to_bytes())),
                peer,
                power,
            }
        });
        Committee::new(Epoch(epoch), validators.collect()).unwrap()
    })
}

fn rules() -> impl Strategy<Value = SettlementConfig> {
    let most = SETTLED_BLOCK_BYTES_MAX as u64;
    let numbers = (1_u64.., number(), 1_u32..=32, 1_u32..=16_384);
    let times = (1..=most, 1_u64.., 1_u64..);
    (numbers, hash(), times).prop_map(
        move |((l1_chain_id, number, forced_per_block, forced_bytes_max), hash, times)| SettlementConfig {
            l1_chain_id,
            l1_start: L1Origin { number, hash },
            forced_per_block,
            forced_bytes_max,
            block_bytes_max: most,
            batch_bytes: times.0,
            batch_age_ms: times.1,
            batch_idle_ms: times.2,
        },
    )
}

fn genesis() -> impl Strategy<Value = Genesis> {
    (genesis_alone(), proptest::option::of(rules())).prop_map(|(genesis, rules)| match rules {
        Some(rules) => genesis.settling(rules).unwrap(),
        None => genesis,
    })
}

fn genesis_alone() -> impl Strategy<Value = Genesis> {
    let rollups = proptest::collection::btree_map(1..u64::MAX, (any::<bool>(), any::<bool>(), 1..u32::MAX), 0..6);
    ("[a-zA-Z0-9_.-]{1,64}", number(), vec(1_u64..9, 1..5), rollups).prop_map(|(name, time_ms, powers, rollups)| {
        let rollups = rollups.into_iter().map(|(id, (evm, priority, weight))| RollupConfig {
            id: RollupId(id),
            kind: if evm { RollupKind::Evm } else { RollupKind::Opaque },
            ordering: if evm && priority {
                Ordering::Priority
            } else {
                Ordering::Fcfs
            },
            weight,
        });
        Genesis::new(name, time_ms, sample::committee(&powers).0, rollups.collect()).unwrap()
    })
}

/// A rotation with history: blocks by whoever the numbers pick.
fn rotation() -> impl Strategy<Value = Rotation> {
    vec(0_usize..7, 0..20).prop_map(|proposers| {
        let (committee, _) = sample::committee(&[1; 7]);
        let mut rotation = Rotation::default();
        for (height, proposer) in (1..).zip(proposers) {
            rotation.decided(&committee, Height(height), committee.validators()[proposer].id);
        }
        rotation
    })
}

fn state() -> impl Strategy<Value = State> {
    let streams = proptest::collection::btree_map(number().prop_map(RollupId), (number(), hash()), 0..5);
    let numbers = (number(), number(), number(), number());
    (header(), streams, numbers, rotation(), hash(), hash()).prop_map(
        |(header, streams, (height, time_ms, forced_cursor, forced_taken), rotation, committee, next_committee)| {
            State {
                height: Height(height),
                block: header.parent,
                time_ms,
                l1_origin: header.l1_origin,
                streams: streams
                    .into_iter()
                    .map(|(rollup, (next_sequence, head))| (rollup, StreamHead { next_sequence, head }))
                    .collect(),
                forced_cursor,
                forced_taken,
                rotation,
                committee,
                next_committee,
            }
        },
    )
}

/// What somebody may do to bytes on their way.
#[derive(Debug, Clone)]
enum Damage {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<usize>().prop_map(Damage::Remove),
        any::<usize>().prop_map(Damage::Cut),
    ];
    vec(one, 1..4)
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let len = bytes.len();
        match damage {
            Damage::Insert(at, byte) => bytes.insert(at % (len + 1), *byte),
            _ if len == 0 => {}
            Damage::Set(at, byte) => bytes[at % len] = *byte,
            Damage::Remove(at) => drop(bytes.remove(at % len)),
            Damage::Cut(at) => bytes.truncate(at % len),
        }
    }
    bytes
}

/// One value, one encoding: it comes back, its length is foretold, and bytes that decode at all encode to themselves.
fn check<T: Encodable + Decodable + PartialEq + std::fmt::Debug>(value: &T, damages: &[Damage]) {
    let encoded = encode(value);
    assert_eq!(value.length(), encoded.len());
    assert_eq!(&decode_exact::<T>(&encoded).unwrap(), value);
    assert!(decode_exact::<T>(&[encoded.as_slice(), &[0x80]].concat()).is_err());
    assert!(decode_exact::<T>(&encoded[..encoded.len() - 1]).is_err());
    let damaged = damaged(encoded, damages);
    if let Ok(other) = decode_exact::<T>(&damaged) {
        assert_eq!(encode(&other), damaged, "a second encoding of {other:?}");
    }
}

proptest! {
    #[test]
    fn every_value_has_one_encoding(
        (header, lane, body, block) in (header(), lane(), body(), block()),
        (certificate, proof, receipt, rollup_block) in (certificate(), proof(), receipt(), rollup_block()),
        (committee, genesis, rotation, state) in (committee(), genesis(), rotation(), state()),
        damages in damages(),
    ) {
        check(&header, &damages);
        check(&lane, &damages);
        check(&body, &damages);
        check(&block, &damages);
        check(&certificate, &damages);
        check(&proof, &damages);
        check(&receipt, &damages);
        check(&rollup_block, &damages);
        check(&committee, &damages);
        check(&genesis, &damages);
        check(&rotation, &damages);
        check(&state, &damages);
        check(&header.l1_origin, &damages);
        if let Some(rules) = genesis.settlement() {
            check(rules, &damages);
        }
        check(&Cursor { rollup: lane.rollup, sequence: lane.first_sequence, head: lane.head }, &damages);
        for rollup in genesis.rollups() {
            check(rollup, &damages);
        }
        for validator in committee.validators() {
            check(validator, &damages);
        }
        for signature in &certificate.signatures {
            check(signature, &damages);
        }
    }

    #[test]
    fn no_bytes_panic_any_decoder(bytes in vec(any::<u8>(), 0..600), wrap in 0_usize..5) {
        // Inside well-formed lists, random bytes get further.
        let mut bytes = bytes;
        for _ in 0..wrap {
            let mut outer = Vec::new();
            alloy_rlp::Header { list: true, payload_length: bytes.len() }.encode(&mut outer);
            outer.extend(bytes);
            bytes = outer;
        }
        never_panics(&bytes);
    }

    #[test]
    fn sealed_blocks_have_one_encoding(damages in damages(), sizes in vec(1_usize..6, 0..4)) {
        let network = sample::Network::new(&[1; 4]);
        let lanes: Vec<_> = (901..).zip(sizes).map(|(id, size)| (id, sample::payloads("seal", size))).collect();
        let sealed = network.block(&lanes);
        prop_assert_eq!(&SealedBlock::decode(sealed.encoded().clone()).unwrap(), &sealed);
        prop_assert_eq!(encode(sealed.block()), sealed.encoded().to_vec());
        let damaged: Bytes = damaged(sealed.encoded().to_vec(), &damages).into();
        if let Ok(other) = SealedBlock::decode(damaged.clone()) {
            prop_assert_eq!(encode(other.block()), damaged.to_vec());
        }
    }
}

fn never_panics(bytes: &[u8]) {
    drop(decode_exact::<Header>(bytes));
    drop(decode_exact::<Lane>(bytes));
    drop(decode_exact::<LaneBody>(bytes));
    drop(decode_exact::<Block>(bytes));
    drop(decode_exact::<Certificate>(bytes));
    drop(decode_exact::<MerkleProof>(bytes));
    drop(decode_exact::<Receipt>(bytes));
    drop(decode_exact::<RollupBlock>(bytes));
    drop(decode_exact::<Committee>(bytes));
    drop(decode_exact::<Genesis>(bytes));
    drop(decode_exact::<Rotation>(bytes));
    drop(decode_exact::<State>(bytes));
    drop(decode_exact::<Cursor>(bytes));
    drop(decode_exact::<RollupConfig>(bytes));
    drop(SealedBlock::decode(Bytes::copy_from_slice(bytes)));
}

/// `payload` as an RLP list.
fn list(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    alloy_rlp::Header {
        list: true,
        payload_length: payload.len(),
    }
    .encode(&mut out);
    out.extend(payload);
    out
}

#[test]
fn lists_beyond_their_limits_are_refused() {
    use fusion_types::limits::{BLOCK_TRANSACTIONS_MAX, COMMITTEE_MAX, MERKLE_DEPTH_MAX};

    let proof = MerkleProof {
        index: 0,
        count: 1,
        siblings: vec![B256::ZERO; MERKLE_DEPTH_MAX + 1],
    };
    assert!(decode_exact::<MerkleProof>(&encode(&proof)).is_err());

    let network = sample::Network::new(&[1]);
    let mut certificate = network.certificate(&network.block(&[]), Round(0), &[0]);
    certificate.signatures = vec![certificate.signatures[0]; COMMITTEE_MAX + 1];
    assert!(decode_exact::<Certificate>(&encode(&certificate)).is_err());

    // One transaction too many, spread over two lanes: the limit is the block's, not a lane's.
    let sealed = network.block(&[(901, sample::payloads("a", 1)), (902, sample::payloads("b", 1))]);
    let mut block = sealed.block().clone();
    block.lanes[0].transactions = vec![Bytes::from_static(&[1]); BLOCK_TRANSACTIONS_MAX];
    assert!(decode_exact::<Block>(&encode(&block)).is_err());
    assert!(SealedBlock::new(&block).is_err());
}

#[test]
fn long_forms_of_short_lengths_and_leading_zeros_are_refused() {
    let value = L1Origin::default();
    let canonical = encode(&value);
    assert_eq!(canonical[1], 0x80, "zero is the empty string");
    let hash = &canonical[2..];

    let zero_as_byte = list(&[&[0x00], hash].concat());
    let zero_as_string = list(&[&[0x81, 0x00], hash].concat());
    let leading_zero = list(&[&[0x82, 0x00, 0x01], hash].concat());
    let small_as_string = list(&[&[0x81, 0x01], hash].concat());
    let long_hash_length = list(&[&[0x80, 0xb8, 0x20], &hash[1..]].concat());
    let long_list_length = [&[0xf8, canonical[0] - 0xc0], &canonical[1..]].concat();
    let item_more = list(&[&canonical[1..], &[0x80]].concat());
    let item_less = list(&canonical[2..]);
    for bytes in [
        zero_as_byte,
        zero_as_string,
        leading_zero,
        small_as_string,
        long_hash_length,
        long_list_length,
        item_more,
        item_less,
    ] {
        assert!(decode_exact::<L1Origin>(&bytes).is_err(), "{bytes:02x?}");
    }
    assert_eq!(decode_exact::<L1Origin>(&canonical).unwrap(), value);
}

#[test]
fn what_is_left_out_where_it_is_nothing_is_not_written_as_nothing_either() {
    let network = sample::Network::new(&[1]);
    let state = encode(&network.state);
    let mut outer = &state[..];
    let mut fixed = alloy_rlp::Header::decode_bytes(&mut outer, true).unwrap();
    let streams = {
        let mut rest = fixed;
        alloy_rlp::Header::decode_bytes(&mut rest, true).unwrap();
        rest
    };
    let fixed = alloy_rlp::Header::decode_bytes(&mut fixed, true).unwrap();
    let with_zero = list(&[&list(&[fixed, &[0x80]].concat())[..], streams].concat());
    assert!(decode_exact::<State>(&with_zero).is_err());
    let with_one = list(&[&list(&[fixed, &[0x01]].concat())[..], streams].concat());
    assert_eq!(decode_exact::<State>(&with_one).unwrap().forced_taken, 1);
}
