//! The text of a key file: plain or encrypted JSON, or bare hex.
//!
//! Encrypted: argon2id makes a key of the password, ChaCha20-Poly1305 seals the 32 secret bytes and binds kind and
//! public part. The cost parameters stand in the file and are bounded when read, so that no file can exhaust a node.

use alloy_primitives::{B256, Bytes, hex};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{KeyKind, Password, public, random};
use crate::exit::ExitError;

/// Cost of new files: 64 MiB, three passes: about 0.2 s. RFC 9106, second recommended option, with one lane.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;

/// Largest cost that is accepted from a file: 1 GiB, 16 passes, 16 lanes.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    version: u32,
    kind: String,
    public: B256,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<Encrypted>,
}

impl Drop for File {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Encrypted {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: B256,
    cipher: String,
    nonce: Bytes,
    ciphertext: Bytes,
}

/// A plain file.
pub(super) fn plain(kind: KeyKind, key: &SigningKey) -> Zeroizing<String> {
    let secret = hex::encode_prefixed(Zeroizing::new(key.to_bytes()));
    text(&File {
        version: 1,
        kind: kind.name().to_owned(),
        public: public(key),
        secret: Some(secret),
        encrypted: None,
    })
}

/// An encrypted file.
pub(super) fn seal(kind: KeyKind, key: &SigningKey, password: &Password) -> Result<Zeroizing<String>, ExitError> {
    let mut salt = B256::ZERO;
    let mut nonce = [0; 12];
    random(salt.as_mut_slice())?;
    random(&mut nonce)?;
    let mut encrypted = Encrypted {
        kdf: "argon2id".to_owned(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: 1,
        salt,
        cipher: "chacha20-poly1305".to_owned(),
        nonce: nonce.into(),
        ciphertext: Bytes::new(),
    };
    let cipher = encrypted.cipher(password).map_err(ExitError::internal)?;
    let secret = Zeroizing::new(key.to_bytes());
    let bound = bound(kind, public(key));
    let payload = Payload {
        msg: secret.as_slice(),
        aad: &bound,
    };
    let ciphertext = cipher
        .encrypt(Nonce::from_slice(&nonce), payload)
        .map_err(|_| ExitError::internal("32 bytes cannot be sealed"))?;
    encrypted.ciphertext = ciphertext.into();
    Ok(text(&File {
        version: 1,
        kind: kind.name().to_owned(),
        public: public(key),
        secret: None,
        encrypted: Some(encrypted),
    }))
}

/// The key in `text`; `password` is called only for an encrypted one.
pub(super) fn open(
    kind: KeyKind,
    text: &str,
    password: impl FnOnce() -> Result<Password, String>,
) -> Result<SigningKey, String> {
    let text = text.trim();
    if !text.starts_with('{') {
        return secret_key(text);
    }
    let file: File = serde_json::from_str(text).map_err(|error| format!("is no key file: {error}"))?;
    if file.version != 1 {
        return Err(format!("has version {}, this build reads 1", file.version));
    }
    if file.kind != kind.name() {
        return Err(format!(
            "holds a {} key where a {} key is wanted",
            file.kind,
            kind.name()
        ));
    }
    let key = match (&file.secret, &file.encrypted) {
        (Some(secret), None) => secret_key(secret)?,
        (None, Some(encrypted)) => encrypted.open(kind, file.public, &password()?)?,
        _ => return Err("must have one of secret and encrypted".to_owned()),
    };
    if public(&key) != file.public {
        return Err(format!(
            "is damaged: public is {}, the secret gives {}",
            file.public,
            public(&key)
        ));
    }
    Ok(key)
}

impl Encrypted {
    fn open(&self, kind: KeyKind, public: B256, password: &Password) -> Result<SigningKey, String> {
        if self.kdf != "argon2id" || self.cipher != "chacha20-poly1305" {
            return Err(format!(
                "is encrypted with {} and {}, which this build does not read",
                self.kdf, self.cipher
            ));
        }
        let nonce: [u8; 12] = self
            .nonce
            .as_ref()
            .try_into()
            .map_err(|_| format!("nonce has {} bytes, must be 12", self.nonce.len()))?;
        let bound = bound(kind, public);
        let payload = Payload {
            msg: &self.ciphertext,
            aad: &bound,
        };
        let secret = self
            .cipher(password)?
            .decrypt(Nonce::from_slice(&nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| "the password is wrong, or the file is damaged".to_owned())?;
        let secret = Zeroizing::new(
            <[u8; 32]>::try_from(secret.as_slice()).map_err(|_| format!("holds {} bytes, must be 32", secret.len()))?,
        );
        Ok(SigningKey::from_bytes(&secret))
    }

    fn cipher(&self, password: &Password) -> Result<ChaCha20Poly1305, String> {
        for (name, value, max) in [
            ("memoryKib", self.memory_kib, MEMORY_KIB_MAX),
            ("passes", self.passes, PASSES_MAX),
            ("lanes", self.lanes, LANES_MAX),
        ] {
            if value > max {
                return Err(format!("encrypted.{name} is {value}, limit is {max}"));
            }
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .map_err(|error| format!("encrypted: {error}"))?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), self.salt.as_slice(), key.as_mut_slice())
            .map_err(|error| format!("encrypted: {error}"))?;
        Ok(ChaCha20Poly1305::new(Key::from_slice(key.as_slice())))
    }
}

fn bound(kind: KeyKind, public: B256) -> Vec<u8> {
    [
        b"fusion/v1/keyfile/".as_slice(),
        kind.name().as_bytes(),
        b"/",
        public.as_slice(),
    ]
    .concat()
}

fn secret_key(text: &str) -> Result<SigningKey, String> {
    let mut secret = Zeroizing::new([0; 32]);
    // The text is secret: the error does not repeat it.
    hex::decode_to_slice(text.trim_start_matches("0x"), secret.as_mut_slice())
        .map_err(|_| "is neither JSON nor 64 hex digits".to_owned())?;
    Ok(SigningKey::from_bytes(&secret))
}

fn text(file: &File) -> Zeroizing<String> {
    let mut text =
        Zeroizing::new(serde_json::to_string_pretty(file).expect("text and numbers always have a JSON form"));
    text.push('\n');
    text
}
