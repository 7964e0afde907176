//! `lockstep preflight --before-drain` and `--before-upgrade`: whether automation may take this node away now, or
//! replace its program. A pure function of the overview of all sites and of the node's status.
//!
//! It refuses what it cannot know: a node that has left no fresh digest is neither ready nor of a known release.

use std::collections::BTreeMap;

use lockstep_proto::failover::Role;
use lockstep_proto::overview::{DIGEST_FORMAT, NodeDigest, NodeOverview, Overview, SiteOverview};
use lockstep_proto::status::NodeStatus;
use serde::Serialize;

use super::super::table::{Table, titled};
use super::super::target::Target;
use super::super::{CliError, json};
use crate::cli::out;
use crate::node::doctor::release::Release;

/// The most settled slots of a node that the event log lacks. Its successor or a sibling publishes them later.
const MOST_UNPUBLISHED: u64 = 1_000;
/// The most seconds that a sibling may be behind a stream.
const MOST_LAG_SECONDS: f64 = 30.0;
/// The most milliseconds for which a sibling's Gerrit may not have looked at a subject.
const MOST_REFRESH_MS: u64 = 60_000;

/// The change of a node that automation is about to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// The node is taken away for a while.
    Drain,
    /// The program of the node is replaced by this release, or by that of this command.
    Upgrade(Option<Release>),
}

/// A reason why the change is not safe now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Blocker {
    /// The rule that is not met.
    check: &'static str,
    /// The fact that is in the way.
    text: String,
    /// The next step of the operator.
    remedy: String,
}

/// The output with `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    before: &'static str,
    site: &'a str,
    node: &'a str,
    safe: bool,
    blockers: &'a [Blocker],
    notes: &'a [String],
}

/// The release in an argument.
pub(super) fn release(text: &str) -> Result<Release, String> {
    Release::find(text).ok_or_else(|| "write a release such as 0.2.0".to_owned())
}

pub(super) async fn run(target: &Target, before: Before, as_json: bool) -> Result<(), CliError> {
    let status: NodeStatus = target.get("/v1/status").await.map_err(CliError::unrefused)?;
    let overview: Overview = target.get("/v1/overview").await.map_err(CliError::unrefused)?;
    let (blockers, notes) = (blockers(&overview, &status, before), notes(&overview, &status));
    let (site, node) = (status.site.as_str(), status.node.as_str());
    let name = if before == Before::Drain { "drain" } else { "upgrade" };
    let report = Report { before: name, site, node, safe: blockers.is_empty(), blockers: &blockers, notes: &notes };
    out::put(&if as_json { json(&report)? } else { render(&report) })?;
    match blockers.len() {
        0 => Ok(()),
        count => Err(CliError::Refused(format!("not safe before the {name} of {node}: {count} blocker(s)"))),
    }
}

fn render(report: &Report<'_>) -> String {
    let Report { before, site, node, .. } = report;
    let mut table = Table::new(&["blocker", "reason", "next step"]);
    for one in report.blockers {
        table.row(vec![one.check.to_owned(), one.text.clone(), one.remedy.clone()]);
    }
    let verdict = if report.safe { "safe" } else { "NOT SAFE" };
    format!("before the {before} of {node} at {site}: {verdict}\n{}{}", table.render(), titled("notes", report.notes))
}

fn blocker(check: &'static str, text: impl ToString, remedy: impl ToString) -> Blocker {
    Blocker { check, text: text.to_string(), remedy: remedy.to_string() }
}

