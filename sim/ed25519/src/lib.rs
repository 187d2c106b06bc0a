//! Idealised signatures for the simulator: the part of `ed25519-dalek` 3 that Fusion uses, as a fast hash.
//!
//! Promises: what a key signed verifies under its public key and under no other, for no other message; the same message
//! gives the same signature. What it does not promise is secrecy: whoever knows a public key could compute signatures,
//! and the traitors of the simulator are written so that they do not. No mathematics of curves is tested with it; the
//! main workspace runs the same code with the real crate.

/// Bytes of a secret key.
pub type SecretKey = [u8; 32];

/// Why something is refused. The real crate does not say more either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureError;

impl std::fmt::Display for SignatureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("signature error")
    }
}

impl std::error::Error for SignatureError {}

/// Signs messages.
pub trait Signer<S> {
    /// The signature of `message`.
    fn sign(&self, message: &[u8]) -> S;
}

/// 64 bytes that vouch for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Any 64 bytes may be a signature.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        Self(*bytes)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; 64] {
        self.0
    }
}

/// A secret key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    secret: SecretKey,
    public: VerifyingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The key of these bytes.
    pub fn from_bytes(secret: &SecretKey) -> Self {
        let mut public = [0; 32];
        public.copy_from_slice(&mix(secret, b"public key")[..32]);
        Self {
            secret: *secret,
            public: VerifyingKey(public),
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> SecretKey {
        self.secret
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &SecretKey {
        &self.secret
    }

    /// The key that verifies its signatures.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public
    }
}

impl Signer<Signature> for SigningKey {
    fn sign(&self, message: &[u8]) -> Signature {
        Signature(mix(&self.public.0, message))
    }
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// Any 32 bytes are a key here.
    ///
    /// # Errors
    /// Never; the real crate refuses what is no point of the curve.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SignatureError> {
        Ok(Self(*bytes))
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// No key is weak here.
    pub fn is_weak(&self) -> bool {
        false
    }

    /// The point, which here is its own encoding.
    pub fn to_edwards(&self) -> Self {
        *self
    }

    /// The encoding of the point.
    pub fn compress(&self) -> Self {
        *self
    }

    /// Whether this key signed `message`.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify_strict(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        if mix(&self.0, message) == signature.0 {
            Ok(())
        } else {
            Err(SignatureError)
        }
    }
}

impl TryFrom<&[u8]> for VerifyingKey {
    type Error = SignatureError;

    fn try_from(bytes: &[u8]) -> Result<Self, SignatureError> {
        bytes.try_into().map(Self).map_err(|_| SignatureError)
    }
}

/// 64 bytes that depend on every byte of both parts: four lanes of multiply and rotate.
fn mix(key: &[u8; 32], message: &[u8]) -> [u8; 64] {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut lanes = [
        0x2545_F491_4F6C_DD1D,
        0xD1B5_4A32_D192_ED03,
        0xA24B_AED4_963E_E407,
        message.len() as u64,
    ];
    let mut absorb = |bytes: &[u8]| {
        for (at, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let lane = &mut lanes[at % 4];
            *lane = (*lane ^ u64::from_le_bytes(word)).wrapping_mul(ODD).rotate_left(29);
        }
    };
    absorb(key);
    absorb(message);
    let mut out = [0; 64];
    for (at, chunk) in out.chunks_mut(8).enumerate() {
        for lane in 0..4 {
            lanes[lane] = (lanes[lane] ^ lanes[(lane + 1) % 4].rotate_left(17))
                .wrapping_mul(ODD)
                .rotate_left(31);
        }
        chunk.copy_from_slice(&lanes[at % 4].to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_key_and_one_message() {
        let [one, two] = [SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32])];
        let mut message = vec![7; 121];
        let signature = one.sign(&message);
        assert!(one.verifying_key().verify_strict(&message, &signature).is_ok());
        assert!(two.verifying_key().verify_strict(&message, &signature).is_err());
        for at in 0..message.len() {
            message[at] ^= 1;
            assert!(
                one.verifying_key().verify_strict(&message, &signature).is_err(),
                "byte {at}"
            );
            message[at] ^= 1;
        }
        assert!(one.verifying_key().verify_strict(&message[..120], &signature).is_err());
    }
}
