//! The node's ed25519 keys and the files that hold them.
//!
//! A file is JSON (plain or encrypted with a password) or 64 hex digits. It must have mode 0600, 0400 or 0440
//! (a Kubernetes Secret volume with `fsGroup` gives the last); wider is refused with the command that repairs it. Keys
//! never come from the command line or the environment, are wiped from memory when dropped, and are never printed.
//! Nothing here overwrites a key, and a missing key is never made up: that would be a new identity.

use std::fmt;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use alloy_primitives::B256;
use ed25519_dalek::SigningKey;
use fusion_types::ValidatorId;
use zeroize::Zeroizing;

use crate::config::{Config, Role};
use crate::exit::ExitError;

mod envelope;
#[cfg(test)]
mod tests;

/// Largest key or password file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// What a key is for. A file of one kind is refused where the other is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Signs proposals and votes. Its public part is the [`ValidatorId`].
    Consensus,
    /// Authenticates connections.
    Peer,
}

impl KeyKind {
    /// Its name in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Peer => "peer",
        }
    }
}

/// A password; wiped when dropped.
pub type Password = Zeroizing<String>;

/// The keys that a node runs with.
pub struct Keys {
    /// Present on validators alone.
    pub consensus: Option<SigningKey>,
    /// Present on every node.
    pub peer: SigningKey,
}

impl Keys {
    /// The validator that this node is, if it is one.
    pub fn validator(&self) -> Option<ValidatorId> {
        self.consensus.as_ref().map(|key| ValidatorId(public(key)))
    }

    /// Public part of the peer key.
    pub fn peer_id(&self) -> B256 {
        public(&self.peer)
    }

    /// Reads the keys that `config` names, as its role asks.
    ///
    /// # Errors
    /// Code 78 naming the key of the configuration, the file, and what repairs it.
    pub fn load(config: &Config) -> Result<Self, ExitError> {
        let files = &config.keys;
        let votes = match config.node.role {
            Role::Follower => false,
            Role::Validator => true,
            Role::Auto => files.consensus.exists(),
        };
        let mut source = PasswordSource::new(files.password_file.as_deref());
        let mut load = |kind: KeyKind, path: &Path| {
            read(kind, path, &mut source).map_err(|problem| {
                ExitError::config(format_args!("keys.{}: {}: {problem}", kind.name(), path.display()))
            })
        };
        let consensus = if votes {
            Some(load(KeyKind::Consensus, &files.consensus)?)
        } else {
            None
        };
        let peer = load(KeyKind::Peer, &files.peer)?;
        if consensus.as_ref().is_some_and(|key| public(key) == public(&peer)) {
            return Err(ExitError::config(
                "keys.peer: is the same key as keys.consensus; each needs a key of its own (`fusion keygen --kind peer`)",
            ));
        }
        Ok(Self { consensus, peer })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("validator", &self.validator())
            .field("peer", &self.peer_id())
            .finish()
    }
}

/// The public part of a key.
pub fn public(key: &SigningKey) -> B256 {
    B256::from(key.verifying_key().to_bytes())
}

/// A new key from the system's randomness.
///
/// # Errors
/// Code 74 if the system gives none.
pub fn generate() -> Result<SigningKey, ExitError> {
    let mut seed = Zeroizing::new([0; 32]);
    random(seed.as_mut_slice())?;
    Ok(SigningKey::from_bytes(&seed))
}

fn random(bytes: &mut [u8]) -> Result<(), ExitError> {
    getrandom::fill(bytes).map_err(|error| {
        ExitError::new(
            crate::exit::Exit::Io,
            format_args!("the system gives no randomness: {error}"),
        )
    })
}

/// Writes a new key file with mode 0600, durable when this returns; encrypted if there is a password.
///
/// # Errors
/// Code 78 if the file exists, 74 if it cannot be written.
pub fn write(kind: KeyKind, path: &Path, key: &SigningKey, password: Option<&Password>) -> Result<(), ExitError> {
    let text = match password {
        Some(password) => envelope::seal(kind, key, password)?,
        None => envelope::plain(kind, key),
    };
    write_new(path, text.as_bytes(), 0o600)
}

