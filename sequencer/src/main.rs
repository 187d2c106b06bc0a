//! The `fusion` binary. Everything is in the library, so that tests and the simulator run the same code.

fn main() -> std::process::ExitCode {
    fusion_sequencer::cli::main()
}
