//! Processes that the sidecar starts by itself.

use std::path::PathBuf;

use super::CliError;
use crate::seams::copy::leash;

#[derive(Debug, clap::Args)]
pub(super) struct LeashArgs {
    /// Path of the program
    program: PathBuf,
    /// Run it in place of this process, and have it end with this agent, which has started this process
    #[arg(long)]
    agent: Option<i32>,
}

/// Runs a program that ends with standard input, or with its agent.
pub(super) async fn leash(args: LeashArgs) -> Result<(), CliError> {
    let ended = match args.agent {
        Some(agent) => leash::run(&args.program, agent),
        None => leash::agent(&args.program).await,
    };
    ended.map_err(CliError::failed)
}
