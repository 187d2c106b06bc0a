//! A new network's contracts on L1: deployed, its first committee registered, approved and installed, and all wired.
//!
//! For networks that one owner begins: it holds every member's keys for a moment, is the operator of all members and pays their bonds.
//! Promises that what it returns is wired and knows the committee. Leaves to others: doing it twice (a second run deploys a
//! second set), members who register by themselves, and handing the ownership on.

mod owner;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolConstructor, SolStruct, eip712_domain};
use ed25519_dalek::{Signer, SigningKey};
use fusion_types::NetworkId;

use crate::contracts::{BatchInbox, BlsCertificateVerifier, CommitteeRegistry, EcdsaCertificateVerifier, Evidence};
use crate::l1::{Endpoint, EndpointError, L1Key};
use owner::{Owner, Request};

/// Signature scheme of the first committee: packed ECDSA.
const SCHEME: u8 = 1;

/// Members of an ECDSA committee, at most. Source: the contracts' README (size of code).
pub const MEMBERS_MAX: usize = 128;

/// The keys of a member, all secret: each proves that it belongs to the registration.
#[derive(Debug, Clone)]
pub struct MemberKeys {
    /// Signs batches, on secp256k1.
    pub attestation: L1Key,
    /// Signs votes and proposals.
    pub consensus: SigningKey,
    /// Authenticates connections.
    pub peer: SigningKey,
}

/// What a deployment decides for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeployParameters {
    /// Least bond of a member, and what each of the first ones gets, in wei.
    pub bond_wei: U256,
    /// Seconds from when an exit took effect to when its bond is free.
    pub unbonding_s: u64,
    /// Seconds between the announcement of the permissionless mode and its start.
    pub switch_delay_s: u64,
    /// L1 blocks for which evidence counts; shorter than the unbonding.
    pub evidence_blocks: u64,
    /// L1 blocks after which a forced transaction is due.
    pub forced_blocks: u64,
    /// L1 blocks without a batch after which L1 goes on alone.
    pub escape_blocks: u64,
    /// Wei for a forced transaction while the queue is short.
    pub forced_fee_wei: U256,
    /// Who may hold posting up for a while; none: the owner.
    pub guardian: Option<Address>,
    /// Who gets the fees of forced transactions; none: the owner.
    pub treasury: Option<Address>,
}

impl DeployParameters {
    /// For developers: bonds of 1 ether for 14 days, evidence for 7, forced transactions due after 10 minutes of L1, L1
    /// alone after a day, fees of 0.001 ether.
    pub fn devnet() -> Self {
        let finney = U256::from(1_000_000_000_000_000_u64);
        Self {
            bond_wei: finney * U256::from(1000),
            unbonding_s: 14 * 24 * 3600,
            switch_delay_s: 7 * 24 * 3600,
            evidence_blocks: 7 * 7200,
            forced_blocks: 50,
            escape_blocks: 7200,
            forced_fee_wei: finney,
            guardian: None,
            treasury: None,
        }
    }
}

/// What to deploy.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The network that settles there.
    pub network: NetworkId,
    /// The committee of epoch 0, in the order of its ids.
    pub members: Vec<MemberKeys>,
    /// The rest.
    pub parameters: DeployParameters,
}

/// What was deployed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Checks certificates of scheme 1.
    pub ecdsa_verifier: Address,
    /// Checks certificates of scheme 2.
    pub bls_verifier: Address,
    /// Holds members and committees.
    pub registry: Address,
    /// Takes batches.
    pub inbox: Address,
    /// Slashes.
    pub evidence: Address,
    /// Hash of the committee of epoch 0.
    pub committee: B256,
    /// The block that the inbox is from: nobody need look for its events before.
    pub inbox_block: u64,
}

