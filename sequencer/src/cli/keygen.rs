//! `fusion keygen`: new key files, and their public parts on stdout.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::print_json;
use crate::exit::ExitError;
use crate::keys::{self, KeyKind, PasswordSource};

const HELP: &str = "\
Writes consensus.json and peer.json with mode 0600 and prints the public keys as JSON: send those to whoever
makes the genesis file. Never overwrites. Keep a copy of the consensus key offline, and never run it on two machines.

Examples:
  fusion keygen --out keys
  fusion keygen --kind peer --out keys                      for a follower
  fusion keygen --out keys --encrypt                        asks for a password
  fusion keygen --out keys --encrypt --password-file pw     takes it from a file with mode 0600";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct KeygenArgs {
    /// Which keys to make.
    #[arg(long, value_enum, default_value = "both")]
    kind: Kind,
    /// Folder to write to; made if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Encrypt the files with a password.
    #[arg(long)]
    encrypt: bool,
    /// File with the password; asked on the terminal if not given.
    #[arg(long, value_name = "FILE", requires = "encrypt")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// The key that signs votes.
    Consensus,
    /// The key that authenticates connections.
    Peer,
    /// Both: what a validator needs.
    Both,
}

impl Kind {
    const fn kinds(self) -> &'static [KeyKind] {
        match self {
            Self::Consensus => &[KeyKind::Consensus],
            Self::Peer => &[KeyKind::Peer],
            Self::Both => &[KeyKind::Consensus, KeyKind::Peer],
        }
    }
}

pub(super) fn run(args: &KeygenArgs) -> Result<(), ExitError> {
    let kinds = args.kind.kinds();
    // Look before the first write, so that a refusal leaves no half of a pair behind.
    for kind in kinds {
        let path = path(&args.out, *kind);
        if path.exists() {
            return Err(ExitError::config(format_args!(
                "{} exists and is never overwritten",
                path.display()
            )));
        }
    }
    let password = if args.encrypt {
        let mut source = PasswordSource::new(args.password_file.as_deref());
        Some(source.new_password().map_err(ExitError::config)?)
    } else {
        None
    };
    let mut public = serde_json::Map::new();
    for kind in kinds {
        let key = keys::generate()?;
        keys::write(*kind, &path(&args.out, *kind), &key, password.as_ref())?;
        public.insert(kind.name().to_owned(), keys::public(&key).to_string().into());
    }
    print_json(&public)
}

fn path(folder: &Path, kind: KeyKind) -> PathBuf {
    folder.join(format!("{}.json", kind.name()))
}
