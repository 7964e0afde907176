//! `lockstep`: the sidecar, its git hooks and its command line. [`lockstep::cli`] lists the subcommands.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep::cli::main()
}