/// Everything that is in the way of the change.
fn blockers(overview: &Overview, status: &NodeStatus, before: Before) -> Vec<Blocker> {
    let mut found = Vec::new();
    if let Some(why) = &overview.refdb_went_back {
        found.push(blocker(
            "refdb",
            format!("no node commits: {why}"),
            "see docs/operations.md, A refdb that went back",
        ));
    }
    if let Some(running) = overview.failover.as_ref().filter(|one| one.is_in_progress()) {
        let text = format!("failover {} is in progress", running.number);
        found.push(blocker("failover", text, "wait for its end, or end it: `lockstep failover status`"));
    }
    match overview.sites.iter().find(|site| site.status.site == status.site) {
        Some(site) => found.extend(siblings(site, status)),
        None => found.push(blocker("site", format!("{} is not in the refdb", status.site), "look at `lockstep sites`")),
    }
    found.extend(backlog(status));
    if let Before::Upgrade(release) = before {
        found.extend(releases(overview, status, release));
    }
    found
}

/// Whether the other nodes of the site can do without this one.
fn siblings(site: &SiteOverview, status: &NodeStatus) -> Vec<Blocker> {
    let siblings = || site.nodes.iter().filter(|node| node.node != status.node && !node.expelled);
    let mut found: Vec<Blocker> = siblings().filter_map(unready).collect();
    if site.status.role != Role::Active {
        return found;
    }
    let name = &status.site;
    if siblings().next().is_none() {
        let text = format!("it is the only node of {name}, which takes writes");
        let remedy = format!("give {name} a second node, or move its writes: `lockstep failover plan --from {name}`");
        found.push(blocker("siblings", text, remedy));
    } else if found.is_empty() && !siblings().any(|node| node.takes_writes) {
        let text = format!("no other node of {name} takes writes");
        found.push(blocker("siblings", text, "look at `lockstep topology`, and at `lockstep status` of the others"));
    }
    found
}

/// Why a sibling cannot carry on alone.
fn unready(node: &NodeOverview) -> Option<Blocker> {
    let name = &node.node;
    let text = match fresh(node) {
        None if node.lives => format!("{name} has left no fresh digest"),
        None => format!("{name} is away already"),
        Some(digest) if !digest.is_ready() => format!("{name} is not ready: {}", digest.closed.join(", ")),
        Some(digest) => behind(digest)?,
    };
    let remedy = format!("wait until {name} is in order: `lockstep status --all`; take one node of a site at a time");
    Some(blocker("budget", text, remedy))
}

/// The digest of a node, if it tells about the present.
fn fresh(node: &NodeOverview) -> Option<&NodeDigest> {
    node.digest.as_ref().filter(|_| node.lives && !node.is_old)
}

/// The lag of a ready sibling that its users would see.
fn behind(digest: &NodeDigest) -> Option<String> {
    let lag = digest.streams.iter().find(|lag| lag.seconds > MOST_LAG_SECONDS);
    if let Some(lag) = lag {
        return Some(format!("{} is {:.0} s behind the stream of {}", digest.node, lag.seconds, lag.site));
    }
    let oldest_ms = digest.refresh.as_ref().and_then(|refresh| refresh.oldest_ms).unwrap_or_default();
    let seconds = oldest_ms / 1_000;
    (oldest_ms > MOST_REFRESH_MS).then(|| format!("the Gerrit of {} is {seconds} s behind its refs", digest.node))
}

/// The work of this node that others would have to do.
fn backlog(status: &NodeStatus) -> Option<Blocker> {
    let unpublished: u64 = status.lanes.iter().map(|lane| lane.settled.saturating_sub(lane.published)).sum();
    (unpublished > MOST_UNPUBLISHED).then(|| {
        let text =
            format!("{unpublished} transactions of this node are not in the event log, at most {MOST_UNPUBLISHED}");
        blocker("backlog", text, "wait, or look at the stream: docs/operations.md, LockstepNotPublished")
    })
}

