//! Runs the contract of the event log over the log in memory and over Kinesis (the emulator in this process).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use bytes::Bytes;
use lockstep::seams::embedded::kinesis::{EmbeddedKinesis, EmbeddedKinesisSettings};
use lockstep::seams::eventlog::kinesis::{KinesisEventLog, KinesisSettings, client};
use lockstep::seams::eventlog::memory::MemoryEventLog;
use lockstep::seams::eventlog::{EventLog, EventLogError, Position, Record};
use lockstep_proto::SiteId;
use lockstep_tests::contract::eventlog::{self as suite, Backend, append, drain, record, site};

struct Memory(MemoryEventLog);

#[async_trait]
impl Backend for Memory {
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.0.clone())
    }

    async fn split(&self, site: &SiteId, shard: &str) {
        self.0.split(site, shard).expect("the shard is open");
    }

    async fn merge(&self, site: &SiteId, lower: &str, upper: &str) {
        self.0.merge(site, lower, upper).expect("the shards are neighbours");
    }

    async fn recreate(&self, site: &SiteId) {
        self.0.recreate(site);
    }

    async fn trim(&self, site: &SiteId, _shard: &str, _oldest: &[String], before: &str) {
        self.0.trim(site, before).expect("the stream is there");
    }
}

struct Kinesis {
    emulator: EmbeddedKinesis,
    client: Client,
    log: KinesisEventLog,
}

impl Kinesis {
    async fn start(settings: EmbeddedKinesisSettings, shards: u16) -> Self {
        let emulator = EmbeddedKinesis::start(&settings).await.expect("the emulator starts");
        let client = client(&emulator.client_settings()).await;
        let settings = KinesisSettings { shards, ready_poll: Duration::from_millis(5), ..KinesisSettings::default() };
        let log = KinesisEventLog::new(client.clone(), "test", settings);
        Self { emulator, client, log }
    }

    async fn wait_active(&self, site: &SiteId) {
        let stream = self.log.stream(site);
        loop {
            let answer = self.client.describe_stream_summary().stream_name(&stream).send().await;
            let summary = answer.expect("the stream is there").stream_description_summary.expect("with a summary");
            if summary.stream_status().as_str() == "ACTIVE" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl Backend for Kinesis {
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.log.clone())
    }

    async fn split(&self, site: &SiteId, shard: &str) {
        let stream = self.log.stream(site);
        let listed = self.client.list_shards().stream_name(&stream).send().await.expect("the stream is there");
        let listed = listed.shards().iter().find(|listed| listed.shard_id() == shard).expect("the shard is listed");
        let range = listed.hash_key_range().expect("a shard has a range");
        let edge = |text: &str| text.parse::<u128>().expect("a range has numbers");
        let (low, high) = (edge(range.starting_hash_key()), edge(range.ending_hash_key()));
        let call = self.client.split_shard().stream_name(&stream).shard_to_split(shard);
        let middle = low + (high - low) / 2;
        call.new_starting_hash_key(middle.to_string()).send().await.expect("the shard can be split");
        self.wait_active(site).await;
    }

    async fn merge(&self, site: &SiteId, lower: &str, upper: &str) {
        let call = self.client.merge_shards().stream_name(self.log.stream(site)).shard_to_merge(lower);
        call.adjacent_shard_to_merge(upper).send().await.expect("the shards can be merged");
        self.wait_active(site).await;
    }

    async fn recreate(&self, site: &SiteId) {
        let stream = self.log.stream(site);
        self.client.delete_stream().stream_name(&stream).send().await.expect("the stream is there");
        while self.client.describe_stream_summary().stream_name(&stream).send().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The creation time of a stream has a resolution of one second.
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        self.log.ensure(site).await.expect("the stream can be made again");
    }

    async fn trim(&self, site: &SiteId, shard: &str, oldest: &[String], _before: &str) {
        let number = shard.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a shard has a number");
        self.emulator.forget(&self.log.stream(site), number, oldest).await;
    }
}

/// One test per sentence and implementation.
macro_rules! contract {
    ($($sentence:ident),*) => {
        mod memory {
            $(#[tokio::test]
            async fn $sentence() {
                super::suite::$sentence(&super::Memory(super::MemoryEventLog::new(2))).await;
            })*
        }

        mod kinesis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sentence() {
                super::suite::$sentence(&super::Kinesis::start(Default::default(), 2).await).await;
            })*
        }
    };
}

contract!(streams, order, tail, answers, reshard, trimmed, times, recreated, concurrent);

