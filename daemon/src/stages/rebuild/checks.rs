//! Whether a rebuild may begin, and the facts that follow from the reports of the nodes. Pure functions.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::failover::Role;
use lockstep_proto::rebuild::{EPOCHS, KnownSite, LEAP, RefdbIdentity, VersionsHead};
use lockstep_proto::site_list::StreamPlace;
use lockstep_proto::{NodeId, SiteId};

use super::error::RebuildError;

/// Checks the prefix of the new tables.
pub(super) fn prefix(into: &str, current: &str, lineage: &Lineage) -> Result<(), RebuildError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !(3..=200).contains(&into.len()) || !into.bytes().all(is_plain) {
        return Err(RebuildError::BadPrefix(into.to_owned()));
    }
    match into == current || lineage.tables.contains(into) {
        true => Err(RebuildError::UsedPrefix(into.to_owned())),
        false => Ok(()),
    }
}

/// Checks the nodes that answered.
pub(super) fn nodes(heads: &[&VersionsHead], lineage: &Lineage) -> Result<(), RebuildError> {
    if heads.is_empty() {
        return Err(RebuildError::NoSource);
    }
    if let Some(head) = heads.iter().find(|head| head.commits) {
        return Err(RebuildError::TakesCommits(head.node.clone()));
    }
    if heads.iter().filter(|head| lineage.is_source(head)).all(|head| head.reconciles) {
        return Err(RebuildError::NobodyIsWhole);
    }
    Ok(())
}

/// Checks the numbers that the nodes give, so that the next ones can be above them. A peer is not trusted.
pub(super) fn numbers(heads: &[&VersionsHead]) -> Result<(), RebuildError> {
    let is_beyond = |head: &&&VersionsHead| {
        let floor = head.refdb.as_ref().map_or(0, |refdb| refdb.floor);
        head.highest_incarnation.max(floor) > u64::MAX - 2 * LEAP
            || head.sites.iter().any(|site| site.epoch > u64::MAX - EPOCHS)
    };
    heads.iter().find(is_beyond).map_or(Ok(()), |head| Err(RebuildError::BadNumbers(head.node.clone())))
}

/// The refdbs that the nodes belong to, and the tables that these had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The ids, oldest first.
    pub(super) ids: Vec<String>,
    /// The prefixes of their tables, as far as they are known.
    pub(super) tables: BTreeSet<String>,
    /// The newest of them. None if no node belongs to a refdb with an identity.
    pub(super) newest: Option<RefdbIdentity>,
}

impl Lineage {
    /// Whether the version map of a node speaks of the newest refdb. One of an earlier refdb must not be read: a ref
    /// that was created anew since then has a lower version here than there. A volume without an identity is of the
    /// refdb that was never rebuilt.
    pub(super) fn is_source(&self, head: &VersionsHead) -> bool {
        match (&self.newest, &head.refdb) {
            (None, _) => true,
            (Some(newest), None) => !newest.is_rebuilt(),
            (Some(newest), Some(own)) => newest.id == own.id,
        }
    }
}

/// The one line of refdbs that all nodes belong to. Nodes without an identity belong to any line.
pub(super) fn lineage(heads: &[&VersionsHead], current: &str) -> Result<Lineage, RebuildError> {
    let bound: Vec<(&NodeId, &RefdbIdentity)> =
        heads.iter().filter_map(|head| Some((&head.node, head.refdb.as_ref()?))).collect();
    let mut tables = BTreeSet::from([current.to_owned()]);
    let Some((newest_node, newest)) = bound.iter().max_by_key(|(_, refdb)| refdb.succeeds.len()) else {
        return Ok(Lineage { tables, ..Lineage::default() });
    };
    if let Some((other, _)) = bound.iter().find(|(_, refdb)| !newest.covers(&refdb.id)) {
        return Err(RebuildError::NotOneLine((*newest_node).clone(), (*other).clone()));
    }
    tables.extend(newest.tables_before.iter().cloned());
    tables.extend(Some(newest.table.clone()).filter(|table| !table.is_empty()));
    let ids = newest.succeeds.iter().chain([&newest.id]).cloned().collect();
    Ok(Lineage { ids, tables, newest: Some((*newest).clone()) })
}

