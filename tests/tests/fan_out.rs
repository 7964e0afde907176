//! Reads a shard by enhanced fan-out while its subscriptions are cut, renewed, refused and taken over, and chooses
//! between fan-out and polling.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lockstep::seams::embedded::kinesis::EmbeddedKinesisSettings;
use lockstep::seams::eventlog::kinesis::{
    ClientSettings, KinesisEventLog, KinesisSettings, ReadingMode, client, consumer_name,
};
use lockstep::seams::eventlog::{EventLog, EventLogError, Position, Readers, Reading, ShardReader, Way};
use lockstep_proto::SiteId;
use lockstep_tests::aws::cuts::Cuts;
use lockstep_tests::aws::kinesis::{Kinesis, settings};
use lockstep_tests::contract::eventlog::{Backend, append, record, site};

/// The longest time that a test waits for something.
const PATIENCE: Duration = Duration::from_secs(90);

/// A stream with one shard behind the faults, and the event log that reads it through them.
struct Rig {
    kinesis: Kinesis,
    cuts: Cuts,
    log: KinesisEventLog,
    site: SiteId,
    shard: String,
}

impl Rig {
    async fn start(name: &str, settings: KinesisSettings) -> Self {
        let kinesis = Kinesis::start_with(EmbeddedKinesisSettings::default(), settings.clone()).await;
        let cuts = Cuts::before(&kinesis.emulator.endpoint()).await;
        let reach = ClientSettings { endpoint: Some(cuts.url()), ..kinesis.emulator.client_settings() };
        let log = KinesisEventLog::new(client(&reach).await, "test", settings);
        let site = site(name);
        log.ensure(&site).await.expect("a stream can be made");
        let shard = log.describe(&site).await.expect("the stream is there").shards[0].id.clone();
        Self { kinesis, cuts, log, site, shard }
    }

    async fn fan_out(name: &str) -> Self {
        Self::start(name, settings(ReadingMode::FanOut, 1)).await
    }

    async fn open(&self) -> Box<dyn ShardReader> {
        self.log.open(&self.site, &self.shard, &Position::Start).await.expect("the shard is there")
    }

    fn reading(&self) -> Reading {
        self.log.reading(&self.site).expect("the event log has a choice")
    }

    fn accepted(&self) -> usize {
        self.cuts.faults.accepted.load(Ordering::SeqCst)
    }

