//! What blocks asked and what their transactions paid: `eth_feeHistory`.

use alloy_consensus::Transaction as _;

use super::L1;
use crate::chain::ExecutedBlock;
use crate::params;

/// Fees of some blocks, oldest first. The lists of fees have one entry more: those of the block after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeeHistory {
    /// Number of the first block.
    pub oldest: u64,
    /// Wei per gas.
    pub base_fees: Vec<u128>,
    /// Part of the gas limit that was used.
    pub gas_used: Vec<f64>,
    /// Wei per blob gas.
    pub blob_fees: Vec<u128>,
    /// Part of the most blob gas that was used.
    pub blob_gas_used: Vec<f64>,
    /// Wei per gas of tip, by block and percentile of the gas used.
    pub rewards: Vec<Vec<u128>>,
}

impl L1 {
    /// Fees of `count` blocks up to block `newest`, of which `count` is cut to what is kept and
    /// [`params::FEE_HISTORY_BLOCKS_MAX`]. Percentiles are from 0 to 100, ascending.
    #[must_use]
    pub fn fee_history(&self, count: u64, newest: u64, percentiles: &[f64]) -> FeeHistory {
        let newest = newest.min(self.chain.head().number());
        let kept = newest.saturating_sub(self.chain.oldest()).saturating_add(1);
        let count = count.min(params::FEE_HISTORY_BLOCKS_MAX).min(kept);
        let oldest = (newest + 1).saturating_sub(count);
        let mut history = FeeHistory {
            oldest,
            ..FeeHistory::default()
        };
        let blocks = (oldest..oldest + count).filter_map(|number| self.chain.block(number));
        for block in blocks {
            history.push(block);
            history.rewards.push(rewards(block, percentiles));
        }
        if let Some(next) = self.chain.block(newest + 1) {
            history
                .base_fees
                .push(next.header.base_fee_per_gas.unwrap_or_default().into());
            history.blob_fees.push(next.blob_fee());
        } else {
            history.base_fees.push(self.next_base_fee().into());
            history.blob_fees.push(self.chain.next_blob_fee());
        }
        history
    }
}

impl FeeHistory {
    fn push(&mut self, block: &ExecutedBlock) {
        let header = &block.header;
        self.base_fees.push(header.base_fee_per_gas.unwrap_or_default().into());
        self.blob_fees.push(block.blob_fee());
        self.gas_used.push(ratio(header.gas_used, header.gas_limit));
        let blob_gas = header.blob_gas_used.unwrap_or_default();
        self.blob_gas_used
            .push(ratio(blob_gas, params::BLOBS.max_blob_gas_per_block()));
    }
}

/// The tips at the percentiles of a block's gas; zero if it has no transactions.
fn rewards(block: &ExecutedBlock, percentiles: &[f64]) -> Vec<u128> {
    let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
    let mut tips: Vec<(u128, u64)> = block
        .transactions
        .iter()
        .zip(&block.outcomes)
        .map(|(transaction, outcome)| {
            let tip = transaction.effective_tip_per_gas(base_fee).unwrap_or_default();
            (tip, outcome.gas_used)
        })
        .collect();
    tips.sort_unstable();
    let all = as_float(block.header.gas_used);
    let at = |percentile: &f64| {
        let threshold = all * percentile / 100.0;
        let mut sum = 0.0;
        let reached = tips.iter().find(|(_, gas)| {
            sum += as_float(*gas);
            sum >= threshold
        });
        reached.or_else(|| tips.last()).map_or(0, |(tip, _)| *tip)
    };
    percentiles.iter().map(at).collect()
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        as_float(part) / as_float(whole)
    }
}

#[expect(clippy::cast_precision_loss, reason = "gas of a block is far below 2^53")]
fn as_float(gas: u64) -> f64 {
    gas as f64
}
