//! Judges a ref that differs between two nodes: names the side that is right. A pure function of the refdb's item and
//! of both nodes' looks. The refdb decides; only if it is older than a node, the node with the later version is right.

use lockstep_proto::verify::{Mismatch, Right};
use lockstep_proto::{ProjectKey, ProjectPhase, RefKey, RefValue, Version};

use crate::seams::refdb::RefItem;
use crate::seams::volume::RefRecord;
use crate::stages::verify::judge::{Look, is_equal, of_item, of_record, shows, text};

/// A ref as two nodes have it. Both looks have the same refdb item.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) here: Look,
    pub(super) there: Look,
    /// Whether the disks count.
    pub(super) disk: bool,
}

/// Why the two nodes could not catch up, if they could not.
#[derive(Debug, Default)]
pub(super) struct Behind {
    pub(super) here: Option<String>,
    pub(super) there: Option<String>,
}

impl Pair {
    /// Whether the two nodes differ, or one of them does not show what it knows.
    pub(super) fn differs(&self) -> bool {
        !are_same(self.here.here.as_ref(), self.there.here.as_ref())
            || !self.is_shown(&self.here)
            || !self.is_shown(&self.there)
    }

    /// The pair with the refdb's item.
    pub(super) fn with(mut self, item: Option<RefItem>) -> Self {
        self.here.refdb.clone_from(&item);
        self.there.refdb = item;
        self
    }

    fn is_shown(&self, look: &Look) -> bool {
        !self.disk || shows(look)
    }

    /// Whether a node has what the refdb has, and shows it.
    fn is_right(&self, look: &Look) -> bool {
        let is_gone = |value: Option<&RefValue>| value.is_none_or(is_gone);
        let refdb = look.refdb.as_ref().filter(|item| item.version != Version::NONE);
        let both_gone = is_gone(refdb.map(|item| &item.value)) && look.here.is_none();
        (both_gone || is_equal(look.refdb.as_ref(), look.here.as_ref())) && self.is_shown(look)
    }
}

/// Whether two nodes have the same record of a ref. One that is gone, and one that was never there, are the same.
pub(super) fn are_same(here: Option<&RefRecord>, there: Option<&RefRecord>) -> bool {
    match (here, there) {
        (None, None) => true,
        (Some(one), None) | (None, Some(one)) => is_gone(&one.value),
        (Some(here), Some(there)) => here == there,
    }
}

fn is_gone(value: &RefValue) -> bool {
    match value {
        RefValue::State(state) => state.phase == ProjectPhase::Deleted,
        value => value.is_absent(),
    }
}

fn version(look: &Look) -> Version {
    look.here.as_ref().map_or(Version::NONE, |record| record.version)
}

/// Whether two looks at a ref, with catch-ups of both nodes between them, show the same difference. A ref that moves
/// all the time differs in many looks: the node that is behind then reaches the version that the other had before.
pub(super) fn stays(before: &Pair, now: &Pair) -> bool {
    let [here_before, there_before, here, there] = [&before.here, &before.there, &now.here, &now.there].map(version);
    match here.cmp(&there) {
        std::cmp::Ordering::Greater => there < here_before,
        std::cmp::Ordering::Less => here < there_before,
        std::cmp::Ordering::Equal if are_same(now.here.here.as_ref(), now.there.here.as_ref()) => {
            let same = |before: &Look, now: &Look| {
                !shows(before) && !shows(now) && (version(before), &before.disk) == (version(now), &now.disk)
            };
            same(&before.here, &now.here) || same(&before.there, &now.there)
        }
        std::cmp::Ordering::Equal => (here_before, there_before) == (here, there),
    }
}

