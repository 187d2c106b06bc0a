//! Errors as geth answers them: its codes and its words, for clients look for both.

use alloy_primitives::{Bytes, U256};
use jsonrpsee::types::ErrorObjectOwned;

use super::owner::Busy;
use crate::chain::{CallFailure, halt_text};

/// What cannot be done now.
const SERVER_ERROR: i32 = -32000;
/// JSON-RPC: the parameters are wrong.
const INVALID_PARAMS: i32 = -32602;
/// EIP-1474: a limit was exceeded.
const LIMIT_EXCEEDED: i32 = -32005;
/// geth: the execution reverted, and `data` says with what.
const REVERTED: i32 = 3;

/// Selector of `Error(string)`.
const ERROR_STRING: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
/// Selector of `Panic(uint256)`.
const PANIC: [u8; 4] = [0x4e, 0x48, 0x7b, 0x71];

pub(super) fn server_error(error: &impl ToString) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(SERVER_ERROR, error.to_string(), None::<()>)
}

pub(super) fn invalid_params(text: &str) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_PARAMS, text, None::<()>)
}

pub(super) fn limit_exceeded(error: &impl ToString) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(LIMIT_EXCEEDED, error.to_string(), None::<()>)
}

pub(super) fn busy(error: Busy) -> ErrorObjectOwned {
    limit_exceeded(&error)
}

pub(super) fn call_failure(failure: &CallFailure) -> ErrorObjectOwned {
    match failure {
        CallFailure::Revert(output) => {
            let text = match revert_reason(output) {
                Some(reason) => format!("execution reverted: {reason}"),
                None => "execution reverted".into(),
            };
            ErrorObjectOwned::owned(REVERTED, text, Some(output.clone()))
        }
        CallFailure::Halt(reason) => server_error(&halt_text(reason)),
        CallFailure::Invalid(text) => server_error(text),
        CallFailure::Allowance(gas) => server_error(&format!("gas required exceeds allowance ({gas})")),
    }
}

/// The text of `Error(string)`, or the meaning of `Panic(uint256)`.
fn revert_reason(output: &Bytes) -> Option<String> {
    let (selector, rest) = output.split_first_chunk::<4>()?;
    if *selector == PANIC {
        return Some(panic_text(word(rest, 0)?));
    }
    if *selector != ERROR_STRING {
        return None;
    }
    let offset = usize::try_from(word(rest, 0)?).ok()?;
    let length = usize::try_from(word(rest, offset)?).ok()?;
    let start = offset.checked_add(32)?;
    let text = rest.get(start..start.checked_add(length)?)?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

fn word(bytes: &[u8], offset: usize) -> Option<U256> {
    let word = bytes.get(offset..offset.checked_add(32)?)?;
    Some(U256::from_be_slice(word))
}

/// Source: Solidity's documentation, "Panic via assert"; geth has the same words.
fn panic_text(code: U256) -> String {
    let text = match u8::try_from(code).unwrap_or(u8::MAX) {
        0x00 => "generic panic",
        0x01 => "assert(false)",
        0x11 => "arithmetic underflow or overflow",
        0x12 => "division or modulo by zero",
        0x21 => "enum overflow",
        0x22 => "invalid encoded storage byte array accessed",
        0x31 => "out-of-bounds array access; popping on an empty array",
        0x32 => "out-of-bounds access of an array or bytesN",
        0x41 => "out of memory",
        0x51 => "uninitialized function",
        _ => return format!("unknown panic code: {code:#x}"),
    };
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_reason_of_a_revert_is_told_in_words() {
        let mut output = ERROR_STRING.to_vec();
        output.extend(U256::from(32).to_be_bytes::<32>());
        output.extend(U256::from(5).to_be_bytes::<32>());
        output.extend(b"sorry".iter().chain(&[0; 27]));
        let error = call_failure(&CallFailure::Revert(output.clone().into()));
        assert_eq!((error.code(), error.message()), (3, "execution reverted: sorry"));
        assert_eq!(error.data().unwrap().get(), format!("\"{}\"", Bytes::from(output)));
        let mut output = PANIC.to_vec();
        output.extend(U256::from(0x11).to_be_bytes::<32>());
        let error = call_failure(&CallFailure::Revert(output.into()));
        assert_eq!(error.message(), "execution reverted: arithmetic underflow or overflow");
    }

    proptest! {
        #[test]
        fn no_output_of_a_revert_panics(tail in prop::collection::vec(any::<u8>(), 0..200), panic in any::<bool>()) {
            let mut output = if panic { PANIC } else { ERROR_STRING }.to_vec();
            output.extend(tail);
            let error = call_failure(&CallFailure::Revert(output.into()));
            prop_assert!(error.message().starts_with("execution reverted"));
        }
    }
}
