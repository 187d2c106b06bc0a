//! What a node has to know of L1.

use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::Address;

/// `[settlement]`: batches on Ethereum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// URLs of L1 nodes; a node without any does not settle.
    pub l1: Vec<String>,
    /// How many of them must say the same.
    pub agree: usize,
    /// Address of the inbox.
    pub inbox: String,
    /// L1 block in which the inbox was deployed.
    pub inbox_block: usize,
    /// Attestation key file.
    pub attestation_key: PathBuf,
    /// Key file of the account that posts; none means that this node does not post.
    pub poster_key: Option<PathBuf>,
    /// How often L1 is asked.
    pub poll: Duration,
    /// A backup poster waits so much longer than the one before it.
    pub rank_delay: Duration,
    /// A backup makes an offer of its own after so much longer than the one before it.
    pub turn: Duration,
}

impl Default for Settlement {
    fn default() -> Self {
        Self {
            l1: Vec::new(),
            agree: 1,
            inbox: String::new(),
            inbox_block: 0,
            attestation_key: "keys/attestation.key".into(),
            poster_key: None,
            poll: Duration::from_secs(2),
            rank_delay: Duration::from_secs(36),
            turn: Duration::from_secs(5),
        }
    }
}

impl Settlement {
    /// Whether this node takes part.
    pub fn is_on(&self) -> bool {
        !self.l1.is_empty()
    }

    /// What must hold between fields.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.is_on() {
            return problems;
        }
        if self.agree > self.l1.len() {
            problems.push(format!(
                "settlement.agree: {} endpoints must agree and settlement.l1 has {}",
                self.agree,
                self.l1.len()
            ));
        }
        if self.inbox.parse::<Address>().is_err() {
            problems.push(format!(
                "settlement.inbox: \"{}\" is no address of 20 bytes in hex",
                self.inbox
            ));
        }
        problems
    }
}
