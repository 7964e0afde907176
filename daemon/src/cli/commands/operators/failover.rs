//! `lockstep failover`: plans and executes the move of one site's writes to another, and follows it.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use http::Method;
use lockstep_proto::SiteId;
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverAct, FailoverKind, FailoverOutcome, FailoverPlan, FailoverStep,
    PlanRequest, Role, SitesStatus,
};
use tokio::time::Instant;

use super::super::CliError;
use super::super::target::{Audit, OperatorTarget, Target};
use super::failover_text::{follow_up, has_red, paused, plan as render_plan, progress, summary};
use crate::cli::out;
use crate::clients::api_client::Call;

/// The pause between two looks at a failover.
const LOOK: Duration = Duration::from_millis(250);

/// How long a command that follows a failover waits after its end until the Gerrits of the target have looked at
/// everything. A node writes its digest within a second or two after it has begun to take writes.
const REFRESHED: Duration = Duration::from_secs(5);

/// Deadline of a plan. After eight seconds the sidecar says that the refdb does not answer it. The rest is for a busy
/// machine, on which the operator would miss the reason otherwise.
const PLAN: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum FailoverCommand {
    /// Show the steps, the blockers and the hash of a failover; change nothing
    #[command(after_help = "Examples:\n  lockstep failover plan --from eu-aws --to muc-1\n  \
                            lockstep failover plan --from eu-aws --to muc-1 --forced --json | jq -r .hash")]
    Plan {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        sites: Between,
        #[command(flatten)]
        options: PlanOptions,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Execute a plan and follow it until its end
    #[command(
        after_help = "Exit codes: 0 done, 1 failed, aborted or no answer, 2 it holds itself or something is out of \
                            order,\n3 refused: nothing was changed, 64 wrong usage.\n\nExamples:\n  lockstep \
                            failover execute --from eu-aws --to muc-1 --reason 'maintenance'\n  \
                            lockstep failover execute --from eu-aws --to muc-1 --forced --reason 'Region down' --yes \
                            --plan-hash 3f0c..."
    )]
    Execute(ExecuteArgs),
    /// Show the failover that is in progress, or the last one
    #[command(after_help = "Exit codes: 0 shown, 1 no answer; with --watch, those of `lockstep failover execute`.\n\n\
                            Example:\n  lockstep failover status --watch")]
    Status {
        #[command(flatten)]
        target: Target,
        /// Print all fields as JSON instead of text
        #[arg(long)]
        json: bool,
        /// Follow the failover until its end
        #[arg(long)]
        watch: bool,
    },
    /// Begin no further step of the failover that is in progress
    Pause(ActArgs),
    /// Go on with a paused failover
    Resume(ActArgs),
    /// End the failover before its promotion; the source becomes active again
    Abort(ActArgs),
}

/// The source and the target of a failover.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct Between {
    /// Site that stops taking writes
    #[arg(long)]
    from: SiteId,
    /// Site that takes writes afterwards
    #[arg(long)]
    to: SiteId,
}

/// The options that shape a plan.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct PlanOptions {
    /// The source is gone or does not answer: fence it instead of waiting for it
    #[arg(long)]
    forced: bool,
    /// Hold before the promotion if the target lacks more than this number of the source's transactions
    #[arg(long)]
    max_loss: Option<u64>,
    /// Step to leave out: verify or probe
    #[arg(long)]
    without: Vec<FailoverStep>,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct ExecuteArgs {
    #[command(flatten)]
    sites: Between,
    #[command(flatten)]
    options: ExecuteOptions,
}

