//! The rungs above final: which batch on L1 has a transaction, and the proof of it.

use std::sync::Arc;

use fusion_client::json::{Account, Hash, L1PlaceJson, PostedJson, ReceiptStatus};
use fusion_settlement::batcher::Contents;
use fusion_settlement::records::Record;
use fusion_types::{BatchDomain, Receipt, SealedBlock};

use super::Rpc;
use super::errors;
use super::methods::{Answer, heavy};

/// Where the block of `receipt` stands on L1, as far as this node knows: nothing if it does not settle, or the block is not
/// posted yet.
pub(super) async fn posted(rpc: &Rpc, receipt: &Receipt) -> Answer<Option<(ReceiptStatus, PostedJson)>> {
    let Some(settling) = rpc.handle().settlement.borrow().clone() else {
        return Ok(None);
    };
    let height = receipt.header.height;
    let view = settling.view.borrow().clone();
    let (status, record) = if height <= view.settled {
        (ReceiptStatus::Settled, settling.records.at_height(height))
    } else {
        let of_height = |record: &&Record| record.batch.first_height <= height && height <= record.batch.last_height;
        (ReceiptStatus::Posted, view.posts.iter().find(of_height).cloned())
    };
    let Some(record) = record else { return Ok(None) };
    let _turn = heavy(rpc).await?;
    let (rollup, sequence) = (receipt.lane.rollup, receipt.sequence);
    let (first, last) = (record.batch.first_height, record.batch.last_height);
    let membership = rpc.blocking(move |rpc| {
        let blocks = rpc.handle().reader.range(first, last, usize::MAX);
        let blocks = blocks.map_err(|error| errors::storage(&error))?;
        let blocks: Vec<Arc<SealedBlock>> = blocks.iter().map(|decided| decided.block.clone()).collect();
        let contents = Contents::of(&blocks);
        Ok(contents.and_then(|contents| contents.membership(&blocks, rollup, sequence)))
    });
    let membership = membership.await?;
    Ok(membership.map(|membership| {
        let place = place(&settling.domain, &record);
        (status, PostedJson::new(place, &record.batch, &membership))
    }))
}

fn place(domain: &BatchDomain, record: &Record) -> L1PlaceJson {
    L1PlaceJson {
        chain_id: domain.chain_id,
        inbox: Account(domain.inbox),
        transaction: Hash(record.transaction),
        block: record.block,
        block_hash: Hash(record.block_hash),
    }
}
