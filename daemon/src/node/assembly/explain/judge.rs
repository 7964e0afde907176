//! Judges the slot of an explanation, and each node: why it does not show the committed version, and what to do about
//! it. Then says the whole in one sentence. Pure functions.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;
use lockstep_proto::explain::{
    NodeExplained, RefAtNode, RefCommitted, RefVerdict, RefVerdictKind, SetAsideKind, SetAsideRef, SiteExplained,
    SlotContent, SlotOfRef,
};
use lockstep_proto::{ProjectKey, RefKey, TxnId};

use crate::seams::refdb::SlotState;

/// Judges the slot of a committed transaction, and returns the transaction's bytes if it is there. `gone` says that the
/// slot may have been collected before it was read: then other content proves nothing.
pub(super) fn content<'a>(txn: &TxnId, state: &'a SlotState, gone: bool) -> (SlotContent, Option<&'a Bytes>) {
    match state {
        SlotState::Committed(id, bytes) if id == txn => (SlotContent::Transaction, Some(bytes)),
        _ if gone => (SlotContent::Collected, None),
        SlotState::Empty | SlotState::Committed(..) | SlotState::Poisoned => (SlotContent::SomethingElse, None),
    }
}

/// The facts about a ref that hold for all nodes.
#[derive(Clone, Copy)]
pub(super) struct Truth<'a> {
    pub(super) project: &'a ProjectKey,
    pub(super) key: &'a RefKey,
    pub(super) committed: &'a RefCommitted,
    pub(super) slot: &'a SlotOfRef,
    /// Whether the ref has moved since the refdb was read. A node may then be ahead.
    pub(super) moved: bool,
}

/// Why a node does not show the committed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The reason, as the text that follows the name of the node.
    pub(super) lacks: String,
    /// The remedy at that node.
    pub(super) next: String,
}

impl Finding {
    fn new(lacks: impl Into<String>, next: impl Into<String>) -> Self {
        Self { lacks: lacks.into(), next: next.into() }
    }
}

