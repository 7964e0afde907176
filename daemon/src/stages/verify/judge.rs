//! Judges a ref that differs: names the side that is right. A pure function of the refdb's item, the version map's
//! record and the disk.

use lockstep_proto::verify::{Mismatch, Right, Side};
use lockstep_proto::{ProjectKey, RefKey, RefValue, Version};

use crate::seams::refdb::RefItem;
use crate::seams::volume::RefRecord;

/// A ref as the three places have it.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) key: RefKey,
    pub(super) refdb: Option<RefItem>,
    pub(super) here: Option<RefRecord>,
    /// The value on the disk. None if the disk has no such ref.
    pub(super) disk: Option<RefValue>,
}

impl Look {
    /// The versions of the refdb and of this node.
    fn versions(&self) -> (Version, Version) {
        let refdb = self.refdb.as_ref().map_or(Version::NONE, |item| item.version);
        (refdb, self.here.as_ref().map_or(Version::NONE, |record| record.version))
    }
}

/// Whether the version map has what the refdb has. A ref that was never committed, and a deleted ref that this node
/// never knew, are equal to nothing.
pub(super) fn is_equal(refdb: Option<&RefItem>, here: Option<&RefRecord>) -> bool {
    let refdb = refdb.filter(|item| item.version != Version::NONE);
    match (refdb, here) {
        (None, None) => true,
        (Some(item), None) => item.value.is_absent(),
        (None, Some(_)) => false,
        (Some(item), Some(record)) => {
            (item.version, &item.value, item.txn.as_ref()) == (record.version, &record.value, Some(&record.txn))
        }
    }
}

/// Whether the disk has the value of the version map. A repository has a `HEAD` even if none was committed.
pub(super) fn shows(look: &Look) -> bool {
    let known = look.here.as_ref().map(|record| &record.value).filter(|value| !value.is_absent());
    match look.key {
        RefKey::Ref(_) => known == look.disk.as_ref(),
        RefKey::Head => known.is_none() || known == look.disk.as_ref(),
        RefKey::State => true,
    }
}

/// Whether two looks at a ref, with a catch-up between them, show the same difference. A ref that moves all the time
/// differs in many looks: the side that is behind then reaches the version that the other side had in the look before.
pub(super) fn stays(before: &Look, now: &Look) -> bool {
    let ((refdb_before, here_before), (refdb, here)) = (before.versions(), now.versions());
    match refdb.cmp(&here) {
        std::cmp::Ordering::Greater => here < refdb_before,
        std::cmp::Ordering::Less => refdb < here_before,
        std::cmp::Ordering::Equal if is_equal(now.refdb.as_ref(), now.here.as_ref()) => {
            !shows(before) && (here_before, &before.disk) == (here, &now.disk)
        }
        std::cmp::Ordering::Equal => (refdb_before, here_before) == (refdb, here),
    }
}

/// Judges a ref that differs. None if it does not.
pub(super) fn judge(project: &ProjectKey, look: &Look, caught_up: Option<&str>) -> Option<Mismatch> {
    let behind = caught_up.map(|why| format!("; this node could not catch up: {why}")).unwrap_or_default();
    let (refdb, here) = look.versions();
    let (right, why) = match refdb.cmp(&here) {
        _ if is_equal(look.refdb.as_ref(), look.here.as_ref()) && shows(look) => return None,
        std::cmp::Ordering::Greater => {
            let why = format!("version {} is committed, and this node has version {}{behind}", refdb.0, here.0);
            (Right::Refdb, why)
        }
        std::cmp::Ordering::Less => {
            let why = format!(
                "this node has applied version {}, and the refdb has version {}: the refdb is older than this node",
                here.0, refdb.0
            );
            (Right::ThisNode, why)
        }
        std::cmp::Ordering::Equal if is_equal(look.refdb.as_ref(), look.here.as_ref()) => {
            let why = "refdb and version map agree on version, and the disk shows another value: something other than \
                       Lockstep has moved the ref, or damaged it";
            (Right::Refdb, format!("{why}{behind}"))
        }
        std::cmp::Ordering::Equal => {
            let why = "two transactions have this version: the refdb alone decides which one is committed; keep the \
                       logs of this node, and report it";
            (Right::Refdb, why.to_owned())
        }
    };
    Some(Mismatch {
        project: project.to_string(),
        name: look.key.to_string(),
        refdb: look.refdb.as_ref().map(of_item),
        here: look.here.as_ref().map(of_record),
        disk: look.disk.as_ref().map(text),
        peer: None,
        there: None,
        disk_there: None,
        right,
        why,
    })
}

/// The refdb's item as a side of a mismatch.
pub(super) fn of_item(item: &RefItem) -> Side {
    let txn = item.txn.as_ref().map(ToString::to_string).unwrap_or_default();
    Side { version: item.version.0, value: text(&item.value), txn }
}

/// A record of a version map as a side of a mismatch.
pub(super) fn of_record(record: &RefRecord) -> Side {
    Side { version: record.version.0, value: text(&record.value), txn: record.txn.to_string() }
}

