//! What nodes answer to a follower, decoded, and whose fault it is where that fails.
//!
//! Leaves to others: whether a block is true (`RollupBlock::verify`), and what becomes of a node at fault
//! (`follow.rs`).

use std::time::Duration;

use fusion_types::{NetworkId, RollupBlock};
use jsonrpsee::core::client::Error as RpcError;

use crate::json::{CursorJson, ErrorData, Hash, RollupBlockJson, StreamJson, from_str};
use crate::node::{Connection, NodeUrl};
use crate::submit::plain;
use crate::trust::Trust;

/// Names of the errors by which a node says that our cursor is not on its stream.
const WRONG_HEAD: [&str; 2] = ["wrong_head", "inside_lane"];

/// Why a node is left.
#[derive(Debug)]
pub(super) enum Fault {
    Lied(String),
    Failed(String),
    /// It says that it is of this other network.
    Foreign(NetworkId),
}

/// The part of a node's status that says which network it is of.
#[derive(serde::Deserialize)]
struct NetworkOf {
    network: Hash,
}

/// Connects, and checks that the node is of the network: a follower of the wrong network would find no liar, only
/// silence.
pub(super) async fn open(url: &NodeUrl, trust: &Trust, timeout: Duration) -> Result<Connection, Fault> {
    let opened = Connection::open(url, timeout).await;
    let connection = opened.map_err(|error| Fault::Failed(plain(&error)))?;
    let status = connection.status().await.map_err(|error| fault_of(&error))?;
    // Of another version it may say more or less than we know: only its network matters here.
    let status: NetworkOf = from_str(status.get()).map_err(|error| Fault::Failed(format!("status: {error}")))?;
    let network = NetworkId(status.network.0);
    if network != trust.network {
        return Err(Fault::Foreign(network));
    }
    Ok(connection)
}

pub(super) async fn range(connection: &Connection, from: &CursorJson) -> Result<Vec<RollupBlock>, Fault> {
    let answer = connection.stream_range(from).await.map_err(|error| fault_of(&error))?;
    let stream: StreamJson =
        from_str(answer.get()).map_err(|error| Fault::Lied(format!("answer of fusion_getStream: {error}")))?;
    let blocks = stream.blocks.iter().map(RollupBlock::try_from);
    blocks
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::Lied(format!("block of the stream: {error}")))
}

pub(super) fn decode_block(text: &str) -> Result<RollupBlock, Fault> {
    let json = from_str::<RollupBlockJson>(text);
    json.and_then(|json| RollupBlock::try_from(&json))
        .map_err(|error| Fault::Lied(format!("block of the stream: {error}")))
}

/// A refused call. Our cursor is proved by certificates, so a node that finds another head there has a false history.
pub(super) fn fault_of(error: &RpcError) -> Fault {
    if let RpcError::Call(object) = error {
        let data = object.data().map_or("", |data| data.get());
        let data: Option<ErrorData> = serde_json::from_str(data).ok();
        if data.is_some_and(|data| WRONG_HEAD.contains(&data.name.as_str())) {
            return Fault::Lied(format!("refuses the cursor: {}", object.message()));
        }
    }
    Fault::Failed(plain(error))
}