impl Truth<'_> {
    /// Why a node does not show the committed version. None if it does.
    pub(super) fn finding(&self, here: &RefAtNode) -> Option<Finding> {
        let version = here.record.as_ref().map_or(0, |record| record.version);
        match version.cmp(&self.committed.version) {
            Ordering::Greater if self.moved => None,
            Ordering::Greater => {
                let (of_refdb, verify) = (self.committed.version, self.verify());
                let why = format!("has version {version}, and the refdb has {of_refdb}: the refdb is older");
                Some(Finding::new(why, verify))
            }
            Ordering::Equal => self.of_equal(here),
            // A deleted ref that the node never knew.
            Ordering::Less if here.record.is_none() && self.committed.value.is_empty() && here.disk.is_none() => None,
            Ordering::Less => Some(self.behind(here)),
        }
    }

    fn verify(&self) -> String {
        format!("`lockstep verify {}` names the side that is right", self.project.name)
    }

    /// The finding about a node that has applied the committed version.
    fn of_equal(&self, here: &RefAtNode) -> Option<Finding> {
        let record = here.record.as_ref()?;
        if record.txn != self.committed.txn.to_string() {
            let why = format!("has another transaction for version {}: {}", record.version, record.txn);
            return Some(Finding::new(why, self.verify()));
        }
        if let Some(problem) = &here.problem {
            let next = "`lockstep status` has the last errors; repair the repository or the disk";
            return Some(Finding::new(format!("has applied it, and its disk cannot be read: {problem}"), next));
        }
        let disk = here.disk.as_deref().unwrap_or_default();
        let shows = match self.key {
            RefKey::Ref(_) => disk == record.value,
            // A repository has a HEAD even if none was committed.
            RefKey::Head => record.value.is_empty() || disk == record.value,
            RefKey::State => true,
        };
        let disk = if disk.is_empty() { "no such ref" } else { disk };
        (!shows).then(|| Finding::new(format!("has applied it, and its disk shows {disk}"), self.verify()))
    }

    /// The finding about a node that has not applied the committed version: the first cause that is known.
    fn behind(&self, here: &RefAtNode) -> Finding {
        let name = &self.project.name;
        if let Some(bad) = first(here, SetAsideKind::Quarantined) {
            let SetAsideRef { entry, reason, .. } = bad;
            let next = format!(
                "`lockstep quarantine retry {entry}` after a repair, or `lockstep quarantine accept {entry}` to take \
                 the refdb's values from peers"
            );
            return Finding::new(format!("holds {entry} in quarantine ({reason})"), next);
        }
        let is_set_aside = |txn: &str| here.set_aside.iter().any(|one| one.entry == txn);
        let owed = here.debts.iter().find(|debt| debt.txn.as_ref().is_none_or(|txn| !is_set_aside(&txn.to_string())));
        if let Some(owed) = owed {
            let why = format!("cannot bring the project up to date ({}: {})", owed.kind.as_str(), owed.reason);
            return Finding::new(why, format!("`lockstep project retry {name}`"));
        }
        if let Some(SetAsideRef { entry, reason, .. }) = first(here, SetAsideKind::Parked) {
            let next = format!("wait, or `lockstep quarantine retry {entry}`");
            return Finding::new(format!("has parked {entry} ({reason})"), next);
        }
        if !here.waits_for.is_empty() {
            let why = format!("is not ready, and waits for: {}", here.waits_for.join(", "));
            return Finding::new(why, "`lockstep status`");
        }
        if here.project.is_none() {
            return Finding::new("does not have the project yet", "wait, or look at the lag with `lockstep status`");
        }
        if !self.slot.published {
            let SlotOfRef { slot, node, .. } = self.slot;
            let why = format!("has not applied slot {slot}, which is not in the event log yet");
            return Finding::new(why, format!("wait, or `lockstep status` at {node}, whose journal it is in"));
        }
        let slots = here.slots_behind.map_or(String::new(), |slots| format!(": it is behind by {slots} slots"));
        let why = format!("has not applied slot {}{slots}", self.slot.slot);
        Finding::new(why, format!("wait, or `lockstep verify {name}`, which catches up"))
    }

    /// The end of the explanation.
    pub(super) fn verdict(&self, sites: &[SiteExplained]) -> RefVerdict {
        let version = self.committed.version;
        let nodes: Vec<Of<'_>> = sites.iter().filter(|site| !site.off).flat_map(nodes_of).collect();
        let lacking: Vec<&Of<'_>> = nodes.iter().filter(|(_, node)| node.lacks.is_some()).collect();
        if let Some((site, node)) = lacking.first() {
            let others: BTreeSet<&str> = lacking.iter().map(|(site, _)| site.site.as_str()).collect();
            let others: Vec<&str> = others.into_iter().filter(|other| *other != site.site.as_str()).collect();
            let also = if others.is_empty() {
                String::new()
            } else {
                format!("; it is lacking at {}, too", others.join(", "))
            };
            let why = node.lacks.as_deref().unwrap_or_default();
            return RefVerdict {
                kind: RefVerdictKind::Lacking,
                sentence: format!("site {} lacks version {version}: {} {why}{also}", site.site, node.node),
                next: node.next.as_ref().map(|next| format!("at {}: {next}", node.node)),
            };
        }
        let silent: Vec<&Of<'_>> = nodes.iter().filter(|(_, node)| node.here.is_none()).collect();
        let Some((_, first)) = silent.first() else { return self.at_every_node(sites) };
        let each = silent.iter().map(|(site, node)| {
            let says = if node.marked { "says" } else { "does not say" };
            format!("{} of site {} (its record {says} that it has applied the slot)", node.node, site.site)
        });
        let each = each.collect::<Vec<_>>().join(", ");
        RefVerdict {
            kind: RefVerdictKind::NotReached,
            sentence: format!("at version {version} at every node that was reached; not reached: {each}"),
            next: Some(format!("at {}: `lockstep explain {} {}`", first.node, self.project.name, self.key)),
        }
    }

    /// The end of an explanation in which every node that was asked shows the committed version.
    fn at_every_node(&self, sites: &[SiteExplained]) -> RefVerdict {
        let version = self.committed.version;
        let empty = names(sites, |site| !site.off && site.nodes.is_empty());
        let off = names(sites, |site| site.off);
        let (kind, mut sentence) = if empty.is_empty() {
            (RefVerdictKind::Everywhere, format!("everywhere at version {version}"))
        } else {
            let sentence = format!("at version {version} at every node that there is; without a node: site {empty}");
            (RefVerdictKind::NotReached, sentence)
        };
        if !off.is_empty() {
            sentence += &format!("; not asked, because it is off: site {off}");
        }
        RefVerdict { kind, sentence, next: None }
    }
}

