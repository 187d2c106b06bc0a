//! One input of `handshake::peer_key`, which says what it looks for.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusion_fuzz::handshake::peer_key(data));