/// The options and guards of an execution.
#[derive(Debug, clap::Args)]
pub(in super::super) struct ExecuteOptions {
    #[command(flatten)]
    pub(in super::super) target: OperatorTarget,
    #[command(flatten)]
    pub(in super::super) plan: PlanOptions,
    /// Reason, for the audit trail
    #[arg(long)]
    reason: String,
    /// Do not ask for a confirmation; needs --plan-hash
    #[arg(long, requires = "plan_hash")]
    yes: bool,
    /// Hash of the plan that you have seen; with another plan, nothing is changed
    #[arg(long)]
    plan_hash: Option<String>,
    /// Epoch that the source must have; with another epoch, nothing is changed
    #[arg(long)]
    expect_epoch: Option<u64>,
    /// Site that must be active; with other active sites than those given, nothing is changed
    #[arg(long)]
    expect_active: Vec<SiteId>,
    /// Step that waits for `lockstep failover resume --reason TEXT` in another shell, while this command goes on
    /// following: verify, stop, settle, catch_up, check_loss, promote, serve, probe or stand_by
    #[arg(long)]
    pause_before: Vec<FailoverStep>,
    /// Return at once instead of following the failover
    #[arg(long)]
    no_wait: bool,
    /// Print all fields of the failover as JSON at its end; texts go to standard error
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct ActArgs {
    #[command(flatten)]
    target: OperatorTarget,
    #[command(flatten)]
    audit: Audit,
}

impl PlanOptions {
    /// The request of a plan between two sites with these options.
    pub(in super::super) fn request(&self, from: SiteId, to: SiteId) -> PlanRequest {
        let kind = if self.forced { FailoverKind::Forced } else { FailoverKind::Planned };
        PlanRequest { kind, from, to, max_loss: self.max_loss, without: self.without.clone() }
    }
}

pub(in super::super) async fn run(command: FailoverCommand) -> Result<(), CliError> {
    match command {
        FailoverCommand::Plan { target, sites, options, json } => {
            show_plan(&target, &options.request(sites.from, sites.to), json).await
        }
        FailoverCommand::Execute(ExecuteArgs { sites, options }) => {
            execute(options.plan.request(sites.from, sites.to), options).await
        }
        FailoverCommand::Status { target, json, watch } => status(&target, json, watch).await,
        FailoverCommand::Pause(args) => act(args, FailoverAct::Pause).await,
        FailoverCommand::Resume(args) => act(args, FailoverAct::Resume).await,
        FailoverCommand::Abort(args) => act(args, FailoverAct::Abort).await,
    }
}

/// Prints a plan. Refuses one with blockers.
pub(in super::super) async fn show_plan(target: &Target, request: &PlanRequest, json: bool) -> Result<(), CliError> {
    let plan = plan(target, request).await?;
    if !json {
        sites_exist(&plan)?;
    }
    out::put(&if json { super::super::json(&plan)? } else { render_plan(&plan) })?;
    executable(&plan)
}

async fn plan(target: &Target, request: &PlanRequest) -> Result<FailoverPlan, CliError> {
    let call = Call::new(Method::POST, "/v1/failover/plan".to_owned(), request).map_err(CliError::failed)?;
    target.client()?.send(&call, Instant::now() + PLAN).await.map_err(CliError::from)
}

/// Refuses a plan of a site that does not exist: its steps would mean nothing.
fn sites_exist(plan: &FailoverPlan) -> Result<(), CliError> {
    let listed: BTreeSet<&SiteId> = plan.sites.iter().map(|site| &site.site).collect();
    match [&plan.from, &plan.to].into_iter().find(|site| !listed.contains(site)) {
        None => Ok(()),
        Some(other) => Err(CliError::Refused(format!(
            "{other} is not a site; the sites are {}; nothing was changed",
            names(&listed)
        ))),
    }
}

fn names(sites: &BTreeSet<&SiteId>) -> String {
    sites.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Refuses a plan with blockers.
fn executable(plan: &FailoverPlan) -> Result<(), CliError> {
    match plan.blockers.is_empty() {
        true => Ok(()),
        false => Err(CliError::Refused(format!("the plan has {} blockers", plan.blockers.len()))),
    }
}

/// Executes a plan that the operator has seen, and follows it.
pub(in super::super) async fn execute(request: PlanRequest, args: ExecuteOptions) -> Result<(), CliError> {
    let json = args.json;
    let seen = plan(&args.target.target, &request).await?;
    sites_exist(&seen)?;
    say(json, &render_plan(&seen))?;
    executable(&seen)?;
    expect_epoch(&seen, args.expect_epoch)?;
    expect_active(&seen, &args.expect_active)?;
    let plan_hash = match args.plan_hash {
        Some(hash) if args.yes => hash,
        given => {
            confirm(&seen, json)?;
            given.unwrap_or(seen.hash)
        }
    };
    let request = ExecuteRequest { plan: request, plan_hash, reason: args.reason, pause_before: args.pause_before };
    let begun: Failover = args.target.ask(Method::POST, "/v1/failover".to_owned(), &request).await?;
    say(json, &format!("failover {} has begun\n", begun.number))?;
    match (args.no_wait, json) {
        (false, _) => follow(&args.target.target, begun.number, json).await,
        (true, true) => Ok(out::put(&super::super::json(&begun)?)?),
        (true, false) => Ok(()),
    }
}

/// Prints a text for people. With `--json`, standard output is for the JSON alone.
fn say(json: bool, text: &str) -> Result<(), CliError> {
    if json {
        eprint!("{text}");
        return Ok(());
    }
    Ok(out::put(text)?)
}

fn expect_epoch(plan: &FailoverPlan, expected: Option<u64>) -> Result<(), CliError> {
    let epoch = plan.sites.iter().find(|site| site.site == plan.from).map(|site| site.epoch);
    match expected {
        Some(expected) if epoch != Some(expected) => Err(CliError::Refused(format!(
            "--expect-epoch {expected}: the epoch of {} is {}; nothing was changed",
            plan.from,
            epoch.unwrap_or_default()
        ))),
        _ => Ok(()),
    }
}

/// Refuses a plan in which other sites are active than the operator expects. The hash of the plan covers the roles, so
/// they are the same when it is executed.
fn expect_active(plan: &FailoverPlan, expected: &[SiteId]) -> Result<(), CliError> {
    let active: BTreeSet<&SiteId> =
        plan.sites.iter().filter(|site| site.role == Role::Active).map(|site| &site.site).collect();
    let expected: BTreeSet<&SiteId> = expected.iter().collect();
    if expected.is_empty() || expected == active {
        return Ok(());
    }
    let (expected, active) = (names(&expected), if active.is_empty() { "none".to_owned() } else { names(&active) });
    Err(CliError::Refused(format!("--expect-active {expected}: active now: {active}; nothing was changed")))
}

/// Asks the operator to type the name of the target.
fn confirm(plan: &FailoverPlan, json: bool) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("this is no terminal; give --yes --plan-hash {}", plan.hash)));
    }
    say(json, &format!("type the name of the target ({}) to go on: ", plan.to))?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).map_err(CliError::failed)?;
    match typed.trim() == plan.to.as_str() {
        true => Ok(()),
        false => Err(CliError::Refused("not confirmed; nothing was changed".to_owned())),
    }
}