/// The names of the sites for which a condition holds.
fn names(sites: &[SiteExplained], is_so: fn(&SiteExplained) -> bool) -> String {
    let named: Vec<&str> = sites.iter().filter(|site| is_so(site)).map(|site| site.site.as_str()).collect();
    named.join(", ")
}

/// A node with its site.
type Of<'a> = (&'a SiteExplained, &'a NodeExplained);

fn nodes_of(site: &SiteExplained) -> impl Iterator<Item = Of<'_>> {
    site.nodes.iter().map(move |node| (site, node))
}

/// The first transaction of a kind that a node has set aside.
fn first(here: &RefAtNode, kind: SetAsideKind) -> Option<&SetAsideRef> {
    here.set_aside.iter().find(|one| one.kind == kind)
}

#[cfg(test)]
mod tests {
    use lockstep_proto::debt::{DebtKind, DebtStatus};
    use lockstep_proto::verify::Side;

    use super::*;

    const TXN: &str = "a-0.1.0.3.00000000000000aa";
    const EARLIER: &str = "a-0.1.0.2.00000000000000bb";
    const VALUE: &str = "1111111111111111111111111111111111111111";

    /// The verdict about two sites, of which the second one has this node.
    fn judged(key: &str, published: bool, here: Option<RefAtNode>) -> RefVerdict {
        judged_beside(key, published, here, &[])
    }

    /// The same beside sites without a node.
    fn judged_beside(key: &str, published: bool, here: Option<RefAtNode>, others: &[SiteExplained]) -> RefVerdict {
        let (project, key) = ("p#1".parse().unwrap(), key.parse().unwrap());
        let committed =
            RefCommitted { version: 3, value: VALUE.to_owned(), txn: TXN.parse().unwrap(), locked_by: None };
        let slot = SlotOfRef {
            slot: "a-0.1.0.3".to_owned(),
            site: Some("a".parse().unwrap()),
            node: "a-0".parse().unwrap(),
            incarnation: 1,
            content: SlotContent::Transaction,
            committed_at_ms: Some(1),
            actor: Some("alice".to_owned()),
            predecessor: Some(EARLIER.parse().unwrap()),
            published,
        };
        let truth = Truth { project: &project, key: &key, committed: &committed, slot: &slot, moved: false };
        let site = |name: &str, here: Option<RefAtNode>| {
            let (lacks, next) =
                here.as_ref().and_then(|here| truth.finding(here)).map(|it| (it.lacks, it.next)).unzip();
            let not_reached = here.is_none().then(|| "connection refused".to_owned());
            let node = format!("{name}-0").parse().unwrap();
            let node = NodeExplained { node, here, not_reached, marked: false, lacks, next };
            SiteExplained { site: name.parse().unwrap(), off: false, nodes: vec![node] }
        };
        truth.verdict(&[&[site("a", Some(good())), site("b", here)][..], others].concat())
    }

