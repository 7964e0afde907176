//! The `lockstep` command, built together with the tests that run it, so that it is never older than they are.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep::cli::main()
}
