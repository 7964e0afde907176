//! The contract of the node's store ([`lockstep::seams::volume`]). Every test takes a new, empty store.

use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep::seams::eventlog::Position;
use lockstep::seams::refdb::SiteRecord;
use lockstep::seams::volume::{
    BoundTo, Changes, CommittedRequest, Debt, Difference, Held, HeldKind, Mailbox, MoveIntent, NodeStore, Rebind,
    RefRecord, RefreshMark, Registered, RequestKey, ShardId, VolumeFacts,
};
use lockstep_proto::debt::DebtKind;
use lockstep_proto::failover::Role;
use lockstep_proto::rebuild::{KnownSite, RefdbIdentity};
use lockstep_proto::refresh::Subject;
use lockstep_proto::site_list::StreamPlace;
use lockstep_proto::{LaneId, Oid, ProjectKey, ProjectName, RefKey, RefValue, Seq, Version};

/// Parses a project with its incarnation, such as `tools/build#2`.
#[must_use]
pub fn project(text: &str) -> ProjectKey {
    text.parse().expect("a project key")
}

/// Parses a key: the name of a ref, `@HEAD` or `@state`.
#[must_use]
pub fn key(text: &str) -> RefKey {
    text.parse().expect("a ref key")
}

/// An object id whose bytes are all `byte`.
#[must_use]
pub fn oid(byte: u8) -> Oid {
    Oid::Sha1([byte; 20])
}

/// An entry of the version map, with a transaction id made from its version.
#[must_use]
pub fn record(version: u64, value: impl Into<RefValue>) -> RefRecord {
    let txn = format!("eu-aws-0.1.0.{version}.00c0ffee00c0ffee").parse().expect("a transaction id");
    RefRecord { version: Version(version), value: value.into(), txn }
}

fn point(project_text: &str, key_text: &str, record: RefRecord) -> Changes {
    Changes { refs: vec![(project(project_text), key(key_text), record)], ..Changes::default() }
}

fn held(text: &str) -> Held {
    Held {
        bytes: text.as_bytes().to_vec().into(),
        kind: HeldKind::Committed,
        project: "tools/build".into(),
        reason: format!("waits for {text}"),
        waits_for: vec![text.into(), "é".into()],
        since_ms: 1_700_000_000_000,
    }
}

fn account(number: u32) -> Subject {
    Subject::Account { account: number }
}

fn mark(generation: u64, difference: Difference) -> RefreshMark {
    RefreshMark { generation, since_ms: 1_700_000_000_000, own: true, acknowledged: false, difference }
}

fn shard(created: &str) -> ShardId {
    ShardId { site: "eu-aws".parse().expect("a site"), created: created.into(), shard: "shard-0".into() }
}

async fn commit(store: &dyn NodeStore, changes: Changes) {
    store.commit(changes).await.expect("the commit of a step");
}

const MAILBOXES: [Mailbox; 3] = [Mailbox::Outbox, Mailbox::Sent, Mailbox::Inbox];

/// A new store is empty, and an empty step changes nothing.
pub async fn a_new_store_is_empty(store: &dyn NodeStore) {
    commit(store, Changes::default()).await;
    assert_eq!(store.reference(&project("a#1"), &key("refs/heads/x")), Ok(None));
    assert_eq!(store.references(&project("a#1"), None, 10), Ok(vec![]));
    assert_eq!(store.projects(), Ok(vec![]));
    assert_eq!(store.checkpoints().map(|all| all.len()), Ok(0));
    assert_eq!(store.low_water().map(|all| all.len()), Ok(0));
    assert_eq!(store.parked(None, 9).map(|all| all.len()), Ok(0));
    assert_eq!(store.quarantined().map(|all| all.len()), Ok(0));
    assert_eq!(store.refresh_marks(), Ok(vec![]));
    for mailbox in MAILBOXES {
        assert_eq!(store.mail(mailbox, None, 10), Ok(vec![]));
        assert_eq!(store.letter(mailbox, 0), Ok(None));
    }
    assert_eq!(store.received().map(|all| all.len()), Ok(0));
    assert_eq!(store.facts(), Ok(VolumeFacts::default()));
    assert_eq!(store.registered(), Ok(Registered::default()));
    assert_eq!(store.requests(None, 10), Ok(vec![]));
}