    fn side(version: u64, txn: &str) -> Option<Side> {
        Some(Side { version, value: VALUE.to_owned(), txn: txn.to_owned() })
    }

    /// A node that shows the committed version.
    fn good() -> RefAtNode {
        RefAtNode {
            site: "b".parse().unwrap(),
            node: "b-0".parse().unwrap(),
            waits_for: Vec::new(),
            project: Some("active#1".to_owned()),
            record: side(3, TXN),
            disk: Some(VALUE.to_owned()),
            problem: None,
            slots_behind: None,
            set_aside: Vec::new(),
            debts: Vec::new(),
            refresh: None,
            events_waiting: 0,
            events_unsent: 0,
            applied: None,
            read: Vec::new(),
        }
    }

    fn behind() -> RefAtNode {
        RefAtNode { record: side(2, EARLIER), disk: Some("2".repeat(40)), slots_behind: Some(2), ..good() }
    }

    fn aside(kind: SetAsideKind) -> SetAsideRef {
        let (entry, reason) = (TXN.to_owned(), "why".to_owned());
        SetAsideRef { kind, entry, version: Some(3), reason, since_ms: 1 }
    }

    fn debt(txn: Option<&str>) -> DebtStatus {
        DebtStatus {
            project: "p".to_owned(),
            refs: Vec::new(),
            txn: txn.map(|txn| txn.parse().unwrap()),
            kind: DebtKind::MissingObjects,
            reason: "no peer".to_owned(),
            since_ms: 1,
            tries: 4,
            next_try_ms: None,
            takes_commits: true,
        }
    }

    /// The sentence and the next command about site b, whose node lacks the version.
    fn lacks(here: RefAtNode) -> (String, String) {
        let verdict = judged("refs/heads/main", true, Some(here));
        assert_eq!(verdict.kind, RefVerdictKind::Lacking, "{verdict:?}");
        let why = verdict.sentence.strip_prefix("site b lacks version 3: b-0 ").expect("the site and the node");
        let next = verdict.next.as_deref().and_then(|next| next.strip_prefix("at b-0: ")).expect("the node");
        (why.to_owned(), next.to_owned())
    }

    #[test]
    fn a_version_that_every_node_shows_is_everywhere_and_a_silent_node_is_named() {
        let verdict = judged("refs/heads/main", false, Some(good()));
        assert_eq!((verdict.kind, verdict.next), (RefVerdictKind::Everywhere, None));
        assert_eq!(verdict.sentence, "everywhere at version 3");
        let verdict = judged("refs/heads/main", true, None);
        assert_eq!(verdict.kind, RefVerdictKind::NotReached);
        assert!(verdict.sentence.contains("not reached: b-0 of site b (its record does not say"), "{verdict:?}");
        assert_eq!(verdict.next.as_deref(), Some("at b-0: `lockstep explain p refs/heads/main`"));
    }

    #[test]
    fn a_site_without_a_node_does_not_show_it_and_a_site_that_is_off_is_named() {
        let site = |name: &str, off| SiteExplained { site: name.parse().unwrap(), off, nodes: Vec::new() };
        let beside = |others: &[SiteExplained]| judged_beside("refs/heads/main", true, Some(good()), others);
        let verdict = beside(&[site("c", false), site("d", false)]);
        assert_eq!((verdict.kind, verdict.next), (RefVerdictKind::NotReached, None));
        assert_eq!(verdict.sentence, "at version 3 at every node that there is; without a node: site c, d");
        let verdict = beside(&[site("c", true)]);
        assert_eq!(verdict.kind, RefVerdictKind::Everywhere);
        assert_eq!(verdict.sentence, "everywhere at version 3; not asked, because it is off: site c");
    }

