//! One whole decided block, verified, from whichever node has it.
//!
//! Promises: a block that comes out is of the height asked for, its body is the one that its header names, and the
//! committee decided it. Leaves to others: whether it continues the blocks that the caller has.

use fusion_types::{DecidedBlock, Height};

use crate::node::{NodeUrl, Requests};
use crate::submit::{REQUEST_TIMEOUT, plain};
use crate::trust::Trust;

/// The decided block of `height`, from the first of the nodes at `urls` that gives one that verifies, and the index of
/// that node.
///
/// # Errors
/// What each node said, or which check its answer failed.
pub async fn block(urls: &[NodeUrl], trust: &Trust, height: Height) -> Result<(DecidedBlock, usize), String> {
    let mut failures = Vec::with_capacity(urls.len());
    for (index, url) in urls.iter().enumerate() {
        match block_of(url, trust, height).await {
            Ok(block) => return Ok((block, index)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Chain, FakeNode, Manners};
    use crate::json::BlockJson;

    #[tokio::test]
    async fn a_forged_block_is_told_and_the_next_node_is_asked() {
        let chain = Chain::new(3);
        let forgeries: [fn(&mut BlockJson); 4] = [
            |block| block.certificate.signatures[0].signature.0.0[0] ^= 1,
            |block| block.header.time_ms += 1,
            |block| block.certificate.height += 1,
            |block| drop(block.lanes.pop()),
        ];
        let honest = FakeNode::start(&chain, 3, Manners::default()).await;
        let honest = NodeUrl::parse(&honest.url).unwrap();
        for forge in forgeries {
            let manners = Manners {
                forge_block: Some(forge),
                ..Manners::default()
            };
            let liar = FakeNode::start(&chain, 3, manners).await;
            let liar = NodeUrl::parse(&liar.url).unwrap();
            let (trust, height) = (chain.trust(), Height(2));
            let told = block(std::slice::from_ref(&liar), &trust, height).await.unwrap_err();
            assert!(told.starts_with(&liar.to_string()), "{told}");
            let found = block(&[liar, honest.clone()], &trust, height).await.unwrap().0;
            assert_eq!(
                (found.block.block(), &found.certificate),
                (&chain.blocks[1].0, &chain.blocks[1].1)
            );
        }
    }

    #[tokio::test]
    async fn a_true_block_of_another_height_is_refused() {
        let chain = Chain::new(3);
        let other: fn(&mut BlockJson) = |json| {
            let (block, certificate) = Chain::new(3).blocks.remove(0);
            *json = BlockJson::from(&DecidedBlock {
                block: std::sync::Arc::new(fusion_types::SealedBlock::new(&block).unwrap()),
                certificate,
            });
        };
        let manners = Manners {
            forge_block: Some(other),
            ..Manners::default()
        };
        let node = FakeNode::start(&chain, 3, manners).await;
        let url = NodeUrl::parse(&node.url).unwrap();
        let told = block(&[url], &chain.trust(), Height(2)).await.unwrap_err();
        assert!(told.contains("another network or height"), "{told}");
    }
}
