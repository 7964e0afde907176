//! `lockstep drill` and `lockstep preflight`: the steps of a failover on a canary, and whether it could go well now.

use std::time::Duration;

use http::Method;
use lockstep_proto::SiteId;
use lockstep_proto::drill::{DrillBegun, DrillReport, DrillRequest, Drills, Preflight, PreflightRequest};
use lockstep_proto::failover::{FailoverKind, FailoverStep, Role, SitesStatus};
use lockstep_proto::silent::SilentDrills;
use tokio::time::Instant;

use super::super::table::{Table, titled};
use super::super::target::{OperatorTarget, Target};
use super::super::{CliError, json};
use super::before::{self, Before};
use super::silent;
use crate::base::time_text::{seconds, utc};
use crate::cli::out;
use crate::clients::api_client::{Call, Client};
use crate::node::doctor::release::Release;

/// The pause between two looks at a drill.
const LOOK: Duration = Duration::from_millis(250);
/// Deadline of a preflight. The sidecar says earlier than that if the refdb does not answer it: after eight seconds. It
/// waits for its probes for ten.
const PREFLIGHT: Duration = Duration::from_secs(15);
/// How long a drill is followed. The sidecar ends it after a minute.
const FOLLOW: Duration = Duration::from_secs(90);

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 green, 2 red, 1 no answer, 3 refused: the preflight is red, or a drill is in \
                  progress.\n\nExamples:\n  lockstep drill --to muc-1 --reason 'before the maintenance'\n  \
                  lockstep drill --to muc-1 --fail-in settle --reason 'does the alarm ring?'\n  \
                  lockstep drill --to muc-1 --reason 'a green one of the same kind ends the alarm'\n  \
                  lockstep drill --silent --reason 'once a week'\n  \
                  lockstep drill history"
)]
pub(in super::super) struct DrillArgs {
    #[command(subcommand)]
    command: Option<DrillCommand>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, clap::Subcommand)]
