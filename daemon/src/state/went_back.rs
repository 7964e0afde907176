//! Whether the refdb is older than this node, because it was restored from a backup, or is not this node's own at all.
//!
//! The refdb is the only authority on refs, but it can lose what it once answered. A node that goes on against such a
//! refdb commits versions that other nodes have already, with other values, and those nodes skip them. So each node
//! compares the refdb with its own knowledge: its record, its incarnations, the slots that it has applied, and
//! the versions of refs. Each of these only grows, and is durable here only after (or, for heartbeats and incarnation
//! numbers, before) the refdb had it. The comparisons are pure functions, and use no clock.
//!
//! The first evidence stays: this node commits nothing, is not ready, and declares it in the refdb, so that the others
//! stop too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep_proto::{LaneId, NodeId, ProjectKey, RefKey, Seq, TxnId, Version};
use tokio::sync::watch;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::{IncarnationRecord, NodeAnswer, NodeRecord, RefItem};
use crate::seams::volume::{RefRecord, Registered};

/// A fact that this node knows and the refdb does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Evidence {
    /// The record of this node has a lower heartbeat than the refdb once had.
    #[error("this node has written heartbeat {sent}, and the refdb has {found}")]
    Beat {
        /// The lowest heartbeat that the refdb must have.
        sent: u64,
        /// The heartbeat in the refdb.
        found: u64,
    },
    /// The record of this node is gone. Nobody removes such records.
    #[error("this node has written its record, and the refdb has none")]
    NoRecord,
    /// The refdb does not know an incarnation that it has opened.
    #[error("incarnation {opened} of node {node} was opened, and the refdb knows {found} at most")]
    Incarnation {
        /// The node of the incarnation.
        node: NodeId,
        /// The number that was opened.
        opened: u64,
        /// The highest number that the refdb knows.
        found: u64,
    },
    /// The marks of a lane are too low for a slot that this node has applied.
    #[error("this node has applied lane {lane} up to slot {applied}, and the refdb allows slots below {allowed}")]
    Lane {
        /// The lane of these slots.
        lane: LaneId,
        /// Every slot below this one is applied here.
        applied: Seq,
        /// Slots from this one on were never allowed, according to the refdb.
        allowed: Seq,
    },
    /// A ref has a lower version in the refdb than here.
    #[error("{key} of {project} has version {here} here, and {found} in the refdb")]
    Version {
        /// The project, with its incarnation.
        project: ProjectKey,
        /// The ref or pseudo-ref.
        key: RefKey,
        /// The version that is applied here.
        here: Version,
        /// The version in the refdb. [`Version::NONE`] if there is no item.
        found: Version,
    },
    /// A version of a ref has two transactions: one was committed before the refdb went back, the other one after it.
    #[error("version {version} of {key} of {project} is {here} here, and {found} in the refdb")]
    Fork {
        /// The project, with its incarnation.
        project: ProjectKey,
        /// The ref or pseudo-ref.
        key: RefKey,
        /// The version that exists twice.
        version: Version,
        /// The transaction that is applied here.
        here: TxnId,
        /// The transaction in the refdb.
        found: TxnId,
    },
    /// The refdb is still being rebuilt.
    #[error(
        "refdb {refdb}, in the tables {table}, is still being rebuilt; if the rebuild ended early, repeat its command \
         (`lockstep refdb rebuild --into {table}`)"
    )]
    Building {
        /// The prefix of its tables.
        table: String,
        /// The id of the refdb in these tables.
        refdb: String,
    },
    /// The tables hold another refdb than the one that this volume belongs to.
    #[error(
        "this volume belongs to refdb {volume}, and the tables of refdb.prefix hold {}; set refdb.prefix to the tables \
         of {volume}, or of a refdb that was rebuilt from it",
        found.as_ref().map_or("none".to_owned(), |found| format!("refdb {found}"))
    )]
    OtherRefdb {
        /// The id of the refdb of this volume.
        volume: String,
        /// The id of the refdb in the tables. None if it has no identity: then it is new, or older than the volume.
        found: Option<String>,
    },
    /// The refdb was rebuilt, and no rebuild knows this volume, which belongs to no refdb yet.
    #[error(
        "refdb {refdb} was rebuilt, and the rebuild has not read this volume, which belongs to no refdb yet; set \
         refdb.prefix to the tables of this installation. If they are these, start the node with a new volume, and \
         keep the old one for its values"
    )]
    NotRead {
        /// The id of the refdb in the tables.
        refdb: String,
    },
    /// A stream has a transaction of a refdb that was rebuilt from the one of this node.
    #[error(
        "transaction {txn} is of a refdb that was rebuilt from {volume}, the one of this volume; set refdb.prefix to \
         the tables of the rebuilt one"
    )]
    Succeeded {
        /// The id of the refdb of this volume.
        volume: String,
        /// The id of the transaction.
        txn: TxnId,
    },
    /// Another node has declared it.
    #[error("node {by} has found out: {why}")]
    Declared {
        /// The node that has declared it.
        by: NodeId,
        /// The evidence of that node, as text.
        why: String,
    },
}

