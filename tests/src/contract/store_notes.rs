//! The contract of what the node's store keeps for the commit stage: the notes of blobs, and the gap in the memory of
//! requests. Every test takes a new, empty store.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::seams::volume::{Changes, NodeStore, Rebind};
use lockstep_proto::TxnId;

/// The gap ends at the time that the last step gave, and a volume that moves to another refdb keeps it.
///
/// # Panics
/// If the store breaks its contract.
pub async fn the_end_of_the_gap_in_the_requests_is_kept(store: &dyn NodeStore) {
    assert_eq!(store.requests_gap_until_ms().expect("the gap"), 0);
    for until_ms in [Some(5_000), Some(7_000), None] {
        let step = Changes { requests_gap_until_ms: until_ms, ..Changes::default() };
        assert_eq!(step.is_empty(), until_ms.is_none());
        store.commit(step).await.expect("the commit of a step");
    }
    assert_eq!(store.requests_gap_until_ms().expect("the gap"), 7_000);
    let rebind = Some(Rebind { keep: BTreeSet::new() });
    store.commit(Changes { rebind, ..Changes::default() }).await.expect("the commit of a step");
    assert_eq!(store.requests_gap_until_ms().expect("the gap"), 7_000);
}

/// A blob is noted until it ends, with the transaction of its last note.
///
/// # Panics
/// If the store breaks its contract.
pub async fn blobs_are_noted_until_they_end(store: &dyn NodeStore) {
    let txn: TxnId = "n.1.0.0.00000000000000aa".parse().expect("an id");
    for (key, txn) in [("packs/a", None), ("packs/b", None), ("packs/b", Some(&txn)), ("packs/c", None)] {
        store.note_blob(key, txn).expect("a note");
    }
    store.end_blob("packs/c").expect("the end of a note");
    store.end_blob("packs/unknown").expect("an unknown key");
    let noted = BTreeMap::from([("packs/a".to_owned(), None), ("packs/b".to_owned(), Some(txn))]);
    assert_eq!(store.blobs_under_way().expect("the notes"), noted);
    let rebind = Some(Rebind { keep: BTreeSet::new() });
    store.commit(Changes { rebind, ..Changes::default() }).await.expect("the commit of a step");
    assert!(store.blobs_under_way().expect("the notes").is_empty(), "its transactions are of another refdb");
    store.note_blob("packs/d", None).expect("a note");
    store.forget_blobs().expect("no notes");
    assert!(store.blobs_under_way().expect("the notes").is_empty());
}
