//! The contracts of `contracts/`, as the compiler's artifacts describe them: calls, events, errors and bytecode.
//!
//! Encodes and decodes only; what speaks to L1 is [`crate::l1`]. The artifacts are written by `contracts/tools/artifacts.mjs`
//! and compared with the sources by `contracts/check`.

use std::fmt;

use alloy_sol_types::SolInterface;

pub use generated::{BatchInbox, BlsCertificateVerifier, CommitteeRegistry, EcdsaCertificateVerifier, Evidence};

#[expect(
    missing_docs,
    reason = "what an item is stands in the contract that it is generated from"
)]
#[expect(
    clippy::too_many_arguments,
    reason = "the contracts' events have as many fields as they need"
)]
mod generated {
    use alloy_sol_types::sol;

    sol!(
        #[sol(all_derives)]
        BatchInbox,
        "contracts/artifacts/BatchInbox.json"
    );
    sol!(
        #[sol(all_derives)]
        BlsCertificateVerifier,
        "contracts/artifacts/BlsCertificateVerifier.json"
    );
    sol!(
        #[sol(all_derives)]
        CommitteeRegistry,
        "contracts/artifacts/CommitteeRegistry.json"
    );
    sol!(
        #[sol(all_derives)]
        EcdsaCertificateVerifier,
        "contracts/artifacts/EcdsaCertificateVerifier.json"
    );
    sol!(
        #[sol(all_derives)]
        Evidence,
        "contracts/artifacts/Evidence.json"
    );
}

/// An error that one of the contracts reverted with. The verifiers' come through the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContractError {
    /// The inbox's.
    Inbox(BatchInbox::BatchInboxErrors),
    /// The verifier's of scheme 1.
    Ecdsa(EcdsaCertificateVerifier::EcdsaCertificateVerifierErrors),
    /// The verifier's of scheme 2.
    Bls(BlsCertificateVerifier::BlsCertificateVerifierErrors),
    /// The registry's.
    Registry(CommitteeRegistry::CommitteeRegistryErrors),
    /// The evidence contract's.
    Evidence(Evidence::EvidenceErrors),
}

impl ContractError {
    /// Reads what a call reverted with; none where no contract of ours says so. An error that several contracts have is
    /// taken for the first's in the order above.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let inbox = || BatchInbox::BatchInboxErrors::abi_decode(data).ok().map(Self::Inbox);
        let ecdsa = || {
            let error = EcdsaCertificateVerifier::EcdsaCertificateVerifierErrors::abi_decode(data);
            error.ok().map(Self::Ecdsa)
        };
        let bls = || {
            let error = BlsCertificateVerifier::BlsCertificateVerifierErrors::abi_decode(data);
            error.ok().map(Self::Bls)
        };
        let registry = || {
            let error = CommitteeRegistry::CommitteeRegistryErrors::abi_decode(data);
            error.ok().map(Self::Registry)
        };
        let evidence = || Evidence::EvidenceErrors::abi_decode(data).ok().map(Self::Evidence);
        inbox().or_else(ecdsa).or_else(bls).or_else(registry).or_else(evidence)
    }
}

impl fmt::Display for ContractError {
    /// The error's name and arguments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbox(error) => write!(f, "{error:?}"),
            Self::Ecdsa(error) => write!(f, "{error:?}"),
            Self::Bls(error) => write!(f, "{error:?}"),
            Self::Registry(error) => write!(f, "{error:?}"),
            Self::Evidence(error) => write!(f, "{error:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_sol_types::SolError;
    use proptest::prelude::*;

    #[test]
    fn an_error_is_told_by_the_contract_that_has_it() {
        let posted = BatchInbox::AlreadyPosted { number: 7 };
        let error = ContractError::decode(&posted.abi_encode()).unwrap();
        assert_eq!(
            error,
            ContractError::Inbox(BatchInbox::BatchInboxErrors::AlreadyPosted(posted))
        );
        assert!(error.to_string().contains("AlreadyPosted"), "{error}");
        assert!(error.to_string().contains('7'), "{error}");
        let unsigned = EcdsaCertificateVerifier::BadSignature {
            index: alloy_primitives::U256::from(2),
        };
        assert!(matches!(
            ContractError::decode(&unsigned.abi_encode()),
            Some(ContractError::Ecdsa(_))
        ));
        assert_eq!(ContractError::decode(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
            ContractError::decode(&data);
        }
    }
}
