//! `lockstep lock` and `lockstep maintenance`: locks of projects and refs, and maintenance of projects and sites.

use std::time::Duration;

use http::Method;
use lockstep_proto::locks::{
    AcquireRequest, Acquired, BreakRequest, LockKind, LockList, LockStatus, LockTarget, ReleaseRequest, RenewRequest,
};
use lockstep_proto::{ProjectName, RefName, SiteId};
use tokio::time::{Instant, sleep};

use super::super::CliError;
use super::super::table::Table;
use super::super::target::{self, Audit, OperatorTarget, Target};
use crate::base::clock::{Clock, SystemClock};
use crate::base::time_text::{seconds_until, short, utc};
use crate::cli::out;

/// The pause between two repetitions of an acquisition that is not held yet.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum LockCommand {
    /// Lock a project or one of its refs: only commits with the token get in
    #[command(
        after_help = "Examples:\n  lockstep lock acquire tools/build --owner alice --reason 'repack' --ttl 600\n  \
                            lockstep lock acquire tools/build refs/heads/main --reason 'release'\n\nPush under the \
                            lock with `git push -o lockstep-lock=TOKEN`, or with LOCKSTEP_LOCK=TOKEN in the \
                            environment of the server's git."
    )]
    Acquire(AcquireArgs),
    /// Renew a lock: its time to live begins again
    #[command(after_help = "Example:\n  lockstep lock renew tools/build --token 17-00c0ffee00c0ffee")]
    Renew(RenewArgs),
    /// Release a lock by its token
    #[command(after_help = "Example:\n  lockstep lock release tools/build --token 17-00c0ffee00c0ffee")]
    Release(ReleaseArgs),
    /// List all locks, maintenance included
    List(ListArgs),
    /// Break a lock without its token: its holder commits nothing any more
    #[command(after_help = "Example:\n  lockstep lock break tools/build --reason 'alice is away'")]
    Break(BreakArgs),
}

#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum MaintenanceCommand {
    /// Refuse the writes of a project or a site, with a reason that users read; reads go on
    #[command(
        after_help = "Examples:\n  lockstep maintenance on --project tools/build --reason 'move to new disks'\n  \
                            lockstep maintenance on --site muc-1 --reason 'new switches' --until 2026-12-01T20:00:00Z"
    )]
    On(OnArgs),
    /// End a maintenance of a project or site
    #[command(after_help = "Example:\n  lockstep maintenance off --site muc-1 --reason 'done'")]
    Off(OffArgs),
    /// List projects and sites in maintenance
    List(ListArgs),
}

/// The locked thing of `lockstep lock`.
#[derive(Debug, clap::Args)]
struct Locked {
    /// Name of the project; it need not exist
    project: ProjectName,
    /// Full name of one ref [default: the whole project]
    #[arg(value_name = "REF")]
    name: Option<RefName>,
}

/// The thing of `lockstep maintenance`.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Maintained {
    /// Name of the project
    #[arg(long)]
    project: Option<ProjectName>,
    /// Name of the site whose nodes take no commits
    #[arg(long)]
    site: Option<SiteId>,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct AcquireArgs {
    #[command(flatten)]
    target: OperatorTarget,
    #[command(flatten)]
    locked: Locked,
    /// Owner, as users read it [default: your user name]
    #[arg(long)]
    owner: Option<String>,
    /// Seconds without a renewal after which the lock ends [default: it does not end by itself]
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    audit: Audit,
}

