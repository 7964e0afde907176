//! `lockstep parked` and `refresh`, the list of the quarantine, and the state of one node as text.

use lockstep_proto::Oid;
use lockstep_proto::capacity::StreamCapacity;
use lockstep_proto::debt::{HeldElsewhere, MOST_SHOWN};
use lockstep_proto::failover::HandoverStatus;
use lockstep_proto::keys::NodeSigning;
use lockstep_proto::peer::TlsStatus;
use lockstep_proto::status::{DueStatus, GuardStatus, HeldStatus, LeftLockStatus, NodeStatus, RefreshStatus};
use lockstep_proto::verify::LastVerified;

use super::operators::locks::render as render_locks;
use super::table::Table;
use super::target::Target;
use super::{CliError, background_text, json, reach_text};
use crate::base::clock::{Clock, SystemClock};
use crate::cli::out;
use crate::stages::failover::EXPOSURE;

/// A time of the last contact that says nothing: it is noted every ten seconds.
const FRESH_MS: u64 = 60_000;
/// The most projects whose states are printed.
const PROJECTS: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub target: Target,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

pub(super) async fn list(args: ListArgs, path: &str) -> Result<(), CliError> {
    let held: Vec<HeldStatus> = args.target.get(path).await?;
    Ok(out::put(&if args.json { json(&held)? } else { render_held(&held) })?)
}

pub(super) async fn due(args: ListArgs) -> Result<(), CliError> {
    let due: Vec<DueStatus> = args.target.get("/v1/refresh").await?;
    Ok(out::put(&if args.json { json(&due)? } else { render_due(&due) })?)
}

/// The status of one node as text.
pub(super) fn render(status: &NodeStatus) -> String {
    let incarnation = status.incarnation.map_or("none".to_owned(), |number| number.to_string());
    let head = format!(
        "site {}  node {}  incarnation {incarnation}  role {}  epoch {}\n{}\n",
        status.site,
        status.node,
        status.role,
        status.epoch,
        readiness(status)
    );
    let went_back = status.refdb_went_back.as_ref().map(|why| {
        format!(
            "THE REFDB WENT BACK IN TIME, no node commits: {why}\n\
             restore a newer backup of the refdb and restart the sidecars, or rebuild it (lockstep refdb rebuild)\n"
        )
    });
    let not_own = status.refdb_not_own.as_ref().map(|why| format!("NOT THE REFDB OF THIS NODE, no commits: {why}\n"));
    let (counters, events) = (&status.counters, &status.events);
    let bootstrap = status.bootstrap.as_ref();
    let bootstrap = bootstrap.map(|it| format!("takes everything from the refdb and from peers: {it}\n"));
    let totals = format!(
        "committed {}  refused {}  unknown {}  applied {}  skipped {}  caught up {}  published {}\n\
         parked {}  quarantined {}\n\
         events: unsent {}  waiting {} (the oldest for {:.1} s)  dropped {}\n",
        counters.committed,
        counters.refused,
        counters.unknown,
        counters.applied,
        counters.skipped,
        counters.caught_up,
        counters.published,
        status.parked,
        status.quarantined,
        events.unsent,
        events.waiting,
        events.oldest_ms as f64 / 1_000.0,
        events.dropped
    );
    let refresh = status.refresh.as_ref().map(refresh).unwrap_or_default();
    let handover: String = status.handover.iter().map(handover).collect();
    let tls = status.tls.as_ref().map(tls).unwrap_or_default();
    let signing = status.signing.as_ref().map(signing).unwrap_or_default();
    let went_back = went_back.or(not_own).unwrap_or_default();
    let capacity = status.capacity.as_ref().map(capacity).unwrap_or_default();
    let reading = [capacity, streams(status), sharing(status), journal(status), checkpoints(status)].concat();
    let sections = [debts(status), elsewhere(status), origins(status), reading].concat();
    [
        head,
        contact(status),
        went_back,
        bootstrap.unwrap_or_default(),
        coming_back(status),
        locked(status),
        uncommitted(status),
        totals,
        turns(status),
        guards(status),
        left_locks(status),
        verified(status),
        status.background.as_ref().map(background_text::render).unwrap_or_default(),
        status.aws.as_ref().map(reach_text::render).unwrap_or_default(),
        format!("exposure: {EXPOSURE}. Where its tables are in several Regions, `lockstep sites` says so instead\n"),
        refresh,
        handover,
        tls,
        signing,
        projects(status),
        sections,
        errors(status),
    ]
    .concat()
}

