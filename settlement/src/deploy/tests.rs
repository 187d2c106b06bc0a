//! The registration against the contracts' vectors, and a deployment on the embedded L1.

use std::path::Path;

use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{hex, keccak256};
use fusion_evm::{ServeConfig, params, serve};
use serde_json::Value;

use super::*;
use crate::l1::EndpointLimits;

fn keys(member: usize) -> MemberKeys {
    // Those of contracts/tools/protocol.mjs.
    let seed = |what: &str| keccak256(format!("fusion test {what} {member}"));
    MemberKeys {
        attestation: L1Key::from_secret(&seed("attestation")).unwrap(),
        consensus: SigningKey::from_bytes(&seed("consensus").0),
        peer: SigningKey::from_bytes(&seed("peer").0),
    }
}

#[test]
fn a_registration_has_the_keys_of_the_contracts_vectors_and_proofs_that_verify() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/vectors/settlement.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let given = &vectors["registration"];
    // The digest with the vector's BLS key: the form here has none.
    let fields = typed::Registration {
        network: text(&vectors["network"]).parse().unwrap(),
        operator: text(&given["operator"]).parse().unwrap(),
        attestation: text(&given["attestation"]).parse().unwrap(),
        consensusKey: text(&given["consensusKey"]).parse().unwrap(),
        peerKey: text(&given["peerKey"]).parse().unwrap(),
        blsKey: keccak256(hex::decode(text(&given["blsKey"])).unwrap()),
    };
    let chain_id = vectors["chainId"].as_u64().unwrap();
    let registry: Address = text(&vectors["registry"]).parse().unwrap();
    let domain = eip712_domain! { name: "Fusion", version: "1", chain_id: chain_id, verifying_contract: registry, };
    assert_eq!(fields.eip712_signing_hash(&domain).to_string(), text(&given["digest"]));

    let keys = keys(0);
    let form = registration(chain_id, registry, NetworkId(fields.network), fields.operator, &keys);
    assert_eq!(form.attestation, fields.attestation);
    assert_eq!((form.consensusKey, form.peerKey), (fields.consensusKey, fields.peerKey));
    let digest = typed::Registration {
        blsKey: B256::ZERO,
        ..fields
    };
    let digest = digest.eip712_signing_hash(&domain);
    for (key, proof) in [(&keys.consensus, &form.consensusProof), (&keys.peer, &form.peerProof)] {
        let proof = ed25519_dalek::Signature::from_slice(proof).unwrap();
        key.verifying_key().verify_strict(digest.as_slice(), &proof).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committee_of_four_is_deployed_registered_and_wired() {
    let server = serve(ServeConfig::dev()).await.unwrap();
    let endpoint = Endpoint::new(&server.url(), EndpointLimits::default()).unwrap();
    let (_, secret) = params::DEV_ACCOUNTS[0];
    let owner = L1Key::from_secret(&secret.parse().unwrap()).unwrap();
    let deployment = Deployment {
        network: NetworkId(keccak256("deploy test")),
        members: (0..4).map(keys).collect(),
        parameters: DeployParameters::devnet(),
    };
    let mut steps = Vec::new();
    let mut note = |step, of| steps.push((step, of));
    let deployed = deploy(&endpoint, &owner, &deployment, &mut note).await.unwrap();
    assert_eq!(steps, (0..=15).map(|step| (step, 15)).collect::<Vec<_>>());

    let ask = async |to: Address, data: Vec<u8>| endpoint.call(to, data.into(), BlockId::latest()).await.unwrap();
    let answer = ask(deployed.inbox, BatchInbox::presentCall {}.abi_encode()).await;
    let present = BatchInbox::presentCall::abi_decode_returns(&answer).unwrap();
    let committee_of = CommitteeRegistry::committeeOfCall {
        hash: deployed.committee,
    };
    let answer = ask(deployed.registry, committee_of.abi_encode()).await;
    let committee = CommitteeRegistry::committeeOfCall::abi_decode_returns(&answer).unwrap();
    assert_eq!((present.committee, u64::try_from(present.epoch)), (committee, Ok(0)));
    assert!(!committee.is_zero());
    let answer = ask(deployed.registry, CommitteeRegistry::inboxCall {}.abi_encode()).await;
    assert_eq!(
        CommitteeRegistry::inboxCall::abi_decode_returns(&answer).unwrap(),
        deployed.inbox
    );
    let answer = ask(deployed.inbox, BatchInbox::cursorCall {}.abi_encode()).await;
    let cursor = BatchInbox::cursorCall::abi_decode_returns(&answer).unwrap();
    assert_eq!(
        (cursor.nextNumber, u64::try_from(cursor.postedBlock)),
        (0, Ok(deployed.inbox_block))
    );
    for (at, member) in (1..).zip(&deployment.members) {
        let attestation = member.attestation.address();
        let answer = ask(
            deployed.registry,
            CommitteeRegistry::memberOfCall { attestation }.abi_encode(),
        )
        .await;
        let member = CommitteeRegistry::memberOfCall::abi_decode_returns(&answer).unwrap();
        // 2 is Active.
        assert_eq!((member.id, member.status, member.operator), (at, 2, owner.address()));
    }
    let before = BlockNumberOrTag::Number(deployed.inbox_block - 1);
    assert!(endpoint.code(deployed.inbox, before.into()).await.unwrap().is_empty());

    // Keys serve one member for ever: a refusal names the contract's error.
    let twice = Deployment {
        members: vec![keys(0), keys(0)],
        ..deployment.clone()
    };
    let error = deploy(&endpoint, &owner, &twice, &mut |_, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("KeyTaken"), "{error}");
    let nobody = Deployment {
        members: Vec::new(),
        ..deployment
    };
    let error = deploy(&endpoint, &owner, &nobody, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(error, DeployError::Members(0)), "{error}");
}
