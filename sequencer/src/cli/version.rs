//! `fusion version`.

use clap::Args;
use serde_json::json;

use super::{print, print_json};
use crate::exit::ExitError;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fusion version --json")]
pub(super) struct VersionArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VersionArgs) -> Result<(), ExitError> {
    let version = env!("CARGO_PKG_VERSION");
    // The builder of a release sets FUSION_COMMIT; a build from a checkout has none.
    let commit = option_env!("FUSION_COMMIT").unwrap_or("unknown");
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if args.json {
        return print_json(&json!({ "version": version, "commit": commit, "profile": profile }));
    }
    print(&format!("fusion {version} ({commit}, {profile})"))
}
