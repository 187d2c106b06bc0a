//! Writes the seeds into the corpora below the folder that `FUSION_FUZZ_SEEDS` names, and ends. No target: it is built
//! like one, so that the node is compiled once.

#![no_main]

use std::path::Path;

fn write() {
    let folder = std::env::var_os("FUSION_FUZZ_SEEDS").expect("FUSION_FUZZ_SEEDS names the corpora's folder");
    fusion_fuzz::seeds::write(Path::new(&folder)).expect("the corpora can be written");
    std::process::exit(0)
}

libfuzzer_sys::fuzz_target!(init: write(), |_data: &[u8]| {});