/// The findings of a node that comes back from a time in which its site was off, and the way out.
fn coming_back(status: &NodeStatus) -> String {
    let Some(back) = &status.coming_back else { return String::new() };
    let total = back.total.map_or("?".to_owned(), |total| total.to_string());
    let mut text = format!(
        "COMES BACK, takes no commits: Lockstep was off at this site; {} of {total} projects compared, {} differ\n",
        back.compared,
        back.differ.len() as u64 + back.more
    );
    for one in &back.differ {
        let refs = one.refs.map_or("cannot be compared".to_owned(), |refs| format!("{refs} refs"));
        text += &format!("  {}: {refs}, {}\n", one.project, one.first);
    }
    if back.more > 0 {
        text += &format!("  and {} more projects\n", back.more);
    }
    if !back.differ.is_empty() {
        text += "  `lockstep seed --again [PROJECT]` commits what is on the disk, `lockstep seed --set-aside PROJECT` \
                 keeps it as strays\n";
    }
    text
}

/// The locks of operators and bridges, maintenance included.
fn locked(status: &NodeStatus) -> String {
    let table = render_locks(status.locks.iter());
    if table.is_empty() { table } else { format!("locks: their holders alone commit\n{table}") }
}

/// The updates that nobody committed, because the site was fenced on their way.
fn uncommitted(status: &NodeStatus) -> String {
    if status.uncommitted.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["project", "ref", "old", "new", "user", "sent"]);
    for one in &status.uncommitted {
        let value = |value: Option<Oid>| value.map_or("-".to_owned(), |value| value.to_string());
        let (project, name) = (one.project.to_string(), one.name.to_string());
        table.row(vec![project, name, value(one.old), value(one.new), one.actor.clone(), ago(one.at_ms)]);
    }
    format!(
        "NOT COMMITTED: these were on their way when this site was fenced; see `lockstep stray list PROJECT`\n{}",
        table.render()
    )
}

/// When the refs of the node were verified last, and against whom.
fn verified(status: &NodeStatus) -> String {
    let line = |one: &LastVerified| {
        let of = if one.whole { "all projects" } else { "a part" };
        let result = if one.mismatches > 0 { format!("{} DIFFER", one.mismatches) } else { "equal".to_owned() };
        format!("verified against {}: {of}, {result} ({})\n", one.against, ago(one.at_ms))
    };
    status.verified.iter().map(line).collect()
}

fn readiness(status: &NodeStatus) -> String {
    let closed: Vec<&str> =
        status.latches.iter().filter(|latch| !latch.open).map(|latch| latch.name.as_str()).collect();
    match (status.ready, closed.is_empty()) {
        (true, _) if status.degraded_projects > 0 => {
            format!("ready, but {} projects are degraded here (see below)", status.degraded_projects)
        }
        (true, _) => "ready".to_owned(),
        (false, true) => "not ready".to_owned(),
        (false, false) => format!("not ready, waiting for: {}", closed.join(", ")),
    }
}

/// The batches that wait for a turn, and the users who were told to come again. Nothing if there are none.
fn turns(status: &NodeStatus) -> String {
    let Some(turns) = &status.turns else { return String::new() };
    let is_quiet = turns.shed.is_empty() && turns.classes.iter().all(|class| class.waiting == 0);
    if is_quiet {
        return String::new();
    }
    let classes = turns
        .classes
        .iter()
        .map(|one| format!("  {}: {} wait, {} were told to come again", one.class.name(), one.waiting, one.refused));
    let mut table = Table::new(&["user", "class", "project", "why", "told to come again", "last"]);
    for one in &turns.shed {
        table.row(vec![
            one.user.clone(),
            one.class.name().to_owned(),
            one.project.clone(),
            one.why.name().to_owned(),
            format!("{} times", one.count),
            ago(one.at_ms),
        ]);
    }
    let classes: String = classes.collect();
    format!(
        "turns: {} of {} commit{classes}\n{}",
        turns.running,
        turns.most_running,
        section("told to come again", &table)
    )
}

/// The age of the refs that a node serves while it is not in step. A node in step notes its time every ten seconds.
fn contact(status: &NodeStatus) -> String {
    let old = status.last_contact_ms.filter(|at| SystemClock.now_ms().saturating_sub(*at) > FRESH_MS);
    old.map_or(String::new(), |at| {
        format!("ready and in contact with the refdb {}: reads show the state of then, or a newer one\n", ago(at))
    })
}

fn handover(status: &HandoverStatus) -> String {
    let told = status.told.as_ref().zip(status.at_ms).map_or("nothing yet".to_owned(), |(notice, at)| {
        let writes = if notice.takes_writes { "takes writes" } else { "takes no writes" };
        format!("{}, epoch {}, {writes} ({})", notice.role.name(), notice.epoch, ago(at))
    });
    let problem = status.problem.as_ref().map(|why| format!("  NOT TAKEN, it is tried again: {why}"));
    format!("hand-over: {} was told: {told}{}\n", status.receiver, problem.unwrap_or_default())
}

