//! A sidecar without rights says which action on which resource is denied, and which command to run.

use std::sync::Arc;
use std::time::Duration;

use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::embedded::kinesis::EmbeddedKinesis;
use lockstep::seams::eventlog::EventLog;
use lockstep::seams::eventlog::kinesis::{self, ClientSettings, KinesisEventLog, KinesisSettings};
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableSettings, client};
use lockstep::seams::refdb::{Documents, RefDbError, Setup};
use lockstep_tests::aws::forwarder::Forwarder;
use lockstep_tests::aws::record::Record;

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[tokio::test]
async fn a_sidecar_that_may_not_create_its_tables_says_what_to_do() {
    let record = Arc::new(Record::default());
    let server = EmbeddedDynamo::in_memory().await.expect("an emulator");
    let forwarder = Forwarder::to(&server.endpoint(), &record).await;
    let client = client(&Connection::emulator(forwarder.url())).await;
    let db = DynamoRefDb::new(&client, "prod", TableSettings::default());
    record.deny("CreateTable");
    let refused = match db.prepare(true).await {
        Err(RefDbError::Broken(why)) => why,
        other => panic!("{other:?}"),
    };
    let parts = ["table prod-refs does not exist", "dynamodb:CreateTable on table prod-refs", "`lockstep aws apply`"];
    says(&refused, &parts);
    record.deny("DescribeTable");
    let refused = db.prepare(true).await.expect_err("it may not look").to_string();
    says(&refused, &["dynamodb:DescribeTable on table prod-refs is denied", "`lockstep aws policy`"]);
    record.deny("GetItem");
    let refused = db.went_back().await.expect_err("it may not read").to_string();
    says(&refused, &["not authorized to perform: GetItem", "`lockstep aws policy`"]);
}

#[tokio::test]
async fn a_sidecar_that_may_not_create_its_stream_says_what_to_do() {
    let record = Arc::new(Record::default());
    let server = EmbeddedKinesis::start(&Default::default()).await.expect("an emulator");
    let forwarder = Forwarder::to(&server.endpoint(), &record).await;
    let reach = ClientSettings { endpoint: Some(forwarder.url()), ..server.client_settings() };
    let settings = KinesisSettings { ready_poll: Duration::from_millis(5), ..KinesisSettings::default() };
    let log = KinesisEventLog::new(kinesis::client(&reach).await, "prod", settings);
    let site = "muc-1".parse().expect("a site");
    record.deny("CreateStream");
    let refused = log.ensure(&site).await.expect_err("it may not create").to_string();
    let parts =
        ["stream prod-muc-1 does not exist", "kinesis:CreateStream on stream prod-muc-1", "`lockstep aws apply`"];
    says(&refused, &parts);
    record.deny("DescribeStreamSummary");
    let refused = log.ensure(&site).await.expect_err("it may not look").to_string();
    says(&refused, &["kinesis:DescribeStreamSummary on stream prod-muc-1 is denied", "`lockstep aws policy`"]);
}
