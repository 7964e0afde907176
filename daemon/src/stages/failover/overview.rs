//! The overview of all sites. It has two answers for each site: whether it is safe to fail over to it now, and the
//! commits that it lacks. Pure functions of the records and digests in the refdb.

use lockstep_proto::SiteId;
use lockstep_proto::failover::{COMMIT_PATH_ONLY, Failover, FailoverKind, PlanRequest};
use lockstep_proto::overview::{
    Behind, InFlight, Lack, MOST_DIGEST_ENTRIES, NodeDigest, NodeOverview, Safety, Seen, SiteOverview,
};

use super::plan::{MOST_LAG_SLOTS, blockers, switch_on, to_standby};
use super::view::View;
use crate::seams::refdb::{NodeRecord, Role, SiteRecord};

/// The lag above which a node is not fit to take writes over, in seconds. A planned failover waits as long for it.
const MOST_LAG_SECONDS: f64 = 30.0;
/// A day in milliseconds.
const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// How long Gerrit may leave a refresh task alone before that is a problem, in milliseconds.
const MOST_REFRESH_MS: u64 = 10 * 60 * 1_000;

/// A digest with its age, as the node that answers sees it.
#[derive(Clone, Debug)]
pub(super) struct Aged {
    pub(super) digest: NodeDigest,
    pub(super) age_ms: u64,
    pub(super) is_old: bool,
}

/// All sites. `running` is the failover that is in progress, `went_back` the reason why the refdb is known to be older
/// than a node.
pub(super) fn sites(
    view: &View,
    digests: &[Aged],
    running: Option<&Failover>,
    went_back: Option<&str>,
) -> Vec<SiteOverview> {
    let mut sites: Vec<SiteOverview> = view.sites.iter().map(|site| one_site(view, digests, running, site)).collect();
    let unsafe_now = went_back.map(|why| format!("the refdb went back in time, and no node commits: {why}"));
    for safe in sites.iter_mut().filter_map(|site| site.safe.as_mut()) {
        safe.blockers.extend(unsafe_now.clone());
        safe.safe = safe.blockers.is_empty();
    }
    sites
}

fn one_site(view: &View, digests: &[Aged], running: Option<&Failover>, site: &SiteRecord) -> SiteOverview {
    let nodes = view.nodes.iter().filter(|node| node.site == site.site).map(|node| one_node(view, digests, node));
    let nodes: Vec<NodeOverview> = nodes.collect();
    SiteOverview {
        status: view.status(site),
        safe: safety(view, &nodes, running, &site.site),
        lacks: lacks(view, digests, &nodes, &site.site),
        problems: problems(view, &nodes, running, site),
        nodes,
    }
}

fn one_node(view: &View, digests: &[Aged], node: &NodeRecord) -> NodeOverview {
    let lives = view.lives(node);
    let aged = digests.iter().find(|aged| aged.digest.node == node.node);
    let others = view.sites.iter().filter(|other| other.site != node.site);
    NodeOverview {
        node: node.node.clone(),
        lives,
        expelled: node.expelled,
        takes_writes: lives && view.takes_writes(node),
        behind: others
            .map(|other| Behind { site: other.site.clone(), slots: view.behind(node, &other.site) })
            .collect(),
        age_ms: aged.map(|aged| aged.age_ms),
        is_old: aged.is_some_and(|aged| aged.is_old || !lives || is_of_earlier_start(aged, node)),
        digest: aged.map(|aged| aged.digest.clone()),
    }
}

/// Whether the node has started again since it left this digest.
pub(super) fn is_of_earlier_start(aged: &Aged, node: &NodeRecord) -> bool {
    aged.digest.starts.is_some_and(|starts| starts != node.starts)
}