/// The floor of the new refdb's incarnation numbers: above every number that a node knows, of any refdb before.
pub(super) fn floor(heads: &[&VersionsHead]) -> u64 {
    let known = heads.iter().map(|head| head.highest_incarnation.max(head.refdb.as_ref().map_or(0, |it| it.floor)));
    (known.max().unwrap_or(0) / LEAP + 1) * LEAP
}

/// The sites that may still commit, because no node of them is read.
pub(super) fn unread(sites: &[KnownSite], sources: &[&VersionsHead]) -> Vec<SiteId> {
    let is_read = |site: &SiteId| sources.iter().any(|head| head.site == *site);
    sites.iter().filter(|site| !site.removed && !is_read(&site.site)).map(|site| site.site.clone()).collect()
}

/// The sites of the new refdb, and those whose role no node knew. Each has the role of the highest epoch that a node
/// knew, and an epoch above it. A site with an unknown role is a standby: it takes no writes before an operator looks.
pub(super) fn sites(heads: &[&VersionsHead], configured: &BTreeSet<SiteId>) -> (Vec<KnownSite>, Vec<SiteId>) {
    let mut known: BTreeMap<&SiteId, &KnownSite> = BTreeMap::new();
    for site in heads.iter().flat_map(|head| &head.sites) {
        let newest = known.entry(&site.site).or_insert(site);
        if site.epoch > newest.epoch {
            *newest = site;
        }
    }
    let named = configured.iter().chain(heads.iter().map(|head| &head.site));
    let unknown: BTreeSet<SiteId> = named.filter(|site| !known.contains_key(site)).cloned().collect();
    let raised = known.values().map(|site| KnownSite { epoch: site.epoch + EPOCHS, ..(*site).clone() });
    let standby = |site: &SiteId| KnownSite {
        site: site.clone(),
        role: Role::Standby,
        epoch: EPOCHS,
        removed: false,
        off: false,
        left: 0,
        stream: StreamPlace::default(),
        signed: known.values().any(|site| site.signed),
    };
    let mut sites: Vec<KnownSite> = raised.chain(unknown.iter().map(standby)).collect();
    sites.sort_by(|one, other| one.site.cmp(&other.site));
    (sites, unknown.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(node: &str, refdb: Option<RefdbIdentity>) -> VersionsHead {
        VersionsHead {
            site: node.parse().unwrap(),
            node: node.parse().unwrap(),
            refdb,
            volume: format!("volume of {node}"),
            start: 1,
            moves: 1,
            commits: false,
            reconciles: false,
            highest_incarnation: 7,
            sites: Vec::new(),
            parked: 0,
            quarantined: 0,
            debts: 0,
        }
    }

    fn identity(id: &str, succeeds: &[&str]) -> RefdbIdentity {
        let table = format!("t-{id}");
        let succeeds = succeeds.iter().map(|id| (*id).to_owned()).collect();
        RefdbIdentity { table, succeeds, ..RefdbIdentity::first(id.to_owned()) }
    }

    #[test]
    fn all_nodes_belong_to_one_line_of_refdbs_or_to_none() {
        let (one, two) = (head("a", Some(identity("1", &[]))), head("b", Some(identity("2", &["1"]))));
        let fresh = head("c", None);
        let line = lineage(&[&one, &two, &fresh], "now").unwrap();
        assert_eq!(line.ids, ["1", "2"]);
        assert_eq!(line.tables, ["now".to_owned(), "t-2".to_owned()].into());
        assert_eq!(lineage(&[&fresh], "now").unwrap().ids, Vec::<String>::new());
        let stranger = head("d", Some(identity("9", &[])));
        assert!(matches!(lineage(&[&one, &stranger], "now"), Err(RebuildError::NotOneLine(..))));
        for used in ["now", "t-2"] {
            assert!(matches!(prefix(used, "now", &line), Err(RebuildError::UsedPrefix(_))), "{used}");
        }
        assert!(matches!(prefix("a b", "now", &line), Err(RebuildError::BadPrefix(_))));
        assert_eq!(prefix("next", "now", &line), Ok(()));
    }

    #[test]
    fn a_node_that_commits_shows_that_the_refdb_lives() {
        let quiet = head("a", None);
        let busy = VersionsHead { commits: true, ..head("b", None) };
        let joining = VersionsHead { reconciles: true, ..head("c", None) };
        let line = Lineage::default();
        assert_eq!(nodes(&[&quiet, &joining], &line), Ok(()));
        assert!(matches!(nodes(&[&quiet, &busy], &line), Err(RebuildError::TakesCommits(_))));
        assert_eq!(nodes(&[&joining], &line), Err(RebuildError::NobodyIsWhole));
        assert_eq!(nodes(&[], &line), Err(RebuildError::NoSource));
    }

    #[test]
    fn only_nodes_of_the_newest_refdb_are_sources() {
        let rebuilt = RefdbIdentity { floor: LEAP, ..identity("2", &["1"]) };
        let (old, new) = (head("a", Some(identity("1", &[]))), head("b", Some(rebuilt)));
        let unbound = head("c", None);
        let is_source = |heads: &[&VersionsHead]| {
            let line = lineage(heads, "now").unwrap();
            heads.iter().map(|head| line.is_source(head)).collect::<Vec<_>>()
        };
        assert_eq!(is_source(&[&old, &new, &unbound]), [false, true, false]);
        assert_eq!(is_source(&[&old, &unbound]), [true, true], "an upgrade in progress");
        assert_eq!(is_source(&[&unbound]), [true]);
        let joining = VersionsHead { reconciles: true, ..new };
        let line = lineage(&[&old, &joining], "now").unwrap();
        assert_eq!(nodes(&[&old, &joining], &line), Err(RebuildError::NobodyIsWhole), "the whole one is not read");
    }

    #[test]
    fn numbers_above_which_no_others_fit_are_refused() {
        assert_eq!(numbers(&[&head("a", None)]), Ok(()));
        let beyond = VersionsHead { highest_incarnation: u64::MAX - LEAP, ..head("b", None) };
        assert_eq!(numbers(&[&head("a", None), &beyond]), Err(RebuildError::BadNumbers(beyond.node.clone())));
        let site = KnownSite {
            site: "a".parse().unwrap(),
            role: Role::Active,
            epoch: u64::MAX,
            removed: false,
            off: false,
            left: 0,
            stream: StreamPlace::default(),
            signed: false,
        };
        let beyond = VersionsHead { sites: vec![site], ..head("b", None) };
        assert_eq!(numbers(&[&beyond]), Err(RebuildError::BadNumbers(beyond.node.clone())));
    }

    #[test]
    fn numbers_and_epochs_are_above_all_that_a_node_knows() {
        let rebuilt = RefdbIdentity { floor: 2 * LEAP, ..identity("2", &["1"]) };
        assert_eq!(floor(&[&head("a", None)]), LEAP);
        assert_eq!(floor(&[&head("a", None), &head("b", Some(rebuilt))]), 3 * LEAP);
        let site = |site: &str, role, epoch| KnownSite {
            site: site.parse().unwrap(),
            role,
            epoch,
            removed: false,
            off: false,
            left: 0,
            stream: StreamPlace::default(),
            signed: false,
        };
        let older = VersionsHead { sites: vec![site("a", Role::Active, 3)], ..head("a", None) };
        let off = |epoch| KnownSite { off: true, left: 4, ..site("a", Role::Fenced, epoch) };
        let newer = VersionsHead { sites: vec![off(4)], ..head("b", None) };
        let configured: BTreeSet<SiteId> = ["a", "b", "c"].map(|site| site.parse().unwrap()).into();
        let (sites, unknown) = sites(&[&older, &newer], &configured);
        assert_eq!(sites[0], off(4 + EPOCHS), "a site that is off stays off");
        assert_eq!(sites[1..], ["b", "c"].map(|name| site(name, Role::Standby, EPOCHS)));
        assert_eq!(unknown.len(), 2);
        assert_eq!(unread(&sites, &[&older]), ["b", "c"].map(|site| site.parse::<SiteId>().unwrap()));
        let removed = KnownSite { removed: true, ..sites[1].clone() };
        assert!(unread(&[removed], &[&older]).is_empty(), "a removed site commits nothing");
    }
}