/// Creates a file that must not exist, flushes it and its folder.
///
/// # Errors
/// Code 78 if it exists, 74 if it cannot be written.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ExitError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| ExitError::io("create", folder, &error))?;
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(ExitError::config(format_args!(
                "{} exists and is never overwritten",
                path.display()
            )));
        }
        Err(error) => return Err(ExitError::io("create", path, &error)),
    };
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::File::open(folder)?.sync_all())
        .map_err(|error| ExitError::io("write", path, &error))
}

/// Reads the key of `kind` at `path`.
///
/// # Errors
/// What is wrong with the file, and what repairs it.
pub fn read(kind: KeyKind, path: &Path, source: &mut PasswordSource<'_>) -> Result<SigningKey, String> {
    let text = read_secret(path).map_err(|problem| match problem {
        Problem::Missing => format!(
            "no such file; make it with `fusion keygen --kind {}`, or restore your copy",
            kind.name()
        ),
        Problem::Other(text) => text,
    })?;
    envelope::open(kind, &text, || source.password())
}

enum Problem {
    Missing,
    Other(String),
}

/// Reads a small file that only its owner may read.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, Problem> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Problem::Missing,
        _ => Problem::Other(format!("cannot read it: {error}")),
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Problem::Other("is not a file".to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & !0o600 != 0 && mode != 0o440 {
        return Err(Problem::Other(format!(
            "mode is {mode:04o}, must be 0600, 0400 or 0440; repair it with `chmod 600 {}`",
            path.display()
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(4097));
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Problem::Other(format!(
            "is larger than {FILE_BYTES_MAX} bytes: not a key file"
        )));
    }
    Ok(text)
}

/// Where the password of encrypted files comes from: a file, or the terminal, asked at most once.
#[derive(Debug)]
pub struct PasswordSource<'a> {
    file: Option<&'a Path>,
    asked: Option<Password>,
}

impl<'a> PasswordSource<'a> {
    /// From `file`, or from the terminal if there is none.
    pub fn new(file: Option<&'a Path>) -> Self {
        Self { file, asked: None }
    }

    /// The password.
    ///
    /// # Errors
    /// Why there is none.
    pub fn password(&mut self) -> Result<Password, String> {
        if let Some(password) = &self.asked {
            return Ok(password.clone());
        }
        let password = match self.file {
            Some(path) => from_file(path)?,
            None => ask("Password of the key files: ")?,
        };
        self.asked = Some(password.clone());
        Ok(password)
    }

    /// A password for new files: asked twice on a terminal.
    ///
    /// # Errors
    /// Why there is none.
    pub fn new_password(&mut self) -> Result<Password, String> {
        let password = self.password()?;
        if self.file.is_none() && ask("The same again: ")? != password {
            return Err("the two passwords differ".to_owned());
        }
        Ok(password)
    }
}

fn from_file(path: &Path) -> Result<Password, String> {
    let text = read_secret(path).map_err(|problem| match problem {
        Problem::Missing => format!("password file {}: no such file", path.display()),
        Problem::Other(text) => format!("password file {}: {text}", path.display()),
    })?;
    let password = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if password.is_empty() {
        return Err(format!("password file {} is empty", path.display()));
    }
    Ok(Password::new(password.to_owned()))
}

fn ask(prompt: &str) -> Result<Password, String> {
    if !std::io::stdin().is_terminal() {
        return Err(
            "the file is encrypted, keys.password_file is not set, and there is no terminal to ask on".to_owned(),
        );
    }
    let password =
        rpassword::prompt_password(prompt).map_err(|error| format!("cannot ask for the password: {error}"))?;
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    Ok(Password::new(password))
}
