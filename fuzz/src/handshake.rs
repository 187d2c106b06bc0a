//! The node's own file on who is at the other end, compiled from where it lies; this file stands where `network.rs`
//! does for it.

use alloy_primitives::B256;
use fusion_sequencer::network::PeerId;

#[path = "../../sequencer/src/network/tls.rs"]
#[expect(dead_code, reason = "the rest of the file is the network's")]
mod tls;

/// The key in what a peer presents as its certificate.
pub fn peer_key(data: &[u8]) {
    let of = |bytes: &[u8]| tls::peer_of(&rustls::pki_types::CertificateDer::from(bytes));
    if let Some(peer) = of(data) {
        assert!(data.len() == 44 && data.ends_with(peer.0.as_slice()));
    }
    // Any 32 bytes behind the right prefix: the curve decides.
    if let Some(key) = data.first_chunk::<32>() {
        let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let found = of(&[prefix.as_slice(), key].concat());
        assert!(found.is_none_or(|peer| peer.0 == B256::from(key)));
    }
}
