//! `lockstep status` shows one node, or with `--all` every site from any site. `lockstep topology` shows which nodes
//! read which streams.

use std::io::IsTerminal;

use lockstep_proto::overview::Overview;
use lockstep_proto::status::NodeStatus;

use super::target::Target;
use super::{CliError, inspect, json, overview_text, view};
use crate::cli::out;

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 shown, 1 no answer; with --all, 2 if something is out of order.\n\n\
                        Examples:\n  lockstep status --all\n  lockstep status --all --watch\n  \
                        lockstep status --all --json | jq '.sites[] | {site: .status.site, safe}'\n  \
                        lockstep status --json | jq .origins")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    target: Target,
    /// Show all sites and nodes, as the refdb knows them, instead of this node
    #[arg(long)]
    all: bool,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Show it in the terminal and update it every second; with --json, print it every second
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep topology\n  lockstep topology --json | jq '.sites[].nodes[].node'")]
pub(super) struct TopologyArgs {
    #[command(flatten)]
    target: Target,
    /// Print the whole overview as JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// A text to print, and whether something in it is out of order.
struct Look {
    text: String,
    degraded: bool,
}

pub(super) async fn status(args: StatusArgs) -> Result<(), CliError> {
    match (args.watch, args.json) {
        (false, _) => put(look(&args).await?),
        (true, true) => repeat(&args).await,
        (true, false) if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() => Err(CliError::Usage(
            "--watch needs a terminal for its input and output; without one, use --watch --json, or repeat \
             `lockstep status`"
                .to_owned(),
        )),
        (true, false) => view::run(async || look(&args).await.map(|look| look.text)).await,
    }
}

pub(super) async fn topology(args: TopologyArgs) -> Result<(), CliError> {
    let overview = overview(&args.target).await?;
    let text = if args.json { json(&overview)? } else { overview_text::topology(&overview) };
    put(Look { text, degraded: overview.is_degraded() })
}

/// Prints a text. Something that is out of order decides the exit code.
fn put(look: Look) -> Result<(), CliError> {
    out::put(&look.text)?;
    if look.degraded { Err(CliError::Degraded) } else { Ok(()) }
}

/// Prints the status every second. An error does not end it: it is often used to follow a restart of the sidecar.
async fn repeat(args: &StatusArgs) -> Result<(), CliError> {
    loop {
        match look(args).await {
            Ok(look) => out::put(&look.text)?,
            Err(error) => eprintln!("{error}"),
        }
        tokio::time::sleep(view::WATCH).await;
    }
}

async fn look(args: &StatusArgs) -> Result<Look, CliError> {
    if args.all {
        let overview = overview(&args.target).await?;
        let text = if args.json { json(&overview)? } else { overview_text::overview(&overview) };
        return Ok(Look { text, degraded: overview.is_degraded() });
    }
    let status: NodeStatus = args.target.get("/v1/status").await?;
    let text = if args.json { json(&status)? } else { inspect::render(&status) };
    Ok(Look { text, degraded: false })
}

/// All sites. A refdb that does not answer refuses nothing: that is a failure.
async fn overview(target: &Target) -> Result<Overview, CliError> {
    target.get("/v1/overview").await.map_err(CliError::unrefused)
}
