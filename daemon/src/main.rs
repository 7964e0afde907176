//! `lockstep`: the sidecar, its git hooks and its command line. [`lockstep::cli`] is the table of contents.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep::cli::main()
}
