//! The `lockstep` command, built together with the tests that run it: it is always as new as they are.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep::cli::main()
}
