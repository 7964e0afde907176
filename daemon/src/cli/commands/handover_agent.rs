//! `lockstep handover-agent`: runs the program of the setting `handover.program`. The sidecar starts it by itself.

use std::path::PathBuf;
use std::time::Duration;

use super::CliError;
use crate::seams::handover::program;

#[derive(Debug, clap::Args)]
pub(super) struct AgentArgs {
    /// Path of the program
    path: PathBuf,
    /// Longest time of one run, in milliseconds
    timeout_ms: u64,
}

pub(super) async fn run(args: AgentArgs) -> Result<(), CliError> {
    program::agent(args.path, Duration::from_millis(args.timeout_ms)).await.map_err(CliError::failed)
}