/// A later step replaces an entry. A tombstone is an entry too.
pub async fn entries_are_replaced_and_tombstones_stay(store: &dyn NodeStore) {
    let (at, name) = (project("a#1"), key("refs/heads/x"));
    for entry in [record(1, Some(oid(1))), record(2, Some(oid(2))), record(3, None)] {
        commit(store, point("a#1", "refs/heads/x", entry.clone())).await;
        assert_eq!(store.reference(&at, &name), Ok(Some(entry)));
    }
    let head = record(1, RefValue::Symref("refs/heads/main".parse().expect("a ref")));
    commit(store, point("a#1", "@HEAD", head.clone())).await;
    assert_eq!(store.references(&at, None, 10), Ok(vec![(key("@HEAD"), head), (name, record(3, None))]));
}

/// If one step has two entries for the same key, the later one stays.
pub async fn the_later_of_two_entries_stays(store: &dyn NodeStore) {
    let mut changes = point("a#1", "refs/heads/x", record(1, Some(oid(1))));
    changes.refs.extend(point("a#1", "refs/heads/x", record(2, Some(oid(2)))).refs);
    commit(store, changes).await;
    assert_eq!(store.reference(&project("a#1"), &key("refs/heads/x")), Ok(Some(record(2, Some(oid(2))))));
    assert_eq!(store.is_value(&project("a#1"), &oid(1)), Ok(false));
}

/// Projects and incarnations do not see each other's entries.
pub async fn projects_and_incarnations_are_apart(store: &dyn NodeStore) {
    let all = ["a#1", "a#2", "a/b#1", "a-b#1", "ab#1"];
    for (index, text) in (1_u8..).zip(all) {
        commit(store, point(text, "refs/heads/x", record(1, Some(oid(index))))).await;
    }
    for (index, text) in (1_u8..).zip(all) {
        let only = vec![(key("refs/heads/x"), record(1, Some(oid(index))))];
        assert_eq!(store.references(&project(text), None, 10), Ok(only), "{text}");
        let values: Vec<u8> = (1..=5).filter(|at| store.is_value(&project(text), &oid(*at)) == Ok(true)).collect();
        assert_eq!(values, [index], "{text}");
    }
    assert_eq!(store.references(&project("a#3"), None, 10), Ok(vec![]));
}

/// `@state` belongs to the project's name: every incarnation sees it, and no listing of refs contains it.
pub async fn the_state_belongs_to_the_name(store: &dyn NodeStore) {
    let state = |text: &str| record(1, text.parse::<RefValue>().expect("a value"));
    commit(store, point("b#1", "@state", state("state:active#1"))).await;
    commit(store, point("a#2", "@state", state("state:closing#2"))).await;
    for text in ["a#1", "a#2", "a#3"] {
        assert_eq!(store.reference(&project(text), &RefKey::State), Ok(Some(state("state:closing#2"))), "{text}");
        assert_eq!(store.references(&project(text), None, 10), Ok(vec![]));
    }
    let named = |text: &str, entry| (text.parse().expect("a name"), entry);
    let all = vec![named("a", state("state:closing#2")), named("b", state("state:active#1"))];
    assert_eq!(store.projects(), Ok(all));
}

/// Pages are in key order: `@HEAD` first, then refs by their bytes.
pub async fn references_come_in_pages_in_key_order(store: &dyn NodeStore) {
    let sorted = ["@HEAD", "refs/changes/01/1/1", "refs/heads/a", "refs/heads/a-b", "refs/heads/a/b", "refs/tags/é"];
    for text in [3, 0, 5, 1, 4, 2].map(|index: usize| sorted[index]) {
        commit(store, point("a#1", text, record(1, None))).await;
    }
    commit(store, point("a#1", "@state", record(1, None))).await;
    let (at, mut seen, mut after) = (project("a#1"), Vec::new(), None);
    loop {
        let page = store.references(&at, after.as_ref(), 4).expect("a page");
        seen.extend(page.iter().map(|(key, _)| key.to_string()));
        if page.len() < 4 {
            break;
        }
        after = page.last().map(|(key, _)| key.clone());
    }
    assert_eq!(seen, sorted);
    let behind = store.references(&at, Some(&key("refs/heads/aa")), 1).expect("a page");
    assert_eq!(behind[0].0, key("refs/tags/é"));
    assert_eq!(store.references(&at, Some(&RefKey::State), 1).expect("a page")[0].0, RefKey::Head);
    assert_eq!(store.references(&at, None, 0), Ok(vec![]));
}