#[derive(Debug, clap::Args)]
struct Wait {
    /// Seconds to wait until every node that can commit obeys
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct RenewArgs {
    #[command(flatten)]
    target: OperatorTarget,
    #[command(flatten)]
    locked: Locked,
    /// Token of the lock
    #[arg(long)]
    token: String,
    /// Another time to live, in seconds [default: as before]
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct ReleaseArgs {
    #[command(flatten)]
    target: OperatorTarget,
    #[command(flatten)]
    locked: Locked,
    /// Token of the lock
    #[arg(long)]
    token: String,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct BreakArgs {
    #[command(flatten)]
    target: OperatorTarget,
    #[command(flatten)]
    locked: Locked,
    #[command(flatten)]
    audit: Audit,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct ListArgs {
    #[command(flatten)]
    target: Target,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct OnArgs {
    #[command(flatten)]
    target: OperatorTarget,
    #[command(flatten)]
    maintained: Maintained,
    /// Expected end, which users read; the maintenance ends by itself about then: 2026-12-01T20:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    audit: Audit,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct OffArgs {
    #[command(flatten)]
    target: OperatorTarget,
    #[command(flatten)]
    maintained: Maintained,
    #[command(flatten)]
    audit: Audit,
}

impl From<Locked> for LockTarget {
    fn from(Locked { project, name }: Locked) -> Self {
        Self { project: Some(project), name, site: None }
    }
}

impl From<Maintained> for LockTarget {
    fn from(Maintained { project, site }: Maintained) -> Self {
        Self { project, name: None, site }
    }
}

pub(in super::super) async fn lock(command: LockCommand) -> Result<(), CliError> {
    match command {
        LockCommand::Acquire(AcquireArgs { target, locked, owner, ttl, wait, audit }) => {
            let request = AcquireRequest {
                request_id: target::request_id(),
                kind: LockKind::Lock,
                target: locked.into(),
                owner: owner.unwrap_or_else(user),
                reason: audit.reason,
                ttl_ms: ttl.map(milliseconds),
                until: None,
            };
            acquire(&target, &request, wait.wait, audit.json).await
        }
        LockCommand::Renew(RenewArgs { target, locked, token, ttl, json }) => {
            let request = RenewRequest { token, ttl_ms: ttl.map(milliseconds) };
            let list = target.ask(Method::POST, "/v1/locks/renew".to_owned(), &request).await?;
            put(json, &list, LockTarget::from(locked))
        }
        LockCommand::Release(ReleaseArgs { target, locked, token, json }) => {
            let (target_of, request) = (LockTarget::from(locked), ReleaseRequest { token });
            let list: LockList = target.change(Method::POST, "/v1/locks/release".to_owned(), &request).await?;
            match list.locks.iter().find(|lock| lock.target == target_of && lock.kind == LockKind::Lock) {
                None => put(json, &list, target_of),
                Some(other) => Err(CliError::Refused(format!(
                    "{target_of} is locked by {} with another token; nothing of it was released",
                    other.owner
                ))),
            }
        }
        LockCommand::List(args) => list(args, &LockKind::ALL).await,
        LockCommand::Break(BreakArgs { target, locked, audit }) => {
            end(&target, LockKind::Lock, locked.into(), audit).await
        }
    }
}

pub(in super::super) async fn maintenance(command: MaintenanceCommand) -> Result<(), CliError> {
    match command {
        MaintenanceCommand::On(OnArgs { target, maintained, until, wait, audit }) => {
            let ttl_ms = match &until {
                Some(until) => Some(milliseconds(
                    seconds_until(until, SystemClock.now_ms())
                        .map_err(|why| CliError::Usage(format!("--until {until}: {why}")))?,
                )),
                None => None,
            };
            let request = AcquireRequest {
                request_id: target::request_id(),
                kind: LockKind::Maintenance,
                target: maintained.into(),
                owner: user(),
                reason: audit.reason,
                ttl_ms,
                until,
            };
            acquire(&target, &request, wait.wait, audit.json).await
        }
        MaintenanceCommand::Off(OffArgs { target, maintained, audit }) => {
            end(&target, LockKind::Maintenance, maintained.into(), audit).await
        }
        MaintenanceCommand::List(args) => list(args, &[LockKind::Maintenance]).await,
    }
}

/// Repeats an acquisition until the lock is held, or the time is over.
async fn acquire(
    target: &OperatorTarget,
    request: &AcquireRequest,
    wait_seconds: u64,
    json: bool,
) -> Result<(), CliError> {
    let deadline = Instant::now() + Duration::from_secs(wait_seconds);
    loop {
        let answer: Acquired = target.change(Method::POST, "/v1/locks".to_owned(), request).await?;
        if !answer.held && Instant::now() < deadline {
            sleep(PAUSE).await;
            continue;
        }
        if json {
            out::put(&super::super::json(&answer)?)?;
        }
        let Acquired { token, held, waits_for, .. } = &answer;
        if *held {
            return if json { Ok(()) } else { Ok(out::put(&held_text(request, token))?) };
        }
        return Err(CliError::Failed(format!(
            "{} keeps writes out, and is not held yet (token {token}): these nodes can commit and may not obey it: {}; \
             give them time, or end it with `lockstep {} --reason TEXT`",
            request.target,
            waits_for.join(", "),
            if request.kind == LockKind::Lock { "lock break" } else { "maintenance off" }
        )));
    }
}

fn held_text(request: &AcquireRequest, token: &str) -> String {
    let AcquireRequest { kind, target, .. } = request;
    let what = match kind {
        LockKind::Lock => "is locked",
        LockKind::Maintenance => "is in maintenance",
    };
    format!("{target} {what}\ntoken {token}\n")
}

/// Breaks a lock, and shows those that are left.
async fn end(target: &OperatorTarget, kind: LockKind, of: LockTarget, audit: Audit) -> Result<(), CliError> {
    let request = BreakRequest { kind, target: of.clone(), reason: audit.reason };
    let list = target.ask(Method::POST, "/v1/locks/break".to_owned(), &request).await?;
    put(audit.json, &list, of)
}

/// Shows a list after a change, or the locks of a target alone as text.
fn put(json: bool, list: &LockList, target: LockTarget) -> Result<(), CliError> {
    let own = list.locks.iter().filter(|lock| lock.target == target);
    let text = match render(own) {
        text if text.is_empty() => format!("{target} is not locked\n"),
        text => text,
    };
    Ok(out::put(&if json { super::super::json(list)? } else { text })?)
}

async fn list(args: ListArgs, kinds: &[LockKind]) -> Result<(), CliError> {
    let mut list: LockList = args.target.get("/v1/locks").await.map_err(CliError::unrefused)?;
    list.locks.retain(|lock| kinds.contains(&lock.kind));
    let text = match render(list.locks.iter()) {
        text if text.is_empty() => "none\n".to_owned(),
        text => text,
    };
    Ok(out::put(&if args.json { super::super::json(&list)? } else { text })?)
}

/// Locks as a table. Empty if there are none.
pub(in super::super) fn render<'a>(locks: impl Iterator<Item = &'a LockStatus>) -> String {
    let mut table = Table::new(&["id", "kind", "of", "owner", "held", "since", "ends", "reason"]);
    for lock in locks {
        let ends = match (&lock.until, lock.ttl_ms) {
            (Some(until), _) => format!("about {until}"),
            (None, Some(ttl)) => format!("{} after a renewal", short(ttl)),
            (None, None) => "when released".to_owned(),
        };
        table.row(vec![
            lock.id.to_string(),
            lock.kind.name().to_owned(),
            lock.target.to_string(),
            lock.owner.clone(),
            if lock.held { "yes" } else { "not yet" }.to_owned(),
            utc(lock.since_ms),
            ends,
            lock.reason.clone(),
        ]);
    }
    table.render()
}

fn milliseconds(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000)
}

/// The user who runs the command.
fn user() -> String {
    target::actor().filter(|user| !user.is_empty()).unwrap_or_else(|| "an operator".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_locks_tells_when_each_of_them_ends() {
        let lock = |id, ttl_ms, until: Option<&str>| LockStatus {
            id,
            kind: LockKind::Lock,
            target: LockTarget::project("p".parse().unwrap()),
            owner: "alice".to_owned(),
            reason: "repack".to_owned(),
            held: id > 1,
            by: "uid 0".to_owned(),
            since_ms: 0,
            renewals: 0,
            ttl_ms,
            until: until.map(str::to_owned),
        };
        let text = render([lock(1, None, None), lock(2, Some(600_000), None), lock(3, Some(1), Some("8 pm"))].iter());
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert!(rows[0].contains("not yet") && rows[0].contains("when released"), "{text}");
        assert!(rows[1].contains("10 min after a renewal") && rows[2].contains("about 8 pm"), "{text}");
        assert_eq!(render([].iter()), "");
    }
}
