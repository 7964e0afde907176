//! The `lockstep` command, built together with the load test that runs it in its own tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep::cli::main()
}
