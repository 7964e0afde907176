//! `lockstep shadow`: watches the refs that another replication moves, and compares the moves with those that
//! Lockstep would have made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::ConfigArgs;
use super::{CliError, json, walk};
use crate::base::clock::{Clock, SystemClock};
use crate::cli::out;
use crate::cli::shadow::{self, Journal, Watch, WatchCounts};
use crate::node::assembly::{stop_signal, telemetry_settings};
use crate::node::config;
use crate::stages::api::health::{BoundHealth, Health, RenderMetrics, Writes};
use crate::stages::api::readiness::{Latch, Latches};
use crate::telemetry::metrics::ShadowMetrics;
use crate::telemetry::{self, Telemetry};

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
    // A watch has no traces.
    let of_watch = telemetry::Settings { otlp_endpoint: None, ..telemetry_settings(&settings) };
    let telemetry = Arc::new(Telemetry::build(&of_watch).map_err(CliError::failed)?);
    let metrics = ShadowMetrics::new(&telemetry.meter());
    let shutdown = CancellationToken::new();
    let looked = serve(settings.health_listen, &telemetry, &shutdown)?;
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        let before = watch.counts();
        watch.look(list).map_err(CliError::failed)?;
        tell(&metrics, &before, &watch.counts());
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

/// Tells the metrics about a look, from the counts before it and after it.
fn tell(metrics: &ShadowMetrics, before: &WatchCounts, after: &WatchCounts) {
    metrics.looked(SystemClock.now_ms(), after.look.as_secs_f64());
    metrics.proposed(after.proposals - before.proposals, after.refs - before.refs);
    metrics.stands(after.projects, after.problems);
}

/// Serves `/livez`, `/startz`, `/readyz`, `/writez` and `/metrics`. Ready once the latch is open, after the first look:
/// a Gerrit need not wait for that.
fn serve(
    address: std::net::SocketAddr,
    telemetry: &Arc<Telemetry>,
    shutdown: &CancellationToken,
) -> Result<Latch, CliError> {
    let telemetry = Arc::clone(telemetry);
    let render: RenderMetrics = Arc::new(move || telemetry.render().unwrap_or_else(|error| format!("# {error}\n")));
    let health = Health::starting(Arc::new(String::new), Arc::clone(&render));
    let (latches, [looked]) = Latches::new(["looked"]);
    let writes = || Writes { taken: false, role: "shadow", active: Vec::new() };
    health.serve(latches, render, Arc::new(Vec::new), Arc::new(writes));
    let failed = |error| CliError::Failed(format!("health.listen {address} cannot be bound: {error}; free it"));
    let bound = BoundHealth::bind(address).map_err(failed)?;
    bound.spawn(health, shutdown.clone()).map_err(failed)?;
    Ok(looked)
}

fn report(args: &ReportArgs) -> Result<(), CliError> {
    let journals: Result<Vec<_>, _> = args.journals.iter().map(|folder| shadow::read(folder)).collect();
    let comparison = shadow::compare(&journals.map_err(CliError::failed)?, args.patience * 1_000);
    out::put(&if args.json { json(&comparison)? } else { shadow::render(&comparison) })?;
    if comparison.counts.is_empty() { Ok(()) } else { Err(CliError::Degraded) }
}
