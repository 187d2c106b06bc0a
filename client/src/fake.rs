//! A hand-made chain with real keys, and nodes that serve it as told: for the tests of this crate.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_primitives::{B256, B512, Bytes};
use ed25519_dalek::{Signer as _, SigningKey};
use fusion_types::{
    Block, Certificate, Committee, CommitteeSignature, DecidedBlock, Epoch, Genesis, Header, L1Origin, Lane, LaneBody,
    Receipt, RollupBlock, RollupConfig, RollupId, RollupKind, Round, SealedBlock, Validator, ValidatorId, VoteKind,
    merkle_root, transaction_hash, vote_sign_bytes,
};
use jsonrpsee::server::{RpcModule, Server, ServerHandle, SubscriptionMessage};
use jsonrpsee::types::ErrorObjectOwned;
use tokio::sync::watch;

use crate::json::{
    BlockJson, CursorJson, Data, Hash, ReceiptJson, ReceiptStatus, ReceiptStatusJson, RollupBlockJson, StatusJson,
    StreamJson,
};
use crate::trust::Trust;

pub(crate) const ROLLUP: RollupId = RollupId(903);

/// Decided blocks, each with two transactions of [`ROLLUP`], except every third, which is empty.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) genesis: Genesis,
    pub(crate) blocks: Vec<(Block, Certificate)>,
}

impl Chain {
    pub(crate) fn new(heights: usize) -> Self {
        Self::with_keys(1, heights)
    }

    /// A chain of validators that follow from `seed`.
    pub(crate) fn with_keys(seed: u8, heights: usize) -> Self {
        let mut keys: Vec<SigningKey> = (0..4).map(|i| SigningKey::from_bytes(&[seed * 16 + i; 32])).collect();
        keys.sort_by_key(|key| key.verifying_key().to_bytes());
        let validators = keys.iter().enumerate().map(|(i, key)| Validator {
            id: ValidatorId(key.verifying_key().to_bytes().into()),
            peer: B256::with_last_byte(u8::try_from(i).unwrap()),
            power: 1,
        });
        let committee = Committee::new(Epoch(0), validators.collect()).unwrap();
        let rollup = |id, kind| RollupConfig {
            id,
            kind,
            ordering: fusion_types::Ordering::Fcfs,
            weight: 1,
        };
        let rollups = vec![
            rollup(RollupId(901), RollupKind::Evm),
            rollup(ROLLUP, RollupKind::Opaque),
        ];
        let genesis = Genesis::new("fake".to_owned(), 1_000, committee, rollups).unwrap();
        let mut chain = Self {
            genesis,
            blocks: Vec::new(),
        };
        let mut state = chain.genesis.state();
        for at in 0..heights {
            let payloads = if at % 3 == 2 {
                Vec::new()
            } else {
                vec![
                    format!("{at} a").into_bytes().into(),
                    format!("{at} b").into_bytes().into(),
                ]
            };
            let (block, certificate) = decide(&chain.genesis, &state, payloads, &keys);
            state.apply(&block, block.id(), chain.genesis.committee()).unwrap();
            chain.blocks.push((block, certificate));
        }
        chain
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::of(&self.genesis)
    }

    /// The stream of [`ROLLUP`] in the first `tip` blocks.
    pub(crate) fn stream(&self, tip: usize) -> Vec<RollupBlock> {
        let blocks = self.blocks[..tip].iter();
        blocks
            .filter_map(|(block, certificate)| RollupBlock::of(block, certificate, ROLLUP))
            .collect()
    }

    /// The receipt of a payload, if it is in the chain.
    pub(crate) fn receipt(&self, hash: B256) -> Option<Receipt> {
        self.blocks.iter().find_map(|(block, certificate)| {
            let lane = block.lane(ROLLUP)?;
            let index = lane.hashes().iter().position(|other| *other == hash)?;
            Receipt::of(block, certificate, ROLLUP, index)
        })
    }
}

