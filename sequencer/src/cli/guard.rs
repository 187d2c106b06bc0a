//! `fusion guard`: the one command that repairs a missing or damaged sign guard.

use clap::Subcommand;
use fusion_settlement::guard::GuardFile;
use fusion_types::{BatchDomain, Height};

use super::{Location, genesis, print};
use crate::exit::{Exit, ExitError};
use crate::keys::Keys;
use crate::node;

const INIT_HELP: &str = "\
The sign guard remembers what this key signed last, so that it never signs two things for one place, even after a crash.
A validator does not start without it. Make a new one only when the old one is lost or damaged for good, and only if no
other node runs with this key. A file that cannot be read, or is of another key or network, is moved aside; a good one is never replaced. --at-height is the highest height that the key may have signed: the network's height
now, read from another node (`fusion status --url …`), plus 1. The key signs nothing at or below it, so a new network
whose members all say 1 never decides its first block: a new key on a new network says 0.

Examples:
  fusion guard init --home /var/lib/fusion --at-height 0 --i-understand         a new key, a new network
  fusion guard init --home /var/lib/fusion --at-height 120042 --i-understand    the guard was lost";

const ATTESTATIONS_HELP: &str = "\
The guard of the attestation key remembers which batches it signed, so that it never signs two for one number: that costs
the member its bond. Without it a node orders and signs no batches. Make a new one only when the old one is lost for good, and only
if no other node runs with this key. --from-batch is one more than the highest number that the key may have signed.

Examples:
  fusion guard init-attestations --home /var/lib/fusion --from-batch 0 --i-understand      a new key
  fusion guard init-attestations --home /var/lib/fusion --from-batch 4711 --i-understand   the guard was lost";

#[derive(Debug, Subcommand)]
pub(super) enum GuardCommand {
    /// Make a sign guard where there is none that can be used.
    #[command(after_help = INIT_HELP)]
    Init {
        #[command(flatten)]
        location: Location,
        /// Highest height that this key may have signed.
        #[arg(long, value_name = "H")]
        at_height: u64,
        /// Nothing else runs with this key, and the height is right.
        #[arg(long)]
        i_understand: bool,
    },
    /// Make the guard of the attestation key where there is none.
    #[command(after_help = ATTESTATIONS_HELP)]
    InitAttestations {
        #[command(flatten)]
        location: Location,
        /// Lowest batch that this key may sign.
        #[arg(long, value_name = "N")]
        from_batch: u64,
        /// Nothing else runs with this key, and the number is right.
        #[arg(long)]
        i_understand: bool,
    },
}

pub(super) fn run(command: &GuardCommand) -> Result<(), ExitError> {
    match command {
        GuardCommand::Init {
            location,
            at_height,
            i_understand,
        } => init(location, *at_height, understood(*i_understand, "init")?),
        GuardCommand::InitAttestations {
            location,
            from_batch,
            i_understand,
        } => init_attestations(location, *from_batch, understood(*i_understand, "init-attestations")?),
    }
}

/// That somebody knows what a guard that is too low does.
struct Understood;

fn understood(said: bool, command: &str) -> Result<Understood, ExitError> {
    if said {
        return Ok(Understood);
    }
    Err(ExitError::new(
        Exit::Usage,
        format_args!(
            "a guard that is too low lets this key sign twice; read `fusion guard {command} --help`, then add --i-understand"
        ),
    ))
}

fn init_attestations(location: &Location, from_batch: u64, _: Understood) -> Result<(), ExitError> {
    let mut config = location.load()?;
    let (_, genesis) = genesis::read_into(&mut config)?;
    let rules = genesis
        .settlement()
        .ok_or_else(|| ExitError::config("node.genesis: this network does not settle, so nobody signs batches"))?;
    let inbox = config.settlement.inbox.parse();
    let domain = BatchDomain {
        chain_id: rules.l1_chain_id,
        inbox: inbox.map_err(|error| ExitError::config(format_args!("settlement.inbox: {error}")))?,
    };
    let path = config.storage.guard_dir.join(node::GUARD_FILE);
    GuardFile::create(&path, domain.separator(), from_batch).map_err(ExitError::config)?;
    print(&format!(
        "guard of the attestation key written to {}: it signs no batch below {from_batch}",
        path.display()
    ))
}

fn init(location: &Location, at_height: u64, _: Understood) -> Result<(), ExitError> {
    let mut config = location.load()?;
    let (_, genesis) = genesis::read_into(&mut config)?;
    let keys = Keys::load(&config)?;
    let Some(validator) = keys.validator() else {
        return Err(ExitError::config(
            "node.role: this node is a follower; only a consensus key has a sign guard",
        ));
    };
    let moved = node::create_guard(&config, &genesis, validator, Height(at_height))?;
    if let Some(moved) = moved {
        print(&format!(
            "the sign guard that was there is of no use to this key and network; it is now {}",
            moved.display()
        ))?;
    }
    print(&format!(
        "sign guard of {validator} written to {}: it signs nothing at or below height {at_height}",
        config.storage.guard_dir.display()
    ))
}