/// Whether it is safe to fail over to a site now. None if no other site takes writes.
fn safety(view: &View, nodes: &[NodeOverview], running: Option<&Failover>, to: &SiteId) -> Option<Safety> {
    let sources = view.sites.iter().filter(|site| site.site != *to && site.role == Role::Active);
    let sources: Vec<&SiteId> = sources.map(|site| &site.site).collect();
    if sources.is_empty() {
        return None;
    }
    let mut found: Vec<String> = sources.iter().flat_map(|from| unplannable(view, running, from, to)).collect();
    let living = || nodes.iter().filter(|node| node.lives);
    if living().next().is_some() && !living().any(|node| unfit(node, &sources).is_none()) {
        found.extend(living().filter_map(|node| unfit(node, &sources)));
    }
    let mut blockers = Vec::new();
    found.into_iter().for_each(|one| {
        if !blockers.contains(&one) {
            blockers.push(one)
        }
    });
    Some(Safety { safe: blockers.is_empty(), blockers })
}

/// The blockers of a plan: a planned one if the source lives, else a forced one.
fn unplannable(view: &View, running: Option<&Failover>, from: &SiteId, to: &SiteId) -> Vec<String> {
    let lives = view.living(from).next().is_some();
    let kind = if lives { FailoverKind::Planned } else { FailoverKind::Forced };
    blockers(&PlanRequest::new(kind, from.clone(), to.clone()), view, running)
}

/// Why a living node is not fit to take writes over from these sites. None if it is.
fn unfit(node: &NodeOverview, sources: &[&SiteId]) -> Option<String> {
    let name = &node.node;
    let Some(digest) = node.digest.as_ref().filter(|_| !node.is_old) else {
        return Some(format!("the state of {name} is not known: {}", unknown(node)));
    };
    let lag = digest.streams.iter().filter(|lag| sources.contains(&&lag.site));
    let lag = lag.max_by(|one, other| one.seconds.total_cmp(&other.seconds));
    let behind: u64 = node.behind.iter().filter(|one| sources.contains(&&one.site)).map(|one| one.slots).sum();
    let unread = sources.iter().find(|source| digest.streams.iter().all(|lag| lag.site != ***source));
    match (lag, &digest.verified) {
        _ if !digest.is_ready() => Some(format!("{name} is not ready: {}", digest.closed.join(", "))),
        _ if digest.degraded > 0 => Some(degraded(digest)),
        _ if digest.guards_off > 0 => Some(unguarded(digest)),
        (_, Some(last)) if last.mismatches > 0 => {
            Some(format!("{} refs of {name} differ from the refdb; see `lockstep verify`", last.mismatches))
        }
        (Some(lag), _) if lag.seconds > MOST_LAG_SECONDS => {
            Some(format!("{name} lags by {:.0} s behind {}", lag.seconds, lag.site))
        }
        _ if unread.is_some() && digest.streams.len() < MOST_DIGEST_ENTRIES => {
            unread.map(|source| format!("{name} does not report a lag behind {source}"))
        }
        _ if behind > MOST_LAG_SLOTS => Some(format!("{name} is behind by {behind} slots")),
        _ => None,
    }
}

fn degraded(digest: &NodeDigest) -> String {
    format!("{} projects are degraded at {}", digest.degraded, digest.node)
}

fn unguarded(digest: &NodeDigest) -> String {
    format!("the hooks of {} repositories are not in force at {}", digest.guards_off, digest.node)
}

/// A warning if no living node of a site has found all of its refs equal to the refdb within the last day.
pub(super) fn unverified(view: &View, digests: &[Aged], site: &SiteId, now_ms: u64) -> Option<String> {
    let is_recent = |at_ms: u64| now_ms.saturating_sub(at_ms) < DAY_MS;
    let lives = |aged: &&Aged| !aged.is_old && view.living(site).any(|node| node.node == aged.digest.node);
    let verified = digests.iter().filter(lives).filter_map(|aged| {
        aged.digest.verified.as_ref().filter(|last| last.whole && last.mismatches == 0 && is_recent(last.at_ms))
    });
    let text = format!("no node of {site} has verified its refs within the last day; run `lockstep verify` there");
    verified.map(|_| ()).next().is_none().then_some(text)
}