fn decide(
    genesis: &Genesis,
    state: &fusion_types::State,
    payloads: Vec<Bytes>,
    keys: &[SigningKey],
) -> (Block, Certificate) {
    let height = state.height.next();
    let stream = state.streams[&ROLLUP];
    let hashes: Vec<B256> = payloads.iter().map(|payload| transaction_hash(payload)).collect();
    let mut lanes = Vec::new();
    // A second lane, so that the proofs are not empty.
    let other = state.streams[&RollupId(901)];
    let other_payload = vec![Bytes::from(height.0.to_be_bytes().to_vec())];
    let other_hashes = [transaction_hash(&other_payload[0])];
    lanes.push(LaneBody {
        lane: Lane::new(RollupId(901), height, other.next_sequence, other.head, &other_hashes),
        transactions: other_payload,
    });
    if !payloads.is_empty() {
        lanes.push(LaneBody {
            lane: Lane::new(ROLLUP, height, stream.next_sequence, stream.head, &hashes),
            transactions: payloads,
        });
    }
    let leaves: Vec<B256> = lanes.iter().map(|body| body.lane.leaf()).collect();
    let header = Header {
        network: genesis.network(),
        height,
        parent: state.block,
        epoch: Epoch(0),
        committee: genesis.committee().hash(),
        proposer: genesis.committee().validators()[0].id,
        time_ms: state.time_ms + 10,
        l1_origin: L1Origin::default(),
        lanes_root: merkle_root(&leaves),
        state_root: state.root(),
        forced_to: None,
    };
    let (block, round) = (Block { header, lanes }, Round(1));
    let id = block.id();
    let bytes = vote_sign_bytes(
        genesis.network(),
        Epoch(0),
        height,
        round,
        VoteKind::Precommit,
        Some(id),
    );
    let signatures = (0_u32..).zip(keys).skip(1).map(|(validator, key)| CommitteeSignature {
        validator,
        signature: B512::from(key.sign(&bytes).to_bytes()),
    });
    let certificate = Certificate {
        epoch: Epoch(0),
        height,
        round,
        block: id,
        signatures: signatures.collect(),
    };
    (block, certificate)
}

/// How a fake node behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// Changes what it says about a block.
    pub(crate) tamper: Option<fn(&mut RollupBlockJson)>,
    /// Changes its receipts.
    pub(crate) forge: Option<fn(&mut ReceiptJson)>,
    /// Changes the blocks that it gives.
    pub(crate) forge_block: Option<fn(&mut BlockJson)>,
    /// Takes requests and never answers.
    pub(crate) hang: bool,
    /// Refuses every transaction with this code.
    pub(crate) refuse: Option<i32>,
}

/// A running node.
#[derive(Debug)]
pub(crate) struct FakeNode {
    pub(crate) url: String,
    /// How many blocks of the chain it has.
    pub(crate) tip: watch::Sender<usize>,
    /// Requests taken.
    pub(crate) requests: Arc<AtomicUsize>,
    handle: ServerHandle,
}

#[derive(Clone)]
struct Served {
    chain: Arc<Chain>,
    tip: watch::Receiver<usize>,
    manners: Manners,
    requests: Arc<AtomicUsize>,
}

impl FakeNode {
    pub(crate) async fn start(chain: &Chain, tip: usize, manners: Manners) -> Self {
        let server = Server::builder().build("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let (tip, tip_seen) = watch::channel(tip);
        let requests = Arc::new(AtomicUsize::new(0));
        let served = Served {
            chain: Arc::new(chain.clone()),
            tip: tip_seen,
            manners,
            requests: requests.clone(),
        };
        let handle = server.start(module(served));
        Self {
            url,
            tip,
            requests,
            handle,
        }
    }

    /// Closes every connection and the listening socket.
    pub(crate) async fn kill(self) -> String {
        self.handle.stop().unwrap();
        self.handle.clone().stopped().await;
        self.url
    }
}

impl Served {
    async fn arrive(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.manners.hang {
            std::future::pending::<()>().await;
        }
    }

    /// The blocks from `sequence` on, as this node tells them.
    fn blocks(&self, sequence: u64) -> Vec<RollupBlockJson> {
        let tip = *self.tip.borrow();
        let blocks = self.chain.stream(tip).into_iter();
        let rest = blocks.filter(|block| sequence < block.body.lane.first_sequence + block.body.lane.count);
        rest.map(|block| {
            let mut json = RollupBlockJson::from(&block);
            if let Some(tamper) = self.manners.tamper {
                tamper(&mut json);
            }
            json
        })
        .collect()
    }

    fn block(&self, height: usize) -> BlockJson {
        let (block, certificate) = &self.chain.blocks[height - 1];
        let mut json = BlockJson::from(&DecidedBlock {
            block: Arc::new(SealedBlock::new(block).unwrap()),
            certificate: certificate.clone(),
        });
        if let Some(forge) = self.manners.forge_block {
            forge(&mut json);
        }
        json
    }