/// Why nothing, or not all, was deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// No committee, or one that no contract holds.
    #[error("a committee has 1 to {MEMBERS_MAX} members, not {0}")]
    Members(usize),
    /// The node's. Where a contract refuses, its error is in it.
    #[error("{step}: {error}{}", .error.contract_error().map(|error| format!(" ({error})")).unwrap_or_default())]
    Endpoint {
        /// What was being done.
        step: &'static str,
        /// Its error.
        error: EndpointError,
    },
    /// It was mined and failed.
    #[error("{step}: transaction {hash} failed in block {block}")]
    Failed {
        /// What was being done.
        step: &'static str,
        /// The transaction.
        hash: B256,
        /// Where.
        block: u64,
    },
    /// It was not mined.
    #[error("{step}: transaction {hash} is in no block after {seconds} s")]
    Late {
        /// What was being done.
        step: &'static str,
        /// The transaction.
        hash: B256,
        /// How long was waited.
        seconds: u64,
    },
    /// The node's answer makes no sense.
    #[error("{step}: {why}")]
    Inconsistent {
        /// What was being done.
        step: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// Deploys everything. `progress` is told how many of how many transactions are mined, first that none is.
///
/// # Errors
/// [`DeployError`]; what was mined before stays.
pub async fn deploy(
    endpoint: &Endpoint,
    key: &L1Key,
    deployment: &Deployment,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Deployed, DeployError> {
    let members = deployment.members.len();
    if members == 0 || members > MEMBERS_MAX {
        return Err(DeployError::Members(members));
    }
    let parameters = &deployment.parameters;
    // Five contracts, an installation, the wiring, and two transactions for each member.
    let mut owner = Owner::start(endpoint, key, 7 + 2 * members, progress).await?;

    let codes = [&EcdsaCertificateVerifier::BYTECODE, &BlsCertificateVerifier::BYTECODE];
    let verifiers = codes.map(|code| Request::create(code, &[]));
    let verifiers = owner.deploy("deploying the verifiers", verifiers.to_vec()).await?;
    let constructor = CommitteeRegistry::constructorCall {
        network_: deployment.network.0,
        owner_: key.address(),
        bondMin_: parameters.bond_wei,
        unbonding_: parameters.unbonding_s,
        switchDelay_: parameters.switch_delay_s,
        verifiers: verifiers.iter().map(|created| created.address).collect(),
    };
    let registry = Request::create(&CommitteeRegistry::BYTECODE, &constructor.abi_encode());
    let registry = owner.deploy("deploying the registry", vec![registry]).await?[0].address;

    let committee = found_committee(&mut owner, registry, deployment).await?;
    let inbox = BatchInbox::constructorCall {
        registry_: registry,
        parameters: inbox_parameters(parameters, committee, key.address()),
    };
    let inbox = Request::create(&BatchInbox::BYTECODE, &inbox.abi_encode());
    let inbox = owner.deploy("deploying the inbox", vec![inbox]).await?[0];
    let evidence = Evidence::constructorCall {
        registry_: registry,
        inbox_: inbox.address,
        windowBlocks_: parameters.evidence_blocks,
    };
    let evidence = Request::create(&Evidence::BYTECODE, &evidence.abi_encode());
    let evidence = owner.deploy("deploying the evidence contract", vec![evidence]).await?[0].address;
    let wire = CommitteeRegistry::wireCall {
        inbox_: inbox.address,
        evidence_: evidence,
    };
    owner
        .send("wiring the registry", vec![Request::call(registry, &wire.abi_encode())])
        .await?;
    Ok(Deployed {
        chain_id: owner.chain_id(),
        ecdsa_verifier: verifiers[0].address,
        bls_verifier: verifiers[1].address,
        registry,
        inbox: inbox.address,
        evidence,
        committee,
        inbox_block: inbox.block,
    })
}

/// Sends so many wei to each of these accounts.
///
/// # Errors
/// [`DeployError`]; what was mined before stays.
pub async fn fund(endpoint: &Endpoint, key: &L1Key, accounts: &[Address], wei: U256) -> Result<(), DeployError> {
    let progress = &mut |_: usize, _: usize| {};
    let mut owner = Owner::start(endpoint, key, accounts.len(), progress).await?;
    let payments = accounts
        .iter()
        .map(|account| Request::call(*account, &[]).with_value(wei));
    owner.send("filling the posters' accounts", payments.collect()).await
}

/// Registers and approves the members and installs them as the committee of epoch 0. Returns its hash.
async fn found_committee(
    owner: &mut Owner<'_>,
    registry: Address,
    deployment: &Deployment,
) -> Result<B256, DeployError> {
    let register = |member: &MemberKeys| {
        let form = registration(owner.chain_id(), registry, deployment.network, owner.address(), member);
        let call = CommitteeRegistry::registerCall { form };
        Request::call(registry, &call.abi_encode()).with_value(deployment.parameters.bond_wei)
    };
    let registrations = deployment.members.iter().map(register).collect();
    owner.send("registering the members", registrations).await?;

    let approve = |member: &MemberKeys| {
        let attestation = member.attestation.address();
        let call = CommitteeRegistry::approveCall { attestation };
        Request::call(registry, &call.abi_encode())
    };
    let approvals = deployment.members.iter().map(approve).collect();
    owner.send("approving the members", approvals).await?;

    let members = deployment.members.iter().map(|member| member.attestation.address());
    let roster: Vec<u8> = members.flat_map(|address| address.0.0).collect();
    let install = CommitteeRegistry::installCall {
        epoch: 0,
        scheme: SCHEME,
        roster: roster.clone().into(),
    };
    let step = "installing the committee";
    owner
        .send(step, vec![Request::call(registry, &install.abi_encode())])
        .await?;
    let question = CommitteeRegistry::committeeHashCall {
        epoch: 0,
        scheme: SCHEME,
        roster: roster.into(),
    };
    let answer = owner
        .endpoint()
        .call(registry, question.abi_encode().into(), BlockId::latest());
    let answer = answer.await.map_err(|error| DeployError::Endpoint { step, error })?;
    let hash = CommitteeRegistry::committeeHashCall::abi_decode_returns(&answer);
    hash.map_err(|error| DeployError::Inconsistent {
        step,
        why: error.to_string(),
    })
}

fn inbox_parameters(parameters: &DeployParameters, committee: B256, owner: Address) -> BatchInbox::Parameters {
    BatchInbox::Parameters {
        committee,
        genesisEpoch: 0,
        guardian: parameters.guardian.unwrap_or(owner),
        treasury: parameters.treasury.unwrap_or(owner),
        forcedBlocks: parameters.forced_blocks,
        escapeBlocks: parameters.escape_blocks,
        forcedFee: parameters.forced_fee_wei,
    }
}

mod typed {
    //! What all keys of a registration sign, as EIP-712 has it. The contract's own struct of this name has other fields.

    alloy_sol_types::sol! {
        struct Registration {
            bytes32 network;
            address operator;
            address attestation;
            bytes32 consensusKey;
            bytes32 peerKey;
            bytes32 blsKey;
        }
    }
}

/// The form that `register` takes for a member without a BLS key, signed by its other keys.
fn registration(
    chain_id: u64,
    registry: Address,
    network: NetworkId,
    operator: Address,
    member: &MemberKeys,
) -> CommitteeRegistry::Registration {
    let consensus_key = B256::from(member.consensus.verifying_key().to_bytes());
    let peer_key = B256::from(member.peer.verifying_key().to_bytes());
    let attestation = member.attestation.address();
    let fields = typed::Registration {
        network: network.0,
        operator,
        attestation,
        consensusKey: consensus_key,
        peerKey: peer_key,
        blsKey: B256::ZERO,
    };
    let domain = eip712_domain! {
        name: "Fusion",
        version: "1",
        chain_id: chain_id,
        verifying_contract: registry,
    };
    let digest = fields.eip712_signing_hash(&domain);
    let proof = |key: &SigningKey| Bytes::from(key.sign(digest.as_slice()).to_bytes());
    // EIP-2098: s with the parity in its first bit.
    let signature = member.attestation.sign(&digest).as_erc2098();
    CommitteeRegistry::Registration {
        attestation,
        consensusKey: consensus_key,
        peerKey: peer_key,
        blsKey: Bytes::new(),
        r: B256::from_slice(&signature[..32]),
        vs: B256::from_slice(&signature[32..]),
        blsProof: Bytes::new(),
        consensusProof: proof(&member.consensus),
        peerProof: proof(&member.peer),
    }
}

#[cfg(test)]
mod tests;
