//! `lockstep refdb rebuild` and `lockstep refdb status`: a new refdb from the version maps of all sites, or the running
//! one in other tables. `lockstep refdb check` and `backup` read the tables without a sidecar.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use lockstep_proto::SiteId;
use lockstep_proto::rebuild::{Rebuild, RebuildPhase, RebuildRequest};
use lockstep_proto::refdb_move::MoveRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::CliError;
use super::super::config::ConfigArgs;
use super::super::target::{OperatorTarget, Target};
use super::refdb_backup::{self, BackupArgs, PROGRESS};
use super::refdb_text::{check_report, progress, report};
use crate::base::clock::SeededEntropy;
use crate::cli::out;
use crate::node::assembly::follow_move::present_refdb;
use crate::node::config;
use crate::seams::refdb::check::{Checked, RefDbCheck};

/// The pause between two looks at a rebuild.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum RefdbCommand {
    /// Make a new refdb from the version maps of all sites, when the old one is lost, or move the running one
    #[command(
        after_help = "Examples:\n  lockstep refdb rebuild --into lockstep-2 --dry-run\n  lockstep refdb rebuild --into \
                      lockstep-2\n  lockstep refdb rebuild --into lockstep-2 --from-sites muc-1,eu-aws --lost --yes\n\n\
                      The running refdb moves, and nobody can push meanwhile:\n  lockstep refdb rebuild --into \
                      lockstep-2 --move --region eu-west-1\n  lockstep refdb rebuild --into lockstep-2 --move \
                      --region eu-west-1 --abort"
    )]
    Rebuild(RebuildArgs),
    /// Read the whole refdb at a bounded rate, and print each fault with its remedy. Writes nothing, needs no sidecar
    #[command(
        after_help = "Example:\n  lockstep refdb check --config /etc/lockstep/lockstep.toml --rate 500\n\nExit code 2 \
                      if there are findings, 1 if the refdb did not answer."
    )]
    Check(CheckArgs),
    /// Make a backup of the tables in DynamoDB, or write the refdb into a file. Needs no sidecar
    #[command(
        after_help = "Examples:\n  lockstep refdb backup --wait\n  lockstep refdb backup --list\n  lockstep refdb \
                      backup --to /backup/\n  lockstep refdb backup --check /backup/FILE\n\nWith --to and --check, any \
                      endpoint will do, emulators too. Exit code 3 if the endpoint makes no backups, or the tables \
                      hold no whole refdb."
    )]
    Backup(BackupArgs),
    /// Show the rebuild or move that is in progress at this node, or was the last one since its start
    Status {
        #[command(flatten)]
        target: Target,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct RebuildArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Prefix of the new tables: refdb.prefix of the time after. It must never have been used
    #[arg(long)]
    into: String,
    /// Sites whose nodes are read, separated by commas [default: all that answer]
    #[arg(long, value_delimiter = ',')]
    from_sites: Vec<SiteId>,
    /// Read and compare the version maps, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for a confirmation
    #[arg(long)]
    yes: bool,
    /// No site can commit into the old refdb any more, although it only does not answer, or sites are not read
    #[arg(long)]
    lost: bool,
    /// Go on with the unfinished rebuild of another node, which is gone
    #[arg(long)]
    take_over: bool,
    /// Move the running refdb to the new tables: every node follows by itself, and the old tables take no commit again
    #[arg(long = "move", conflicts_with_all = ["from_sites", "lost", "take_over"])]
    moves: bool,
    /// AWS Region of the new tables, with --move [default: that of the present ones]
    #[arg(long, requires = "moves")]
    region: Option<String>,
    /// Endpoint of the new tables, with --move [default: as --region says; without it, that of the present ones]
    #[arg(long, requires = "moves")]
    endpoint: Option<String>,
    /// Abort the move that is in progress, with --move and the same target: the present tables take commits again
    #[arg(long, requires = "moves", conflicts_with = "dry_run")]
    abort: bool,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Items that are read per second, about
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(in super::super) async fn run(command: RefdbCommand) -> Result<(), CliError> {
    match command {
        RefdbCommand::Rebuild(args) => rebuild(args).await,
        RefdbCommand::Check(args) => check(args).await,
        RefdbCommand::Backup(args) => refdb_backup::run(args).await,
        RefdbCommand::Status { target, json } => {
            let last = last(&target).await.map_err(CliError::unrefused)?;
            let Some(last) = last else {
                return Ok(out::put(if json {
                    "null\n"
                } else {
                    "there was no rebuild since the start of this node\n"
                })?);
            };
            show(&last, json)
        }
    }
}

async fn check(args: CheckArgs) -> Result<(), CliError> {
    let usage = |error: String| CliError::Usage(error);
    let settings = config::load(&args.config.config).map_err(|error| usage(error.to_string()))?;
    let refdb = present_refdb(&settings).await.map_err(|error| usage(error.to_string()))?;
    let check = RefDbCheck::new(refdb, Arc::new(SeededEntropy::from_machine()), args.rate);
    let said = Mutex::new(Instant::now());
    let progress = |so_far: &Checked| {
        let mut said = said.lock();
        if said.elapsed() >= PROGRESS {
            *said = Instant::now();
            eprintln!("  ... {} projects, {} refs, {} findings", so_far.projects, so_far.refs, so_far.found);
        }
    };
    let checked = check.run(progress).await.map_err(CliError::failed)?;
    out::put(&if args.json { super::super::json(&checked)? } else { check_report(&checked) })?;
    if checked.found == 0 { Ok(()) } else { Err(CliError::Degraded) }
}

async fn rebuild(args: RebuildArgs) -> Result<(), CliError> {
    if !args.dry_run && !args.yes && !args.abort {
        confirm(&args.into, if args.moves { MOVES } else { REBUILDS })?;
    }
    let (region, endpoint, abort) = (args.region, args.endpoint, args.abort);
    let moves = args.moves.then_some(MoveRequest { region, endpoint, abort });
    let request = RebuildRequest {
        into: args.into,
        from_sites: args.from_sites,
        dry_run: args.dry_run,
        take_over: args.take_over,
        lost: args.lost,
        moves,
    };
    let _: Rebuild = args.target.ask(Method::POST, "/v1/refdb/rebuild".to_owned(), &request).await?;
    let mut shown = String::new();
    loop {
        let last = last(&args.target.target).await?;
        let Some(last) = last.filter(|last| last.into == request.into) else {
            return Err(CliError::Failed("this node has started again meanwhile: repeat the command".to_owned()));
        };
        if last.phase != RebuildPhase::Running {
            return show(&last, args.json);
        }
        let now = progress(&last);
        if now != shown {
            eprintln!("  ... {now}");
            shown = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Prints a rebuild, and turns its end into the exit code.
fn show(last: &Rebuild, json: bool) -> Result<(), CliError> {
    out::put(&if json { super::super::json(last)? } else { report(last) })?;
    let why = || last.why.clone().unwrap_or_default();
    match last.phase {
        RebuildPhase::Refused => Err(CliError::Refused(why())),
        RebuildPhase::Failed => Err(CliError::Failed(why())),
        RebuildPhase::Done | RebuildPhase::Running if last.is_degraded() => Err(CliError::Degraded),
        RebuildPhase::Done | RebuildPhase::Running => Ok(()),
    }
}

async fn last(target: &Target) -> Result<Option<Rebuild>, CliError> {
    target.get("/v1/refdb/rebuild").await
}

/// The consequence of a rebuild, for the operator who confirms it.
const REBUILDS: &str = "Transactions that no node has applied are lost.";
/// The consequence of a move, for the operator who confirms it.
const MOVES: &str = "Nobody can push until the end of the move, and every node restarts once.";

/// Asks the operator to type the prefix of the new tables.
fn confirm(into: &str, consequence: &str) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage("this is no terminal; look with --dry-run, then give --yes".to_owned()));
    }
    out::put(&format!(
        "The tables {into}-refs and {into}-journal become the refdb of this installation. {consequence}\n\
         Look with --dry-run first. Type {into} to go on: "
    ))?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).map_err(CliError::failed)?;
    match typed.trim() == into {
        true => Ok(()),
        false => Err(CliError::Refused("not confirmed; nothing was changed".to_owned())),
    }
}
