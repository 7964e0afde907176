//! The preflight: whether a failover or a drill to a site could go well now. Pure functions of the records and digests
//! in the refdb; the checks of this node's own machine come from outside.

use std::time::Duration;

use lockstep_proto::drill::Check;
use lockstep_proto::failover::ProbeResult;
use lockstep_proto::overview::{NodeOverview, SiteOverview};
use lockstep_proto::{NodeId, SiteId};

use super::overview::Aged;
use super::view::View;

/// The longest time of the reads of a preflight. A failover makes some dozen of such calls.
const SLOW: Duration = Duration::from_secs(2);
/// How far the clock of a node may be ahead, in milliseconds. Lag and ages are wrong by as much; no safety rests on it.
const AHEAD_MS: u64 = 2_000;
/// The lag behind a stream from which it counts as unreachable, in seconds.
const MOST_LAG_SECONDS: f64 = 30.0;

/// The facts that a preflight judges.
pub(super) struct Facts<'a> {
    pub(super) view: &'a View,
    pub(super) digests: &'a [Aged],
    pub(super) sites: &'a [SiteOverview],
    /// How long the reads of the refdb took.
    pub(super) reads: Duration,
    pub(super) now_ms: u64,
    pub(super) to: &'a SiteId,
}

/// The checks that the refdb can answer.
pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    vec![refdb(facts), clocks(facts), streams(facts), target(facts), hooks(facts)]
}

fn check(check: &str, note: String, red: Vec<String>) -> Check {
    Check { check: check.to_owned(), red, note }
}

fn refdb(facts: &Facts<'_>) -> Check {
    let took = facts.reads;
    let is_slow = took > SLOW;
    let red =
        is_slow.then(|| format!("the refdb took {took:.1?} for the reads of a preflight; look at its throttling"));
    check("refdb", format!("it answered all reads within {:.1} s", took.as_secs_f64()), red.into_iter().collect())
}

/// The nodes of all sites that live, with their digests.
fn living<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a NodeOverview> {
    facts.sites.iter().flat_map(|site| &site.nodes).filter(|node| node.lives)
}

fn clocks(facts: &Facts<'_>) -> Check {
    let ahead = |aged: &Aged| {
        let ahead_ms = aged.digest.at_ms.saturating_sub(facts.now_ms);
        (ahead_ms > AHEAD_MS).then(|| {
            let (node, seconds) = (&aged.digest.node, ahead_ms as f64 / 1_000.0);
            format!("the clock of {node} is {seconds:.1} s ahead of this node's; set both by NTP")
        })
    };
    let red = facts.digests.iter().filter_map(ahead).collect();
    check("clocks", format!("the clocks of {} nodes, by their digests", facts.digests.len()), red)
}

fn streams(facts: &Facts<'_>) -> Check {
    let mut red = Vec::new();
    for node in living(facts) {
        let Some(digest) = node.digest.as_ref().filter(|_| !node.is_old) else {
            red.push(format!(
                "the streams of {} are not known: it has left no fresh digest; it is silent, or its \
                 clock is behind this node's",
                node.node
            ));
            continue;
        };
        let lags = digest.streams.iter().filter(|stream| stream.seconds > MOST_LAG_SECONDS);
        red.extend(lags.map(|lag| {
            format!("{} is {:.0} s behind {}; see `lockstep status` there", node.node, lag.seconds, lag.site)
        }));
        let unread = facts.view.sites.iter().map(|site| &site.site);
        let unread = unread.filter(|site| !digest.streams.iter().any(|stream| stream.site == **site));
        red.extend(
            unread
                .filter(|site| facts.view.of_site(site).next().is_some())
                .map(|site| format!("{} does not read the stream of {site}; see `lockstep topology`", node.node)),
        );
    }
    check("streams", format!("{} living nodes read the streams of all sites", living(facts).count()), red)
}

fn target(facts: &Facts<'_>) -> Check {
    let Some(site) = facts.sites.iter().find(|site| site.status.site == *facts.to) else {
        let names: Vec<&str> = facts.sites.iter().map(|site| site.status.site.as_str()).collect();
        let why = format!("site {} is not in the refdb; the sites are {}", facts.to, names.join(", "));
        return check("target", format!("{} is not a site", facts.to), vec![why]);
    };
    let red = match &site.safe {
        Some(safe) => safe.blockers.clone(),
        None => vec![format!("no site but {} takes writes, so there is nothing to move to it", facts.to)],
    };
    check("target", format!("a plan to {} has no blockers, and one of its nodes is fit", facts.to), red)
}