/// A warning if living nodes of a site probe their own commit path alone: no probe goes the way of their users.
pub(super) fn unprobed(view: &View, digests: &[Aged], site: &SiteId) -> Option<String> {
    let lives = |aged: &&Aged| !aged.is_old && view.living(site).any(|node| node.node == aged.digest.node);
    let bare = digests.iter().filter(lives).filter(|aged| aged.digest.probes_users == Some(false));
    let names: Vec<&str> = bare.map(|aged| aged.digest.node.as_str()).collect();
    (!names.is_empty()).then(|| format!("probed at {}: {COMMIT_PATH_ONLY}", names.join(", ")))
}

/// Why the state of a node is not known.
fn unknown(node: &NodeOverview) -> String {
    match node.age_ms {
        Some(age_ms) => format!("its digest is {} s old", age_ms / 1_000),
        None => "it has left no digest that this release can read".to_owned(),
    }
}

/// The commits that a site lacks, by the site that made them.
fn lacks(view: &View, digests: &[Aged], nodes: &[NodeOverview], site: &SiteId) -> Vec<Lack> {
    let others = view.sites.iter().filter(|other| other.site != *site);
    let lack = |other: &SiteRecord| {
        let from = other.site.clone();
        Lack {
            slots: view.missing(site, &from),
            in_flight: in_flight(view, digests, &from),
            seen: seen(nodes, &from),
            from,
        }
    };
    let all = others.map(|other| (other.role != Role::Standby, lack(other)));
    all.filter(|(commits, lack)| *commits || lack.slots != Some(0)).map(|(_, lack)| lack).collect()
}

/// The slots in use at a site. None if a living node of it has left no fresh digest, or none lives.
fn in_flight(view: &View, digests: &[Aged], from: &SiteId) -> Option<InFlight> {
    let overviews: Vec<NodeOverview> = view.living(from).map(|node| one_node(view, digests, node)).collect();
    let fresh = |node: &NodeOverview| node.digest.clone().filter(|_| !node.is_old).zip(node.age_ms);
    let all: Vec<(NodeDigest, u64)> = overviews.iter().map(fresh).collect::<Option<_>>()?;
    let age_ms = all.iter().map(|(_, age_ms)| *age_ms).max()?;
    Some(InFlight { slots: all.iter().map(|(digest, _)| digest.in_flight).sum(), age_ms })
}

/// The lag of the node that is behind least, of those with a fresh digest.
fn seen(nodes: &[NodeOverview], from: &SiteId) -> Option<Seen> {
    let seen = |node: &NodeOverview| {
        let lag = node.digest.as_ref()?.streams.iter().find(|lag| lag.site == *from)?;
        Some(Seen { transactions: lag.transactions, seconds: lag.seconds, age_ms: node.age_ms? })
    };
    let fresh = nodes.iter().filter(|node| node.lives && !node.is_old).filter_map(seen);
    fresh.min_by(|one, other| one.seconds.total_cmp(&other.seconds))
}

/// The defects of a site, for people.
fn problems(view: &View, nodes: &[NodeOverview], running: Option<&Failover>, site: &SiteRecord) -> Vec<String> {
    let (name, role) = (&site.site, site.role);
    let mut problems = Vec::new();
    if running.is_none() && matches!(role, Role::Fenced | Role::Draining) {
        let way = if site.off { switch_on(name, Role::Standby, site.epoch) } else { to_standby(name, site.epoch) };
        problems.push(format!("{name} is {}; `{way}` brings it back", role.name()));
    }
    if role == Role::Active && !view.living(name).any(|node| view.takes_writes(node)) {
        problems.push(format!("no node of {name} takes writes, although {name} is active"));
    }
    for node in nodes.iter().filter(|node| !node.expelled) {
        problems.extend(of_node(node));
    }
    problems
}