/// An object counts as a value while any ref of the project has it.
pub async fn an_object_is_a_value_until_its_last_ref_moves(store: &dyn NodeStore) {
    let at = project("a#1");
    let is_value = |byte| store.is_value(&at, &oid(byte)) == Ok(true);
    commit(store, point("a#1", "refs/heads/x", record(1, Some(oid(1))))).await;
    commit(store, point("a#1", "refs/heads/y", record(1, Some(oid(1))))).await;
    commit(store, point("a#1", "refs/heads/x", record(2, Some(oid(1))))).await;
    commit(store, point("a#1", "refs/heads/x", record(3, Some(oid(2))))).await;
    assert!(is_value(1) && is_value(2));
    commit(store, point("a#1", "refs/heads/y", record(2, None))).await;
    assert!(!is_value(1) && is_value(2));
    assert_eq!(store.is_value(&at, &Oid::Sha256([2; 32])), Ok(false));
}

/// Checkpoints and low-water marks are replaced and removed. A stream that was created again is another stream.
pub async fn positions_are_replaced_and_forgotten(store: &dyn NodeStore) {
    let (old, new) = (shard("monday"), shard("tuesday"));
    let lane = |number: u64| format!("eu-aws-0.{number}.3").parse::<LaneId>().expect("a lane");
    let first = Changes {
        checkpoints: vec![(old.clone(), Position::End), (new.clone(), Position::Start)],
        low_water: vec![(lane(1), Seq(7)), (lane(10), Seq(1)), (lane(2), Seq(0))],
        ..Changes::default()
    };
    commit(store, first).await;
    assert_eq!(store.checkpoints().map(|all| all.into_keys().collect()), Ok(vec![old.clone(), new.clone()]));
    let second = Changes {
        checkpoints: vec![(new.clone(), Position::After("49".into()))],
        forget_shards: vec![old],
        low_water: vec![(lane(2), Seq(5))],
        forget_lanes: vec![lane(10), lane(99)],
        ..Changes::default()
    };
    commit(store, second).await;
    let checkpoints = store.checkpoints().expect("the checkpoints");
    assert_eq!(checkpoints.into_iter().collect::<Vec<_>>(), [(new, Position::After("49".into()))]);
    let low_water = store.low_water().expect("the low-water marks");
    let marks: Vec<_> = low_water.into_iter().map(|(lane, seq)| (lane.to_string(), seq.0)).collect();
    assert_eq!(marks, [("eu-aws-0.1.3".to_owned(), 7), ("eu-aws-0.2.3".to_owned(), 5)]);
}

/// Held records are returned byte for byte until they are released. Parked and quarantined ones are separate.
pub async fn held_records_stay_until_they_are_let_go(store: &dyn NodeStore) {
    let first = Changes {
        park: vec![("t1".into(), held("one")), ("t2".into(), held("two"))],
        quarantine: vec![("t1".into(), held("bad"))],
        ..Changes::default()
    };
    commit(store, first).await;
    let second = Changes {
        park: vec![("t2".into(), held("two again"))],
        unpark: vec!["t1".into(), "t2".into(), "t3".into()],
        ..Changes::default()
    };
    commit(store, second).await;
    assert_eq!(store.parked(None, 9), Ok(vec![("t2".to_owned(), held("two again"))]));
    let quarantined = store.quarantined().map(|all| all.len() as u64);
    assert_eq!(store.held_counts(), quarantined.map(|quarantined| (1, quarantined)));
    assert_eq!(store.quarantined(), Ok([("t1".to_owned(), held("bad"))].into()));
    commit(store, Changes { unquarantine: vec!["t1".into()], ..Changes::default() }).await;
    assert_eq!(store.quarantined().map(|all| all.len()), Ok(0));
}

