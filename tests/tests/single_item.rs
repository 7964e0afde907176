//! DynamoDB's tables with multi-Region strong consistency, which take no transactions: how they are recognized, how a
//! commit goes on through the faults of its calls, and the errors of an isolated Region.

use std::sync::Arc;
use std::time::Duration;

use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableSettings, client};
use lockstep::seams::refdb::{
    CommitAnswer, CommitRequest, RefDb, RefDbError, RefStore, Role, Setup, Sites, SlotState, WriteMode,
};
use lockstep_proto::Version;
use lockstep_tests::aws::faults::{Fault, FaultyDynamo, Replicas};
use lockstep_tests::build::{Commit, key, project, site, slot, value};
use lockstep_tests::contract::refdb::under_locks;

const MAIN: &str = "refs/heads/main";

/// An emulator of tables in one or several Regions.
async fn tables(replicas: Replicas) -> (EmbeddedDynamo, FaultyDynamo) {
    let server = EmbeddedDynamo::in_memory().await.expect("an emulator");
    let faulty = FaultyDynamo::to(&server.endpoint(), replicas).await;
    (server, faulty)
}

async fn unprepared(faulty: &FaultyDynamo, writes: WriteMode) -> DynamoRefDb {
    let settings = TableSettings { writes, ..TableSettings::default() };
    DynamoRefDb::new(&client(&Connection::emulator(faulty.url())).await, "test", settings)
}

