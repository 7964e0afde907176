//! `lockstep-loadtest`: see `lockstep_loadtest::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep_loadtest::cli::main()
}
