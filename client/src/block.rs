//! One whole decided block, verified, from whichever node has it.
//!
//! Promises: a block that comes out is of the height asked for, its body is the one that its header names, and the committee decided it.
//! Leaves to others: whether it continues the blocks that the caller has.

use fusion_types::{DecidedBlock, Height};

use crate::node::{NodeUrl, Requests};
use crate::submit::{REQUEST_TIMEOUT, plain};
use crate::trust::Trust;

/// The decided block of `height`, from the first of the nodes at `urls` that gives one that verifies.
///
/// # Errors
/// What each node said, or which check its answer failed.
pub async fn block(urls: &[NodeUrl], trust: &Trust, height: Height) -> Result<DecidedBlock, String> {
    let mut failures = Vec::with_capacity(urls.len());
    for url in urls {
        match block_of(url, trust, height).await {
            Ok(block) => return Ok(block),
            Err(reason) => failures.push(format!("{url}: {reason}")),
        }
    }
    Err(failures.join("; "))
}

async fn block_of(url: &NodeUrl, trust: &Trust, height: Height) -> Result<DecidedBlock, String> {
    let requests = Requests::new(url, REQUEST_TIMEOUT).map_err(|error| plain(&error))?;
    let answer = requests.block(height).await.map_err(|error| plain(&error))?;
    let decided = DecidedBlock::try_from(&answer).map_err(|error| error.to_string())?;
    let (header, certificate) = (decided.block.header(), &decided.certificate);
    if header.network != trust.network || header.height != height || certificate.height != height {
        return Err("the block is of another network or height".to_owned());
    }
    if certificate.block != decided.block.id() {
        return Err("the certificate is for another block".to_owned());
    }
    let verified = certificate.verify(trust.network, &trust.committee);
    verified.map_err(|error| error.to_string())?;
    Ok(decided)
}