enum DrillCommand {
    /// List past drills with their recovery times and losses
    History {
        #[command(flatten)]
        target: Target,
        /// Print all fields as JSON, with the steps, instead of a table
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Site whose canary takes writes first [default: the only active site]
    #[arg(long)]
    from: Option<SiteId>,
    /// Site whose canary takes writes afterwards [default: the only standby]
    #[arg(long)]
    to: Option<SiteId>,
    /// The canary of the source does not notice that it is stopped, and must be fenced
    #[arg(long)]
    forced: bool,
    /// Step that is made to fail: the drill must turn red
    #[arg(long, value_name = "STEP", alias = "plant", value_parser = step_of_drills)]
    fail_in: Option<FailoverStep>,
    /// Bring this node's standby up on a copy of its volume, where nobody sees it
    #[arg(long, conflicts_with_all = ["from", "to", "forced", "fail_in"])]
    silent: bool,
    /// Reason, for the trend
    #[arg(long, default_value = "by hand")]
    reason: String,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 green or safe, 2 red, 1 no answer, 3 refused: it is not safe to drain or upgrade \
                        this node now.\n\nExamples:\n  lockstep preflight --to muc-1\n  \
                        lockstep preflight --before-drain && kubectl delete pod muc-1-0\n  \
                        lockstep preflight --before-upgrade --to-release 0.2.0"
)]
pub(in super::super) struct PreflightArgs {
    #[command(flatten)]
    target: Target,
    /// Site that would take the writes over [default: the only standby]
    #[arg(long)]
    to: Option<SiteId>,
    /// Check whether this node may be taken away now: the others of its site carry on
    #[arg(long, conflicts_with_all = ["to", "before_upgrade"])]
    before_drain: bool,
    /// Check whether the program of this node may be replaced now
    #[arg(long, conflicts_with = "to")]
    before_upgrade: bool,
    /// Release that this node shall get [default: that of this command]
    #[arg(long, value_name = "VERSION", requires = "before_upgrade", value_parser = before::release)]
    to_release: Option<Release>,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

/// A step that drills have.
fn step_of_drills(text: &str) -> Result<FailoverStep, String> {
    let step = text.parse::<FailoverStep>().ok().filter(|step| FailoverStep::OF_DRILLS.contains(step));
    let names = FailoverStep::OF_DRILLS.map(FailoverStep::name).join(", ");
    step.ok_or_else(|| format!("it is not a step of a drill; the steps are {names}"))
}

pub(in super::super) async fn run(args: DrillArgs) -> Result<(), CliError> {
    match args.command {
        Some(DrillCommand::History { target, json }) => history(&target, json).await,
        None => drill(args.run).await,
    }
}

async fn history(target: &Target, as_json: bool) -> Result<(), CliError> {
    let drills: Drills = target.get("/v1/drills").await.map_err(CliError::unrefused)?;
    let of_copies: SilentDrills = target.get("/v1/drills/silent").await.map_err(CliError::unrefused)?;
    if as_json {
        return Ok(out::put(&json(&All { drills, silent: of_copies })?)?);
    }
    let of_copies = silent::trend(&of_copies);
    Ok(out::put(&format!("{}{}{of_copies}", trend(&drills), if of_copies.is_empty() { "" } else { "\n" }))?)
}

/// Both trends. The fields of the drills on a canary stand at the top, as before there were others.
#[derive(serde::Serialize)]
struct All {
    #[serde(flatten)]
    drills: Drills,
    silent: SilentDrills,
}

/// The site that was given, or the only one with a role.
async fn site(target: &Target, given: Option<SiteId>, option: &str, role: Role) -> Result<SiteId, CliError> {
    if let Some(given) = given {
        return Ok(given);
    }
    let status: SitesStatus = target.get("/v1/sites").await.map_err(CliError::unrefused)?;
    let sites: Vec<SiteId> = status.sites.into_iter().filter(|site| site.role == role).map(|site| site.site).collect();
    match &sites[..] {
        [only] => Ok(only.clone()),
        _ => Err(CliError::Usage(format!("{} sites are {}; name one with {option}", sites.len(), role.name()))),
    }
}

async fn drill(args: RunArgs) -> Result<(), CliError> {
    let target = &args.target.target;
    if args.silent {
        return silent::run(&args.target, args.reason, args.json).await;
    }
    let kind = if args.forced { FailoverKind::Forced } else { FailoverKind::Planned };
    let request = DrillRequest {
        kind,
        from: site(target, args.from, "--from", Role::Active).await?,
        to: site(target, args.to, "--to", Role::Standby).await?,
        fail_in: args.fail_in,
        reason: args.reason,
    };
    if request.from == request.to {
        return Err(CliError::Usage(format!("--from and --to are both {}; name two sites", request.to)));
    }
    let begun: DrillBegun = args.target.ask(Method::POST, "/v1/drills".to_owned(), &request).await?;
    let report = follow(target, begun.number).await?;
    out::put(&if args.json { json(&report)? } else { render(&report) })?;
    if report.is_green() { Ok(()) } else { Err(CliError::Degraded) }
}

/// Waits for the report of a drill.
async fn follow(target: &Target, number: u64) -> Result<DrillReport, CliError> {
    let end = Instant::now() + FOLLOW;
    while Instant::now() < end {
        // The node may be restarting. The next drill finds this one as killed.
        if let Ok(drills) = target.get::<Drills>("/v1/drills").await
            && let Some(report) = drills.past.into_iter().find(|report| report.number == number)
        {
            return Ok(report);
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(CliError::Failed(format!("drill {number} has left no report; look with `lockstep drill history`")))
}

/// A report as text.
fn render(report: &DrillReport) -> String {
    let mut steps = Table::new(&["step", "took"]);
    for one in &report.steps {
        steps.row(vec![one.step.name().to_owned(), seconds(Some(one.took_ms))]);
    }
    let red: String = report.red.iter().map(|why| format!("  {why}\n")).collect();
    let (kind, told) = (report.request.kind.name(), report.request.fail_in.map(FailoverStep::name));
    let head = told.map(|step| format!(" ({kind}, fail in: {step})")).unwrap_or_default();
    let verdict = match (report.is_green(), told) {
        (true, None) => "green".to_owned(),
        (true, Some(step)) => format!("green, although it was told to fail in {step}"),
        (false, None) => format!("RED\n{red}"),
        (false, Some(step)) => format!("RED, as it was told to fail in {step}\n{red}"),
    };
    format!(
        "drill {} {} -> {}{head}: {}\nsteps\n{}measured\n  \
         took writes after {}, green after {}, lost {} of {} commits\n",
        report.number,
        report.request.from,
        report.request.to,
        verdict.trim_end(),
        steps.render(),
        seconds(report.took_writes_ms),
        seconds(report.green_ms),
        report.lost,
        report.commits
    )
}

/// The trend as a table.
fn trend(drills: &Drills) -> String {
    let running = drills.running.as_ref().map(|one| format!("drill {} is in progress at {}\n", one.number, one.by));
    if drills.past.is_empty() {
        return running.unwrap_or_default() + "no drill has ended yet\n";
    }
    let mut table = Table::new(&["when", "drill", "by", "verdict", "took writes", "green", "lost", "reason"]);
    for one in &drills.past {
        let kind = one.request.kind.name();
        let injected = one.request.fail_in.map(|step| format!(", fail in: {}", step.name())).unwrap_or_default();
        table.row(vec![
            utc(one.at_ms),
            format!("{} {} -> {} ({kind}{injected})", one.number, one.request.from, one.request.to),
            one.actor.clone(),
            if one.is_green() { "green".to_owned() } else { "RED".to_owned() },
            seconds(one.took_writes_ms),
            seconds(one.green_ms),
            one.lost.to_string(),
            one.red.first().unwrap_or(&one.request.reason).clone(),
        ]);
    }
    running.unwrap_or_default() + &table.render()
}

pub(in super::super) async fn preflight(args: PreflightArgs) -> Result<(), CliError> {
    if args.before_drain || args.before_upgrade {
        let what = if args.before_drain { Before::Drain } else { Before::Upgrade(args.to_release) };
        return before::run(&args.target, what, args.json).await;
    }
    let to = site(&args.target, args.to, "--to", Role::Standby).await?;
    let call =
        Call::new(Method::POST, "/v1/preflight".to_owned(), &PreflightRequest { to }).map_err(CliError::failed)?;
    let found: Preflight = Client::new(&args.target.socket)
        .send(&call, Instant::now() + PREFLIGHT)
        .await
        .map_err(CliError::from)
        .map_err(CliError::unrefused)?;
    out::put(&if args.json { json(&found)? } else { checks(&found) })?;
    if found.is_green() { Ok(()) } else { Err(CliError::Degraded) }
}

fn checks(found: &Preflight) -> String {
    let mut table = Table::new(&["check", "verdict", "looked at"]);
    let mut red = Vec::new();
    for one in &found.checks {
        let verdict = if one.red.is_empty() { "green" } else { "RED" };
        table.row(vec![one.check.clone(), verdict.to_owned(), one.note.clone()]);
        red.extend(one.red.iter().map(|why| format!("{}: {why}", one.check)));
    }
    format!("preflight by {}\n{}{}", found.by, table.render(), titled("RED", red))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_that_is_told_to_fail_says_so_in_its_first_line() {
        let first_line = |fail_in: &str, red: &str| {
            let text = format!(
                r#"{{"number": 3, "at_ms": 1, "by": "b-0", "actor": "uid 0", "red": [{red}], "request":
                    {{"kind": "forced", "from": "a", "to": "b", {fail_in} "reason": "r"}}}}"#
            );
            let text = render(&serde_json::from_str(&text).unwrap());
            text.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(first_line("", ""), "drill 3 a -> b: green");
        assert_eq!(first_line("", r#""why""#), "drill 3 a -> b: RED");
        let told = r#""fail_in": "settle","#;
        let head = "drill 3 a -> b (forced, fail in: settle)";
        assert_eq!(first_line(told, r#""why""#), format!("{head}: RED, as it was told to fail in settle"));
        assert_eq!(first_line(told, ""), format!("{head}: green, although it was told to fail in settle"));
    }

    #[test]
    fn a_failure_is_injected_in_a_step_that_drills_have() {
        assert_eq!(step_of_drills("catch_up"), Ok(FailoverStep::CatchUp));
        for step in ["bogus", "check_loss"] {
            let why = step_of_drills(step).unwrap_err();
            assert!(why.contains("verify, stop, settle, catch_up, promote") && !why.contains("check_loss"), "{why}");
        }
    }
}