    #[test]
    fn other_content_of_a_slot_contradicts_only_if_it_cannot_have_been_collected() {
        let (own, other): (TxnId, TxnId) = (TXN.parse().unwrap(), "a-0.1.0.3.00000000000000bb".parse().unwrap());
        let bytes = Bytes::from_static(b"it");
        let committed = SlotState::Committed(own.clone(), bytes.clone());
        for gone in [false, true] {
            assert_eq!(content(&own, &committed, gone), (SlotContent::Transaction, Some(&bytes)));
        }
        for state in [SlotState::Empty, SlotState::Poisoned, SlotState::Committed(other, bytes)] {
            assert_eq!(content(&own, &state, true), (SlotContent::Collected, None), "{state:?}");
            assert_eq!(content(&own, &state, false), (SlotContent::SomethingElse, None), "{state:?}");
        }
    }

    #[test]
    fn bad_content_comes_before_a_debt_of_the_project_and_that_before_a_parked_transaction() {
        let (parked, bad) = (aside(SetAsideKind::Parked), aside(SetAsideKind::Quarantined));
        let debts = vec![debt(None)];
        let all = RefAtNode { set_aside: vec![bad, parked.clone()], debts: debts.clone(), ..behind() };
        let (why, next) = lacks(all);
        assert_eq!(why, format!("holds {TXN} in quarantine (why)"));
        assert!(next.contains(&format!("`lockstep quarantine accept {TXN}`")), "{next}");
        let (why, next) = lacks(RefAtNode { set_aside: vec![parked.clone()], debts, ..behind() });
        assert_eq!(why, "cannot bring the project up to date (missing_objects: no peer)");
        assert_eq!(next, "`lockstep project retry p`");
        // The debt is that of the parked transaction itself.
        let (why, next) = lacks(RefAtNode { set_aside: vec![parked], debts: vec![debt(Some(TXN))], ..behind() });
        assert_eq!(why, format!("has parked {TXN} (why)"));
        assert_eq!(next, format!("wait, or `lockstep quarantine retry {TXN}`"));
    }

    #[test]
    fn a_node_that_is_behind_without_a_reason_of_its_own_waits_for_others() {
        let (why, _) = lacks(RefAtNode { waits_for: vec!["caught-up".to_owned()], ..behind() });
        assert_eq!(why, "is not ready, and waits for: caught-up");
        let (why, _) = lacks(RefAtNode { project: None, record: None, ..behind() });
        assert_eq!(why, "does not have the project yet");
        let (why, next) = lacks(behind());
        assert_eq!(why, "has not applied slot a-0.1.0.3: it is behind by 2 slots");
        assert!(next.contains("`lockstep verify p`"), "{next}");
        let verdict = judged("refs/heads/main", false, Some(behind()));
        assert!(verdict.sentence.ends_with("slot a-0.1.0.3, which is not in the event log yet"), "{verdict:?}");
        assert!(verdict.next.is_some_and(|next| next.contains("at a-0, whose journal")));
    }

    #[test]
    fn an_applied_version_must_be_on_the_disk_and_of_the_same_transaction() {
        let (why, next) = lacks(RefAtNode { disk: None, ..good() });
        assert_eq!(why, "has applied it, and its disk shows no such ref");
        assert_eq!(next, "`lockstep verify p` names the side that is right");
        let (why, _) = lacks(RefAtNode { problem: Some("broken".to_owned()), disk: None, ..good() });
        assert_eq!(why, "has applied it, and its disk cannot be read: broken");
        let (why, _) = lacks(RefAtNode { record: side(3, EARLIER), ..good() });
        assert!(why.starts_with("has another transaction for version 3: "), "{why}");
        let (why, _) = lacks(RefAtNode { record: side(4, TXN), ..good() });
        assert_eq!(why, "has version 4, and the refdb has 3: the refdb is older");
        let state = judged("@state", true, Some(RefAtNode { disk: None, ..good() }));
        assert_eq!(state.kind, RefVerdictKind::Everywhere, "the state of a project is on no disk");
    }
}
