//! The poster from end to end: real batches, certified by a committee of four that was deployed for the test, go onto the
//! embedded L1 and onto anvil, and stay there through reorgs, spikes of fees, restarts and rivals.
//!
//! anvil is taken where `evm/tests/conformance` finds it; set `FUSION_REQUIRE_ANVIL=1` to fail without.

#[cfg(test)]
#[path = "../../../types/tests/properties/sample.rs"]
mod sample;

#[cfg(test)]
mod chain;

#[cfg(test)]
mod network;

#[cfg(test)]
mod scenarios;
