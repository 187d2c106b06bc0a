//! One input of `codec::wire_transactions`, which says what it looks for.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusion_fuzz::codec::wire_transactions(data));