/// Parked records are read in pages, in the order of their ids.
pub async fn parked_records_are_read_in_pages(store: &dyn NodeStore) {
    let park = ["t3", "t1", "t2"].map(|id| (id.to_owned(), held(id))).to_vec();
    commit(store, Changes { park, ..Changes::default() }).await;
    let page = |after, limit| {
        let page = store.parked(after, limit).expect("a page");
        assert!(page.iter().all(|(id, record)| *record == held(id)));
        page.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2), ["t1", "t2"]);
    assert_eq!(page(Some("t2"), 2), ["t3"]);
    assert!(page(Some("t3"), 2).is_empty());
    assert_eq!(page(Some("t11"), 1), ["t2"], "the id need not exist");
}

/// A project has one debt, the last one, until it is repaid.
pub async fn debts_are_replaced_and_repaid(store: &dyn NodeStore) {
    let (p, q) = ("p".parse().expect("a project"), "q".parse().expect("a project"));
    let debt = |tries| Debt {
        kind: DebtKind::BadContent,
        why: "bad".into(),
        txn: Some("n.1.0.4.00000000000000aa".parse().expect("an id")),
        refs: vec![key("refs/heads/x")],
        since_ms: 7,
        tries,
        closed: true,
        named: true,
    };
    let owe: fn(&ProjectName, Debt) -> Changes =
        |project, debt| Changes { owe: vec![(project.clone(), debt)], ..Changes::default() };
    commit(store, owe(&p, debt(1))).await;
    commit(store, owe(&p, debt(2))).await;
    commit(store, owe(&q, debt(3))).await;
    commit(store, Changes { repaid: vec![q.clone()], ..Changes::default() }).await;
    assert_eq!(store.debts(), Ok([(p, debt(2))].into()));
}

/// A subject has one mark, the last one, until it is refreshed. If a step sets and removes the same mark, the mark
/// stays.
pub async fn refresh_marks_are_replaced_and_removed(store: &dyn NodeStore) {
    let project = || "tools/build".parse().expect("a name");
    let values = Difference::Value { old: None, new: Some(oid(7)) };
    let subjects = [
        (account(1), mark(1, Difference::Some)),
        (Subject::Group { group: "a\"é".into() }, mark(2, values)),
        (Subject::Project { project: project() }, mark(3, Difference::Project { deleted: true, exists: false })),
        (Subject::Branch { project: project(), name: "refs/heads/a/b".parse().expect("a ref") }, mark(4, values)),
        (Subject::GroupNames, mark(u64::MAX, Difference::Some)),
    ];
    commit(store, Changes { refresh: subjects.to_vec(), ..Changes::default() }).await;
    let sorted = || {
        let mut marks = store.refresh_marks().expect("the marks");
        marks.sort_by_key(|(_, mark)| mark.generation);
        marks
    };
    assert_eq!(sorted(), subjects);
    let second = Changes {
        refresh: vec![(account(1), mark(9, Difference::Some))],
        refreshed: subjects.iter().map(|(subject, _)| subject.clone()).chain([account(99)]).collect(),
        ..Changes::default()
    };
    commit(store, second).await;
    assert_eq!(sorted(), [(account(1), mark(9, Difference::Some))]);
}

/// Forgetting an incarnation removes its entries and values, and leaves the state and every other project.
pub async fn a_project_is_forgotten_by_incarnation(store: &dyn NodeStore) {
    for text in ["a#1", "a#2", "a/b#1"] {
        let mut changes = point(text, "refs/heads/x", record(1, Some(oid(1))));
        changes.refs.extend(point(text, "@HEAD", record(1, None)).refs);
        commit(store, changes).await;
    }
    commit(store, point("a#1", "@state", record(1, "state:active#2".parse::<RefValue>().expect("a value")))).await;
    commit(store, Changes { forget_projects: vec![project("a#1"), project("c#1")], ..Changes::default() }).await;
    for (text, left) in [("a#1", 0), ("a#2", 2), ("a/b#1", 2)] {
        let at = project(text);
        assert_eq!(store.references(&at, None, 10).map(|page| page.len()), Ok(left), "{text}");
        assert_eq!(store.is_value(&at, &oid(1)), Ok(left > 0), "{text}");
    }
    assert_eq!(store.projects().map(|all| all.len()), Ok(1));
}