impl Evidence {
    /// Whether the refdb is not this node's own at all. All other evidence says that it is older than this node.
    #[must_use]
    pub fn is_of_identity(&self) -> bool {
        matches!(self, Self::Building { .. } | Self::OtherRefdb { .. } | Self::NotRead { .. } | Self::Succeeded { .. })
    }

    /// The evidence with its meaning.
    #[must_use]
    pub fn told(&self) -> String {
        if self.is_of_identity() { self.to_string() } else { format!("the refdb is older than this node: {self}") }
    }
}

/// The evidence that this node has about the age of the refdb. Clones share it.
#[derive(Clone, Debug)]
pub struct WentBack {
    evidence: Arc<watch::Sender<Option<Evidence>>>,
    /// Whether the refdb knows this node's volume. Only then this node speaks for the installation: a volume that
    /// somebody brought from elsewhere must not stop the other nodes.
    recognized: Arc<AtomicBool>,
    bugs: InjectedBugs,
}

impl WentBack {
    /// Nothing is found out yet.
    #[must_use]
    pub fn new(bugs: InjectedBugs) -> Self {
        Self { evidence: Arc::new(watch::Sender::new(None)), recognized: Arc::default(), bugs }
    }

    /// Notes evidence. The first one stays.
    pub fn tell(&self, evidence: Evidence) {
        if self.bugs.has(InjectedBug::OlderRefdbNotSeen) {
            return;
        }
        self.evidence.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(evidence);
            is_first
        });
    }

    /// Forgets evidence of a comparison at the start of the node, because a new comparison found none. Evidence of refs
    /// and of transactions stays: that comparison does not look at them.
    pub fn clear(&self) {
        let stays = |known: &Evidence| {
            matches!(known, Evidence::Version { .. } | Evidence::Fork { .. } | Evidence::Succeeded { .. })
        };
        self.evidence
            .send_if_modified(|known| known.as_ref().is_some_and(|known| !stays(known)) && known.take().is_some());
    }

    /// The evidence. None while the refdb is, as far as this node knows, not older than itself.
    #[must_use]
    pub fn evidence(&self) -> Option<Evidence> {
        self.evidence.borrow().clone()
    }

    /// Whether there is evidence.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.evidence.borrow().is_some()
    }

    /// Reports each change of the evidence.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Evidence>> {
        self.evidence.subscribe()
    }

    /// Notes whether the refdb knows this node's volume.
    pub fn recognize(&self, is_known: bool) {
        self.recognized.store(is_known, Ordering::SeqCst);
    }

    /// Whether the evidence of this node counts for the others.
    #[must_use]
    pub fn speaks_for_all(&self) -> bool {
        self.recognized.load(Ordering::SeqCst)
    }

    /// Whether there is evidence that stops the other nodes, too. Evidence about the identity of the refdb does not: it
    /// may come from a wrong configuration of this node.
    #[must_use]
    pub fn counts_for_all(&self) -> bool {
        match self.evidence() {
            None => false,
            Some(Evidence::Declared { .. }) => true,
            Some(evidence) => !evidence.is_of_identity() && self.speaks_for_all(),
        }
    }
}

