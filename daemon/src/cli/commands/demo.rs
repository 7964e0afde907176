//! Arguments of `lockstep demo`, which runs three sites in one process on emulators. It needs git and nothing else.

use std::path::PathBuf;

/// Runs three sites on this machine and replicates between them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  lockstep demo --for 30s --json")]
pub struct DemoArgs {
    /// Keep the sites' folders in this folder (default: a temporary folder that is removed at the end)
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Stop after this time, for example 30s or 5m (default: run until interrupted)
    #[arg(long = "for", value_parser = crate::node::config::value::duration)]
    pub for_time: Option<std::time::Duration>,
    /// Print events as JSON, one object per line
    #[arg(long)]
    pub json: bool,
    /// Seed the first site with the branches and tags of this repository
    #[arg(long)]
    pub repo: Option<PathBuf>,
}
