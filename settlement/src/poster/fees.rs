//! What a post offers for its place: caps on three fees, how they begin, how they rise, and where they end.
//!
//! Pure. Caps begin at twice what the next block asks, because a block raises the base fee by an eighth at most and
//! replacing a blob transaction costs the double: it is to be rare. A replacement offers twice its predecessor's caps
//! and a wei more, for nodes refuse what is exactly at the boundary.

use alloy_primitives::U256;

use crate::batcher::blobs::{BLOB_PAYLOAD_BYTES, BLOBS_MAX};
use crate::l1::Fees;

const GWEI: u128 = 1_000_000_000;

/// Blob gas of one blob. Source: EIP-4844.
const GAS_PER_BLOB: u64 = 131_072;

/// Gas of a post apart from its bytes, at most: 221,000 with 64 BLS members, 260,000 with as many ECDSA signatures
/// (contracts' README), and room for the end of an epoch. Only what is used is paid.
const GAS_BASE: u64 = 400_000;

/// Gas for each byte of header and certificate: EIP-7623 asks 40, verifying a signature of 64 bytes takes 4,000 or less.
const GAS_PER_BYTE: u64 = 100;

/// Caps of one transaction, in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostFees {
    /// Of gas, tip included.
    pub max_fee: u128,
    /// Of the tip.
    pub tip: u128,
    /// Of blob gas.
    pub blob_fee: u128,
}

impl PostFees {
    /// The most that a transaction can cost, in wei.
    pub fn cost_max(&self, gas: u64, blobs: usize) -> U256 {
        let blob_gas = U256::from(GAS_PER_BLOB).saturating_mul(U256::from(blobs));
        let gas = U256::from(gas).saturating_mul(U256::from(self.max_fee));
        gas.saturating_add(blob_gas.saturating_mul(U256::from(self.blob_fee)))
    }
}

/// How fees begin and where they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeRule {
    /// Least tip, in wei per gas. Nodes suggest as little as one wei, which nobody carries when blocks are full.
    pub tip_min: u128,
    /// Least cap for blob gas, in wei per gas.
    pub blob_fee_min: u128,
    /// Most that one post may cost, in wei.
    pub budget_wei: U256,
}

impl Default for FeeRule {
    /// 1 gwei each, and half an ether.
    fn default() -> Self {
        Self {
            tip_min: GWEI,
            blob_fee_min: GWEI,
            budget_wei: U256::from(500_000_000 * GWEI),
        }
    }
}

impl FeeRule {
    /// Caps of a transaction that replaces none.
    pub fn start(&self, market: &Fees) -> PostFees {
        let tip = market.tip.max(self.tip_min);
        PostFees {
            max_fee: market.base_fee.saturating_mul(2).saturating_add(tip),
            tip,
            blob_fee: market.blob_base_fee.saturating_mul(2).max(self.blob_fee_min),
        }
    }

    /// Caps of a transaction that replaces one with `old`.
    pub fn replace(&self, old: &PostFees, market: &Fees) -> PostFees {
        let start = self.start(market);
        let more = |old: u128, start: u128| old.saturating_mul(2).saturating_add(1).max(start);
        PostFees {
            max_fee: more(old.max_fee, start.max_fee),
            tip: more(old.tip, start.tip),
            blob_fee: more(old.blob_fee, start.blob_fee),
        }
    }

    /// Whether the next block will not take a transaction with these caps.
    pub const fn is_short(fees: &PostFees, market: &Fees) -> bool {
        fees.max_fee < market.base_fee || fees.blob_fee < market.blob_base_fee
    }
}

/// Gas limit of a post whose header and certificate have `bytes` together.
pub(super) fn gas_limit(bytes: usize) -> u64 {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    GAS_PER_BYTE.saturating_mul(bytes).saturating_add(GAS_BASE)
}

/// Blobs that a payload takes.
pub(super) const fn blob_count(payload_bytes: usize) -> usize {
    payload_bytes.saturating_add(4).div_ceil(BLOB_PAYLOAD_BYTES)
}

/// How many posts of six blobs a balance is good for at what the market asks now.
pub(super) fn posts_left(balance: U256, rule: &FeeRule, market: &Fees) -> u64 {
    let fees = PostFees {
        max_fee: market.base_fee.saturating_add(market.tip.max(rule.tip_min)),
        tip: 0,
        blob_fee: market.blob_base_fee,
    };
    let cost = fees.cost_max(GAS_BASE, BLOBS_MAX).max(U256::ONE);
    (balance / cost).saturating_to()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn market(base_fee: u128, blob_base_fee: u128, tip: u128) -> Fees {
        Fees {
            base_fee,
            blob_base_fee,
            tip,
        }
    }

    #[test]
    fn a_post_begins_at_twice_what_is_asked_and_never_below_the_floors() {
        let rule = FeeRule::default();
        let start = rule.start(&market(30 * GWEI, 5 * GWEI, 2 * GWEI));
        assert_eq!(
            (start.max_fee, start.tip, start.blob_fee),
            (62 * GWEI, 2 * GWEI, 10 * GWEI)
        );
        let start = rule.start(&market(7, 1, 1));
        assert_eq!((start.max_fee, start.tip, start.blob_fee), (GWEI + 14, GWEI, GWEI));
    }

    #[test]
    fn a_post_costs_its_gas_and_its_blobs_at_most() {
        let fees = PostFees {
            max_fee: 3,
            tip: 1,
            blob_fee: 5,
        };
        assert_eq!(fees.cost_max(1000, 2), U256::from(3000 + 5 * 2 * 131_072));
        assert_eq!(posts_left(U256::ZERO, &FeeRule::default(), &market(0, 0, 0)), 0);
    }

    #[test]
    fn the_count_of_blobs_is_that_of_the_packing() {
        use crate::batcher::blobs::{PAYLOAD_BYTES_MAX, pack};
        for bytes in [0, 1, BLOB_PAYLOAD_BYTES - 4, BLOB_PAYLOAD_BYTES - 3, PAYLOAD_BYTES_MAX] {
            assert_eq!(blob_count(bytes), pack(&vec![0; bytes]).unwrap().len(), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn every_replacement_is_above_the_double_and_enough(
            old in any::<[u64; 3]>(), base in any::<u64>(), blob in any::<u64>(), tip in any::<u64>()
        ) {
            let rule = FeeRule::default();
            let market = market(base.into(), blob.into(), tip.into());
            let old = PostFees { max_fee: old[0].into(), tip: old[1].into(), blob_fee: old[2].into() };
            let new = rule.replace(&old, &market);
            prop_assert!(new.max_fee > 2 * old.max_fee && new.tip > 2 * old.tip && new.blob_fee > 2 * old.blob_fee);
            prop_assert!(!FeeRule::is_short(&new, &market));
            prop_assert!(!FeeRule::is_short(&rule.start(&market), &market));
        }

        #[test]
        fn no_figures_overflow(fees in any::<[u128; 3]>(), market_fees in any::<[u128; 3]>(), bytes in any::<usize>()) {
            let rule = FeeRule::default();
            let market = market(market_fees[0], market_fees[1], market_fees[2]);
            let old = PostFees { max_fee: fees[0], tip: fees[1], blob_fee: fees[2] };
            rule.replace(&old, &market).cost_max(gas_limit(bytes), blob_count(bytes));
            posts_left(U256::MAX, &rule, &market);
        }
    }
}
