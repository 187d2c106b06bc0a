//! One input of `edge::text`, which says what it looks for.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusion_fuzz::edge::text(data));