/// Whether the new release runs beside those of all nodes.
fn releases(overview: &Overview, status: &NodeStatus, release: Option<Release>) -> Vec<Blocker> {
    let Some(new) = release.or_else(|| Release::find(env!("CARGO_PKG_VERSION"))) else {
        return vec![blocker("release", "the release of this command is not known", "give it with --to-release")];
    };
    let nodes = overview.sites.iter().flat_map(|site| &site.nodes).filter(|node| !node.expelled);
    let mut found = Vec::new();
    let mut known: BTreeMap<Release, String> = BTreeMap::new();
    for node in nodes.filter(|node| node.node != status.node) {
        let name = &node.node;
        match node.digest.as_ref().map(|digest| (digest.format, Release::find(&digest.program))) {
            Some((format, _)) if format > DIGEST_FORMAT => {
                let text = format!("{name} writes format {format}, and this command knows {DIGEST_FORMAT}");
                found.push(blocker("release", text, "ask with the `lockstep` of the newer release"));
            }
            Some((_, Some(release))) => _ = known.entry(release).or_insert_with(|| name.to_string()),
            Some((_, None)) | None => {
                let text = format!("the release of {name} is not known");
                let remedy = format!("bring {name} up, or remove it: `lockstep node remove {name}`");
                found.push(blocker("release", text, remedy));
            }
        }
    }
    found.extend(known.iter().filter(|(release, _)| !release.is_beside(new)).map(|(release, node)| {
        let remedy = format!("bring {node} to a release beside {new} first: docs/install/upgrade.md");
        blocker("release", format!("{node} runs {release}, which is no neighbour of {new}"), remedy)
    }));
    found
}