/// Judges a ref that differs. None if both nodes have what the refdb has.
pub(super) fn judge(project: &ProjectKey, pair: &Pair, behind: &Behind, peer: &str) -> Option<Mismatch> {
    let Pair { here, there, .. } = pair;
    let refdb = here.refdb.as_ref().map_or(Version::NONE, |item| item.version);
    let is_right = [here, there].map(|look| pair.is_right(look));
    let right = match is_right {
        [true, true] => return None,
        // The refdb went back: the later version is right, and of two equal ones the one that is shown.
        _ if version(here).max(version(there)) > refdb => {
            let [mine, theirs] = [here, there].map(|look| (version(look), pair.is_shown(look)));
            if mine >= theirs { Right::ThisNode } else { Right::Peer }
        }
        [true, false] => Right::ThisNode,
        [false, true] => Right::Peer,
        [false, false] => Right::Refdb,
    };
    let sides = [("this node", here, &behind.here), (peer, there, &behind.there)];
    let wrong = sides.iter().zip(is_right).filter(|(_, is_right)| !is_right);
    let why: Vec<String> = wrong.map(|((who, look, behind), _)| wrong_at(who, look, behind.as_deref())).collect();
    let why = why.join("; ");
    let disk = |look: &Look| look.disk.as_ref().filter(|_| pair.disk).map(text);
    // The key of a project without an incarnation is its name.
    let project = if here.key == RefKey::State { project.name.to_string() } else { project.to_string() };
    Some(Mismatch {
        project,
        name: here.key.to_string(),
        refdb: here.refdb.as_ref().map(of_item),
        here: here.here.as_ref().map(of_record),
        disk: disk(here),
        peer: Some(peer.to_owned()),
        there: there.here.as_ref().map(of_record),
        disk_there: disk(there),
        right,
        why,
    })
}

