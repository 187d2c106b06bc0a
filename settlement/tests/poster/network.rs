//! A network that settles: its committee on L1, its blocks as certified batches, and a poster at work.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy_eips::eip4844::kzg_to_versioned_hash;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_sol_types::SolCall;
use ed25519_dalek::SigningKey;
use fusion_settlement::batcher::{Payload, blobs};
use fusion_settlement::contracts::BatchInbox;
use fusion_settlement::deploy::{DeployParameters, Deployed, Deployment, MemberKeys};
use fusion_settlement::l1::L1Key;
use fusion_settlement::poster::{self, Journal, PostJob, PosterConfig, PosterError, PosterSetup, PosterStatus};
use fusion_types::{Batch, BatchDomain, Epoch, Height, L1Origin, blob_data};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::chain::{Chain, key};
use crate::sample::{Network, payloads};

/// How long a scenario waits for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A network whose contracts are deployed, and where its chain of batches stands.
pub(crate) struct Settled {
    pub(crate) chain: Chain,
    pub(crate) deployed: Deployed,
    blocks: Network,
    members: Vec<MemberKeys>,
    origin: L1Origin,
    parent: B256,
    number: u64,
}

fn member(at: usize) -> MemberKeys {
    let seed = |what: &str| keccak256(format!("poster test {what} {at}"));
    MemberKeys {
        attestation: L1Key::from_secret(&seed("attestation")).unwrap(),
        consensus: SigningKey::from_bytes(&seed("consensus").0),
        peer: SigningKey::from_bytes(&seed("peer").0),
    }
}

impl Settled {
    /// Deploys a network of four on a chain, which mines no more by itself afterwards.
    pub(crate) async fn on(chain: Chain) -> Self {
        let blocks = Network::new(&[1, 1, 1, 1]);
        let members: Vec<MemberKeys> = (0..4).map(member).collect();
        let deployment = Deployment {
            network: blocks.genesis.network(),
            members: members.clone(),
            parameters: DeployParameters::devnet(),
        };
        let (owner, mut progress) = (key(0), |_, _| {});
        let deployed = fusion_settlement::deploy(&chain.endpoint, &owner, &deployment, &mut progress);
        let deployed = deployed.await.unwrap();
        chain.stop_mining().await;
        // The origin lies deeper than any reorg of a scenario.
        chain.mine(8).await;
        let at = BlockNumberOrTag::Number(deployed.inbox_block);
        let origin = chain.endpoint.block(at).await.unwrap().unwrap();
        Self {
            origin: L1Origin {
                number: origin.number,
                hash: origin.hash,
            },
            chain,
            deployed,
            blocks,
            members,
            parent: B256::ZERO,
            number: 0,
        }
    }

    /// The next batch: three more blocks, certified by three of the four members.
    pub(crate) fn next_job(&mut self) -> PostJob {
        let before = self.blocks.state.clone();
        let number = self.number;
        let decide = |at: u64| {
            self.blocks
                .decide(&[(901, payloads(&format!("batch {number}, {at}"), 4))])
                .block
        };
        let blocks: Vec<_> = (0..3).map(decide).collect();
        let payload = Payload::of(&blocks, &before, self.blocks.genesis.committee());
        let batch = Batch {
            network: self.blocks.genesis.network(),
            number,
            epoch: Epoch(0),
            first_height: Height(3 * number + 1),
            last_height: Height(3 * number + 3),
            parent: self.parent,
            last_block: blocks[2].id(),
            namespaces: payload.namespaces_root(),
            l1_origin: self.origin,
            forced_to: 0,
            forced_hash: B256::ZERO,
            next_committee: B256::ZERO,
            faults: B256::ZERO,
        };
        let domain = BatchDomain {
            chain_id: self.deployed.chain_id,
            inbox: self.deployed.inbox,
        };
        let data = blob_data(&versioned_hashes(payload.bytes()));
        let digest = batch.attestation_digest(&domain, data);
        let signatures = self.members[..3].iter().map(|member| member.attestation.sign(&digest));
        let certificate: Vec<u8> = [0b0111]
            .into_iter()
            .chain(signatures.flat_map(|s| s.as_erc2098()))
            .collect();
        (self.parent, self.number) = (batch.hash(), number + 1);
        PostJob {
            number,
            hash: batch.hash(),
            header: batch.header_bytes(data).into(),
            certificate: certificate.into(),
            payload: Bytes::copy_from_slice(payload.bytes()),
            rank: 0,
            ready_at_ms: 0,
        }
    }

