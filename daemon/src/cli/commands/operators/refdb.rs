//! `lockstep refdb rebuild` and `lockstep refdb status`: a new refdb from the version maps of all sites.

use std::io::IsTerminal;
use std::time::Duration;

use http::Method;
use lockstep_proto::SiteId;
use lockstep_proto::rebuild::{Rebuild, RebuildPhase, RebuildRequest};

use super::super::CliError;
use super::super::target::{OperatorTarget, Target};
use super::refdb_text::{progress, report};
use crate::cli::out;

/// The pause between two looks at a rebuild.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum RefdbCommand {
    /// Make a new refdb from the version maps of all sites, when the old one is lost
    #[command(
        after_help = "Examples:\n  lockstep refdb rebuild --into lockstep-2 --dry-run\n  lockstep refdb rebuild --into \
                      lockstep-2\n  lockstep refdb rebuild --into lockstep-2 --from-sites muc-1,eu-aws --lost --yes"
    )]
    Rebuild(RebuildArgs),
    /// Show the rebuild that is in progress at this node, or was the last one since its start
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
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(in super::super) async fn run(command: RefdbCommand) -> Result<(), CliError> {
    match command {
        RefdbCommand::Rebuild(args) => rebuild(args).await,
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

async fn rebuild(args: RebuildArgs) -> Result<(), CliError> {
    if !args.dry_run && !args.yes {
        confirm(&args.into)?;
    }
    let request = RebuildRequest {
        into: args.into,
        from_sites: args.from_sites,
        dry_run: args.dry_run,
        take_over: args.take_over,
        lost: args.lost,
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

/// Asks the operator to type the prefix of the new tables.
fn confirm(into: &str) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage("this is no terminal; look with --dry-run, then give --yes".to_owned()));
    }
    out::put(&format!(
        "The tables {into}-refs and {into}-journal become the refdb of this installation. Transactions that no node \
         has applied are lost.\nLook with --dry-run first. Type {into} to go on: "
    ))?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).map_err(CliError::failed)?;
    match typed.trim() == into {
        true => Ok(()),
        false => Err(CliError::Refused("not confirmed; nothing was changed".to_owned())),
    }
}