/// A value as text; empty if there is none.
pub(super) fn text(value: &RefValue) -> String {
    if value.is_absent() { String::new() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::Oid;

    use super::*;

    const TXN: [&str; 2] = ["n.1.0.1.00000000000000aa", "n.1.0.2.00000000000000bb"];

    fn oid(digit: char) -> Oid {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn look(refdb: (u64, char, usize), here: (u64, char, usize), disk: Option<char>) -> Look {
        let key: RefKey = RefKey::Ref("refs/heads/main".parse().unwrap());
        let item = RefItem {
            key: key.clone(),
            version: Version(refdb.0),
            value: RefValue::Oid(oid(refdb.1)),
            txn: Some(TXN[refdb.2].parse().unwrap()),
            directory: false,
            loosened: None,
            lock: None,
        };
        let record = RefRecord {
            version: Version(here.0),
            value: RefValue::Oid(oid(here.1)),
            txn: TXN[here.2].parse().unwrap(),
        };
        Look { key, refdb: Some(item), here: Some(record), disk: disk.map(|digit| RefValue::Oid(oid(digit))) }
    }

    fn verdict(look: &Look) -> Option<(Right, String)> {
        judge(&"p#1".parse().unwrap(), look, Some("no peer")).map(|found| (found.right, found.why))
    }

    #[test]
    fn the_later_version_is_right_and_at_the_same_version_the_refdb() {
        assert_eq!(verdict(&look((2, 'a', 0), (2, 'a', 0), Some('a'))), None);
        let (right, why) = verdict(&look((3, 'b', 1), (2, 'a', 0), Some('a'))).unwrap();
        assert_eq!(right, Right::Refdb);
        let behind = "version 3 is committed, and this node has version 2; this node could not catch up: no peer";
        assert_eq!(why, behind);
        let (right, why) = verdict(&look((2, 'a', 0), (3, 'b', 1), Some('b'))).unwrap();
        assert!(right == Right::ThisNode && why.ends_with("the refdb is older than this node"), "{why}");
        let (right, why) = verdict(&look((2, 'a', 0), (2, 'b', 1), Some('b'))).unwrap();
        assert!(right == Right::Refdb && why.starts_with("two transactions have this version"), "{why}");
    }

    #[test]
    fn a_disk_that_shows_another_value_or_none_is_wrong() {
        for disk in [Some('c'), None] {
            let (right, why) = verdict(&look((2, 'a', 0), (2, 'a', 0), disk)).unwrap();
            assert!(right == Right::Refdb && why.contains("the disk shows another value"), "{why}");
        }
    }

    #[test]
    fn a_deleted_ref_that_this_node_never_knew_is_equal_and_a_living_one_is_not() {
        let mut one = look((2, 'a', 0), (2, 'a', 0), None);
        one.here = None;
        assert!(verdict(&one).is_some());
        one.refdb.as_mut().unwrap().value = RefValue::Absent;
        assert_eq!(verdict(&one), None);
    }

    #[test]
    fn a_ref_that_moves_all_the_time_is_no_mismatch_and_one_that_stays_behind_is() {
        let hot = [look((8, 'a', 0), (7, 'b', 1), Some('b')), look((9, 'c', 0), (8, 'a', 1), Some('a'))];
        assert!(!stays(&hot[0], &hot[1]), "the node has reached version 8");
        let behind = look((9, 'c', 0), (7, 'b', 1), Some('b'));
        assert!(stays(&hot[0], &behind));
        let ahead = [look((7, 'a', 0), (9, 'b', 1), Some('b')), look((8, 'a', 0), (9, 'b', 1), Some('b'))];
        assert!(stays(&ahead[0], &ahead[1]), "the refdb is older than this node");
    }

    #[test]
    fn the_disk_is_wrong_only_if_it_shows_the_same_wrong_value_twice_at_the_same_version() {
        let wrong = |version, value, disk| look((version, value, 0), (version, value, 0), Some(disk));
        assert!(stays(&wrong(2, 'a', 'c'), &wrong(2, 'a', 'c')));
        assert!(!stays(&wrong(2, 'a', 'c'), &wrong(2, 'a', 'd')));
        assert!(!stays(&wrong(2, 'a', 'c'), &wrong(3, 'b', 'c')));
        assert!(!stays(&wrong(2, 'a', 'a'), &wrong(2, 'a', 'c')));
    }

    #[test]
    fn the_head_of_a_repository_is_compared_once_it_was_committed() {
        let head = |name: &str| RefValue::Symref(name.parse().unwrap());
        let mut one = look((2, 'a', 0), (2, 'a', 0), None);
        one.key = RefKey::Head;
        one.disk = Some(head("refs/heads/master"));
        one.here.as_mut().unwrap().value = head("refs/heads/main");
        one.refdb.as_mut().unwrap().value = head("refs/heads/main");
        assert!(verdict(&one).unwrap().1.contains("the disk shows another value"));
        (one.here, one.refdb) = (None, None);
        assert_eq!(verdict(&one), None);
    }
}