/// Follows a failover until its end. The failover goes on without this command.
async fn follow(target: &Target, number: u64, json: bool) -> Result<(), CliError> {
    let (mut shown, mut said) = (String::new(), String::new());
    loop {
        let says = match last(target).await {
            Ok(SitesStatus { failover: Some(failover), waits_for, .. }) if failover.number == number => {
                let now = progress(&failover);
                if now != shown {
                    say(json, now.strip_prefix(shown.as_str()).unwrap_or(&now))?;
                    shown = now;
                }
                if failover.end.is_some() || (failover.paused && failover.held.is_some()) {
                    return conclude(target, &failover, json).await;
                }
                paused(&failover).or(waits_for).unwrap_or_default()
            }
            Ok(_) => return Err(CliError::Failed(format!("failover {number} is not the last one any more"))),
            // The node may be restarting. The failover goes on without it.
            Err(error) => error.to_string(),
        };
        if says != said && !says.is_empty() {
            eprintln!("  ... {says}");
        }
        said = says;
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends the command, after the failover has ended or holds itself: shows the rest, and decides the exit code.
async fn conclude(target: &Target, failover: &Failover, json: bool) -> Result<(), CliError> {
    let verdict = match failover.end.as_ref().map(|end| end.outcome) {
        Some(FailoverOutcome::Done) if !failover.unserved => {
            match show_follow_up(target, failover.number, json).await? && !has_red(failover) {
                true => Ok(()),
                false => Err(CliError::Degraded),
            }
        }
        Some(FailoverOutcome::Done) | None => Err(CliError::Degraded),
        Some(FailoverOutcome::Aborted) => Err(CliError::Failed(summary(failover))),
    };
    if json {
        out::put(&super::super::json(failover)?)?;
    } else if failover.end.is_none() {
        out::put(&format!("{}\n", summary(failover)))?;
    }
    verdict
}

/// Shows the work that goes on beside a failover which is done, once it has ended or takes too long. Answers whether no
/// Gerrit of the target has to look at anything. A sidecar of an earlier release does not tell it: that counts as
/// nothing to do.
async fn show_follow_up(target: &Target, number: u64, json: bool) -> Result<bool, CliError> {
    let end = Instant::now() + REFRESHED;
    loop {
        let late = Instant::now() >= end;
        match last(target).await {
            Ok(SitesStatus { failover: Some(failover), follow_up: Some(work), .. }) if failover.number == number => {
                if late || work.is_refreshed() {
                    say(json, &follow_up(&failover.to, &work))?;
                    return Ok(work.is_refreshed());
                }
            }
            Ok(_) => return Ok(true),
            Err(error) if late => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn last(target: &Target) -> Result<SitesStatus, CliError> {
    target.get("/v1/sites").await
}

async fn status(target: &Target, json: bool, watch: bool) -> Result<(), CliError> {
    let SitesStatus { failover, waits_for, follow_up: work, .. } = last(target).await?;
    let Some(failover) = failover else {
        return Ok(out::put(if json { "null\n" } else { "there was no failover yet\n" })?);
    };
    if watch && failover.end.is_none() {
        return follow(target, failover.number, json).await;
    }
    if json {
        return Ok(out::put(&super::super::json(&failover)?)?);
    }
    let state = if failover.end.is_none() { format!("{}\n", summary(&failover)) } else { String::new() };
    let waits = waits_for.map(|why| format!("  ... {why}\n")).unwrap_or_default();
    let beside = work.map(|work| follow_up(&failover.to, &work)).unwrap_or_default();
    Ok(out::put(&format!("{}{state}{waits}{beside}", progress(&failover)))?)
}

async fn act(args: ActArgs, act: FailoverAct) -> Result<(), CliError> {
    let failover = last(&args.target.target).await?.failover.filter(Failover::is_in_progress);
    let failover = failover.ok_or_else(|| CliError::Refused("no failover is in progress".to_owned()))?;
    let step = if act == FailoverAct::Resume { seen(&failover) } else { None };
    let request = ActRequest { act, number: failover.number, step, reason: args.audit.reason };
    let after: Failover = args.target.ask(Method::POST, "/v1/failover/acts".to_owned(), &request).await?;
    Ok(out::put(&if args.audit.json { super::super::json(&after)? } else { format!("{}\n", summary(&after)) })?)
}

/// The step before which a failover is paused. A sidecar of an earlier release does not know the field, so it is left
/// out of a failover that such a sidecar can read.
fn seen(failover: &Failover) -> Option<FailoverStep> {
    let current = failover.current().filter(|_| failover.paused)?;
    let is_readable = failover.steps.iter().all(|one| one.step.is_of_first_release());
    (!is_readable).then_some(current.step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_a_site_that_does_not_exist_is_refused_with_the_names_of_the_sites() {
        let plan = |from: &str, to: &str| -> FailoverPlan {
            let site = |name: &str| {
                format!(r#"{{"site": "{name}", "role": "active", "epoch": 1, "nodes": [], "unpublished": 0}}"#)
            };
            let sites = ["b", "a"].map(site).join(", ");
            let text = format!(
                r#"{{"kind": "planned", "from": "{from}", "to": "{to}", "sites": [{sites}], "steps": [],
                    "blockers": [], "warnings": [], "behind": 0, "hash": "5d9b1c0f1c0e4a52"}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert!(sites_exist(&plan("a", "b")).is_ok());
        for (from, to) in [("x", "b"), ("a", "x")] {
            let refused = sites_exist(&plan(from, to)).unwrap_err().to_string();
            assert!(refused.contains("x is not a site; the sites are a, b; nothing was changed"), "{refused}");
        }
    }
}