#[tokio::test]
async fn an_iterator_that_expired_is_taken_anew_behind_the_last_record() {
    let settings = EmbeddedKinesisSettings { iterator_seconds: 1, ..EmbeddedKinesisSettings::default() };
    let kinesis = Kinesis::start(settings, 1).await;
    let site = site("expired");
    kinesis.log.ensure(&site).await.expect("a stream can be made");
    let shard = kinesis.log.describe(&site).await.expect("the stream is there").shards[0].id.clone();
    let mut idle = kinesis.log.open(&site, &shard, &Position::Start).await.expect("the shard is there");
    append(&kinesis.log, &site, &[record("a", 0), record("a", 1)]).await;
    let mut reader = kinesis.log.open(&site, &shard, &Position::Start).await.expect("the shard is there");
    let first = reader.next(1).await.expect("the shard can be read").records;
    // The emulator's iterators expire after one second of real time.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    append(&kinesis.log, &site, &[record("a", 2)]).await;
    let (rest, _) = drain(reader.as_mut(), 10).await.expect("the reader opens a new iterator");
    let data = |read: &[(String, Bytes)]| read.iter().map(|(_, data)| data.clone()).collect::<Vec<_>>();
    assert_eq!(data(&first), [record("a", 0).data]);
    assert_eq!(data(&rest), [record("a", 1).data, record("a", 2).data]);
    let (all, _) = drain(idle.as_mut(), 10).await.expect("the reader opens a new iterator");
    assert_eq!(all.len(), 3, "a reader that has read nothing starts at the oldest record");
}

#[tokio::test]
async fn a_position_trimmed_while_its_iterator_expired_is_found_out() {
    let settings = EmbeddedKinesisSettings { iterator_seconds: 1, ..EmbeddedKinesisSettings::default() };
    let kinesis = Kinesis::start(settings, 1).await;
    let site = site("overtaken");
    kinesis.log.ensure(&site).await.expect("a stream can be made");
    append(&kinesis.log, &site, &(0..4).map(|index| record("a", index)).collect::<Vec<_>>()).await;
    let shard = kinesis.log.describe(&site).await.expect("the stream is there").shards[0].id.clone();
    let mut reader = kinesis.log.open(&site, &shard, &Position::Start).await.expect("the shard is there");
    let first = reader.next(1).await.expect("the shard can be read").records;
    let (all, _) = suite::read(&kinesis.log, &site, &shard, &Position::Start).await.expect("the shard can be read");
    let oldest: Vec<String> = all[..2].iter().map(|(sequence, _)| sequence.clone()).collect();
    kinesis.trim(&site, &shard, &oldest, &all[2].0).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let refused = drain(reader.as_mut(), 10).await;
    assert_eq!(refused, Err(EventLogError::Trimmed(first[0].0.clone())));
}

#[tokio::test]
async fn a_throttled_record_is_answered_alone() {
    let settings = EmbeddedKinesisSettings { throttles: true, ..EmbeddedKinesisSettings::default() };
    let kinesis = Kinesis::start(settings, 1).await;
    let site = site("throttled");
    kinesis.log.ensure(&site).await.expect("a stream can be made");
    let large = Record { partition_key: "a".to_owned(), data: Bytes::from(vec![0; 600 * 1024]) };
    let answers = kinesis.log.append(&site, &vec![large; 5]).await.expect("the stream is there");
    assert_eq!(answers[0], Ok(()));
    assert!(answers.iter().any(|answer| matches!(answer, Err(EventLogError::NotNow(_)))), "{answers:?}");
    let shard = kinesis.log.describe(&site).await.expect("the stream is there").shards[0].id.clone();
    let (stored, _) = suite::read(&kinesis.log, &site, &shard, &Position::Start).await.expect("the shard can be read");
    assert_eq!(stored.len(), answers.iter().filter(|answer| answer.is_ok()).count());
}

#[tokio::test]
async fn a_service_that_is_gone_is_neither_absent_nor_broken() {
    let kinesis = Kinesis::start(EmbeddedKinesisSettings::default(), 1).await;
    let site = site("gone");
    kinesis.log.ensure(&site).await.expect("a stream can be made");
    kinesis.emulator.stop().await.expect("the emulator stops");
    let not_now = |error: Option<EventLogError>| assert!(matches!(error, Some(EventLogError::NotNow(_))), "{error:?}");
    not_now(kinesis.log.describe(&site).await.err());
    not_now(kinesis.log.append(&site, &[record("a", 0)]).await.err());
    not_now(kinesis.log.open(&site, "shardId-000000000000", &Position::Start).await.err());
}
