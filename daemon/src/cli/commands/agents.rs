//! Processes that the sidecar starts by itself.

use std::path::PathBuf;

use super::CliError;
use crate::seams::copy::leash::agent;

#[derive(Debug, clap::Args)]
pub(super) struct LeashArgs {
    /// Path of the program
    program: PathBuf,
}

/// Runs a program that ends with standard input.
pub(super) async fn leash(args: LeashArgs) -> Result<(), CliError> {
    agent(&args.program).await.map_err(CliError::failed)
}