    /// Appends records one by one, with pauses, so that they come in several events.
    async fn trickle(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            append(&self.log, &self.site, &[record("a", number)]).await;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// Reads until `is_over` says so of the reading and of the number of records that were read.
    async fn read_until(&self, reader: &mut dyn ShardReader, is_over: impl Fn(&Self, usize) -> bool) -> Vec<String> {
        let mut read = Vec::new();
        let all = async {
            while !is_over(self, read.len()) {
                match reader.next(7).await {
                    Ok(batch) => read.extend(batch.records.into_iter().map(|(_, data)| text(&data))),
                    Err(EventLogError::NotNow(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                    Err(error) => panic!("the shard can be read: {error}"),
                }
            }
        };
        in_time(all).await;
        read
    }
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

fn expected(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| text(&record("a", number).data)).collect()
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it ends in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_that_are_cut_leave_no_gap_and_no_duplicate() {
    let rig = Rig::fan_out("cut").await;
    rig.cuts.faults.cut_after.store(3, Ordering::SeqCst);
    let mut reader = rig.open().await;
    let (read, ()) = tokio::join!(rig.read_until(reader.as_mut(), |_, count| count >= 50), rig.trickle(0..50));
    assert_eq!(read, expected(0..50));
    assert!(rig.accepted() > 2, "{} subscriptions", rig.accepted());
    assert_eq!(rig.reading().way, Way::FanOut, "{:?}", rig.reading());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_renewed_before_it_is_cut_without_gap_or_duplicate() {
    let mut settings = settings(ReadingMode::FanOut, 1);
    settings.fan_out.renew_after = Duration::from_millis(300);
    let rig = Rig::start("renewed", settings).await;
    let mut reader = rig.open().await;
    let (read, ()) = tokio::join!(rig.read_until(reader.as_mut(), |_, count| count >= 50), rig.trickle(0..50));
    assert_eq!(read, expected(0..50));
    let before = rig.accepted();
    assert!(before > 2, "{before} subscriptions");
    let none = rig.read_until(reader.as_mut(), |rig, count| rig.accepted() > before + 2 || count > 0).await;
    assert_eq!(none, Vec::<String>::new(), "an idle shard is renewed too, and nothing comes twice");
    assert_eq!(rig.reading().way, Way::FanOut, "{:?}", rig.reading());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_split_while_its_subscriptions_are_cut_is_read_to_its_end_and_so_are_its_children() {
    let rig = Rig::fan_out("split").await;
    rig.cuts.faults.cut_after.store(4, Ordering::SeqCst);
    let keys: Vec<String> = (0..12).map(|number| format!("key{number}")).collect();
    let round = |number: usize| keys.iter().map(|key| record(key, number)).collect::<Vec<_>>();
    let mut reader = rig.open().await;
    append(&rig.log, &rig.site, &round(0)).await;
    let mut read = rig.read_until(reader.as_mut(), |_, count| count >= 3).await;
    rig.kinesis.split(&rig.site, &rig.shard).await;
    append(&rig.log, &rig.site, &round(1)).await;
    let end = async {
        loop {
            let batch = reader.next(5).await.expect("the parent can be read");
            read.extend(batch.records.into_iter().map(|(_, data)| text(&data)));
            if batch.ended {
                return;
            }
        }
    };
    in_time(end).await;
    assert_eq!(read.len(), 12, "the parent has the first round");
    let info = rig.log.describe(&rig.site).await.expect("the stream is there");
    let children: Vec<_> = info.shards.iter().filter(|shard| !shard.parents.is_empty()).collect();
    assert_eq!(children.len(), 2, "{info:?}");
    for child in children {
        let mut reader = rig.log.open(&rig.site, &child.id, &Position::Start).await.expect("the child is there");
        let accepted = rig.accepted();
        read.extend(rig.read_until(reader.as_mut(), |rig, count| count > 0 && rig.accepted() > accepted + 1).await);
    }
    let mut all: Vec<String> = (0..2).flat_map(round).map(|record| text(&record.data)).collect();
    read.sort();
    all.sort();
    assert_eq!(read, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_too_early_is_requested_again_and_a_shard_that_never_gets_one_is_polled() {
    let rig = Rig::fan_out("in-use").await;
    rig.cuts.faults.in_use.store(2, Ordering::SeqCst);
    rig.trickle(0..3).await;
    let mut reader = rig.open().await;
    assert_eq!(rig.read_until(reader.as_mut(), |_, count| count >= 3).await, expected(0..3));
    assert_eq!((rig.reading().way, rig.accepted()), (Way::FanOut, 1), "{:?}", rig.reading());
    drop(reader);
    rig.cuts.faults.in_use.store(usize::MAX, Ordering::SeqCst);
    let mut refused = rig.open().await;
    assert_eq!(rig.read_until(refused.as_mut(), |_, count| count >= 3).await, expected(0..3));
    let reading = rig.reading();
    assert!(reading.is_fallback && reading.reason.contains("ResourceInUseException"), "{reading:?}");
    assert!(!refused.waits(), "its caller pauses between two polls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_subscription_is_polled_with_the_reason_and_comes_back_once_it_is_allowed() {
    let rig = Rig::fan_out("denied").await;
    rig.cuts.faults.denied.store(true, Ordering::SeqCst);
    rig.trickle(0..3).await;
    let mut reader = rig.open().await;
    let mut read = rig.read_until(reader.as_mut(), |_, count| count >= 3).await;
    let reading = rig.reading();
    assert!(reading.is_fallback && reading.reason.contains("lockstep aws policy"), "{reading:?}");
    rig.cuts.faults.denied.store(false, Ordering::SeqCst);
    read.extend(rig.read_until(reader.as_mut(), |rig, _| rig.reading().way == Way::FanOut).await);
    rig.trickle(3..6).await;
    let rest = 6 - read.len();
    read.extend(rig.read_until(reader.as_mut(), |_, count| count >= rest).await);
    assert_eq!(read, expected(0..6), "nothing is missing and nothing comes twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_two_programs_use_is_given_up_with_the_reason() {
    let rig = Rig::fan_out("taken-over").await;
    rig.cuts.faults.cut_after.store(2, Ordering::SeqCst);
    rig.cuts.faults.taken_over.store(true, Ordering::SeqCst);
    rig.trickle(0..3).await;
    let mut reader = rig.open().await;
    let mut read = rig.read_until(reader.as_mut(), |rig, _| rig.reading().is_fallback).await;
    assert!(rig.reading().reason.contains("another program reads with consumer lockstep"), "{:?}", rig.reading());
    let rest = 3 - read.len();
    read.extend(rig.read_until(reader.as_mut(), |_, count| count >= rest).await);
    assert_eq!(read, expected(0..3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_twenty_consumers_is_polled_until_one_of_them_leaves() {
    let rig = Rig::fan_out("full").await;
    let (client, arn) = (&rig.kinesis.client, rig.kinesis.arn(&rig.site).await);
    for number in 0..20 {
        let call = client.register_stream_consumer().stream_arn(&arn).consumer_name(format!("other-{number}"));
        call.send().await.expect("a consumer can be registered");
    }
    rig.trickle(0..3).await;
    let mut reader = rig.open().await;
    let mut read = rig.read_until(reader.as_mut(), |_, count| count >= 3).await;
    let reading = rig.reading();
    assert!(reading.is_fallback && reading.reason.contains("20 consumers"), "{reading:?}");
    let call = client.deregister_stream_consumer().stream_arn(&arn).consumer_name("other-7");
    call.send().await.expect("a consumer can be deregistered");
    read.extend(rig.read_until(reader.as_mut(), |rig, _| rig.reading().way == Way::FanOut).await);
    assert_eq!(read, expected(0..3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumers_of_nodes_that_left_for_good_are_deregistered_and_no_others() {
    let site = site("gone");
    let name = |node: &str| consumer_name("test", &site, &node.parse().expect("a node"));
    let of = |node: &str| KinesisSettings { consumer: name(node), ..settings(ReadingMode::FanOut, 1) };
    let kinesis = Kinesis::start_with(EmbeddedKinesisSettings::default(), of("a-0")).await;
    kinesis.log.ensure(&site).await.expect("a stream can be made");
    let shard = kinesis.log.describe(&site).await.expect("the stream is there").shards[0].id.clone();
    for node in ["a-0", "a-1", "a-2"] {
        let log = KinesisEventLog::new(kinesis.client.clone(), "test", of(node));
        let _reader = log.open(&site, &shard, &Position::Start).await.expect("the shard is there");
    }
    assert_eq!(kinesis.consumers(&site).await, BTreeSet::from(["a-0", "a-1", "a-2"].map(name)));
    let left = |node: &str| (site.clone(), node.parse().expect("a node"));
    let readers = Readers { count: 2, gone: vec![left("a-1"), left("a-9")] };
    kinesis.log.tell_readers(&site, &readers).await.expect("it can be told");
    assert_eq!(kinesis.consumers(&site).await, BTreeSet::from(["a-0", "a-2"].map(name)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_polls_for_few_readers_and_pays_for_a_consumer_only_while_there_are_many() {
    let mut settings = settings(ReadingMode::Auto, 1);
    settings.fan_out.renew_after = Duration::from_millis(300);
    let rig = Rig::start("auto", settings).await;
    let tell = async |count: usize| {
        let told = rig.log.tell_readers(&rig.site, &Readers { count, gone: Vec::new() }).await;
        told.expect("it can be told");
    };
    tell(5).await;
    rig.trickle(0..3).await;
    let mut reader = rig.open().await;
    let mut read = rig.read_until(reader.as_mut(), |_, count| count >= 3).await;
    let reading = rig.reading();
    assert_eq!((reading.way, reading.is_fallback), (Way::Polling, false), "{reading:?}");
    assert!(rig.kinesis.consumers(&rig.site).await.is_empty());
    tell(6).await;
    read.extend(rig.read_until(reader.as_mut(), |rig, _| rig.reading().way == Way::FanOut).await);
    assert!(rig.reading().reason.contains("6 nodes"), "{:?}", rig.reading());
    assert_eq!(rig.kinesis.consumers(&rig.site).await.len(), 1);
    tell(4).await;
    assert_eq!(rig.kinesis.consumers(&rig.site).await.len(), 1, "it is still in use");
    read.extend(rig.read_until(reader.as_mut(), |rig, _| rig.reading().way == Way::Polling).await);
    tell(4).await;
    assert!(rig.kinesis.consumers(&rig.site).await.is_empty(), "nobody needs it any more");
    rig.trickle(3..5).await;
    let rest = 5 - read.len();
    read.extend(rig.read_until(reader.as_mut(), |_, count| count >= rest).await);
    assert_eq!(read, expected(0..5));
}