/// Compares a node's record, at its start, with the numbers on its volume.
#[must_use]
pub fn own_record(node: &NodeId, here: &Registered, found: Option<&NodeRecord>, highest: u64) -> Option<Evidence> {
    if highest < here.opened {
        return Some(Evidence::Incarnation { node: node.clone(), opened: here.opened, found: highest });
    }
    match found {
        // The first record may never have arrived.
        None => (here.beat > 1 || here.opened > 0).then_some(Evidence::NoRecord),
        Some(found) => beat_is_lower(here.beat.saturating_sub(1), found.beat),
    }
}

/// Judges the answer to a heartbeat. `previous` is the heartbeat that the refdb has confirmed last.
#[must_use]
pub fn heartbeat(previous: u64, answer: &NodeAnswer) -> Option<Evidence> {
    match answer {
        NodeAnswer::Written => None,
        NodeAnswer::Gone => Some(Evidence::NoRecord),
        NodeAnswer::Differs(now) => beat_is_lower(previous, now.beat),
    }
}

fn beat_is_lower(sent: u64, found: u64) -> Option<Evidence> {
    (found < sent).then_some(Evidence::Beat { sent, found })
}

/// Compares the slots that are applied here with the marks of the incarnations. The caller has read the applied slots
/// first. Lanes without a record are left out: they may be forgotten in good order.
#[must_use]
pub fn lanes(applied: &BTreeMap<LaneId, Seq>, records: &[IncarnationRecord]) -> Option<Evidence> {
    let bounds = records.iter().flat_map(|record| {
        record.id.lanes(record.settled.iter().map(|settled| Seq(settled.0.saturating_add(record.window))))
    });
    bounds.into_iter().find_map(|(lane, allowed)| {
        let applied = *applied.get(&lane).filter(|applied| **applied > allowed)?;
        Some(Evidence::Lane { lane, applied, allowed })
    })
}

/// Compares a ref with its item. The caller has read `here` first, and then the item, strongly.
#[must_use]
pub fn reference(
    project: &ProjectKey,
    key: &RefKey,
    here: Option<&RefRecord>,
    found: Option<&RefItem>,
) -> Option<Evidence> {
    let here = here?;
    // The owner of a lock may be committed already: then the item is about to move, and says nothing yet.
    if found.is_some_and(|item| item.lock.is_some()) {
        return None;
    }
    let version = found.map_or(Version::NONE, |item| item.version);
    if version < here.version {
        let (project, key) = (project.clone(), key.clone());
        return Some(Evidence::Version { project, key, here: here.version, found: version });
    }
    let txn = found.and_then(|item| item.txn.clone()).filter(|txn| version == here.version && *txn != here.txn)?;
    Some(fork(project, key, here, txn))
}