/// Mailboxes are separate. Their entries are listed in the order of their numbers, in pages, and stay until they are
/// removed.
pub async fn mail_comes_in_the_order_of_its_numbers(store: &dyn NodeStore) {
    let letter = |text: &'static str| Bytes::from_static(text.as_bytes());
    let numbers = [u64::MAX, 300, 0, 7];
    let all = MAILBOXES.iter().flat_map(|mailbox| numbers.map(|number| (*mailbox, number, letter("one"))));
    commit(store, Changes { post: all.collect(), ..Changes::default() }).await;
    for mailbox in MAILBOXES {
        let page = |after, limit| {
            let page = store.mail(mailbox, after, limit).expect("a page");
            page.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
        };
        assert_eq!(page(None, 3), [0, 7, 300]);
        assert_eq!(page(Some(7), 9), [300, u64::MAX]);
        assert_eq!(page(Some(u64::MAX), 9), [0; 0]);
        assert_eq!(store.letter(mailbox, 7), Ok(Some(letter("one"))));
        assert_eq!(store.letter(mailbox, 8), Ok(None));
    }
    let post =
        vec![(Mailbox::Inbox, 7, letter("two")), (Mailbox::Inbox, 0, letter("first")), (Mailbox::Inbox, 0, letter(""))];
    let unpost = vec![(Mailbox::Inbox, 7), (Mailbox::Outbox, 300), (Mailbox::Sent, 12)];
    commit(store, Changes { post, unpost, ..Changes::default() }).await;
    assert_eq!(store.letter(Mailbox::Inbox, 7), Ok(Some(letter("two"))), "removals come before additions");
    assert_eq!(store.letter(Mailbox::Inbox, 0), Ok(Some(letter(""))), "the later one stays");
    let left = MAILBOXES.map(|mailbox| store.mail(mailbox, None, 9).map(|all| all.len()));
    assert_eq!(left, [Ok(3), Ok(4), Ok(4)]);
}

