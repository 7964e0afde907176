//! Tests of the check on refdbs in memory: one without a fault, and one per kind of fault.

use lockstep_proto::rebuild::RefdbIdentity;
use lockstep_proto::{Oid, Version};

use super::*;
use crate::base::clock::SeededEntropy;
use crate::seams::refdb::memory::MemoryRefDb;
use crate::seams::refdb::{Document, DocumentRecord, IncarnationState, NodeRecord, Rebuilt, Role};

async fn identity(refdb: &RefDb) {
    let body = serde_json::to_string(&RefdbIdentity::first("0a".to_owned())).unwrap();
    let record = DocumentRecord { revision: 1, body };
    refdb.documents.put_document(Document::Identity, &record).await.unwrap();
}

fn item(key: &str, value: RefValue) -> RefItem {
    let txn = Some("n.1.0.4.00000000000000aa".parse().unwrap());
    let (key, version) = (key.parse().unwrap(), Version(5));
    RefItem { key, version, value, txn, directory: false, loosened: None, lock: None }
}

fn live(key: &str) -> RefItem {
    item(key, RefValue::Oid(Oid::from_bytes(&[1; 20]).unwrap()))
}

/// A refdb with a project that has these items.
async fn with(items: Vec<Rebuilt>) -> RefDb {
    let refdb = MemoryRefDb::new().refdb();
    identity(&refdb).await;
    let state = item("@state", "state:active#1".parse().unwrap());
    let all: Vec<Rebuilt> = [vec![Rebuilt::Ref("p#1".parse().unwrap(), state)], items].concat();
    for one in all {
        refdb.setup.rebuild(&[one], 1).await.unwrap();
    }
    refdb
}

fn of_ref(item: RefItem) -> Rebuilt {
    Rebuilt::Ref("p#1".parse().unwrap(), item)
}

fn directory(name: &str) -> Rebuilt {
    Rebuilt::Directory("p#1".parse().unwrap(), name.parse().unwrap())
}

async fn check(refdb: &RefDb) -> Checked {
    let entropy = Arc::new(SeededEntropy::new(1));
    RefDbCheck::new(refdb.clone(), entropy, 1_000).run(|_| {}).await.unwrap()
}