fn of_node(node: &NodeOverview) -> Vec<String> {
    let name = &node.node;
    if !node.lives {
        return vec![format!("{name} has no heartbeat")];
    }
    let Some(digest) = node.digest.as_ref().filter(|_| !node.is_old) else {
        return vec![format!("the state of {name} is not known: {}", unknown(node))];
    };
    let mut found = Vec::new();
    let mut note = |is_so: bool, text: String| {
        if is_so {
            found.push(text)
        }
    };
    note(!digest.is_ready(), format!("{name} is not ready: {}", digest.closed.join(", ")));
    note(digest.degraded > 0, degraded(digest));
    note(digest.held > 0, format!("{} records are in quarantine at {name}", digest.held));
    note(digest.guards_off > 0, unguarded(digest));
    let differ = digest.verified.as_ref().map_or(0, |last| last.mismatches);
    note(differ > 0, format!("{differ} refs of {name} differ from the refdb; see `lockstep verify`"));
    for lag in digest.streams.iter().filter(|lag| lag.seconds > MOST_LAG_SECONDS) {
        note(true, format!("{name} lags by {:.0} s behind {}", lag.seconds, lag.site));
    }
    let oldest_ms = digest.refresh.as_ref().and_then(|refresh| refresh.oldest_ms).unwrap_or(0);
    let minutes = oldest_ms / 60_000;
    note(oldest_ms > MOST_REFRESH_MS, format!("the Gerrit of {name} has left a refresh task alone for {minutes} min"));
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_proto::overview::{StreamLag, Verified};
    use lockstep_proto::{Incarnation, IncarnationId, Lane, Seq};

    use super::*;
    use crate::seams::refdb::IncarnationRecord;

    fn digest(node: &str) -> NodeDigest {
        NodeDigest {
            format: 1,
            program: "1".to_owned(),
            site: node[..1].parse().unwrap(),
            node: node.parse().unwrap(),
            at_ms: 0,
            starts: None,
            role: "active".to_owned(),
            epoch: 1,
            incarnation: None,
            closed: Vec::new(),
            streams: vec![StreamLag { site: "a".parse().unwrap(), transactions: 0, seconds: 0.0 }],
            unpublished: 0,
            in_flight: 0,
            parked: 0,
            held: 0,
            owed: 0,
            degraded: 0,
            guards_off: 0,
            receivers: None,
            refresh: None,
            verified: None,
            follows_list: true,
            signs_with: None,
            obeys_mode: true,
            probes_users: None,
            bootstrap: None,
            written: None,
        }
    }

    fn fresh(node: &str) -> Aged {
        Aged { digest: digest(node), age_ms: 2_000, is_old: false }
    }

    /// Site `a` is active with one node, which has settled 7 slots of one lane. Site `b` stands by with one node, which
    /// has applied 4 of them.
    fn view() -> View {
        let site = |name: &str, role| SiteRecord::new(name.parse().unwrap(), role, 1);
        let id = IncarnationId { node: "a-0".parse().unwrap(), number: Incarnation(1) };
        let node = |name: &str, low_water| NodeRecord { low_water, ..NodeRecord::first(name, &name[..1]) };
        View {
            sites: vec![site("a", Role::Active), site("b", Role::Standby)],
            nodes: vec![node("a-0", BTreeMap::new()), node("b-0", BTreeMap::from([(id.lane(Lane(0)), Seq(4))]))],
            incarnations: vec![IncarnationRecord {
                settled: vec![Seq(7)],
                published: vec![Seq(7)],
                ..IncarnationRecord::open(id, "a".parse().unwrap(), 1, 8, 1)
            }],
            ..View::default()
        }
    }

    fn standby(view: &View, digests: &[Aged]) -> SiteOverview {
        sites(view, digests, None, None).remove(1)
    }

    #[test]
    fn a_standby_in_order_is_safe_and_lacks_exactly_the_slots_that_it_has_not_applied() {
        let digests = [fresh("a-0"), fresh("b-0")];
        let found = standby(&view(), &digests);
        assert_eq!(found.safe, Some(Safety { safe: true, blockers: Vec::new() }));
        assert_eq!(found.lacks[0].slots, Some(3));
        assert_eq!(found.lacks[0].seen, Some(Seen { transactions: 0, seconds: 0.0, age_ms: 2_000 }));
        assert_eq!(found.problems, [""; 0]);
        assert_eq!(sites(&view(), &digests, None, None)[0].safe, None, "nothing can fail over to the only active site");
    }

    #[test]
    fn a_digest_that_is_old_or_absent_makes_the_site_unsafe() {
        let blockers = |digests: &[Aged]| standby(&view(), digests).safe.unwrap().blockers;
        let old = Aged { age_ms: 45_000, is_old: true, ..fresh("b-0") };
        assert_eq!(blockers(&[old]), ["the state of b-0 is not known: its digest is 45 s old"]);
        let none = ["the state of b-0 is not known: it has left no digest that this release can read"];
        assert_eq!(blockers(&[]), none);
    }

    #[test]
    fn a_fresh_digest_of_a_node_without_a_heartbeat_counts_as_old() {
        let mut view = view();
        view.gone.insert("b-0".parse().unwrap());
        let found = standby(&view, &[fresh("b-0")]);
        assert!(found.nodes[0].is_old);
        assert_eq!(found.problems, ["b-0 has no heartbeat"]);
        assert!(found.safe.unwrap().blockers[0].starts_with("no node of b has a heartbeat"));
    }

    #[test]
    fn each_defect_of_the_only_node_blocks_and_one_node_in_order_is_enough() {
        type Harm = fn(&mut NodeDigest);
        let defects: [(Harm, &str); 5] = [
            (|it| it.closed.push("caught-up".to_owned()), "b-0 is not ready: caught-up"),
            (|it| it.degraded = 2, "2 projects are degraded at b-0"),
            (|it| it.guards_off = 1, "the hooks of 1 repositories are not in force at b-0"),
            (
                |it| it.streams[0] = StreamLag { site: "a".parse().unwrap(), transactions: 0, seconds: 31.0 },
                "b-0 lags by 31 s behind a",
            ),
            (
                |it| it.verified = Some(Verified { at_ms: 1, projects: 1, whole: true, mismatches: 3 }),
                "3 refs of b-0 differ from the refdb; see `lockstep verify`",
            ),
        ];
        for (harm, text) in defects {
            let mut hurt = fresh("b-0");
            harm(&mut hurt.digest);
            let found = standby(&view(), &[hurt.clone()]);
            assert_eq!((found.safe.unwrap().blockers, found.problems), (vec![text.to_owned()], vec![text.to_owned()]));
            let mut two = view();
            two.nodes.push(NodeRecord::first("b-1", "b"));
            let found = standby(&two, &[hurt, fresh("b-1")]);
            assert!(found.safe.unwrap().safe && found.problems == [text]);
        }
    }

    #[test]
    fn a_fenced_site_and_an_active_site_without_writers_are_problems() {
        let mut view = view();
        view.sites[1].role = Role::Fenced;
        view.incarnations.clear();
        let digests = [fresh("a-0"), fresh("b-0")];
        let found = sites(&view, &digests, None, None);
        assert_eq!(found[0].problems, ["no node of a takes writes, although a is active"]);
        let way = "lockstep site role b standby --expect-epoch 1 --reason TEXT";
        assert_eq!(found[1].problems, [format!("b is fenced; `{way}` brings it back")]);
        view.sites[1].off = true;
        let way = "lockstep site mode b active --role standby --expect-epoch 1 --reason TEXT";
        let found = sites(&view, &digests, None, None);
        assert_eq!(found[1].problems, [format!("b is fenced; `{way}` brings it back")]);
        assert!(!found[1].safe.as_ref().unwrap().safe);
    }

    #[test]
    fn a_node_that_is_behind_by_many_slots_or_reports_no_lag_is_not_safe() {
        let blockers = |view: &View, aged: Aged| standby(view, &[aged]).safe.unwrap().blockers;
        let mut far = view();
        far.incarnations[0].settled = vec![Seq(MOST_LAG_SLOTS + 5)];
        assert_eq!(blockers(&far, fresh("b-0")), ["b-0 is behind by 10001 slots"]);
        let mut silent = fresh("b-0");
        silent.digest.streams.clear();
        assert_eq!(blockers(&view(), silent), ["b-0 does not report a lag behind a"]);
    }

    #[test]
    fn quarantined_transactions_count_and_what_a_node_owes_or_reconciles_is_not_known() {
        let lacks = |view: &View| standby(view, &[]).lacks.first().and_then(|lack| lack.slots);
        let mut one = view();
        let below = "a-0.1.0.2.00000000000000aa".parse().unwrap();
        one.nodes[1].needs.held.insert(below, "p".parse().unwrap());
        assert_eq!(lacks(&one), Some(4), "3 above the mark, and one below");
        let mut sibling = NodeRecord::first("b-1", "b");
        sibling.low_water = one.nodes[1].low_water.clone();
        one.nodes.push(sibling);
        assert_eq!(lacks(&one), Some(3), "the other node has it");
        let harms: [fn(&mut NodeRecord); 3] = [
            |it| _ = it.needs.owed.insert("p".parse().unwrap()),
            |it| it.volume = NodeRecord::reconciling(&it.volume),
            |it| it.expelled = true,
        ];
        for harm in harms {
            let mut view = view();
            harm(&mut view.nodes[1]);
            assert_eq!(lacks(&view), None);
        }
    }

    #[test]
    fn figures_of_old_digests_are_not_shown_and_each_figure_has_its_own_age() {
        let old = |node: &str| Aged { age_ms: 45_000, is_old: true, ..fresh(node) };
        let lack = |view: &View, digests: &[Aged]| standby(view, digests).lacks.remove(0);
        let found = lack(&view(), &[old("a-0"), old("b-0")]);
        assert_eq!((found.in_flight, found.seen), (None, None));
        let mut two = view();
        two.nodes.push(NodeRecord::first("b-1", "b"));
        let mut lagging = Aged { age_ms: 7_000, ..fresh("b-1") };
        lagging.digest.streams[0].seconds = 4.0;
        let mut source = Aged { age_ms: 9_000, ..fresh("a-0") };
        source.digest.in_flight = 2;
        let found = lack(&two, &[source.clone(), old("b-0"), lagging]);
        assert_eq!(found.in_flight, Some(InFlight { slots: 2, age_ms: 9_000 }));
        assert_eq!(found.seen, Some(Seen { transactions: 0, seconds: 4.0, age_ms: 7_000 }));
        two.gone.insert("a-0".parse().unwrap());
        assert_eq!(lack(&two, &[source]).in_flight, None, "a dead source tells nothing");
    }

    #[test]
    fn nothing_is_safe_while_the_refdb_is_older_than_a_node_and_a_digest_of_an_earlier_start_is_old() {
        let found = sites(&view(), &[fresh("b-0")], None, Some("b-0 has applied more")).remove(1).safe.unwrap();
        let blocker = "the refdb went back in time, and no node commits: b-0 has applied more";
        assert_eq!((found.safe, found.blockers), (false, vec![blocker.to_owned()]));
        let mut started = fresh("b-0");
        started.digest.starts = Some(view().nodes[1].starts + 1);
        assert!(standby(&view(), &[started]).nodes[0].is_old);
    }

    #[test]
    fn only_a_living_node_with_a_fresh_digest_has_verified_its_refs() {
        let mut verified = fresh("b-0");
        verified.digest.verified = Some(Verified { at_ms: 1, projects: 1, whole: true, mismatches: 0 });
        let warns =
            |view: &View, aged: &Aged| unverified(view, std::slice::from_ref(aged), &"b".parse().unwrap(), 2).is_some();
        assert!(!warns(&view(), &verified));
        assert!(warns(&view(), &Aged { is_old: true, ..verified.clone() }));
        let mut dead = view();
        dead.gone.insert("b-0".parse().unwrap());
        assert!(warns(&dead, &verified));
    }

    #[test]
    fn a_living_node_without_probes_of_its_users_is_a_warning() {
        let warns = |probes_users: Option<bool>, is_old: bool| {
            let bare = Aged { digest: NodeDigest { probes_users, ..digest("b-0") }, is_old, ..fresh("b-0") };
            unprobed(&view(), &[fresh("a-0"), bare], &"b".parse().unwrap())
        };
        let text = "probed at b-0: the commit path only; set [probes] to probe push, fetch, REST and SSH";
        assert_eq!(warns(Some(false), false).as_deref(), Some(text));
        for (probes_users, is_old) in [(Some(true), false), (None, false), (Some(false), true)] {
            assert_eq!(warns(probes_users, is_old), None, "{probes_users:?} {is_old}");
        }
    }
}
