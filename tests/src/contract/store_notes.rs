//! The contract of the node's store for the commit stage: the notes of blobs, and the gap in the memory of
//! requests. Every test takes a new, empty store.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::seams::volume::{Changes, NodeStore, Rebind};
use lockstep_proto::TxnId;

/// The gap is there until a step ends it, and a volume that moves to another refdb keeps it.
///
/// # Panics
/// If the store breaks its contract.
pub async fn the_gap_in_the_requests_is_kept_until_it_ends(store: &dyn NodeStore) {
    assert!(!store.requests_gap().expect("the gap"));
    for (requests_gap, is_there) in [(Some(true), true), (None, true), (Some(false), false), (Some(true), true)] {
        let step = Changes { requests_gap, ..Changes::default() };
        assert_eq!(step.is_empty(), requests_gap.is_none());
        store.commit(step).await.expect("the commit of a step");
        assert_eq!(store.requests_gap().expect("the gap"), is_there);
    }
    let rebind = Some(Rebind { keep: BTreeSet::new() });
    store.commit(Changes { rebind, ..Changes::default() }).await.expect("the commit of a step");
    assert!(store.requests_gap().expect("the gap"));
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