fn hooks(facts: &Facts<'_>) -> Check {
    let off = living(facts).filter_map(|node| node.digest.as_ref().map(|digest| (&node.node, digest.guards_off)));
    let off = off.filter(|(_, off)| *off > 0);
    let red = off.map(|(node, off)| format!("the hooks of {off} repositories are not in force at {node}")).collect();
    check("hooks", "the hooks of every repository are in force".to_owned(), red)
}

/// The check of the probes that a node without writes has run. None if there were none.
pub(super) fn probes(by: &NodeId, found: &[ProbeResult]) -> Option<Check> {
    let names: Vec<&str> = found.iter().map(|one| one.probe.as_str()).collect();
    let red = found.iter().filter_map(|one| {
        let why = one.red.as_ref()?;
        Some(format!("{} of {by}: {why}; mend [probes] of this node, or the service that it names", one.probe))
    });
    let note = format!("the probes of {by} that write nothing: {}", names.join(", "));
    (!found.is_empty()).then(|| check("probes", note, red.collect()))
}

/// The check of the probes of a node that have not ended within this time.
pub(super) fn late_probes(by: &NodeId, limit: Duration) -> Check {
    let why = format!(
        "the probes of {by} have not ended within {} s; mend [probes] of this node, or the service that they name",
        limit.as_secs()
    );
    check("probes", format!("the probes of {by} that write nothing"), vec![why])
}

#[cfg(test)]
mod tests {
    use lockstep_proto::overview::NodeDigest;

    use super::super::overview::sites;
    use super::*;
    use crate::seams::refdb::{NodeRecord, Role, SiteRecord};

    fn view() -> View {
        let site = |name: &str, role| SiteRecord::new(name.parse().unwrap(), role, 1);
        View {
            sites: vec![site("a", Role::Active), site("b", Role::Standby)],
            nodes: vec![NodeRecord::first("a-0", "a"), NodeRecord::first("b-0", "b")],
            ..View::default()
        }
    }

    fn digest(node: &str, at_ms: u64) -> Aged {
        let site = &node[..1];
        let text = format!(
            r#"{{"format": 1, "site": "{site}", "node": "{node}", "at_ms": {at_ms}, "streams": [
                {{"site": "a", "transactions": 0, "seconds": 0.0}}, {{"site": "b", "transactions": 0, "seconds": 0.0}}
            ]}}"#
        );
        Aged { digest: serde_json::from_str::<NodeDigest>(&text).unwrap(), age_ms: 0, is_old: false }
    }

    fn red(digests: &[Aged], to: &str, reads: Duration) -> Vec<String> {
        let view = view();
        let sites = sites(&view, digests, None, None);
        let to = to.parse().unwrap();
        let facts = Facts { view: &view, digests, sites: &sites, reads, now_ms: 10_000, to: &to };
        checks(&facts).into_iter().filter(|check| !check.red.is_empty()).map(|check| check.check).collect()
    }

    #[test]
    fn each_fault_turns_its_own_check_red() {
        let good = [digest("a-0", 10_000), digest("b-0", 9_000)];
        let quick = Duration::from_millis(5);
        assert_eq!(red(&good, "b", quick), Vec::<String>::new());
        assert_eq!(red(&good, "b", SLOW * 2), ["refdb"]);
        assert_eq!(red(&[digest("a-0", 13_000), digest("b-0", 9_000)], "b", quick), ["clocks"]);
        assert_eq!(red(&good, "x", quick), ["target"]);
        assert_eq!(red(&good, "a", quick), ["target"], "nothing else takes writes");
        let (view, to) = (view(), "x".parse().unwrap());
        let sites = sites(&view, &good, None, None);
        let facts = Facts { view: &view, digests: &good, sites: &sites, reads: quick, now_ms: 10_000, to: &to };
        let found = target(&facts);
        assert_eq!(found.note, "x is not a site");
        assert_eq!(found.red, ["site x is not in the refdb; the sites are a, b"]);
        let [a, mut b] = good;
        b.digest.guards_off = 2;
        assert_eq!(red(&[a.clone(), b.clone()], "b", quick), ["target", "hooks"]);
        b.digest.guards_off = 0;
        b.digest.streams[0].seconds = 31.0;
        assert_eq!(red(&[a, b.clone()], "b", quick), ["streams", "target"]);
        assert_eq!(red(&[b], "a", quick)[0], "streams", "a-0 has left no digest");
    }
}