async fn prepared(faulty: &FaultyDynamo, writes: WriteMode) -> Result<bool, String> {
    let db = unprepared(faulty, writes).await;
    match db.prepare(true).await {
        Ok(()) => Ok(db.is_single_item()),
        Err(RefDbError::Broken(why)) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

/// Tables in several Regions, with commits under locks, and without.
async fn several_regions() -> (Arc<DynamoRefDb>, RefDb, (EmbeddedDynamo, FaultyDynamo)) {
    let (server, faulty) = tables(Replicas::Strong).await;
    let raw = Arc::new(unprepared(&faulty, WriteMode::Auto).await);
    raw.prepare(true).await.expect("tables");
    let db = under_locks(RefDb::of(&raw)).await;
    (raw, db, (server, faulty))
}

/// Whether a ref of the project is at its first version, and free.
async fn is_moved(raw: &DynamoRefDb, name: &str) -> bool {
    let items = raw.read(&project("p#1"), &[key(name)]).await.expect("a read");
    items[0].as_ref().is_some_and(|item| item.version == Version(1) && item.lock.is_none())
}

#[tokio::test]
async fn the_tables_decide_how_they_are_written() {
    let (_server, faulty) = tables(Replicas::Eventual).await;
    let why = prepared(&faulty, WriteMode::Auto).await.expect_err("it has no conditions");
    assert!(why.contains("last writer wins"), "{why}");
    faulty.replicate(Replicas::Strong);
    let why = prepared(&faulty, WriteMode::Transactions).await.expect_err("it has no transactions");
    assert!(why.contains("no transactions") && why.contains("auto"), "{why}");
    assert_eq!(prepared(&faulty, WriteMode::Auto).await, Ok(true));
    assert_eq!(faulty.transactions(), 0);
    // A backup is restored into a table of one Region. Its slots still have locks to end.
    faulty.replicate(Replicas::None);
    assert_eq!(prepared(&faulty, WriteMode::Auto).await, Ok(true));
    let why = prepared(&faulty, WriteMode::Transactions).await.expect_err("it has locks");
    assert!(why.contains("one item by one"), "{why}");
}

#[tokio::test]
async fn a_refdb_in_use_with_transactions_keeps_them() {
    let (_server, faulty) = tables(Replicas::None).await;
    assert_eq!(prepared(&faulty, WriteMode::Auto).await, Ok(false));
    let db = unprepared(&faulty, WriteMode::Transactions).await;
    db.prepare(true).await.expect("tables");
    let _ = db.enroll_site(&site("site-a"), Role::Active).await.expect("a record");
    let why = prepared(&faulty, WriteMode::SingleItem).await.expect_err("it is in use");
    assert!(why.contains("in use with transactions"), "{why}");
    let (_server, new) = tables(Replicas::None).await;
    assert_eq!(prepared(&new, WriteMode::SingleItem).await, Ok(true), "a new refdb takes the setting");
}

#[tokio::test]
async fn a_commit_goes_on_through_the_faults_of_its_calls() {
    let faults = [
        Fault::Delay(Duration::from_millis(20)),
        Fault::Throttled,
        Fault::TransactionConflict,
        Fault::WrittenElsewhere,
        Fault::Reset,
        Fault::AnswerLost,
        Fault::ExpiredCredentials,
        Fault::ClockSkew,
    ];
    let (raw, db, (_server, faulty)) = several_regions().await;
    for (seq, fault) in faults.into_iter().enumerate() {
        let name = format!("refs/heads/b{seq}");
        let request = Commit::at(&project("p#1"), seq as u64).first(&name, value(1)).request();
        // The first call of UpdateItem is the lock.
        faulty.fail("UpdateItem", 1, fault);
        assert_eq!(db.refs.commit(&request).await, Ok(CommitAnswer::Committed), "{fault:?}");
        assert!(faulty.has_failed() && is_moved(&raw, &name).await, "{fault:?}");
    }
}

#[tokio::test]
async fn a_seal_that_meets_writes_from_elsewhere_is_repeated_and_then_unknown() {
    let (raw, db, (_server, faulty)) = several_regions().await;
    let first = Commit::at(&project("p#1"), 0).first(MAIN, value(1)).request();
    faulty.fail("PutItem", 3, Fault::WrittenElsewhere);
    assert_eq!(db.refs.commit(&first).await, Ok(CommitAnswer::Committed));
    let second = Commit::at(&project("p#1"), 1).first("refs/heads/x", value(1)).request();
    faulty.fail("PutItem", 6, Fault::WrittenElsewhere);
    let answer = db.refs.commit(&second).await;
    assert!(matches!(answer, Err(RefDbError::Unknown(_))), "{answer:?}");
    assert!(faulty.has_failed());
    assert_eq!(db.journal.slot(&slot(1)).await, Ok(SlotState::Empty));
    // The same bytes again: the locks are its own.
    assert_eq!(db.refs.commit(&second).await, Ok(CommitAnswer::Committed));
    assert!(is_moved(&raw, "refs/heads/x").await);
}

/// Nobody has measured that a conflict means that nothing was done, and a later error says nothing about it.
#[tokio::test]
async fn a_seal_stays_unknown_when_another_error_follows_a_write_from_elsewhere() {
    let (_raw, db, (_server, faulty)) = several_regions().await;
    let request = Commit::at(&project("p#1"), 0).first(MAIN, value(1)).request();
    faulty.fail("PutItem", 1, Fault::WrittenElsewhere);
    faulty.fail("PutItem", 1, Fault::Throttled);
    let answer = db.refs.commit(&request).await;
    assert!(matches!(answer, Err(RefDbError::Unknown(_))), "{answer:?}");
    faulty.fail("PutItem", 1, Fault::Throttled);
    let answer = db.refs.commit(&request).await;
    assert!(matches!(answer, Err(RefDbError::NotNow(_))), "an error alone says it: {answer:?}");
    assert!(faulty.has_failed());
}

#[tokio::test]
async fn a_seal_whose_answer_is_lost_is_found_in_the_slot() {
    let (raw, db, (_server, faulty)) = several_regions().await;
    let request = Commit::at(&project("p#1"), 0).first(MAIN, value(1)).request();
    faulty.fail("PutItem", 1, Fault::AnswerLost);
    let answer = db.refs.commit(&request).await;
    assert!(matches!(answer, Err(RefDbError::Unknown(_))), "{answer:?}");
    let committed = SlotState::Committed(request.transaction.id.clone(), request.encoded.clone());
    assert_eq!(db.journal.slot(&slot(0)).await, Ok(committed));
    assert_eq!(db.refs.commit(&request).await, Ok(CommitAnswer::Committed));
    assert!(is_moved(&raw, MAIN).await);
}

#[tokio::test]
async fn a_ref_that_could_not_be_moved_is_moved_by_its_next_reader() {
    let (raw, db, (_server, faulty)) = several_regions().await;
    let request = Commit::at(&project("p#1"), 0).first(MAIN, value(1)).request();
    faulty.fail("UpdateItem", 1, Fault::Delay(Duration::ZERO));
    faulty.fail("UpdateItem", 1, Fault::Throttled);
    assert_eq!(db.refs.commit(&request).await, Ok(CommitAnswer::Committed), "the slot has it");
    assert!(!is_moved(&raw, MAIN).await);
    let items = db.refs.read(&project("p#1"), &[key(MAIN)]).await.expect("a read");
    assert_eq!(items[0].as_ref().map(|item| item.value.clone()), Some(value(1)));
    assert!(is_moved(&raw, MAIN).await);
}

#[tokio::test]
async fn an_isolated_region_never_reads_an_error_as_absent_or_refused() {
    let (raw, db, (_server, faulty)) = several_regions().await;
    let request = Commit::at(&project("p#1"), 0).first(MAIN, value(1)).request();
    faulty.isolate(true);
    let answer = db.refs.commit(&request).await;
    assert!(matches!(answer, Err(RefDbError::NotNow(_))), "nothing was sealed: {answer:?}");
    for answer in [
        raw.seal(&request.transaction.id, &request.encoded).await.map(drop),
        db.journal.poison(&slot(0)).await.map(drop),
        db.refs.read(&project("p#1"), &[key(MAIN)]).await.map(drop),
        db.sites.sites().await.map(drop),
    ] {
        assert!(matches!(answer, Err(RefDbError::Unknown(_))), "{answer:?}");
    }
    faulty.isolate(false);
    assert_eq!(db.refs.commit(&request).await, Ok(CommitAnswer::Committed));
}

/// One lock and one move per ref, and one seal.
#[tokio::test]
async fn ten_thousand_refs_are_one_commit() {
    const REFS: usize = 10_000;
    let (raw, db, (_server, faulty)) = several_regions().await;
    let one = |commit: Commit, n| commit.first(&format!("refs/tags/t{n:05}"), value(1));
    let request = (0..REFS).fold(Commit::at(&project("p#1"), 0), one).request();
    // The slot would hold the locator of so long a transaction. The adapter does not look into it.
    let request = CommitRequest { encoded: bytes::Bytes::from_static(b"locator"), ..request };
    assert_eq!(db.refs.commit(&request).await, Ok(CommitAnswer::Committed));
    assert_eq!(faulty.calls("UpdateItem"), 2 * REFS as u64);
    let all = raw.scan(&project("p#1"), None, 2 * REFS).await.expect("a scan");
    assert_eq!(all.len(), REFS);
    assert!(all.iter().all(|item| item.version == Version(1) && item.lock.is_none()));
}
