//! One input of `edge::cursor_file`, which says what it looks for.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusion_fuzz::edge::cursor_file(data));