    /// What the inbox has under a number, in the latest block.
    pub(crate) async fn posted_hash(&self, number: u64) -> B256 {
        let call = BatchInbox::batchHashCall { number };
        let data = call.abi_encode().into();
        let answer = self
            .chain
            .endpoint
            .call(self.deployed.inbox, data, BlockId::latest())
            .await
            .unwrap();
        BatchInbox::batchHashCall::abi_decode_returns(&answer).unwrap()
    }

    /// How many transactions a poster's account has sent.
    pub(crate) async fn nonce(&self, account: usize) -> u64 {
        let address = key(account).address();
        let count = self.chain.endpoint.transaction_count(address, BlockId::latest());
        count.await.unwrap()
    }

    /// Waits until a poster's transaction is in the pool.
    pub(crate) async fn wait_for_pending(&self, account: usize) {
        let address = key(account).address();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let endpoint = &self.chain.endpoint;
            let pending = endpoint.transaction_count(address, BlockId::pending()).await.unwrap();
            if pending > self.nonce(account).await {
                return;
            }
            assert!(Instant::now() < deadline, "nothing is pending");
        }
    }

    /// Starts a poster with the key of a developer account and a journal in `folder`.
    pub(crate) fn poster(&self, account: usize, folder: &Path, config: PosterConfig) -> Running {
        let journal = folder.join(format!("poster-{account}"));
        let setup = PosterSetup {
            endpoints: vec![self.chain.endpoint.clone()],
            chain_id: self.deployed.chain_id,
            inbox: self.deployed.inbox,
            key: key(account),
            journal: journal.clone(),
            config,
            poll_ms: 20,
        };
        let (jobs, receiver) = mpsc::channel(8);
        let (sender, status) = watch::channel(PosterStatus::default());
        let task = tokio::spawn(poster::run(setup, receiver, sender));
        Running {
            jobs,
            status,
            task,
            journal,
        }
    }

    /// Mines until a poster's status is as wanted, a block for each of its looks.
    pub(crate) async fn mine_until(&self, poster: &mut Running, what: impl Fn(&PosterStatus) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !what(&poster.status.borrow_and_update()) {
            let status = poster.status.borrow().clone();
            assert!(Instant::now() < deadline, "{status:?}");
            assert!(!poster.task.is_finished(), "the poster ended: {status:?}");
            self.chain.mine(1).await;
            // Every look of interest changes the status; one that does not is not waited for.
            let _ = tokio::time::timeout(Duration::from_millis(100), poster.status.changed()).await;
        }
    }
}

/// A poster that runs.
pub(crate) struct Running {
    pub(crate) jobs: mpsc::Sender<PostJob>,
    pub(crate) status: watch::Receiver<PosterStatus>,
    task: JoinHandle<Result<(), PosterError>>,
    journal: PathBuf,
}

impl Running {
    /// Waits for a status without mining.
    pub(crate) async fn until(&mut self, what: impl FnMut(&PosterStatus) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, self.status.wait_for(what)).await;
        waited.unwrap().unwrap();
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        // A write that had begun goes on in its thread, which a process that dies would not have.
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = Journal::open(&self.journal) {
            assert!(Instant::now() < deadline, "{error}");
            tokio::task::yield_now().await;
        }
    }

    /// Ends it as a node that shuts down does.
    pub(crate) async fn stop(self) {
        drop(self.jobs);
        self.task.await.unwrap().unwrap();
    }
}

/// The hashes that a blob transaction with this payload has, computed apart from the poster.
fn versioned_hashes(payload: &[u8]) -> Vec<B256> {
    let settings = c_kzg::ethereum_kzg_settings(0);
    let hash = |blob: Vec<u8>| {
        let blob = c_kzg::Blob::from_bytes(&blob).unwrap();
        let commitment = settings.blob_to_kzg_commitment(&blob).unwrap();
        kzg_to_versioned_hash(commitment.to_bytes().as_slice())
    };
    blobs::pack(payload).unwrap().into_iter().map(hash).collect()
}
