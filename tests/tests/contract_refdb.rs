//! Runs the contract of the refdb over every implementation. Tests of DynamoDB alone follow: one round trip per commit,
//! the meaning of a lost connection, and an emulator on a file that keeps all data.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableSettings, client};
use lockstep::seams::refdb::memory::MemoryRefDb;
use lockstep::seams::refdb::{CommitAnswer, JournalStore, RefDb, RefDbError, RefStore, Setup};
use lockstep_tests::aws::faults::{FaultyDynamo, Replicas};
use lockstep_tests::build::{Commit, key, project, slot, value};
use lockstep_tests::contract::refdb::under_locks;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// Uses the tables of a running emulator.
async fn connect(server: &EmbeddedDynamo) -> DynamoRefDb {
    let db = unprepared(server.endpoint()).await;
    db.prepare(true).await.expect("tables");
    db
}

async fn unprepared(endpoint: String) -> DynamoRefDb {
    DynamoRefDb::new(&client(&Connection::emulator(endpoint)).await, "test", TableSettings::default())
}

mod memory {
    use super::*;

    async fn make() -> (RefDb, ()) {
        (MemoryRefDb::new().refdb(), ())
    }

    lockstep_tests::refdb_contract!(make);
}

mod dynamo {
    use super::*;

    async fn make() -> (RefDb, EmbeddedDynamo) {
        let server = EmbeddedDynamo::in_memory().await.expect("an emulator");
        (RefDb::of(&Arc::new(connect(&server).await)), server)
    }

    lockstep_tests::refdb_contract!(make);
}

/// A store whose writes take one item keeps the contract by commits under locks.
mod memory_of_single_items {
    use super::*;

    async fn make() -> (RefDb, ()) {
        let memory = MemoryRefDb::new();
        memory.write_single_items();
        (under_locks(memory.refdb()).await, ())
    }

    lockstep_tests::refdb_contract!(make);
}

/// Tables with multi-Region strong consistency. The layer refuses each transaction, so that a forgotten one fails.
mod dynamo_in_several_regions {
    use super::*;

    async fn make() -> (RefDb, (EmbeddedDynamo, FaultyDynamo)) {
        let server = EmbeddedDynamo::in_memory().await.expect("an emulator");
        let faulty = FaultyDynamo::to(&server.endpoint(), Replicas::Strong).await;
        let db = unprepared(faulty.url()).await;
        db.prepare(true).await.expect("tables");
        assert!(db.is_single_item());
        (under_locks(RefDb::of(&Arc::new(db))).await, (server, faulty))
    }

    lockstep_tests::refdb_contract!(make);
}

#[tokio::test]
async fn a_commit_is_one_round_trip_for_one_ref_and_for_fifty() {
    let server = EmbeddedDynamo::in_memory().await.expect("an emulator");
    let (db, project) = (connect(&server).await, project("tools/build#1"));
    for (seq, refs) in [1_u64, 50].into_iter().enumerate() {
        let before = db.round_trips();
        let create = |commit: Commit, n| commit.first(&format!("refs/heads/b{refs}-{n}"), value(1));
        let request = (0..refs).fold(Commit::at(&project, seq as u64), create).request();
        assert_eq!(db.commit(&request).await, Ok(CommitAnswer::Committed));
        assert_eq!(db.round_trips() - before, 1, "{refs} refs");
    }
}

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_done() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let db = unprepared(endpoint).await;
    let request = Commit::at(&project("tools/build#1"), 0).first("refs/heads/main", value(1)).request();
    let answer = db.commit(&request).await;
    assert!(matches!(answer, Err(RefDbError::NotNow(_))), "{answer:?}");
    let answer = db.poison(&slot(0)).await;
    assert!(matches!(answer, Err(RefDbError::NotNow(_))), "{answer:?}");
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_nothing_is_sent_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let connections = AtomicU32::new(0);
    // Reads a part of each request, and hangs up.
    let server = async {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            connections.fetch_add(1, Ordering::Relaxed);
            stream.read_exact(&mut [0; 64]).await.expect("a request");
        }
    };
    let calls = async {
        let db = unprepared(endpoint).await;
        let request = Commit::at(&project("tools/build#1"), 0).first("refs/heads/main", value(1)).request();
        (db.commit(&request).await, db.poison(&slot(0)).await)
    };
    let (commit, poison) = tokio::select! {
        biased;
        answers = calls => answers,
        () = server => unreachable!("the server never ends"),
    };
    assert!(matches!(commit, Err(RefDbError::Unknown(_))), "{commit:?}");
    assert!(matches!(poison, Err(RefDbError::Unknown(_))), "{poison:?}");
    assert_eq!(connections.into_inner(), 2, "one connection per call");
}

#[tokio::test]
async fn absent_tables_are_broken_and_not_absent_items() {
    let server = EmbeddedDynamo::in_memory().await.expect("an emulator");
    let (db, project) = (unprepared(server.endpoint()).await, project("tools/build#1"));
    let answer = db.read(&project, &[key("refs/heads/main")]).await;
    assert!(matches!(answer, Err(RefDbError::Broken(_))), "{answer:?}");
    let answer = db.slot(&slot(0)).await;
    assert!(matches!(answer, Err(RefDbError::Broken(_))), "{answer:?}");
}

#[tokio::test]
async fn a_file_keeps_everything_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dynamo.db");
    let project = project("tools/build#1");
    let request = Commit::at(&project, 0).first("refs/heads/main", value(1)).request();
    let server = EmbeddedDynamo::on_file(&file).await.expect("an emulator");
    let db = connect(&server).await;
    assert_eq!(db.commit(&request).await, Ok(CommitAnswer::Committed));
    let before = db.scan(&project, None, 10).await.expect("a scan");
    drop(db);
    server.stop().await.expect("a stop");
    let server = EmbeddedDynamo::on_file(&file).await.expect("an emulator");
    let db = connect(&server).await;
    assert_eq!(db.scan(&project, None, 10).await, Ok(before));
}
