//! Arguments of `lockstep demo`: three sites in one process, on emulators, with nothing to install.

use std::path::PathBuf;

/// Runs three sites on this machine and replicates between them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  lockstep demo --for 30s --json")]
pub struct DemoArgs {
    /// Keep the sites' folders here; a temporary folder without it
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// End after this time (30s, 5m); until interrupted without it
    #[arg(long = "for", value_parser = crate::node::config::value::duration)]
    pub for_time: Option<std::time::Duration>,
    /// Print events as JSON, one a line
    #[arg(long)]
    pub json: bool,
    /// Seed the first site with this repository
    #[arg(long)]
    pub repo: Option<PathBuf>,
}
