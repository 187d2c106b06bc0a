//! A node's disk in the simulation: the real store on a simulated volume.

use std::path::Path;

use fusion_sequencer::core::Recovery;
use fusion_sequencer::store::{Files, Options, Recovered, StoreError};
use fusion_types::Genesis;

use crate::volume::SimVolume;

/// The home of every simulated node, on its own disk.
pub(crate) const HOME: &str = "/node";

/// Small segments, so that short histories cross many of them.
pub(crate) fn options() -> Options {
    Options {
        segment_bytes: 32 * 1024,
        recent_bytes: 0,
        ..Options::default()
    }
}

/// Opens the node's files as a start does.
pub(crate) fn try_open(volume: &SimVolume, genesis: &Genesis) -> Result<(Files, Recovered), StoreError> {
    Files::open(volume.shared(), Path::new(HOME), genesis, options())
}

/// Opens the files of a node whose disk took no damage at rest.
pub(crate) fn open(volume: &SimVolume, genesis: &Genesis) -> (Files, Recovery) {
    let (files, recovered) = try_open(volume, genesis).expect("a power cut damages nothing");
    (files, recovery(recovered))
}

/// What the core is told, as at the start of a node.
pub(crate) fn recovery(recovered: Recovered) -> Recovery {
    Recovery {
        wal_readable: recovered.remembers_all(),
        state: recovered.state,
        wal: recovered.wal.records,
        guard: recovered.guard,
        bodies: recovered.bodies,
        evidence: Vec::new(),
    }
}

/// The write-ahead log is gone, as after a lost file.
pub(crate) fn lose_wal(volume: &SimVolume) {
    for name in ["wal/even", "wal/odd"] {
        volume.remove(&Path::new(HOME).join(name));
    }
}