/// Consequences of the change that stop nobody.
fn notes(overview: &Overview, status: &NodeStatus) -> Vec<String> {
    let site = overview.sites.iter().find(|site| site.status.site == status.site);
    let stands_by = site.filter(|site| site.status.role == Role::Standby);
    let is_last = |site: &&SiteOverview| {
        !site.nodes.iter().any(|node| node.node != status.node && fresh(node).is_some_and(NodeDigest::is_ready))
    };
    let note = |site: &SiteOverview| format!("while it is away, no failover to {} is possible", site.status.site);
    stands_by.filter(is_last).map(note).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A node of an overview that is in order.
    fn node(name: &str) -> Value {
        let site = &name[..1];
        let lag = json!([{"site": "a", "transactions": 0, "seconds": 0.0}]);
        let digest = json!({"format": 1, "site": site, "node": name, "at_ms": 1, "program": "0.1.0", "streams": lag});
        json!({"node": name, "lives": true, "expelled": false, "takes_writes": site == "a", "behind": [],
            "is_old": false, "digest": digest})
    }

    /// An active site with two nodes, and a standby with one.
    fn all() -> Value {
        let site = |name: &str, role: &str, nodes: &[&str]| {
            let nodes: Vec<Value> = nodes.iter().map(|name| node(name)).collect();
            json!({"status": {"site": name, "role": role, "epoch": 1, "nodes": [], "unpublished": 0},
                "nodes": nodes, "lacks": [], "problems": []})
        };
        let sites = [site("a", "active", &["a-0", "a-1"]), site("b", "standby", &["b-0"])];
        json!({"by": "a-0", "at_ms": 1, "exposure": "", "sites": sites})
    }

    fn status(node: &str, unpublished: u64) -> NodeStatus {
        let lane = json!({"lane": "a-0.1.0", "settled": unpublished, "published": 0, "in_flight": 0});
        let counters = json!({"committed": 0, "refused": 0, "unknown": 0, "applied": 0, "skipped": 0, "caught_up": 0,
            "published": 0});
        let status = json!({"site": &node[..1], "node": node, "incarnation": null, "role": "active", "epoch": 1,
            "ready": true, "latches": [], "origins": [], "lanes": [lane], "checkpoints": [], "parked": 0,
            "quarantined": 0, "counters": counters, "last_errors": []});
        serde_json::from_value(status).unwrap()
    }

    /// The checks that refuse a change of a node, in an overview of which a test has changed a part.
    fn refused(of: &str, before: Before, change: impl FnOnce(&mut Value)) -> Vec<&'static str> {
        let mut all = all();
        change(&mut all);
        let all: Overview = serde_json::from_value(all).unwrap();
        blockers(&all, &status(of, 0), before).into_iter().map(|one| one.check).collect()
    }

    const UPGRADE: Before = Before::Upgrade(Some(Release(0, 1, 1)));

    #[test]
    fn a_node_with_a_ready_sibling_may_go() {
        for before in [Before::Drain, UPGRADE] {
            assert_eq!(refused("a-0", before, |_| {}), [""; 0], "{before:?}");
            assert_eq!(refused("b-0", before, |_| {}), [""; 0], "a standby needs no sibling: {before:?}");
        }
        let all: Overview = serde_json::from_value(all()).unwrap();
        assert_eq!(notes(&all, &status("b-0", 0)), ["while it is away, no failover to b is possible"]);
        assert_eq!(notes(&all, &status("a-0", 0)), [""; 0]);
    }

    #[test]
    fn each_fault_of_a_sibling_refuses_the_drain() {
        let sibling = "/sites/0/nodes/1";
        let with = |path: &str, value: Value| {
            let path = format!("{sibling}{path}");
            refused("a-0", Before::Drain, move |all| *all.pointer_mut(&path).unwrap() = value)
        };
        assert_eq!(with("/lives", json!(false)), ["budget"]);
        assert_eq!(with("/is_old", json!(true)), ["budget"]);
        assert_eq!(with("/digest", json!(null)), ["budget"]);
        assert_eq!(with("/digest/streams/0/seconds", json!(31.0)), ["budget"]);
        assert_eq!(with("/takes_writes", json!(false)), ["siblings"]);
        assert_eq!(with("/expelled", json!(true)), ["siblings"], "it is the only one that counts");
        let closed = |all: &mut Value| all["sites"][0]["nodes"][1]["digest"]["closed"] = json!(["caught-up"]);
        assert_eq!(refused("a-0", Before::Drain, closed), ["budget"]);
        let late =
            |all: &mut Value| all["sites"][0]["nodes"][1]["digest"]["refresh"] = json!({"due": 1, "oldest_ms": 61_000});
        assert_eq!(refused("a-0", Before::Drain, late), ["budget"]);
    }

    #[test]
    fn a_failover_an_older_refdb_and_a_backlog_refuse_it() {
        let failover = json!({"number": 7, "kind": "planned", "from": "a", "to": "b", "from_epoch": 1, "to_epoch": 1,
            "actor": "uid 0", "reason": "r", "requested_ms": 1, "steps": []});
        assert_eq!(refused("a-0", Before::Drain, |all| all["failover"] = failover), ["failover"]);
        assert_eq!(refused("a-0", Before::Drain, |all| all["refdb_went_back"] = json!("why")), ["refdb"]);
        assert_eq!(refused("x-0", Before::Drain, |_| {}), ["site"]);
        let all: Overview = serde_json::from_value(all()).unwrap();
        let of = |unpublished: u64| blockers(&all, &status("a-0", unpublished), Before::Drain).len();
        assert_eq!((of(MOST_UNPUBLISHED), of(MOST_UNPUBLISHED + 1)), (0, 1));
    }

    #[test]
    fn an_upgrade_is_refused_beside_releases_that_are_no_neighbours_or_not_known() {
        let with = |path: &'static str, value: Value| {
            refused("a-0", UPGRADE, move |all| *all.pointer_mut(path).unwrap() = value)
        };
        assert_eq!(with("/sites/1/nodes/0/digest/program", json!("0.2.0")), [""; 0]);
        assert_eq!(with("/sites/1/nodes/0/digest/program", json!("0.3.0")), ["release"]);
        assert_eq!(with("/sites/1/nodes/0/digest/program", json!("")), ["release"]);
        assert_eq!(with("/sites/1/nodes/0/digest", json!(null)), ["release"]);
        assert_eq!(with("/sites/1/nodes/0/digest/format", json!(DIGEST_FORMAT + 1)), ["release"]);
        let far = Before::Upgrade(Some(Release(0, 3, 0)));
        assert_eq!(refused("a-0", far, |_| {}), ["release"], "all others run 0.1.0");
    }
}
