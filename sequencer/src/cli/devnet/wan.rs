//! A devnet over a wide-area network: its table of delays and the relay's addresses, kept in `wan.json` beside the
//! genesis.
//!
//! The addresses stay for the life of the home, because the nodes' configurations name them: so a node that is started
//! by hand is behind the relay too.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::home::udp_is_free;
use crate::cli::relay::{self, Node, Relay, Setup, Shape, pairs};
use crate::cli::wan::Wan;
use crate::exit::{Exit, ExitError};
use crate::keys;

const FILE: &str = "wan.json";

/// The network between the nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Between {
    /// Regions of the nodes, and delays.
    pub(super) table: Wan,
    /// Addresses of the relay, in the order of [`pairs`].
    pub(super) links: Vec<SocketAddr>,
}

#[derive(Deserialize)]
struct File {
    table: serde_json::Value,
    links: Vec<SocketAddr>,
}

impl Between {
    /// Picks addresses for a new network: from `first_port` on if all are free there, else whatever is.
    pub(super) fn new(table: Wan, first_port: u16) -> Result<Self, ExitError> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let count = pairs(table.count()).count();
        let wanted = (first_port..=u16::MAX).take(count).map(local);
        let wanted: Vec<SocketAddr> = wanted.filter(|address| udp_is_free(*address)).collect();
        let links = if wanted.len() == count {
            Ok(wanted)
        } else {
            // All stay taken until all are known, so that none is given twice.
            let taken: std::io::Result<Vec<_>> = (0..count).map(|_| UdpSocket::bind(local(0))).collect();
            taken.and_then(|taken| taken.iter().map(UdpSocket::local_addr).collect())
        };
        let links = links.map_err(|error| ExitError::new(Exit::Unavailable, format_args!("no free port: {error}")))?;
        Ok(Self { table, links })
    }

    /// What the devnet in `home` has, if it has any.
    pub(super) fn load(home: &Path) -> Result<Option<Self>, ExitError> {
        let path = home.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(|error| ExitError::io("read", &path, &error))?;
        let wrong = |problem: String| ExitError::config(format_args!("{}: {problem}", path.display()));
        let file: File = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let table = Wan::parse(&file.table.to_string(), FILE).map_err(wrong)?;
        let (has, needs) = (file.links.len(), pairs(table.count()).count());
        if has != needs {
            return Err(wrong(format!("links has {has} addresses, it must have {needs}")));
        }
        Ok(Some(Self {
            table,
            links: file.links,
        }))
    }

    /// Keeps it in `home`.
    pub(super) fn save(&self, home: &Path) -> Result<(), ExitError> {
        let text = serde_json::to_string_pretty(self).map_err(ExitError::internal)?;
        keys::write_new(&home.join(FILE), text.as_bytes(), 0o644)
    }

    /// The relay's address at which node `from` reaches node `to`.
    pub(super) fn address(&self, from: usize, to: usize) -> Option<SocketAddr> {
        let place = pairs(self.table.count()).position(|pair| pair == (from, to));
        place.map(|place| self.links[place])
    }

    /// Starts the relay between `nodes`.
    pub(super) fn start(&self, nodes: Vec<Node>) -> Result<Relay, ExitError> {
        Relay::start(Setup {
            nodes,
            listen: self.links.clone(),
            delays_ms: self.table.one_way_ms.clone(),
            shape: Shape::delaying(0.0),
            control: Some((Ipv4Addr::LOCALHOST, 0).into()),
            datagram_bytes_max: relay::DATAGRAM_BYTES_MAX,
            seed: 1,
        })
    }
}

/// Refuses `--wan` where the home has another network, and a count of nodes that the table does not have.
pub(super) fn check(
    home: &Path,
    has: Option<&Between>,
    wanted: Option<&Wan>,
    nodes: Option<u16>,
) -> Result<(), ExitError> {
    let usage = |message: String| Err(ExitError::new(Exit::Usage, message));
    let Some(wanted) = wanted else { return Ok(()) };
    if let Some(nodes) = nodes.filter(|nodes| usize::from(*nodes) != wanted.count()) {
        let (name, regions) = (&wanted.name, wanted.count());
        return usage(format!(
            "--nodes is {nodes}, {name} has {regions} regions with a node each; leave out --nodes"
        ));
    }
    match has {
        Some(has) if has.table == *wanted => Ok(()),
        Some(has) => usage(format!(
            "{} has the network {} already; leave out --wan",
            home.display(),
            has.table.name
        )),
        None => usage(format!("{} was made without --wan; take a new folder", home.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_kept_with_its_addresses_and_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Between::load(folder.path()).unwrap(), None);
        let table = Wan::find("4-eu-us").unwrap();
        let between = Between::new(table, u16::MAX).unwrap();
        between.save(folder.path()).unwrap();
        let loaded = Between::load(folder.path()).unwrap();
        assert_eq!(loaded.as_ref(), Some(&between));
        assert_eq!(
            (between.links.len(), between.address(1, 0)),
            (12, Some(between.links[3]))
        );
        let refused = |has, wanted: &str, nodes| {
            let wanted = Wan::find(wanted).unwrap();
            check(folder.path(), has, Some(&wanted), nodes).map_err(|error| error.message)
        };
        assert_eq!(refused(loaded.as_ref(), "4-eu-us", Some(4)), Ok(()));
        assert!(
            refused(loaded.as_ref(), "4-global", None)
                .unwrap_err()
                .contains("has the network 4-eu-us already")
        );
        assert!(refused(None, "4-global", None).unwrap_err().contains("without --wan"));
        assert!(
            refused(None, "7-global", Some(4))
                .unwrap_err()
                .contains("--nodes is 4, 7-global has 7 regions")
        );
    }
}
