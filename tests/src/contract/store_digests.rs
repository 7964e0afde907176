//! The contract of the digests and of the results of verifications in the node's store. Every test takes a new, empty
//! store.

use std::collections::BTreeMap;

use lockstep::seams::volume::{Changes, DigestAt, NodeStore, Rebind, RefRecord, SetDigest};
use lockstep_proto::{ProjectKey, RefKey};

use super::store::{key, oid, project, record};

fn step(entries: &[(&str, &str, RefRecord)]) -> Changes {
    let refs = entries.iter().map(|(at, name, record)| (project(at), key(name), record.clone())).collect();
    Changes { refs, ..Changes::default() }
}

async fn commit(store: &dyn NodeStore, changes: Changes) {
    store.commit(changes).await.expect("the commit of a step");
}

/// The digest of a project, computed from its entries.
///
/// # Panics
/// If the store cannot be read.
#[must_use]
pub fn computed(store: &dyn NodeStore, at: &ProjectKey) -> SetDigest {
    let entries: BTreeMap<RefKey, RefRecord> =
        store.references(at, None, usize::MAX).expect("the entries").into_iter().collect();
    SetDigest::of(&entries)
}

/// The digest that the store has of a project.
///
/// # Panics
/// If the store cannot be read.
#[must_use]
pub fn kept(store: &dyn NodeStore, at: &ProjectKey) -> Option<SetDigest> {
    store.digest(at, &[]).expect("the digest").digest
}

/// After every step the digest of a project is that of its entries.
pub async fn a_digest_is_that_of_the_entries_after_every_step(store: &dyn NodeStore) {
    let (a, b, again) = (project("a#1"), project("b#1"), project("a#2"));
    let all = [&a, &b, &again];
    let agree = |store: &dyn NodeStore| {
        for at in all {
            assert_eq!(kept(store, at), Some(computed(store, at)), "{at}");
        }
    };
    agree(store);
    assert_eq!(kept(store, &a), Some(SetDigest::default()), "of an empty project");
    let (one, two) = (record(1, Some(oid(1))), record(2, Some(oid(2))));
    commit(store, step(&[("a#1", "refs/heads/x", one.clone()), ("b#1", "refs/heads/x", one.clone())])).await;
    agree(store);
    assert_eq!(kept(store, &a), kept(store, &b), "the name of the project is no part of it");
    let first = kept(store, &a);
    // Two entries for one key in a step, a deletion, a HEAD, and a state, which is no part of the digest.
    let entries = [
        ("a#1", "refs/heads/x", two.clone()),
        ("a#1", "refs/heads/x", record(3, None)),
        ("a#1", "@HEAD", record(1, None)),
        ("a#1", "@state", record(1, "state:active#1".parse::<lockstep_proto::RefValue>().expect("a value"))),
        ("a#2", "refs/heads/y", two.clone()),
    ];
    commit(store, step(&entries)).await;
    agree(store);
    assert_ne!(kept(store, &a), first);
    assert_eq!(kept(store, &a).map(|digest| digest.count()), Some(2));
    let keys = [key("refs/heads/x"), key("refs/heads/none"), key("@HEAD")];
    let DigestAt { digest, entries } = store.digest(&a, &keys).expect("a read");
    assert_eq!((digest, entries), (kept(store, &a), vec![Some(record(3, None)), None, Some(record(1, None))]));
    let forget = Changes { forget_projects: vec![a.clone()], ..step(&[("a#1", "refs/heads/z", one)]) };
    commit(store, forget).await;
    agree(store);
    assert_eq!(kept(store, &a).map(|digest| digest.count()), Some(1), "removals come before additions");
    let rebind = Changes { rebind: Some(Rebind { keep: [].into() }), ..step(&[("b#1", "refs/heads/x", two)]) };
    commit(store, rebind).await;
    agree(store);
    assert_eq!([&a, &b].map(|at| kept(store, at).map(|digest| digest.count())), [Some(0), Some(1)]);
    assert_eq!(store.build_digests(1).await, Ok(true), "nothing is to be built");
}

/// The results of verifications are replaced as a whole, and belong to the refdb of the volume.
pub async fn results_of_verifications_stay_until_the_refdb_changes(store: &dyn NodeStore) {
    assert_eq!(store.verified(), Ok(None));
    for text in ["one", "two"] {
        commit(store, Changes { verified: Some(text.into()), ..Changes::default() }).await;
        commit(store, step(&[("a#1", "refs/heads/x", record(1, None))])).await;
        assert_eq!(store.verified(), Ok(Some(text.to_owned())));
    }
    commit(store, Changes { rebind: Some(Rebind { keep: [].into() }), ..Changes::default() }).await;
    assert_eq!(store.verified(), Ok(None));
}
