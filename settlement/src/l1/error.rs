//! Why a node of L1 has no answer for us.
//!
//! Promises that no error names what a URL keeps secret: of an endpoint it has scheme, host and port.

use alloy_primitives::Bytes;
use jsonrpsee::core::client::Error as RpcError;
use jsonrpsee::core::http_helpers::HttpError;
use jsonrpsee::http_client::transport::Error as TransportError;
use jsonrpsee::types::ErrorObjectOwned;

use crate::contracts::ContractError;

/// Bytes of a node's own words that are kept.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Bytes of a revert's data that are kept: an error of ours has at most four words.
const DATA_BYTES_MAX: usize = 4096;

/// A node's refusal: it understood, and says no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct Refused {
    /// JSON-RPC's code. Nodes disagree on most; 3 is a revert.
    pub code: i32,
    /// The node's words.
    pub message: String,
    /// What came with it: of a revert, what the contract reverted with.
    pub data: Bytes,
}

impl Refused {
    /// The error of our contracts that a call reverted with; none where it is another's, or no revert.
    pub fn contract_error(&self) -> Option<ContractError> {
        ContractError::decode(&self.data)
    }

    /// Reads a refusal; what is longer than anything useful is cut.
    pub(super) fn of(error: &ErrorObjectOwned) -> Self {
        let data = error.data().map(|data| data.get()).unwrap_or_default();
        let data: Bytes = serde_json::from_str(data).unwrap_or_default();
        Self {
            code: error.code(),
            message: shortened(error.message()),
            data: data.slice(..data.len().min(DATA_BYTES_MAX)),
        }
    }
}

/// Why a question to a node has no answer. `url` is the endpoint without credentials, path and query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The text is no address of a node.
    #[error("{text:?} is no URL of a node: {why}")]
    Url {
        /// What of it may be shown.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// The node says no.
    #[error("{url} refuses {method}: {refused}")]
    Refused {
        /// The endpoint.
        url: String,
        /// What was asked.
        method: &'static str,
        /// Its words.
        refused: Refused,
    },
    /// No answer in time.
    #[error("{url} did not answer {method} within {timeout_ms} ms")]
    Timeout {
        /// The endpoint.
        url: String,
        /// What was asked.
        method: &'static str,
        /// The limit.
        timeout_ms: u64,
    },
    /// No connection, or one that broke.
    #[error("{url} cannot be asked {method}: {why}")]
    Unreachable {
        /// The endpoint.
        url: String,
        /// What was asked.
        method: &'static str,
        /// The system's words.
        why: String,
    },
    /// An answer in HTTP that is none in JSON-RPC.
    #[error("{url} answers {method} with HTTP status {status}")]
    Status {
        /// The endpoint.
        url: String,
        /// What was asked.
        method: &'static str,
        /// The code.
        status: u16,
    },
    /// An answer that is none to this question.
    #[error("{url} answers {method} with what is no answer: {why}")]
    Malformed {
        /// The endpoint.
        url: String,
        /// What was asked.
        method: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// More than may be.
    #[error("{url}: {what} of {method} is larger than {limit} bytes")]
    TooLarge {
        /// The endpoint.
        url: String,
        /// What was asked.
        method: &'static str,
        /// `request` or `answer`.
        what: &'static str,
        /// The limit.
        limit: u32,
    },
}

impl EndpointError {
    /// The node's refusal, where this is one.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused { refused, .. } => Some(refused),
            _ => None,
        }
    }

    /// The error of our contracts that a call reverted with.
    pub fn contract_error(&self) -> Option<ContractError> {
        self.refused().and_then(Refused::contract_error)
    }
}

/// What an error is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) url: &'a str,
    pub(super) method: &'static str,
    pub(super) timeout_ms: u64,
    pub(super) request_bytes_max: u32,
    pub(super) answer_bytes_max: u32,
}

impl Question<'_> {
    /// An answer that cannot be used.
    pub(super) fn malformed(&self, why: &str) -> EndpointError {
        EndpointError::Malformed {
            url: self.url.to_owned(),
            method: self.method,
            why: shortened(why),
        }
    }

    fn unreachable(&self, why: &dyn std::error::Error) -> EndpointError {
        EndpointError::Unreachable {
            url: self.url.to_owned(),
            method: self.method,
            why: shortened(&causes(why)),
        }
    }

    fn too_large(&self, what: &'static str, limit: u32) -> EndpointError {
        EndpointError::TooLarge {
            url: self.url.to_owned(),
            method: self.method,
            what,
            limit,
        }
    }

    /// What the HTTP client says, in our words.
    pub(super) fn failed(&self, error: &RpcError) -> EndpointError {
        match error {
            RpcError::Call(error) => EndpointError::Refused {
                url: self.url.to_owned(),
                method: self.method,
                refused: Refused::of(error),
            },
            RpcError::RequestTimeout => EndpointError::Timeout {
                url: self.url.to_owned(),
                method: self.method,
                timeout_ms: self.timeout_ms,
            },
            RpcError::Transport(error) => match error.downcast_ref::<TransportError>() {
                Some(TransportError::Http(HttpError::TooLarge)) => self.too_large("the answer", self.answer_bytes_max),
                Some(TransportError::Http(HttpError::Malformed)) => self.malformed("it is no JSON"),
                Some(TransportError::RequestTooLarge) => self.too_large("the request", self.request_bytes_max),
                Some(TransportError::Rejected { status_code }) => EndpointError::Status {
                    url: self.url.to_owned(),
                    method: self.method,
                    status: *status_code,
                },
                _ => self.unreachable(&**error),
            },
            error => self.malformed(&error.to_string()),
        }
    }
}

/// An error with its causes: those of HTTP say little without.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// A node's words, cut between characters.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_sol_types::SolError;

    #[test]
    fn a_revert_is_told_by_its_data_and_anything_else_is_none() {
        let data = crate::contracts::BatchInbox::AlreadyPosted { number: 3 }.abi_encode();
        let object = |data: serde_json::Value| ErrorObjectOwned::owned(3, "execution reverted", Some(data));
        let refused = Refused::of(&object(Bytes::from(data).to_string().into()));
        assert!(matches!(refused.contract_error(), Some(ContractError::Inbox(_))));
        for data in [serde_json::json!({"a": 1}), "0xzz".into(), "".into(), 7.into()] {
            assert_eq!(Refused::of(&object(data)).contract_error(), None);
        }
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(shortened(&"ä".repeat(600)).len(), 1024);
        assert_eq!(shortened(&format!("a{}", "ä".repeat(600))).len(), 1023);
    }
}