fn faults(checked: &Checked) -> Vec<String> {
    checked.findings.iter().map(|one| format!("{}: {}", one.place, one.fault)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sound_refdb_has_no_findings_and_is_read_at_the_rate() {
    let began = tokio::time::Instant::now();
    let mut items =
        vec![directory("refs/heads/a"), of_ref(live("refs/heads/a/b")), of_ref(live("refs/changes/01/1/1"))];
    items.push(of_ref(item("refs/heads/gone", RefValue::Absent)));
    items.push(of_ref(item("@HEAD", RefValue::Symref("refs/heads/a/b".parse().unwrap()))));
    let refdb = with(items).await;
    let site = "s".parse().unwrap();
    refdb.sites.enroll_site(&site, Role::Active).await.unwrap();
    refdb.nodes.put_node(&NodeRecord::first("n", "s"), None).await.unwrap();
    let open = IncarnationRecord::open("n.1".parse().unwrap(), site, 1, 8, 1);
    refdb.incarnations.open_incarnation(&open).await.unwrap();
    let checked = check(&refdb).await;
    assert_eq!(faults(&checked), Vec::<String>::new());
    let counts = (checked.projects, checked.refs, checked.others, checked.incarnations, checked.slots);
    assert_eq!(counts, (1, 3, 2, 1, 0), "{checked:?}");
    assert!(began.elapsed() >= Duration::from_millis(7), "seven items at a thousand per second");
}

#[tokio::test(start_paused = true)]
async fn a_project_whose_creation_failed_under_a_lock_is_no_fault() {
    let left = RefItem { version: Version::NONE, txn: None, ..item("@state", RefValue::Absent) };
    let without = faults(&check(&with(Vec::new()).await).await);
    let refdb = with(vec![Rebuilt::Ref("new#1".parse().unwrap(), left)]).await;
    assert_eq!(refdb.refs.projects(None, 9).await.unwrap().len(), 2);
    assert_eq!(faults(&check(&refdb).await), without);
    let absent = item("@state", RefValue::Absent);
    let refdb = with(vec![Rebuilt::Ref("new#1".parse().unwrap(), absent)]).await;
    assert_eq!(faults(&check(&refdb).await).len(), without.len() + 1, "a state that was committed is never absent");
}

#[tokio::test(start_paused = true)]
async fn faults_of_refs_are_told_with_their_places() {
    let items = vec![
        of_ref(live("refs/heads/a/b")),
        directory("refs/heads/d"),
        of_ref(live("refs/heads/d")),
        of_ref(item("@HEAD", RefValue::Oid(Oid::from_bytes(&[1; 20]).unwrap()))),
    ];
    let found = faults(&check(&with(items).await).await);
    let is_told = |place: &str, fault: &str| found.iter().any(|one| one.starts_with(place) && one.contains(fault));
    assert!(is_told("p#1 refs/heads/a/b:", "refs/heads/a above it is not marked"), "{found:?}");
    assert!(is_told("p#1 refs/heads/d:", "live, and marked"), "{found:?}");
    assert!(is_told("p#1 @HEAD:", "not of its kind"), "{found:?}");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_settled_slot_that_is_empty_a_strange_node_and_a_bad_document_are_told() {
    let refdb = with(Vec::new()).await;
    let bad = DocumentRecord { revision: 1, body: "{".to_owned() };
    refdb.documents.put_document(Document::Keys, &bad).await.unwrap();
    refdb.nodes.put_node(&NodeRecord::first("m", "elsewhere"), None).await.unwrap();
    let site = "s".parse().unwrap();
    refdb.sites.enroll_site(&site, Role::Active).await.unwrap();
    let open = IncarnationRecord::open("n.1".parse().unwrap(), site.clone(), 1, 8, 1);
    refdb.incarnations.open_incarnation(&open).await.unwrap();
    refdb.incarnations.mark(&site, &open.id, &[Seq(2)], &[Seq(1)]).await.unwrap();
    let checked = check(&refdb).await;
    let found = faults(&checked);
    assert_eq!((checked.slots, found.len()), (1, 3), "{found:?}");
    assert!(found[0].contains("no JSON") && found[1].contains("site elsewhere"), "{found:?}");
    assert!(found[2].starts_with("n.1.0.1:") && found[2].contains("is empty"), "{found:?}");
}

#[test]
fn a_lock_is_a_fault_unless_its_owner_may_still_commit() {
    let lock: TxnId = "n.1.0.4.00000000000000aa".parse().unwrap();
    let open = IncarnationRecord::open("n.1".parse().unwrap(), "s".parse().unwrap(), 1, 8, 1);
    let ended = IncarnationRecord { state: IncarnationState::Poisoned, ..open.clone() };
    let committed = SlotState::Committed(lock.clone(), bytes::Bytes::new());
    assert_eq!(faults::of_lock(&lock, &SlotState::Empty, Some(&open)), None);
    let told = |slot: &SlotState, owner| faults::of_lock(&lock, slot, owner).unwrap().0;
    assert!(told(&committed, Some(&open)).contains("is committed"));
    assert!(told(&SlotState::Poisoned, None).contains("can never be committed"));
    assert!(told(&SlotState::Empty, Some(&ended)).contains("has ended"));
    assert!(told(&SlotState::Empty, None).contains("has ended"));
}

#[test]
fn marks_beyond_their_bounds_are_faults() {
    let open = IncarnationRecord::open("n.7".parse().unwrap(), "s".parse().unwrap(), 1, 8, 1);
    let marked = |state, settled, published| {
        let record =
            IncarnationRecord { state, settled: vec![Seq(settled)], published: vec![Seq(published)], ..open.clone() };
        faults::of_incarnation(&record, 7).len()
    };
    assert_eq!((marked(IncarnationState::Open, 4, 4), marked(IncarnationState::Open, 4, 5)), (0, 1));
    assert_eq!((marked(IncarnationState::Drained, 4, 12), marked(IncarnationState::Poisoned, 4, 13)), (0, 1));
    assert_eq!(marked(IncarnationState::Drained, 4, 3), 1);
    assert_eq!(faults::of_incarnation(&open, 6).len(), 1, "the node never had this number");
    let next = IncarnationRecord { id: "n.8".parse().unwrap(), ..open.clone() };
    assert_eq!(faults::of_incarnations(&[open, next]).len(), 1);
}
