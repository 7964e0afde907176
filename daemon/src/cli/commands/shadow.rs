//! `lockstep shadow`: watches the refs that another replication moves, and compares the moves with those that
//! Lockstep would have made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::config::ConfigArgs;
use super::{CliError, json, walk};
use crate::base::clock::SystemClock;
use crate::cli::out;
use crate::cli::shadow::{self, Journal, Watch, WatchCounts};
use crate::node::assembly::stop_signal;
use crate::node::config;
use crate::stages::api::health::{BoundHealth, Health, RenderMetrics, Writes};
use crate::stages::api::readiness::{Latch, Latches};

#[derive(Debug, clap::Subcommand)]
pub(super) enum ShadowCommand {
    /// Watch the repositories of this site and write a journal, until SIGTERM or Ctrl-C; changes nothing else
    #[command(after_help = "Example:\n  lockstep shadow watch --config lockstep.toml --journal /var/lib/shadow")]
    Watch(WatchArgs),
    /// Compare the journals of all sites
    #[command(after_help = "Example:\n  lockstep shadow report muc-1/shadow eu-aws/shadow")]
    Report(ReportArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Folder of the journal, which lies outside of the repositories
    #[arg(long)]
    journal: PathBuf,
    /// Pause between two looks, in milliseconds
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    every_ms: u64,
    /// Largest size of the journal, in MiB; the older half is dropped beyond it
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(2..=1_048_576))]
    most_mib: u64,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Folders of the journals: one for each node, from two sites or more
    #[arg(required = true, num_args = 2..)]
    journals: Vec<PathBuf>,
    /// How long a move may take, in seconds, before it counts as lost
    #[arg(long, default_value_t = 300)]
    patience: u64,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: ShadowCommand) -> Result<(), CliError> {
    match command {
        ShadowCommand::Watch(args) => watch(args).await,
        ShadowCommand::Report(args) => report(&args),
    }
}

async fn watch(args: WatchArgs) -> Result<(), CliError> {
    let settings = config::load(&args.config.config).map_err(CliError::failed)?;
    let base_paths = settings.base_paths.resolve().map_err(|error| CliError::Usage(error.to_string()))?;
    let journal = std::path::absolute(&args.journal).map_err(CliError::failed)?;
    if let Some(folder) = base_paths.all().into_iter().find(|folder| journal.starts_with(folder)) {
        let (journal, folder) = (journal.display(), folder.display());
        return Err(CliError::Usage(format!("--journal {journal} lies in {folder}: name a folder outside of it")));
    }
    let journal = Journal::open(&journal, args.most_mib << 20).map_err(CliError::failed)?;
    let every = Duration::from_millis(args.every_ms);
    let names = (settings.site.to_string(), settings.node.to_string());
    let mut watch = Watch::new(names, base_paths.clone(), every, Arc::new(SystemClock), journal);
    let list = || {
        let found = walk::walk(&base_paths);
        (found.projects, found.problems)
    };
    let counts = Arc::new(Mutex::new(WatchCounts::default()));
    let shutdown = CancellationToken::new();
    let looked = serve(settings.health_listen, &counts, &shutdown)?;
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        watch.look(list).map_err(CliError::failed)?;
        *counts.lock() = watch.counts();
        looked.open();
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = tokio::time::sleep(every) => {}
        }
    }
    shutdown.cancel();
    Ok(())
}

/// Serves `/livez`, `/startz`, `/readyz`, `/writez` and `/metrics`. Ready once the latch is open, after the first look:
/// a Gerrit need not wait for that.
fn serve(
    address: std::net::SocketAddr,
    counts: &Arc<Mutex<WatchCounts>>,
    shutdown: &CancellationToken,
) -> Result<Latch, CliError> {
    let counts = Arc::clone(counts);
    let render: RenderMetrics = Arc::new(move || metrics(&counts.lock()));
    let health = Health::starting(Arc::new(String::new), Arc::clone(&render));
    let (latches, [looked]) = Latches::new(["looked"]);
    let writes = || Writes { taken: false, role: "shadow", active: Vec::new() };
    health.serve(latches, render, Arc::new(Vec::new), Arc::new(writes));
    let failed = |error| CliError::Failed(format!("health.listen {address} cannot be bound: {error}; free it"));
    let bound = BoundHealth::bind(address).map_err(failed)?;
    bound.spawn(health, shutdown.clone()).map_err(failed)?;
    Ok(looked)
}

fn metrics(counts: &WatchCounts) -> String {
    let WatchCounts { projects, proposals, refs, look } = counts;
    format!(
        "# TYPE lockstep_shadow_projects gauge\nlockstep_shadow_projects {projects}\n\
         # TYPE lockstep_shadow_proposals_total counter\nlockstep_shadow_proposals_total {proposals}\n\
         # TYPE lockstep_shadow_refs_total counter\nlockstep_shadow_refs_total {refs}\n\
         # TYPE lockstep_shadow_look_seconds gauge\nlockstep_shadow_look_seconds {}\n",
        look.as_secs_f64()
    )
}

fn report(args: &ReportArgs) -> Result<(), CliError> {
    let journals: Result<Vec<_>, _> = args.journals.iter().map(|folder| shadow::read(folder)).collect();
    let comparison = shadow::compare(&journals.map_err(CliError::failed)?, args.patience * 1_000);
    out::put(&if args.json { json(&comparison)? } else { shadow::render(&comparison) })?;
    if comparison.counts.is_empty() { Ok(()) } else { Err(CliError::Degraded) }
}