fn signing(status: &NodeSigning) -> String {
    let key = status.key.map_or("none".to_owned(), |key| key.to_string());
    let required = if status.required { "required" } else { "not required" };
    let met: Vec<String> =
        status.unsigned.iter().filter(|(_, count)| **count > 0).map(|(end, count)| format!("{count} {end}")).collect();
    let met = if met.is_empty() { String::new() } else { format!("  records without a good one: {}", met.join(", ")) };
    format!("signing: {required}  key {key}{met}\n")
}

fn tls(status: &TlsStatus) -> String {
    let listen = status.listen.as_ref().map(|address| format!("  peers may call {address}")).unwrap_or_default();
    let (own, trust) = (days(status.expires), days(status.trust_expires));
    let problem = status.problem.as_ref().map(|why| format!("  THE NEW FILES CANNOT BE USED: {why}\n"));
    let names = status.names.join(", ");
    format!("tls: {names}  expires {own}  trust expires {trust}{listen}\n{}", problem.unwrap_or_default())
}

/// The time until an expiry (seconds since 1970) by this machine's clock, as text.
fn days(expires: i64) -> String {
    let now = i64::try_from(SystemClock.now_ms() / 1_000).unwrap_or(i64::MAX);
    match expires - now {
        ..=0 => "NOW: IT HAS EXPIRED".to_owned(),
        left @ ..172_800 => format!("in {} hours", left / 3_600),
        left => format!("in {} days", left / 86_400),
    }
}

/// The projects that are not in order, each with its state here.
fn projects(status: &NodeStatus) -> String {
    let mut table = Table::new(&["project", "state", "reason"]);
    for one in status.projects.iter().take(PROJECTS) {
        let reason = one.reason.clone().unwrap_or_else(|| "-".to_owned());
        table.row(vec![one.project.clone(), one.state.as_str().to_owned(), reason]);
    }
    let at_least = if status.projects.len() < MOST_SHOWN { "" } else { "at least " };
    let more = match status.projects.len().saturating_sub(PROJECTS) {
        0 => String::new(),
        more => format!("  and {at_least}{more} more projects: `lockstep status --json`\n"),
    };
    section("projects that are not in order", &table) + &more
}

fn debts(status: &NodeStatus) -> String {
    let mut table = Table::new(&["project", "refs", "transaction", "kind", "since", "tries", "next try", "reason"]);
    for debt in &status.degraded {
        let refs = if debt.refs.is_empty() { "all".to_owned() } else { debt.refs.join(", ") };
        table.row(vec![
            debt.project.clone(),
            if debt.takes_commits { refs } else { format!("{refs} (takes no commits here)") },
            debt.txn.as_ref().map_or("-".to_owned(), ToString::to_string),
            debt.kind.as_str().to_owned(),
            ago(debt.since_ms),
            debt.tries.to_string(),
            debt.next_try_ms.map_or("at the next start, or when asked".to_owned(), until),
            debt.reason.clone(),
        ]);
    }
    section("degraded here", &table)
}

fn elsewhere(status: &NodeStatus) -> String {
    let mut table = Table::new(&["node", "project", "bad transaction"]);
    for HeldElsewhere { node, project, txn } in &status.held_elsewhere {
        let txn = txn.as_ref().map_or("- (the project is behind there)".to_owned(), ToString::to_string);
        table.row(vec![node.to_string(), project.clone(), txn]);
    }
    section("degraded at other nodes", &table)
}

/// The time until `at_ms` (milliseconds since 1970) by this machine's clock, as text.
fn until(at_ms: u64) -> String {
    format!("in {}s", at_ms.saturating_sub(SystemClock.now_ms()).div_ceil(1_000))
}

fn guards(status: &NodeStatus) -> String {
    let line = |one: &GuardStatus| format!("hooks of {} are not in force: {}\n", one.project, one.reason);
    status.guards_off.iter().map(line).collect()
}

fn left_locks(status: &NodeStatus) -> String {
    let line = |one: &LeftLockStatus| {
        let (name, path, made) = (&one.project, &one.path, ago(one.since_ms));
        let told = "commits may not be visible here; if no git process uses it, remove";
        format!("a lock was left behind in {name} ({made}): {told} {path}\n")
    };
    status.left_locks.iter().map(line).collect()
}

fn refresh(status: &RefreshStatus) -> String {
    let oldest = status.oldest_ms.map(|oldest| format!(", the oldest moved {}", age(oldest / 1_000)));
    let counts = format!(
        "refresh: due {}{}  with Gerrit {}  done {}  failed {}\n",
        status.due,
        oldest.unwrap_or_default(),
        status.out,
        status.done,
        status.failed
    );
    let last = status.last_error.as_ref().zip(status.last_error_at_ms);
    counts + &last.map(|(why, at_ms)| format!("last refresh failure ({}): {why}\n", ago(at_ms))).unwrap_or_default()
}