    fn receipt(&self, hash: B256) -> Option<ReceiptJson> {
        let mut json = ReceiptJson::from(&self.chain.receipt(hash)?);
        if let Some(forge) = self.manners.forge {
            forge(&mut json);
        }
        Some(json)
    }
}

fn module(served: Served) -> RpcModule<Served> {
    let mut module = RpcModule::new(served);
    module
        .register_async_method("fusion_status", |_, served, _| async move {
            served.arrive().await;
            Ok::<_, ErrorObjectOwned>(status(&served))
        })
        .unwrap();
    module
        .register_async_method("fusion_getStream", |params, served, _| async move {
            served.arrive().await;
            let (rollup, sequence, _limit): (u64, u64, u32) = params.parse()?;
            Ok::<_, ErrorObjectOwned>(StreamJson {
                blocks: served.blocks(sequence).into_iter().take(2).collect(),
                next: CursorJson {
                    rollup,
                    sequence,
                    head: None,
                },
                height: 0,
            })
        })
        .unwrap();
    module
        .register_async_method("fusion_getBlock", |params, served, _| async move {
            served.arrive().await;
            let (height,): (usize,) = params.parse()?;
            Ok::<_, ErrorObjectOwned>(served.block(height))
        })
        .unwrap();
    module
        .register_async_method("fusion_getReceipt", |params, served, _| async move {
            served.arrive().await;
            let (_, hash): (u64, Hash) = params.parse()?;
            let receipt = served.receipt(hash.0);
            Ok::<_, ErrorObjectOwned>(ReceiptStatusJson {
                status: if receipt.is_some() {
                    ReceiptStatus::Final
                } else {
                    ReceiptStatus::Unknown
                },
                height: 0,
                lag: 0,
                receipt,
                settlement: None,
            })
        })
        .unwrap();
    register_submissions(&mut module);
    module
        .register_subscription(
            "fusion_subscribe",
            "fusion_subscription",
            "fusion_unsubscribe",
            serve_stream,
        )
        .unwrap();
    module
}

fn register_submissions(module: &mut RpcModule<Served>) {
    for (name, sync) in [("fusion_sendTransaction", false), ("fusion_sendTransactionSync", true)] {
        module
            .register_async_method(name, move |params, served, _| async move {
                served.arrive().await;
                let mut params = params.sequence();
                let (_, payload): (u64, Data) = (params.next()?, params.next()?);
                let hash = transaction_hash(&payload.0);
                if let Some(code) = served.manners.refuse {
                    return Err(ErrorObjectOwned::owned(code, "refused by the test", None::<()>));
                }
                match served.receipt(hash) {
                    Some(receipt) if sync => Ok(serde_json::to_value(receipt).unwrap()),
                    _ if sync => Err(ErrorObjectOwned::owned(4, "not final in time", None::<()>)),
                    _ => Ok(serde_json::to_value(Hash(hash)).unwrap()),
                }
            })
            .unwrap();
    }
}

async fn serve_stream(
    params: jsonrpsee::types::Params<'static>,
    pending: jsonrpsee::PendingSubscriptionSink,
    served: Arc<Served>,
    _: jsonrpsee::Extensions,
) {
    served.arrive().await;
    let (kind, from): (String, CursorJson) = params.parse().unwrap();
    assert_eq!(kind, "stream");
    let sink = pending.accept().await.unwrap();
    let (mut tip, mut sequence) = (served.tip.clone(), from.sequence);
    loop {
        for block in served.blocks(sequence) {
            sequence = block.lane.first_sequence + block.lane.count;
            let message = SubscriptionMessage::from(serde_json::value::to_raw_value(&block).unwrap());
            if sink.send(message).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = tip.changed() => if changed.is_err() { return },
            () = sink.closed() => return,
        }
    }
}

fn status(served: &Served) -> StatusJson {
    let zero = Hash(B256::ZERO);
    StatusJson {
        name: "fake".to_owned(),
        version: "0".to_owned(),
        network: Hash(served.chain.genesis.network().0),
        network_name: "fake".to_owned(),
        peer: zero,
        validator: None,
        role: "follower".to_owned(),
        voting: false,
        quarantine: None,
        height: *served.tip.borrow() as u64,
        tip: zero,
        time_ms: 0,
        round: 0,
        step: "propose".to_owned(),
        lag: 0,
        peers: 0,
        power_connected: 0,
        power_total: 4,
        quorum: 3,
        pool_transactions: 0,
        pool_bytes: 0,
        evidence: 0,
        started_ms: 0,
    }
}
