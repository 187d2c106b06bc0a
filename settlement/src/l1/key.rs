//! A secp256k1 key of L1, from a file that nobody else can read.
//!
//! Two forms: 64 hex digits, with or without `0x`; or a JSON keystore as geth writes it (version 3) with its password. Promises that a
//! file which others may read is refused, and that no error and no `Debug` shows a key.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, Signature};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use serde_json::Value;

/// Bytes of a key's file or of a password's: a keystore has 500.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Memory that opening a keystore may take, in bytes: four times what geth's standard parameters take (n = 2^18, r = 8).
const SCRYPT_BYTES_MAX: u64 = 1 << 30;

/// Rounds of PBKDF2 in a keystore; Ethereum's tools write 262,144.
const PBKDF2_ROUNDS_MAX: u64 = 1 << 24;

/// Where the password of a keystore is.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// There is none: the file is hex.
    None,
    /// The first line of a file.
    File(PathBuf),
    /// The value of an environment variable with this name.
    Variable(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no password"),
            Self::File(path) => write!(f, "password in {}", path.display()),
            Self::Variable(name) => write!(f, "password in ${name}"),
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system's.
    #[error("cannot read {path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        error: std::io::Error,
    },
    /// Others may read it.
    #[error("{path} has mode {mode:03o}: nobody but its owner may read it (chmod 600)", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is more than a key.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes, which is no key", path = path.display())]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// Neither form.
    #[error("{path} holds neither 64 hex digits nor a keystore of version 3: {why}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A keystore without a password.
    #[error("{path} is a keystore and needs a password, from a file or an environment variable", path = path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The variable is not set.
    #[error("the password of {path} is to be in ${variable}, which is not set", path = path.display())]
    Unset {
        /// The keystore.
        path: PathBuf,
        /// The name.
        variable: String,
    },
    /// Not this keystore's password.
    #[error("the password does not open {path}", path = path.display())]
    WrongPassword {
        /// The keystore.
        path: PathBuf,
    },
}

/// A key that signs for an account of L1.
#[derive(Clone)]
pub struct L1Key(PrivateKeySigner);

impl fmt::Debug for L1Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L1Key({})", self.address())
    }
}

impl L1Key {
    /// Reads a key. Opening a keystore takes a second of computing.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path, password: &Password) -> Result<Self, KeyError> {
        let text = read_private(path)?;
        let text = text.trim();
        let signer = if text.starts_with('{') {
            open_keystore(path, text, password)?
        } else {
            let malformed = |why: &str| KeyError::Malformed {
                path: path.to_owned(),
                why: why.to_owned(),
            };
            let secret: B256 = text.parse().map_err(|_| malformed("it is neither hex nor JSON"))?;
            PrivateKeySigner::from_bytes(&secret).map_err(|_| malformed("the number is no key of the curve"))?
        };
        Ok(Self(signer))
    }

    /// The key of a secret; none where the number is no key of the curve.
    pub fn from_secret(secret: &B256) -> Option<Self> {
        PrivateKeySigner::from_bytes(secret).ok().map(Self)
    }

    /// The account.
    pub const fn address(&self) -> Address {
        self.0.address()
    }

    /// Signs 32 bytes as they are: the caller hashes, and says what for.
    ///
    /// # Panics
    /// Never: a key of the curve signs any hash.
    pub fn sign(&self, hash: &B256) -> Signature {
        let signature = self.0.sign_hash_sync(hash);
        signature.expect("a key of the curve signs any 32 bytes")
    }
}

/// The text of a file that only its owner can read.
fn read_private(path: &Path) -> Result<String, KeyError> {
    let failed = |error| KeyError::Io {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(failed)?;
    // Of the file that is open: the name may mean another a moment later.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(KeyError::Open { path, mode });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(KeyError::Large { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|_| KeyError::Malformed {
        path: path.to_owned(),
        why: "it is no text".to_owned(),
    })
}

fn open_keystore(path: &Path, text: &str, password: &Password) -> Result<PrivateKeySigner, KeyError> {
    if let Some(why) = unusable(text) {
        let path = path.to_owned();
        return Err(KeyError::Malformed { path, why });
    }
    let password = match password {
        Password::None => return Err(KeyError::Locked { path: path.to_owned() }),
        Password::File(file) => read_private(file)?.lines().next().unwrap_or_default().to_owned(),
        Password::Variable(variable) => std::env::var(variable).map_err(|_| KeyError::Unset {
            path: path.to_owned(),
            variable: variable.clone(),
        })?,
    };
    let opened = PrivateKeySigner::decrypt_keystore(path, password);
    opened.map_err(|_| KeyError::WrongPassword { path: path.to_owned() })
}