/// The received positions of an origin are replaced by later steps, and stay until they are forgotten.
pub async fn received_positions_are_replaced_and_forgotten(store: &dyn NodeStore) {
    let received = |all: &[(&str, &str)]| all.iter().map(|(of, what)| ((*of).to_owned(), (*what).to_owned())).collect();
    let blocks = |all: &[(&str, u64, &'static str)]| {
        all.iter().map(|(of, block, bits)| (((*of).to_owned(), *block), Bytes::from_static(bits.as_bytes()))).collect()
    };
    let put = |all: &[(&str, u64, &'static str)]| {
        let all: BTreeMap<(String, u64), Bytes> = blocks(all);
        all.into_iter().map(|(block, bits)| (block, Some(bits))).collect()
    };
    let received_blocks = put(&[("a", 0, "0"), ("a", u64::MAX, "1"), ("b", 0, "2"), ("b", u64::MAX, "3")]);
    let changes = Changes { received: received(&[("a", "1"), ("b", "2")]), received_blocks, ..Changes::default() };
    commit(store, changes).await;
    let received_blocks = put(&[("a", 0, "4")]).into_iter().chain([(("a".to_owned(), u64::MAX), None)]).collect();
    commit(store, Changes { received: received(&[("a", "3")]), received_blocks, ..Changes::default() }).await;
    assert_eq!(store.received(), Ok(received(&[("a", "3"), ("b", "2")])));
    assert_eq!(store.received_blocks(), Ok(blocks(&[("a", 0, "4"), ("b", 0, "2"), ("b", u64::MAX, "3")])));
    let (forget_received, received_blocks) = (vec!["b".to_owned(), "c".to_owned()], put(&[("b", 1, "5")]));
    commit(store, Changes { forget_received, received_blocks, ..Changes::default() }).await;
    assert_eq!(store.received(), Ok(received(&[("a", "3")])));
    assert_eq!(store.received_blocks(), Ok(blocks(&[("a", 0, "4"), ("b", 1, "5")])), "removals come before additions");
}

fn registered(node: &str, [beat, tried, opened]: [u64; 3]) -> Registered {
    let node = Some(("eu-aws".parse().expect("a site"), node.parse().expect("a node")));
    Registered { node, beat, tried, opened }
}

/// The numbers of a node only grow. Those of another node replace them.
pub async fn registered_numbers_never_go_back(store: &dyn NodeStore) {
    let step = |registered| Changes { registered: Some(registered), ..Changes::default() };
    for (written, kept) in [([5, 0, 0], [5, 0, 0]), ([0, 3, 0], [5, 3, 0]), ([4, 2, 1], [5, 3, 1])] {
        commit(store, step(registered("a", written))).await;
        assert_eq!(store.registered(), Ok(registered("a", kept)));
    }
    commit(store, step(registered("b", [1, 0, 0]))).await;
    assert_eq!(store.registered(), Ok(registered("b", [1, 0, 0])));
}

fn request(project: &str, id: &str) -> (RequestKey, CommittedRequest) {
    let txn = "eu-aws-0.1.0.4.00c0ffee00c0ffee".parse().expect("a transaction id");
    let request = CommittedRequest { txn, at_ms: 1_700_000_000_000, steps: vec![(u64::MAX, Version(3))] };
    ((project.parse().expect("a name"), id.to_owned()), request)
}

/// A volume that moves to another refdb keeps what speaks of itself and of streams, and forgets the rest.
pub async fn a_volume_that_moves_to_another_refdb_forgets_the_one_before(store: &dyn NodeStore) {
    fill(store).await;
    commit(store, point("b#1", "@state", record(1, "state:active#1".parse::<RefValue>().expect("a value")))).await;
    assert_eq!(store.bound().expect("a read"), BoundTo::default());
    let refdb = Some(RefdbIdentity::first("b".to_owned()));
    let stream = StreamPlace { region: Some("eu-west-1".into()), endpoint: None };
    let site = SiteRecord::new("eu-aws".parse().expect("a site"), Role::Standby, 4);
    let sites = vec![KnownSite::from(&SiteRecord { removed: true, left: 3, signed: true, stream, ..site })];
    let (bound, kept) = (BoundTo { refdb, sites }, store.projects().expect("a read"));
    let before = (store.refresh_marks(), store.checkpoints());
    let held = [store.parked(None, 9).expect("a read").len(), store.quarantined().expect("a read").len()];
    let moved = MoveIntent {
        project: "b#1".parse().expect("a project"),
        key: RefKey::State,
        record: record(1, "state:active#1".parse::<RefValue>().expect("a value")),
    };
    store.record_intents(&[moved]).expect("a write");
    let keep = kept.iter().take(1).map(|(name, _)| name.clone()).collect();
    let changes = Changes { rebind: Some(Rebind { keep }), bound: Some(bound.clone()), ..Changes::default() };
    commit(store, changes).await;
    assert_eq!(store.bound().expect("a read"), bound);
    assert_eq!(store.projects().expect("a read"), kept[..1]);
    for (name, _) in &kept {
        assert_eq!(store.references(&ProjectKey::new(name, 1), None, 9).expect("a read"), []);
    }
    assert_eq!(store.intents(), Ok(Vec::new()), "a move of the time before is not newer than those that follow");
    assert_eq!(store.registered().expect("a read"), Registered::default());
    assert!(store.low_water().expect("a read").is_empty() && store.debts().expect("a read").is_empty());
    assert!(store.requests(None, 9).expect("a read").is_empty() && store.parked(None, 9).expect("a read").is_empty());
    let quarantined = store.quarantined().expect("a read");
    assert_eq!(quarantined.len(), held.iter().sum::<usize>(), "held records are not lost");
    assert!(quarantined.values().all(|held| !held.is_committed()), "and hold back nothing");
    assert_eq!((store.refresh_marks(), store.checkpoints()), before);
}

/// Committed requests are found by project and id, listed in pages, and forgotten one by one.
pub async fn committed_requests_are_kept_until_they_are_forgotten(store: &dyn NodeStore) {
    let all = [request("a", "1"), request("a", "é"), request("a/b", "1"), request("b", "")];
    commit(store, Changes { requests: all.to_vec(), ..Changes::default() }).await;
    assert_eq!(store.request(&all[2].0), Ok(Some(all[2].1.clone())));
    assert_eq!(store.request(&request("a", "2").0), Ok(None));
    assert_eq!(store.requests(None, 2), Ok(all[..2].to_vec()));
    assert_eq!(store.requests(Some(&all[1].0), 9), Ok(all[2..].to_vec()));
    commit(store, Changes { forget_requests: vec![all[0].0.clone(), all[3].0.clone()], ..Changes::default() }).await;
    assert_eq!(store.requests(None, 9), Ok(all[1..3].to_vec()));
}

/// A large batch is one step.
pub async fn a_thousand_entries_are_one_step(store: &dyn NodeStore) {
    let at = project("a#1");
    let entry = |index: u64| (at.clone(), key(&format!("refs/heads/{index:04}")), record(1, Some(oid(1))));
    commit(store, Changes { refs: (0..1_000).map(entry).collect(), ..Changes::default() }).await;
    assert_eq!(store.references(&at, None, 2_000).map(|page| page.len()), Ok(1_000));
}

/// Fills a store with an entry of every kind in one step, for tests that restart it. [`check_filled`] checks them.
pub async fn fill(store: &dyn NodeStore) {
    let mut changes = point("a#1", "refs/heads/x", record(7, Some(oid(3))));
    changes.refs.extend(point("a#1", "@state", record(1, "state:active#1".parse::<RefValue>().expect("a value"))).refs);
    changes.checkpoints.push((shard("monday"), Position::After("49".into())));
    changes.low_water.push(("eu-aws-0.1.3".parse().expect("a lane"), Seq(9)));
    changes.park.push(("t1".into(), held("one")));
    changes.quarantine.push(("t2".into(), held("two")));
    changes.refresh.push((account(1), mark(5, Difference::Some)));
    changes.post.push((Mailbox::Outbox, 4, Bytes::from_static(b"out")));
    changes.post.push((Mailbox::Inbox, 5, Bytes::from_static(b"in")));
    changes.received.insert("a.1".into(), "{}".into());
    changes.facts = Some(filled_facts());
    changes.registered = Some(registered("a", [7, 2, 1]));
    changes.requests.push(request("a", "r"));
    commit(store, changes).await;
}

fn filled_facts() -> VolumeFacts {
    let restoring = ["p".parse().expect("a name")].into();
    let mending = ["m".parse().expect("a name")].into();
    let of_other_refdb = ["old".parse().expect("a name")].into();
    VolumeFacts {
        id: "v".into(),
        starts: 3,
        boot: "b".into(),
        clean: true,
        reconciles: true,
        restoring,
        mending,
        of_other_refdb,
        came_back: 5,
    }
}

/// Checks that everything of [`fill`] is there.
pub fn check_filled(store: &dyn NodeStore) {
    let at = project("a#1");
    assert_eq!(store.reference(&at, &key("refs/heads/x")), Ok(Some(record(7, Some(oid(3))))));
    assert_eq!(store.is_value(&at, &oid(3)), Ok(true));
    assert_eq!(store.projects().map(|all| all.len()), Ok(1));
    assert_eq!(store.checkpoints(), Ok([(shard("monday"), Position::After("49".into()))].into()));
    assert_eq!(store.low_water().map(|all| all.into_values().collect()), Ok(vec![Seq(9)]));
    assert_eq!(store.parked(None, 9), Ok(vec![("t1".to_owned(), held("one"))]));
    assert_eq!(store.quarantined(), Ok([("t2".to_owned(), held("two"))].into()));
    assert_eq!(store.refresh_marks(), Ok(vec![(account(1), mark(5, Difference::Some))]));
    let mail = |mailbox, number, text: &'static str| {
        assert_eq!(store.mail(mailbox, None, 9), Ok(vec![(number, Bytes::from_static(text.as_bytes()))]));
    };
    mail(Mailbox::Outbox, 4, "out");
    mail(Mailbox::Inbox, 5, "in");
    assert_eq!(store.received(), Ok([("a.1".to_owned(), "{}".to_owned())].into()));
    let facts = filled_facts();
    assert_eq!(store.facts(), Ok(facts));
    assert_eq!(store.registered(), Ok(registered("a", [7, 2, 1])));
    assert_eq!(store.requests(None, 9), Ok(vec![request("a", "r")]));
}
