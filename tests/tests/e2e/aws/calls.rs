//! The table of calls fits a full run: every call is in it, and every row is used.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lockstep::seams::aws::calls::{CALLS, Caller, On};
use lockstep::seams::blob::object::ObjectBlobs;
use lockstep::seams::blob::{BlobStore, Payload};
use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableSettings, client};
use lockstep::seams::refdb::{RefDb, Setup};
use lockstep_tests::aws::forwarder::Forwarder;
use lockstep_tests::aws::record::{Made, Record};
use lockstep_tests::aws::s3::FakeS3;
use lockstep_tests::contract::blob as suite;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok};

use super::provision::mended;
use crate::lockstep;

/// Two sidecars replicate pushes. One dies, and its peer publishes what it left.
async fn sidecars(record: &Arc<Record>) {
    let mut cluster = Cluster::start_recorded(lockstep(), &["a-0", "a-1", "b-0"], record).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let mut commit = clone.commit(None, "one");
    for at in [0, 2] {
        let refspec = format!("{commit}:refs/heads/main");
        let _ = ok(clone.push(&cluster.nodes[at].repository("p"), &[], &[&refspec]).await);
        cluster.show("p", "refs/heads/main", Some(&commit)).await;
        commit = clone.commit(Some(&commit), "more");
    }
    let many: Vec<String> = (0..150).map(|n| format!("{commit}:refs/tags/v{n:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &["--atomic"], &many).await);
    cluster.nodes[1].kill().await;
    cluster.nodes[1].start(None);
    cluster.ready().await;
    let _ = cluster.nodes[1].stop().await;
}

thread_local! {
    /// The record of the cases of the contract, which take no arguments.
    static RECORD: std::cell::RefCell<Arc<Record>> = std::cell::RefCell::default();
}

/// Runs every case of the contract of the refdb, each over an emulator of its own.
async fn contract(record: &Arc<Record>) {
    async fn make() -> (RefDb, (EmbeddedDynamo, Forwarder)) {
        let record = RECORD.with_borrow(Arc::clone);
        let server = EmbeddedDynamo::in_memory().await.expect("an emulator");
        let forwarder = Forwarder::to(&server.endpoint(), &record).await;
        let client = client(&Connection::emulator(forwarder.url())).await;
        let db = DynamoRefDb::new(&client, "test", TableSettings::default());
        db.prepare(true).await.expect("tables");
        (RefDb::of(&Arc::new(db)), (server, forwarder))
    }
    lockstep_tests::refdb_contract!(one_test make);

    RECORD.set(Arc::clone(record));
    every_case().await;
}

/// Runs every case of the contract of the blob store over S3, and an upload that ends early.
async fn blobs(record: &Arc<Record>) {
    let s3 = FakeS3::start(record, true).await;
    let store = ObjectBlobs::from_url("s3://packs/prod", &s3.options()).expect("a store");
    suite::round_trip(&store).await;
    suite::absent(&store).await;
    suite::again(&store).await;
    suite::bad(&store).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), suite::content(9_000_000)).expect("it can be written");
    let short = Payload::File(Arc::new(file.into_temp_path()), 9_000_001);
    assert!(store.put("packs/short", &short).await.is_err());
    assert!(store.get("packs/short", 9_000_001, &[0; 32], Path::new("/")).await.is_err());
}

/// The row of the table that a call belongs to. All streams of a test are both of all sites and of its own.
fn made(operation: &str, on: On) -> Made {
    (operation.to_owned(), if on == On::OwnStream { On::Streams } else { on })
}

#[tokio::test]
async fn every_call_of_a_full_run_is_in_the_table_and_every_row_is_used() {
    let record = Arc::new(Record::default());
    sidecars(&record).await;
    contract(&record).await;
    blobs(&record).await;
    let run = record.made();
    mended(&record).await;
    let all = record.made();
    let of = |by: &[Caller]| -> BTreeSet<Made> {
        let rows = CALLS.iter().filter(|row| row.by.iter().any(|caller| by.contains(caller)));
        rows.map(|row| made(row.operation, row.on)).collect()
    };
    let sidecar = of(&[Caller::Run, Caller::RunAndCreate]);
    assert_eq!(run.difference(&sidecar).collect::<Vec<_>>(), Vec::<&Made>::new(), "calls without a row of a sidecar");
    let table = of(&[Caller::Run, Caller::RunAndCreate, Caller::Plan, Caller::Apply]);
    assert_eq!(all.difference(&table).collect::<Vec<_>>(), Vec::<&Made>::new(), "calls without a row");
    assert_eq!(sidecar.difference(&run).collect::<Vec<_>>(), Vec::<&Made>::new(), "rows that no sidecar uses");
    assert_eq!(table.difference(&all).collect::<Vec<_>>(), Vec::<&Made>::new(), "rows that nothing uses");
}
