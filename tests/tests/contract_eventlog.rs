//! Runs the contract of the event log over the log in memory and over Kinesis (the emulator in this process), which is
//! read by polling and by enhanced fan-out.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::seams::embedded::kinesis::EmbeddedKinesisSettings;
use lockstep::seams::eventlog::kinesis::ReadingMode;
use lockstep::seams::eventlog::memory::MemoryEventLog;
use lockstep::seams::eventlog::{EventLog, EventLogError, Position, Record};
use lockstep_proto::SiteId;
use lockstep_tests::aws::kinesis::{Kinesis, settings};
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

        mod fan_out {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sentence() {
                let settings = super::settings(super::ReadingMode::FanOut, 2);
                super::suite::$sentence(&super::Kinesis::start_with(Default::default(), settings).await).await;
            })*
        }
    };
}

contract!(streams, order, tail, answers, reshard, trimmed, times, recreated, concurrent);

/// "The number of open shards is set by `set_shards`, where it can be. Every record is read once, whether it was
/// appended before or behind it." The emulator of Kinesis tells no parents of shards that come from this call, so
/// nothing here asks for them.
async fn scaled(log: &dyn EventLog) {
    let site = site("scaled");
    log.ensure(&site).await.expect("a stream can be made");
    let keys: Vec<String> = (0..16).map(|index| format!("key{index}")).collect();
    let round = |number| keys.iter().map(|key| record(key, number)).collect::<Vec<_>>();
    append(log, &site, &round(0)).await;
    let before = log.describe(&site).await.expect("the stream is there").shards[0].id.clone();
    let (old, _) = suite::read(log, &site, &before, &Position::Start).await.expect("the shard can be read");
    let mut live = log.open(&site, &before, &Position::Start).await.expect("the shard is there");
    let first = live.next(1).await.expect("the shard can be read").records;
    for (at, (from, to)) in [(2, 4), (4, 3), (3, 2)].into_iter().enumerate() {
        assert_eq!(open_shards(log, &site).await, from);
        let late = log.set_shards(&site, from + 1, to).await;
        assert!(matches!(late, Err(EventLogError::NotNow(_))), "another number than the caller expects: {late:?}");
        log.set_shards(&site, from, to).await.expect("the number can be set");
        assert_eq!(open_shards(log, &site).await, to);
        append(log, &site, &round(at + 1)).await;
    }
    let (rest, ended) = drain(live.as_mut(), 100).await.expect("a reader from before goes on");
    assert!(ended, "its shard has ended");
    assert_eq!([first, rest].concat(), old, "it has read each record of its shard once");
    let mut all = Vec::new();
    for shard in log.describe(&site).await.expect("the stream is there").shards {
        let (read, _) = suite::read(log, &site, &shard.id, &Position::Start).await.expect("the shard can be read");
        all.extend(read.into_iter().map(|(_, data)| data));
    }
    let mut expected: Vec<_> = (0..4).flat_map(round).map(|record| record.data).collect();
    all.sort();
    expected.sort();
    assert_eq!(all, expected, "no record is lost, and none appears twice");
}

/// The number of open shards, once the stream is at rest.
async fn open_shards(log: &dyn EventLog, site: &SiteId) -> u32 {
    loop {
        let found = log.open_shards(site).await.expect("the stream is there").expect("its number can be set");
        if !found.is_changing {
            return found.count;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_number_of_shards_is_set_while_a_reader_reads() {
    scaled(&MemoryEventLog::new(2)).await;
    scaled(&Kinesis::start(EmbeddedKinesisSettings::default(), 2).await.log).await;
}

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