/// What keeps a keystore from being opened, whatever the password: another version, or parameters beyond reason, which would
/// take all memory or fail in the library.
fn unusable(text: &str) -> Option<String> {
    let Ok(keystore) = serde_json::from_str::<Value>(text) else {
        return Some("it is no JSON".to_owned());
    };
    if keystore["version"] != 3 {
        return Some(format!("version is {}, not 3", keystore["version"]));
    }
    let crypto = &keystore["crypto"];
    let number = |name: &str| crypto["kdfparams"][name].as_u64();
    if number("dklen") != Some(32) {
        return Some("dklen is not 32".to_owned());
    }
    let iv_digits = crypto["cipherparams"]["iv"].as_str().map_or(0, str::len);
    if iv_digits != 32 {
        return Some(format!("the initial vector has {iv_digits} digits, not 32"));
    }
    match (number("n"), number("r"), number("p"), number("c")) {
        (Some(n), Some(r), Some(p), None) => {
            let memory = n.saturating_mul(r).saturating_mul(p).saturating_mul(128);
            // RFC 7914: n is a power of two below 2^(16 r).
            let is_sound = n.is_power_of_two() && n > 1 && p > 0 && u64::from(n.ilog2()) < r.saturating_mul(16);
            (!is_sound || memory > SCRYPT_BYTES_MAX).then(|| format!("scrypt with n {n}, r {r}, p {p}"))
        }
        (None, None, None, Some(c)) => {
            (c == 0 || c > PBKDF2_ROUNDS_MAX).then(|| format!("{c} rounds of PBKDF2, limit is {PBKDF2_ROUNDS_MAX}"))
        }
        _ => Some("its key derivation is neither scrypt nor PBKDF2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SECRET: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    const ADDRESS: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

    /// As geth writes it but for n, which is 262144 there. The password is "testpassword".
    const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext":"3b4309355ad643f2b15cfb6a83a7f6f328e7a6459a56ab8c6e25a89c8f43eb80","kdf":"scrypt",
        "kdfparams":{"dklen":32,"n":4096,"p":1,"r":8,
        "salt":"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},
        "mac":"994d83f6bfb7e6e3aa95980f72b6ad87db9d352789d0f2e433cf777425db3a42"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    /// The same key. Source: the Web3 Secret Storage definition's test vector for PBKDF2.
    const KEYSTORE_PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
        "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
        "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    #[test]
    fn a_hex_key_is_read_with_or_without_its_prefix() {
        let folder = Folder::new();
        for text in [SECRET, &SECRET[2..], &format!("{SECRET}\n")] {
            let key = L1Key::read(&folder.file("key", text, 0o600), &Password::None).unwrap();
            assert_eq!(key.address().to_string(), ADDRESS);
            assert!(!format!("{key:?}").contains(&SECRET[4..]));
            let hash = B256::repeat_byte(7);
            let signer = key.sign(&hash).recover_address_from_prehash(&hash).unwrap();
            assert_eq!(signer, key.address());
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_its_mode() {
        let folder = Folder::new();
        for mode in [0o640, 0o604, 0o660, 0o777] {
            let error = L1Key::read(&folder.file("key", SECRET, mode), &Password::None).unwrap_err();
            assert!(error.to_string().contains(&format!("mode {mode:03o}")), "{error}");
        }
    }

    #[test]
    fn a_keystore_opens_with_its_password_only() {
        let folder = Folder::new();
        let path = folder.file("keystore", KEYSTORE, 0o600);
        let right = Password::File(folder.file("right", "testpassword\n", 0o400));
        let secret = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
        let account = L1Key::from_secret(&secret.parse().unwrap()).unwrap().address();
        assert_eq!(L1Key::read(&path, &right).unwrap().address(), account);
        let other = folder.file("pbkdf2", KEYSTORE_PBKDF2, 0o600);
        assert_eq!(L1Key::read(&other, &right).unwrap().address(), account);
        let wrong = Password::File(folder.file("wrong", "password", 0o400));
        assert!(matches!(
            L1Key::read(&path, &wrong),
            Err(KeyError::WrongPassword { .. })
        ));
        assert!(matches!(
            L1Key::read(&path, &Password::None),
            Err(KeyError::Locked { .. })
        ));
        let open = Password::File(folder.file("open", "testpassword", 0o644));
        assert!(matches!(L1Key::read(&path, &open), Err(KeyError::Open { .. })));
        let unset = Password::Variable("FUSION_TEST_NO_SUCH_VARIABLE".into());
        assert!(matches!(L1Key::read(&path, &unset), Err(KeyError::Unset { .. })));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = Folder::new();
        let large = "0".repeat(20_000);
        let zero = "0".repeat(64);
        let hungry = KEYSTORE.replace("4096", "1099511627776");
        let odd = KEYSTORE.replace("4096", "4095");
        let short = KEYSTORE.replace("\"dklen\":32", "\"dklen\":8");
        let old = KEYSTORE.replace("\"version\":3", "\"version\":1");
        // RFC 7914 allows n below 2^(16 r) only.
        let thin = KEYSTORE.replace("\"r\":8", "\"r\":1").replace("4096", "262144");
        let iv = KEYSTORE.replace("83dbcc02", "");
        for text in [
            "",
            "0x",
            &SECRET[..60],
            "key",
            "{}",
            "{",
            &large,
            &zero,
            &hungry,
            &odd,
            &short,
            &old,
            &thin,
            &iv,
        ] {
            let path = folder.file("key", text, 0o600);
            let error = L1Key::read(&path, &Password::Variable("PATH".into())).unwrap_err();
            let is_refused = matches!(error, KeyError::Malformed { .. } | KeyError::Large { .. });
            assert!(is_refused, "{error} for {text:.80}");
        }
        assert!(matches!(
            L1Key::read(&folder.0.path().join("none"), &Password::None),
            Err(KeyError::Io { .. })
        ));
    }
}
