//! The table of calls fits a full run: every call is in it, and every row is used.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lockstep::seams::aws::calls::{CALLS, Caller, On};
use lockstep::seams::blob::object::ObjectBlobs;
use lockstep::seams::blob::{BlobStore, Payload};
use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::embedded::kinesis::EmbeddedKinesisSettings;
use lockstep::seams::eventlog::kinesis::{
    self, ClientSettings, KinesisEventLog, KinesisSettings, ReadingMode, consumer_name,
};
use lockstep::seams::eventlog::{EventLog, Position, Readers};
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableBackups, TableSettings, client};
use lockstep::seams::refdb::{RefDb, Setup};
use lockstep_proto::{NodeId, SiteId};
use lockstep_tests::aws::forwarder::Forwarder;
use lockstep_tests::aws::kinesis::{Kinesis, settings};
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

/// Two nodes read a stream by enhanced fan-out. One of them leaves for good.
async fn fan_out(record: &Arc<Record>) {
    let emulator = Kinesis::start(EmbeddedKinesisSettings::default(), 1).await.emulator;
    let forwarder = Forwarder::to(&emulator.endpoint(), record).await;
    let reach = ClientSettings { endpoint: Some(forwarder.url()), ..emulator.client_settings() };
    let client = kinesis::client(&reach).await;
    let site: SiteId = "a".parse().expect("a site");
    let nodes: [NodeId; 2] = ["a-0", "a-1"].map(|node| node.parse().expect("a node"));
    let [log, other] = nodes.clone().map(|node| {
        let consumer = consumer_name("test", &site, &node);
        let of = KinesisSettings { consumer, ..settings(ReadingMode::FanOut, 1) };
        KinesisEventLog::new(client.clone(), "test", of)
    });
    log.ensure(&site).await.expect("a stream can be made");
    let shard = log.describe(&site).await.expect("the stream is there").shards[0].id.clone();
    for log in [&log, &other] {
        let mut reader = log.open(&site, &shard, &Position::Start).await.expect("the shard is there");
        assert!(reader.waits(), "it has a subscription");
        let _ = reader.next(1).await.expect("the shard can be read");
    }
    let readers = Readers { count: 1, gone: vec![(site.clone(), nodes[1].clone())] };
    log.tell_readers(&site, &readers).await.expect("it can be told");
}

/// The backups of both tables are made, waited for and listed. The emulator knows none of these calls.
async fn backups(record: &Arc<Record>) {
    let details = |status: &str| {
        format!(
            r#"{{"BackupArn": "arn:aws:dynamodb:us-east-1:123456789012:table/t/backup/1", "BackupName": "one",
            "BackupStatus": "{status}", "BackupType": "USER", "BackupCreationDateTime": 1764590400}}"#
        )
    };
    let available = details("AVAILABLE");
    record.answer("CreateBackup", &format!(r#"{{"BackupDetails": {}}}"#, details("CREATING")));
    record.answer("DescribeBackup", &format!(r#"{{"BackupDescription": {{"BackupDetails": {available}}}}}"#));
    record.answer("ListBackups", &format!(r#"{{"BackupSummaries": [{available}]}}"#));
    let server = EmbeddedDynamo::in_memory().await.expect("an emulator");
    let forwarder = Forwarder::to(&server.endpoint(), record).await;
    let client = client(&Connection::emulator(forwarder.url())).await;
    for table in TableBackups::all(&client, "test") {
        let begun = table.create("one").await.expect("it is made");
        assert!(!begun.is_available() && begun.created_ms == Some(1_764_590_400_000), "{begun:?}");
        let ready = table.until_available(begun).await.expect("it is there");
        assert!(ready.is_available(), "{ready:?}");
        assert_eq!(table.list().await, Ok(vec![ready]));
    }
}

/// A node sets the number of shards of its stream, as its autoscaler does.
async fn scaled(record: &Arc<Record>) {
    let emulator = Kinesis::start(EmbeddedKinesisSettings::default(), 1).await.emulator;
    let forwarder = Forwarder::to(&emulator.endpoint(), record).await;
    let reach = ClientSettings { endpoint: Some(forwarder.url()), ..emulator.client_settings() };
    let log = KinesisEventLog::new(kinesis::client(&reach).await, "test", settings(ReadingMode::Polling, 1));
    let site: SiteId = "a".parse().expect("a site");
    log.ensure(&site).await.expect("a stream can be made");
    log.set_shards(&site, 1, 2).await.expect("it has one shard");
}

/// The row of the table that a call belongs to. All streams of a test are those of all sites, its own ones, those that
/// are read by enhanced fan-out, and those with an autoscaler.
fn made(operation: &str, on: On) -> Made {
    let is_stream = matches!(on, On::OwnStream | On::FanOutStreams | On::ScaledStreams);
    (operation.to_owned(), if is_stream { On::Streams } else { on })
}

#[tokio::test]
async fn every_call_of_a_full_run_is_in_the_table_and_every_row_is_used() {
    let record = Arc::new(Record::default());
    sidecars(&record).await;
    contract(&record).await;
    blobs(&record).await;
    fan_out(&record).await;
    scaled(&record).await;
    let run = record.made();
    mended(&record).await;
    backups(&record).await;
    let all = record.made();
    let of = |by: &[Caller]| -> BTreeSet<Made> {
        let rows = CALLS.iter().filter(|row| row.by.iter().any(|caller| by.contains(caller)));
        rows.map(|row| made(row.operation, row.on)).collect()
    };
    let sidecar = of(&[Caller::Run, Caller::RunAndCreate]);
    assert_eq!(run.difference(&sidecar).collect::<Vec<_>>(), Vec::<&Made>::new(), "calls without a row of a sidecar");
    let table = of(&[Caller::Run, Caller::RunAndCreate, Caller::Plan, Caller::Apply, Caller::Backup]);
    assert_eq!(all.difference(&table).collect::<Vec<_>>(), Vec::<&Made>::new(), "calls without a row");
    assert_eq!(sidecar.difference(&run).collect::<Vec<_>>(), Vec::<&Made>::new(), "rows that no sidecar uses");
    assert_eq!(table.difference(&all).collect::<Vec<_>>(), Vec::<&Made>::new(), "rows that nothing uses");
}
