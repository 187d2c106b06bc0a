//! One input of `codec::guard_state`, which says what it looks for.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusion_fuzz::codec::guard_state(data));
