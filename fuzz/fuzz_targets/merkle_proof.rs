//! One input of `codec::merkle_proof`, which says what it looks for.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusion_fuzz::codec::merkle_proof(data));
