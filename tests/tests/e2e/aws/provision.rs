//! `lockstep aws plan`, `apply`, `check` and `policy` as an operator runs them, against the emulators and a small S3.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;

use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::embedded::kinesis::EmbeddedKinesis;
use lockstep_tests::aws::forwarder::Forwarder;
use lockstep_tests::aws::record::Record;
use lockstep_tests::aws::s3::FakeS3;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::lockstep;

const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/k";

/// An account with nothing in it, and a configuration that names it.
struct Account {
    folder: TempDir,
    s3: FakeS3,
    _emulators: (EmbeddedDynamo, EmbeddedKinesis, [Forwarder; 2]),
}

impl Account {
    async fn new(record: &Arc<Record>, shards: u32) -> Self {
        let folder = TempDir::new().expect("a folder");
        let dynamo = EmbeddedDynamo::in_memory().await.expect("a refdb");
        let kinesis = EmbeddedKinesis::start(&Default::default()).await.expect("an event log");
        let refdb = Forwarder::to(&dynamo.endpoint(), record).await;
        let eventlog = Forwarder::to(&kinesis.endpoint(), record).await;
        let s3 = FakeS3::start(record, false).await;
        let at = folder.path().display();
        let text = format!(
            "site = \"muc-1\"\nnode = \"muc-1-0\"\nsites = [\"muc-1\", \"eu-aws\"]\nroot = \"{at}/git\"\n\
             state = \"{at}/git/.lockstep\"\n[refdb]\nprefix = \"prod\"\nendpoint = \"{}\"\n[eventlog]\n\
             prefix = \"prod\"\nendpoint = \"{}\"\nshards = {shards}\nretention = \"2d\"\n\
             [blobs]\nurl = \"s3://packs/prod\"\n",
            refdb.url(),
            eventlog.url()
        );
        let account = Self { folder, s3, _emulators: (dynamo, kinesis, [refdb, eventlog]) };
        account.configure(&text);
        account
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("lockstep.toml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.config()).expect("a configuration")
    }

    fn configure(&self, text: &str) {
        std::fs::write(self.config(), text).expect("a configuration");
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(lockstep());
        command.arg("aws").args(args).arg("--config").arg(self.config()).envs(self.s3.environment());
        command.env("AWS_REGION", "us-east-1").output().await.expect("it runs")
    }
}

fn ended(output: &Output, code: i32) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn properties(output: &Output, verdict: &str) -> Vec<String> {
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = report["properties"].as_array().expect("properties").iter().filter(|row| row["verdict"] == verdict);
    rows.map(|row| format!("{} {}", row["resource"].as_str().unwrap_or_default(), row["property"])).collect()
}

/// Mends everything that can be mended, so that every call of the commands is made.
pub async fn mended(record: &Arc<Record>) {
    // The emulator knows nothing of continuous backups.
    let backups = |status: &str| {
        format!(
            r#"{{"ContinuousBackupsDescription": {{"ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": {{"PointInTimeRecoveryStatus": "{status}"}}}}}}"#
        )
    };
    record.answer("DescribeContinuousBackups", &backups("DISABLED"));
    record.answer("UpdateContinuousBackups", &backups("ENABLED"));
    let account = Account::new(record, 1).await;
    // First tables as a sidecar makes them, and one shard. Then everything else.
    let text = account.text();
    let _ = account.run(&["apply", "--yes"]).await;
    account.configure(&text.replace("shards = 1", "shards = 3"));
    let args = ["apply", "--yes", "--json", "--tag", "team=scm"];
    let output = account.run(&args).await;
    let told = ended(&output, 2);
    let left = ["table prod-refs \"point-in-time recovery\"", "table prod-journal \"point-in-time recovery\""];
    assert_eq!(properties(&output, "missing"), left, "the answer of the test stays as it is: {told}");
    unprotected(&account).await;
    let output = account.run(&["apply", "--yes", "--json"]).await;
    assert_eq!(properties(&output, "missing"), left, "{}", ended(&output, 2));
    // Everything under a key from the beginning.
    let account = Account::new(record, 1).await;
    let output = account.run(&["apply", "--yes", "--json", "--kms-key", KEY]).await;
    assert_eq!(properties(&output, "missing"), left, "{}", ended(&output, 2));
}

/// Takes the protection of the tables away, as somebody may do by hand.
async fn unprotected(account: &Account) {
    use lockstep::seams::refdb::dynamo::{Connection, client};

    let client = client(&Connection::emulator(account._emulators.0.endpoint())).await;
    for table in ["prod-refs", "prod-journal"] {
        let call = client.update_table().table_name(table).deletion_protection_enabled(false);
        let _ = call.send().await.expect("the table is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_properties_are_planned_applied_and_then_as_wanted() {
    let record = Arc::new(Record::default());
    let account = Account::new(&record, 3).await;
    let wishes = ["--tag", "team=scm", "--all-sites"];
    let with = |command: &[&'static str]| [command, &wishes[..]].concat();

    let plan = account.run(&with(&["plan"])).await;
    let told = ended(&plan, 0);
    for part in ["table prod-refs", "table prod-journal", "stream prod-muc-1", "stream prod-eu-aws", "bucket packs"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(record.made().iter().all(|(operation, _)| !operation.starts_with("Create")), "a plan changes nothing");
    let _ = ended(&account.run(&with(&["check"])).await, 2);

    let applied = account.run(&with(&["apply", "--yes", "--json"])).await;
    let _ = ended(&applied, 0);
    assert_eq!(properties(&applied, "missing"), Vec::<String>::new());
    let report: Value = serde_json::from_slice(&applied.stdout).expect("JSON");
    let rows = report["properties"].as_array().expect("properties").iter();
    let rows = rows.filter(|row| row["property"] == "retention");
    let kept: Vec<&str> = rows.map(|row| row["found"].as_str().unwrap_or_default()).collect();
    assert_eq!(kept, ["145 hours", "145 hours"], "two days are asked for, and a node may be away for six");
    let silent = properties(&applied, "not_answered");
    assert!(silent.contains(&"table prod-refs \"point-in-time recovery\"".to_owned()), "{silent:?}");
    assert!(silent.contains(&"stream prod-muc-1 \"record size\"".to_owned()), "{silent:?}");
    let told = ended(&account.run(&with(&["check"])).await, 0);
    assert!(told.contains("not answered by this endpoint\n  point-in-time recovery of table prod-refs"), "{told}");

    let warm = account.run(&["warm", "--throughput", "40000/20000", "--yes", "--json"]).await;
    let _ = ended(&warm, 0);
    let silent = ["table prod-refs \"warm throughput\"", "table prod-journal \"warm throughput\""];
    assert_eq!(properties(&warm, "not_answered"), silent, "this emulator knows no warm throughput");

    let before = record.made();
    let again = account.run(&with(&["apply", "--yes", "--json"])).await;
    let _ = ended(&again, 0);
    assert_eq!(record.made(), before, "a second apply makes no other call than a look");

    // A longer absence and more shards are missing again, and a tag with another value is the operator's to decide.
    let text = account.text();
    account.configure(&text.replace("shards = 3", "shards = 4").replace("\"2d\"", "\"7d\""));
    let grown = account.run(&["apply", "--yes", "--json", "--tag", "team=other"]).await;
    let _ = ended(&grown, 2);
    assert_eq!(properties(&grown, "missing"), Vec::<String>::new());
    assert_eq!(properties(&grown, "differs").len(), 4, "the tag of two tables, a stream and the bucket");
    let _ = ended(&account.run(&["check"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_operator_hears_the_action_and_the_policy() {
    let record = Arc::new(Record::default());
    let account = Account::new(&record, 1).await;
    record.deny("DescribeStreamSummary");
    let told = ended(&account.run(&["check"]).await, 1);
    assert!(told.contains("kinesis:DescribeStreamSummary on stream prod-muc-1 is denied"), "{told}");
    assert!(told.contains("table prod-refs") && told.contains("lockstep aws policy --for plan"), "{told}");
    let told = ended(&account.run(&["apply", "--yes"]).await, 1);
    assert!(told.contains("is denied"), "{told}");
    assert!(record.made().iter().all(|(operation, _)| !operation.starts_with("Create")), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_printed_without_a_call_and_wrong_words_are_refused() {
    let record = Arc::new(Record::default());
    let account = Account::new(&record, 1).await;
    let output = account.run(&["policy", "--site", "eu-aws", "--account", "123456789012"]).await;
    let _ = ended(&output, 0);
    let policy: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = policy.to_string();
    for arn in ["dynamodb:us-east-1:123456789012:table/prod-refs", "stream/prod-muc-1", "s3:::packs/prod/*"] {
        assert!(text.contains(arn), "no {arn} in {text}");
    }
    assert!(!text.contains("Create"), "{text}");
    assert!(!text.contains("UpdateShardCount"), "{text}");
    let scaled = account.text().replace("retention = \"2d\"", "retention = \"2d\"\nautoscale = { mode = \"on\" }");
    account.configure(&scaled);
    let scales = ended(&account.run(&["policy", "--account", "123456789012"]).await, 0);
    assert!(scales.contains("kinesis:UpdateShardCount"), "{scales}");
    let who = ["policy", "--site", "eu-aws", "--account", "123456789012", "--for", "run-and-create"];
    let creates = ended(&account.run(&who).await, 0);
    assert!(creates.contains("kinesis:CreateStream"), "{creates}");
    assert!(record.made().is_empty(), "no call was made");
    let _ = ended(&account.run(&["policy", "--account", "1"]).await, 64);
    let _ = ended(&account.run(&["plan", "--site", "nowhere"]).await, 64);
    let _ = ended(&account.run(&["warm", "--throughput", "40000"]).await, 64);
    let _ = ended(&account.run(&["plan", "--kms-key", "alias/x"]).await, 64);
    let other = "arn:aws:kms:eu-west-1:123456789012:key/k";
    let told = ended(&account.run(&["plan", "--kms-key", other]).await, 64);
    assert!(told.contains("no --kms-key is of Region us-east-1"), "{told}");
    let told = ended(&account.run(&["apply"]).await, 64);
    assert!(told.contains("--yes"), "{told}");
}
