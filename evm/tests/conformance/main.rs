//! One suite, two chains: what an L1's users rely on, run over HTTP against the embedded L1 and against anvil.
//!
//! anvil is looked for at `FUSION_ANVIL`, in `node_modules/@foundry-rs/` below `settlement/contracts/target` and the workspace, and on `PATH`.
//! Where it is not found its half is left out and says so; with `FUSION_REQUIRE_ANVIL=1` that fails. Where anvil lets through
//! what real nodes refuse, the scenario says so and asserts the refusal on the embedded L1 only.

#[cfg(test)]
mod node;

#[cfg(test)]
mod transactions;

#[cfg(test)]
mod scenarios;

#[cfg(test)]
mod blobs;

#[cfg(test)]
mod forks;
