//! `fusion config`: the configuration with its documentation, and a check of it as `start` would read it.

use clap::Subcommand;

use super::{Location, genesis, print, start};
use crate::config::{self, Config};
use crate::exit::{Exit, ExitError};
use crate::keys::Keys;
use crate::node;

const CHECK_HELP: &str = "\
Exit code 0 when a node would start with it; otherwise 78 and one line a problem.

Examples:
  fusion config check --home /var/lib/fusion
  fusion config check --config config.toml --only-file";

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print a configuration file with every key, its documentation, limits and default.
    #[command(after_help = "Example:\n  fusion config default > config.toml")]
    Default,
    /// Check configuration, genesis and keys as `start` does, and print what is in effect.
    #[command(after_help = CHECK_HELP)]
    Check {
        #[command(flatten)]
        location: Location,
        /// Check the file alone, not the genesis and key files that it names.
        #[arg(long)]
        only_file: bool,
    },
    /// Explain one key.
    #[command(after_help = "Example:\n  fusion config explain consensus.timeout_propose_ms")]
    Explain {
        /// The key, as section.key.
        key: String,
    },
}

pub(super) fn run(command: ConfigCommand) -> Result<(), ExitError> {
    match command {
        ConfigCommand::Default => print(config::documented(&Config::default()).trim_end()),
        ConfigCommand::Check { location, only_file } => {
            let mut config = location.load()?;
            if !only_file {
                let (_, genesis) = genesis::read_into(&mut config)?;
                let keys = Keys::load(&config)?;
                start::check_membership(&config, &keys, &genesis)?;
                if keys.validator().is_some() && !node::guard_exists(&config) {
                    return Err(ExitError::config(format_args!(
                        "storage.guard_dir: {} holds no sign guard for this validator's key; `fusion guard init --help` says how to make one",
                        config.storage.guard_dir.display()
                    )));
                }
            }
            print(config::documented(&config).trim_end())
        }
        ConfigCommand::Explain { key } => match config::explain(&key) {
            Some(text) => print(&text),
            None => Err(ExitError::new(
                Exit::Usage,
                format_args!("{key} is no key; `fusion config default` lists all"),
            )),
        },
    }
}