/// Describes the error of a node that does not have the refdb's value, or does not show it.
fn wrong_at(who: &str, look: &Look, behind: Option<&str>) -> String {
    let behind = behind.map(|why| format!("; it could not catch up: {why}")).unwrap_or_default();
    let refdb = look.refdb.as_ref().map_or(Version::NONE, |item| item.version);
    let here = version(look);
    match refdb.cmp(&here) {
        std::cmp::Ordering::Greater => {
            format!("version {} is committed, and {who} has version {}{behind}", refdb.0, here.0)
        }
        std::cmp::Ordering::Less => format!(
            "{who} has applied version {}, and the refdb has version {}: the refdb is older than {who}",
            here.0, refdb.0
        ),
        std::cmp::Ordering::Equal if is_equal(look.refdb.as_ref(), look.here.as_ref()) => {
            let why = "something other than Lockstep has moved the ref, or damaged it";
            format!("the disk of {who} shows another value: {why}")
        }
        std::cmp::Ordering::Equal => format!(
            "{who} has another transaction for version {}: the refdb alone decides which one is committed; keep the \
             logs of both nodes, and report it",
            here.0
        ),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::Oid;

    use super::*;

    const TXN: [&str; 2] = ["n.1.0.1.00000000000000aa", "n.1.0.2.00000000000000bb"];

    fn oid(digit: char) -> RefValue {
        RefValue::Oid(digit.to_string().repeat(40).parse::<Oid>().unwrap())
    }

    type One = Option<(u64, char, usize)>;

    fn look(refdb: One, here: One, disk: Option<char>) -> Look {
        let key = RefKey::Ref("refs/heads/main".parse().unwrap());
        let item = |(version, digit, txn): (u64, char, usize)| RefItem {
            key: key.clone(),
            version: Version(version),
            value: oid(digit),
            txn: Some(TXN[txn].parse().unwrap()),
            directory: false,
            loosened: None,
            lock: None,
        };
        let record = |(version, digit, txn): (u64, char, usize)| RefRecord {
            version: Version(version),
            value: oid(digit),
            txn: TXN[txn].parse().unwrap(),
        };
        Look { key: key.clone(), refdb: refdb.map(item), here: here.map(record), disk: disk.map(oid) }
    }

    /// A ref that both disks show as the version maps have it.
    fn pair(refdb: One, here: One, there: One) -> Pair {
        let shown = |one: One| one.map(|(_, digit, _)| digit);
        Pair { here: look(refdb, here, shown(here)), there: look(refdb, there, shown(there)), disk: true }
    }

    fn verdict(pair: &Pair) -> Option<(Right, String)> {
        let behind = Behind { here: None, there: Some("no peer".into()) };
        judge(&"p#1".parse().unwrap(), pair, &behind, "b-0").map(|found| (found.right, found.why))
    }

    #[test]
    fn the_node_that_has_what_the_refdb_has_is_right() {
        let (old, new) = (Some((2, 'a', 0)), Some((3, 'b', 1)));
        assert!(!pair(new, new, new).differs());
        let (right, why) = verdict(&pair(new, new, old)).unwrap();
        let behind = "version 3 is committed, and b-0 has version 2; it could not catch up: no peer";
        assert_eq!((right, why.as_str()), (Right::ThisNode, behind));
        let (right, why) = verdict(&pair(new, None, new)).unwrap();
        assert_eq!((right, why.as_str()), (Right::Peer, "version 3 is committed, and this node has version 0"));
        let (right, why) = verdict(&pair(old, old, new)).unwrap();
        assert!(right == Right::Peer && why.ends_with("the refdb is older than b-0"), "{why}");
        let other = Some((3, 'c', 0));
        let (right, why) = verdict(&pair(new, other, new)).unwrap();
        assert!(right == Right::Peer && why.starts_with("this node has another transaction for version 3"), "{why}");
        let (right, why) = verdict(&pair(Some((4, 'd', 0)), old, new)).unwrap();
        assert!(right == Right::Refdb && why.contains("this node has version 2; version 4"), "{why}");
        let (right, _) = verdict(&pair(None, old, new)).unwrap();
        assert_eq!(right, Right::Peer, "the later version is right if the refdb went back");
        assert_eq!(verdict(&pair(new, new, new)), None);
    }

    #[test]
    fn a_disk_that_shows_another_value_is_wrong_on_either_side_unless_only_maps_are_compared() {
        let one = Some((2, 'a', 0));
        for at_peer in [false, true] {
            let mut pair = pair(one, one, one);
            let side = if at_peer { &mut pair.there } else { &mut pair.here };
            side.disk = None;
            assert!(pair.differs() && stays(&pair, &pair));
            let (right, why) = verdict(&pair).unwrap();
            let (expected, who) = if at_peer { (Right::ThisNode, "b-0") } else { (Right::Peer, "this node") };
            assert!(right == expected && why.contains(&format!("the disk of {who} shows another value")), "{why}");
            pair.disk = false;
            assert!(!pair.differs());
        }
    }

    #[test]
    fn a_deleted_ref_and_one_that_was_never_there_are_the_same() {
        let mut pair = pair(None, Some((2, 'a', 0)), None);
        assert!(pair.differs());
        pair.here.here.as_mut().unwrap().value = RefValue::Absent;
        pair.here.disk = None;
        assert!(!pair.differs());
        let deleted: RefValue = "state:deleted#1".parse().unwrap();
        assert!(are_same(Some(&RefRecord { version: Version(4), value: deleted, txn: TXN[0].parse().unwrap() }), None));
    }

    #[test]
    fn a_ref_that_moves_all_the_time_is_no_mismatch_and_one_that_stays_behind_is() {
        let at = |version| Some((version, 'a', 0));
        let (before, now) = (pair(at(8), at(8), at(7)), pair(at(9), at(9), at(8)));
        assert!(!stays(&before, &now), "the peer has reached version 8");
        assert!(stays(&before, &pair(at(9), at(9), at(7))));
        assert!(!stays(&pair(at(8), at(7), at(8)), &now), "now the other one is behind");
        assert!(stays(&pair(at(8), None, at(8)), &pair(at(8), None, at(8))));
        let two = pair(at(8), at(8), Some((8, 'b', 1)));
        assert!(two.differs() && stays(&two, &two));
    }
}