fn origins(status: &NodeStatus) -> String {
    let mut table = Table::new(&["origin", "lag (transactions)", "lag (seconds)", "last applied"]);
    for origin in &status.origins {
        let last = origin.recent.first();
        table.row(vec![
            origin.site.to_string(),
            origin.lag_transactions.to_string(),
            format!("{:.1}", origin.lag_seconds),
            last.map_or("-".to_owned(), |applied| format!("{} {}", applied.project, applied.first_ref)),
        ]);
    }
    section("replication", &table)
}

fn journal(status: &NodeStatus) -> String {
    let mut table = Table::new(&["lane", "settled", "published", "depth", "in flight"]);
    for lane in &status.lanes {
        table.row(vec![
            lane.lane.to_string(),
            lane.settled.to_string(),
            lane.published.to_string(),
            lane.settled.saturating_sub(lane.published).to_string(),
            lane.in_flight.to_string(),
        ]);
    }
    section("journal (depth: settled and not yet published)", &table)
}

/// The capacity of the stream of this site, and the last look at it.
pub(super) fn capacity(capacity: &StreamCapacity) -> String {
    let holder = capacity.holder.as_ref().map_or("nobody".to_owned(), ToString::to_string);
    let stuck = if capacity.stuck { "NEEDS MORE SHARDS: " } else { "" };
    let (shards, changes) = (capacity.shards, capacity.calls_ms.len());
    format!(
        "own stream: {shards} shards, {changes} of 10 changes in 24 h; {stuck}{} (looked at by {holder})\n",
        capacity.told
    )
}

/// How the streams are read, where the node has a choice.
fn streams(status: &NodeStatus) -> String {
    let mut table = Table::new(&["stream", "read by", "reason"]);
    for one in &status.streams {
        let refused = if one.is_fallback { " (FAN-OUT IS REFUSED)" } else { "" };
        table.row(vec![one.stream.to_string(), format!("{}{refused}", one.way.as_str()), one.reason.clone()]);
    }
    section("streams", &table)
}

/// The sharing of reads with the other nodes of the site, and the source of each shard's records.
fn sharing(status: &NodeStatus) -> String {
    let Some(sharing) = &status.sharing else { return String::new() };
    let mut table = Table::new(&["stream", "shard", "records from", "read for the site by", "reason"]);
    for shard in &sharing.shards {
        let reader = shard.reader.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
        let origin = shard.origin.as_str().to_owned();
        table.row(vec![shard.stream.to_string(), shard.shard.clone(), origin, reader, shard.reason.clone()]);
    }
    let head = if sharing.shares { "shared reads" } else { "reads are not shared" };
    format!("{head}: {}\n{}", sharing.reason, section("shards", &table))
}

fn checkpoints(status: &NodeStatus) -> String {
    let mut table = Table::new(&["stream", "shard", "position"]);
    for checkpoint in &status.checkpoints {
        table.row(vec![checkpoint.stream.to_string(), checkpoint.shard.clone(), checkpoint.position.clone()]);
    }
    section("checkpoints", &table)
}

fn errors(status: &NodeStatus) -> String {
    let last = status.last_errors.first();
    last.map_or(String::new(), |error| {
        format!("last error ({}, {}): {}\n", error.stage, ago(error.at_ms), error.message)
    })
}

/// The time since `at_ms` (milliseconds since 1970) by this machine's clock, as text.
pub(super) fn ago(at_ms: u64) -> String {
    age(SystemClock.now_ms().saturating_sub(at_ms) / 1_000)
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s ago"),
        120..=7_199 => format!("{}m ago", seconds / 60),
        7_200..=172_799 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

fn section(title: &str, table: &Table) -> String {
    let text = table.render();
    if text.is_empty() { text } else { format!("{title}\n{text}") }
}

fn render_held(held: &[HeldStatus]) -> String {
    if held.is_empty() {
        return "nothing\n".to_owned();
    }
    let mut table = Table::new(&["entry", "project", "bytes", "since", "reason", "waits for"]);
    for one in held {
        table.row(vec![
            if one.entry.is_empty() { one.txn.clone() } else { one.entry.clone() },
            one.project.clone(),
            one.bytes.to_string(),
            ago(one.since_ms),
            one.reason.clone(),
            one.waits_for.join(", "),
        ]);
    }
    table.render()
}

fn render_due(due: &[DueStatus]) -> String {
    if due.is_empty() {
        return "nothing\n".to_owned();
    }
    let mut table = Table::new(&["subject", "moved", "with Gerrit", "failures"]);
    for one in due {
        let out = if one.out { "yes" } else { "no" };
        table.row(vec![one.subject.clone(), ago(one.since_ms), out.to_owned(), one.failures.to_string()]);
    }
    table.render()
}

#[cfg(test)]
mod tests;
