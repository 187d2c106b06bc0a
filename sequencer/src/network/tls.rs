//! Who is at the other end: TLS 1.3 with ed25519 raw public keys (RFC 7250), both ways.
//!
//! Promises that a finished handshake proves the peer key of both ends and that both speak the same
//! version of the protocol on the same network (by ALPN). No certificates, no names, no resumption and
//! no early data. Leaves it to the mesh to decide what a key may do.

use std::sync::Arc;

use alloy_primitives::B256;
use ed25519_dalek::{SigningKey, VerifyingKey};
use fusion_types::NetworkId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
};

use super::PeerId;

/// What stands before the 32 bytes of a key in its SubjectPublicKeyInfo. RFC 8410 §4.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the 32 bytes of a seed in PKCS #8. RFC 8410 §7.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Protocol name of a network: a node of another network or version fails the handshake.
pub(super) fn alpn(network: NetworkId) -> Vec<u8> {
    let mut name = b"fusion/1/".to_vec();
    for byte in &network.0.as_slice()[..4] {
        name.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    name
}

/// The key of a peer, from what it presented as its certificate. `None` if that is no usable ed25519 key.
pub(super) fn peer_of(certificate: &CertificateDer<'_>) -> Option<PeerId> {
    let key: [u8; 32] = certificate.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?;
    let usable = VerifyingKey::from_bytes(&key).is_ok_and(|key| !key.is_weak());
    usable.then_some(PeerId(B256::from(key)))
}

/// Both TLS configurations of one node.
#[derive(Debug)]
pub(super) struct Identity {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    alpn: Vec<u8>,
}

impl Identity {
    /// The identity of the node with `key` on `network`.
    pub(super) fn new(key: &SigningKey, network: NetworkId) -> Result<Self, Error> {
        let pkcs8 = zeroize::Zeroizing::new([PKCS8_PREFIX.as_slice(), key.as_bytes()].concat());
        let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))?;
        let public = [SPKI_PREFIX.as_slice(), key.verifying_key().as_bytes()].concat();
        Ok(Self {
            provider: Arc::new(ring::default_provider()),
            key: Arc::new(CertifiedKey::new(vec![CertificateDer::from(public)], signer)),
            alpn: alpn(network),
        })
    }

    /// For answering: any peer with a key.
    pub(super) fn server(&self) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(self.verifier(None)))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![self.alpn.clone()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// For dialing: nobody but `expected`.
    pub(super) fn client(&self, expected: PeerId) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier(Some(expected))))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![self.alpn.clone()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.enable_early_data = false;
        Ok(config)
    }

    fn verifier(&self, expected: Option<PeerId>) -> Verifier {
        Verifier {
            provider: self.provider.clone(),
            expected,
        }
    }
}

/// Checks the other end's key, and that it holds it.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    expected: Option<PeerId>,
}

impl Verifier {
    fn check_key(&self, presented: &CertificateDer<'_>) -> Result<(), Error> {
        let peer = peer_of(presented).ok_or(CertificateError::BadEncoding)?;
        if self.expected.is_some_and(|expected| expected != peer) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(())
    }

    fn check_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(presented.as_ref()),
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_key(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_key(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_names_the_network() {
        let network = NetworkId(B256::repeat_byte(0xab));
        assert_eq!(alpn(network), b"fusion/1/abababab");
    }

    #[test]
    fn only_an_ed25519_key_names_a_peer() {
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let spki = |key: &[u8]| CertificateDer::from([SPKI_PREFIX.as_slice(), key].concat());
        assert_eq!(peer_of(&spki(&key)), Some(PeerId(B256::from(key))));
        assert_eq!(peer_of(&spki(&key[..31])), None);
        assert_eq!(peer_of(&CertificateDer::from(key.to_vec())), None);
        // The neutral element: everybody could sign for it.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(peer_of(&spki(&neutral)), None);
    }
}
