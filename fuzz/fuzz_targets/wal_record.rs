//! One input of `codec::wal_record`, which says what it looks for.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusion_fuzz::codec::wal_record(data));
