//! One input of `private::index_chunk`, which says what it looks for.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusion_fuzz::private::index_chunk(data));