/// The evidence that a version of a ref has two transactions.
#[must_use]
pub fn fork(project: &ProjectKey, key: &RefKey, here: &RefRecord, found: TxnId) -> Evidence {
    let (project, key, version) = (project.clone(), key.clone(), here.version);
    Evidence::Fork { project, key, version, here: here.txn.clone(), found }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::{Incarnation, IncarnationId, Oid, RefValue};

    use super::*;
    use crate::seams::refdb::IncarnationState;

    fn node() -> NodeId {
        "n".parse().unwrap()
    }

    fn record(beat: u64) -> NodeRecord {
        NodeRecord { beat, ..NodeRecord::first("n", "s") }
    }

    #[test]
    fn the_refdb_has_the_last_heartbeat_or_the_one_before() {
        let here = |beat, opened| Registered { node: None, beat, tried: opened, opened };
        let judge = |here: &Registered, found: Option<u64>, highest| {
            own_record(&node(), here, found.map(record).as_ref(), highest).is_some()
        };
        assert!(!judge(&here(0, 0), None, 0), "a new volume");
        assert!(!judge(&here(1, 0), None, 0), "the first record never arrived");
        assert!(judge(&here(2, 0), None, 0));
        assert!(judge(&here(1, 1), None, 1), "an incarnation was opened after the record was written");
        assert!(!judge(&here(9, 1), Some(9), 1));
        assert!(!judge(&here(9, 1), Some(8), 1), "the last heartbeat never arrived");
        assert!(judge(&here(9, 1), Some(7), 1));
        assert!(!judge(&here(9, 1), Some(30), 1), "then the volume is the older one");
        assert!(judge(&here(9, 2), Some(9), 1), "the incarnation is unknown");
        assert!(!judge(&here(0, 0), Some(30), 4), "a volume of an earlier release");
    }

    #[test]
    fn a_heartbeat_finds_the_one_that_the_refdb_had_confirmed() {
        assert_eq!(heartbeat(7, &NodeAnswer::Written), None);
        assert_eq!(heartbeat(7, &NodeAnswer::Differs(record(8))), None, "its own copy landed, or another process");
        assert_eq!(heartbeat(7, &NodeAnswer::Differs(record(6))), Some(Evidence::Beat { sent: 7, found: 6 }));
        assert_eq!(heartbeat(7, &NodeAnswer::Gone), Some(Evidence::NoRecord));
    }

    #[test]
    fn a_slot_beyond_the_window_was_applied_in_another_time() {
        let id = IncarnationId { node: node(), number: Incarnation(1) };
        let records = [IncarnationRecord {
            id: id.clone(),
            site: "s".parse().unwrap(),
            epoch: 1,
            state: IncarnationState::Open,
            window: 8,
            settled: vec![Seq(10), Seq(0)],
            published: vec![Seq(4), Seq(0)],
        }];
        let applied = |lane: &str, seq| [(lane.parse().unwrap(), Seq(seq))].into();
        assert_eq!(lanes(&applied("n.1.0", 18), &records), None, "the last slot of the window was used");
        assert!(lanes(&applied("n.1.0", 19), &records).is_some());
        assert!(lanes(&applied("n.1.1", 9), &records).is_some());
        assert_eq!(lanes(&applied("n.2.1", 99), &records), None, "forgotten, or not known yet");
    }

    #[test]
    fn a_version_is_never_lower_in_the_refdb_and_has_one_transaction() {
        let (project, key): (ProjectKey, RefKey) = ("p#1".parse().unwrap(), "refs/heads/a".parse().unwrap());
        let txn = |text: &str| -> TxnId { text.parse().unwrap() };
        let value = RefValue::Oid(Oid::from_bytes(&[1; 20]).unwrap());
        let here = RefRecord { version: Version(4), value: value.clone(), txn: txn("n.1.0.8.00000000000000bb") };
        let item = |version, id: &str| RefItem {
            key: key.clone(),
            version: Version(version),
            value: value.clone(),
            txn: Some(txn(id)),
            directory: false,
            loosened: None,
            lock: None,
        };
        let judge = |found: Option<&RefItem>| reference(&project, &key, Some(&here), found);
        assert_eq!(judge(Some(&item(4, "n.1.0.8.00000000000000bb"))), None);
        assert_eq!(judge(Some(&item(5, "n.1.0.9.00000000000000cc"))), None, "this node is behind");
        assert!(matches!(judge(Some(&item(3, "n.1.0.7.00000000000000aa"))), Some(Evidence::Version { .. })));
        assert!(matches!(judge(Some(&item(4, "m.1.0.7.00000000000000aa"))), Some(Evidence::Fork { .. })));
        assert!(matches!(judge(None), Some(Evidence::Version { found: Version::NONE, .. })));
        assert_eq!(reference(&project, &key, None, None), None);
        let locked = RefItem { lock: Some(txn("n.1.0.8.00000000000000bb")), ..item(3, "n.1.0.7.00000000000000aa") };
        assert_eq!(judge(Some(&locked)), None, "the lock's owner may be committed: the item is about to move");
    }

    #[test]
    fn the_first_evidence_stays_until_a_new_start_finds_none() {
        let went_back = WentBack::new(InjectedBugs::default());
        went_back.tell(Evidence::NoRecord);
        went_back.tell(Evidence::Beat { sent: 2, found: 1 });
        assert_eq!(went_back.evidence(), Some(Evidence::NoRecord));
        assert!(!went_back.counts_for_all(), "the refdb does not know this volume");
        went_back.recognize(true);
        assert!(went_back.counts_for_all());
        went_back.clear();
        assert!(!went_back.is_known() && !went_back.counts_for_all());
        went_back.tell(Evidence::OtherRefdb { volume: "a".to_owned(), found: None });
        assert!(!went_back.counts_for_all(), "this node may have a wrong configuration");
    }
}
