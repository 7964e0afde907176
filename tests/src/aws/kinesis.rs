//! A Kinesis in this process, with the event log that reads it and the operations of its operator.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::DisplayErrorContext;
use lockstep::seams::embedded::kinesis::{EmbeddedKinesis, EmbeddedKinesisSettings};
use lockstep::seams::eventlog::EventLog;
use lockstep::seams::eventlog::kinesis::{FanOutSettings, KinesisEventLog, KinesisSettings, ReadingMode, client};
use lockstep_proto::SiteId;

use crate::contract::eventlog::Backend;

/// An emulator, and the event log over it.
pub struct Kinesis {
    /// The emulator.
    pub emulator: EmbeddedKinesis,
    /// A client that reaches the emulator and nothing else.
    pub client: Client,
    /// The event log under test. Its streams are named `test-SITE`.
    pub log: KinesisEventLog,
    rounds: usize,
}

/// Settings of an event log over the emulator that reads in this way. Times are short, so that tests need not wait.
#[must_use]
pub fn settings(reading: ReadingMode, shards: u16) -> KinesisSettings {
    let fan_out = FanOutSettings {
        // Longer than an emulator on a busy machine takes for an event.
        wait: Duration::from_secs(5),
        pause: Duration::from_millis(20),
        polls_for: Duration::from_millis(300),
        chooses_every: Duration::from_millis(100),
        ready_poll: Duration::from_millis(5),
        ..FanOutSettings::default()
    };
    let ready_poll = Duration::from_millis(5);
    KinesisSettings { shards, ready_poll, reading, fan_out, ..KinesisSettings::default() }
}

impl Kinesis {
    /// Starts an emulator. New streams have this many shards. The event log polls.
    ///
    /// # Panics
    /// If the emulator does not start.
    pub async fn start(of: EmbeddedKinesisSettings, shards: u16) -> Self {
        Self::start_with(of, settings(ReadingMode::Polling, shards)).await
    }

    /// Starts an emulator, and an event log with these settings.
    ///
    /// # Panics
    /// If the emulator does not start.
    pub async fn start_with(of: EmbeddedKinesisSettings, settings: KinesisSettings) -> Self {
        let emulator = EmbeddedKinesis::start(&of).await.expect("the emulator starts");
        let client = client(&emulator.client_settings()).await;
        // The emulator sends an event every 200 ms, so reading to the end takes a moment.
        let rounds = if settings.reading == ReadingMode::Polling { 30 } else { 5 };
        let log = KinesisEventLog::new(client.clone(), "test", settings);
        Self { emulator, client, log, rounds }
    }

    /// The names of the consumers of the site's stream that are not being deleted.
    ///
    /// # Panics
    /// If the stream does not exist.
    pub async fn consumers(&self, site: &SiteId) -> BTreeSet<String> {
        let call = self.client.list_stream_consumers().stream_arn(self.arn(site).await);
        let listed = call.send().await.expect("the consumers are listed");
        let stay = listed.consumers().iter().filter(|one| one.consumer_status().as_str() != "DELETING");
        stay.map(|one| one.consumer_name().to_owned()).collect()
    }

    /// The ARN of the site's stream.
    ///
    /// # Panics
    /// If the stream does not exist.
    pub async fn arn(&self, site: &SiteId) -> String {
        let answer = self.client.describe_stream_summary().stream_name(self.log.stream(site)).send().await;
        let summary = answer.expect("the stream is there").stream_description_summary.expect("with a summary");
        summary.stream_arn().to_owned()
    }
}

/// The pause between two looks at a stream of an emulator.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until a stream takes the next change of its shards.
///
/// # Panics
/// If the stream does not exist.
async fn wait_active(client: &Client, stream: &str, look: Duration) {
    loop {
        let answer = client.describe_stream_summary().stream_name(stream).send().await;
        let summary = answer.expect("the stream is there").stream_description_summary.expect("with a summary");
        if summary.stream_status().as_str() == "ACTIVE" {
            return;
        }
        tokio::time::sleep(look).await;
    }
}

/// Splits a shard in the middle, and waits until that is done. `look` is the pause between two looks.
///
/// # Panics
/// If the stream refuses it.
pub async fn split(client: &Client, stream: &str, shard: &str, look: Duration) {
    let listed = client.list_shards().stream_name(stream).send().await.expect("the stream is there");
    let listed = listed.shards().iter().find(|listed| listed.shard_id() == shard).expect("the shard is listed");
    let range = listed.hash_key_range().expect("a shard has a range");
    let edge = |text: &str| text.parse::<u128>().expect("a range has numbers");
    let (low, high) = (edge(range.starting_hash_key()), edge(range.ending_hash_key()));
    let call = client.split_shard().stream_name(stream).shard_to_split(shard);
    let middle = low + (high - low) / 2;
    call.new_starting_hash_key(middle.to_string()).send().await.expect("the shard can be split");
    wait_active(client, stream, look).await;
}

/// Merges two neighbouring shards, and waits until that is done.
///
/// # Panics
/// If the stream refuses it.
pub async fn merge(client: &Client, stream: &str, lower: &str, upper: &str, look: Duration) {
    let call = client.merge_shards().stream_name(stream).shard_to_merge(lower);
    call.adjacent_shard_to_merge(upper).send().await.expect("the shards can be merged");
    wait_active(client, stream, look).await;
}

/// Deletes a stream with its consumers, and waits until it is gone.
///
/// # Panics
/// If the stream does not exist, or cannot be deleted.
pub async fn delete(client: &Client, stream: &str, look: Duration) {
    let call = client.delete_stream().stream_name(stream).enforce_consumer_deletion(true);
    call.send().await.expect("the stream is there");
    while exists(client, stream).await.expect("Kinesis answers") {
        tokio::time::sleep(look).await;
    }
}

/// Whether a stream exists. Nothing but "not found" means that it does not.
///
/// # Errors
/// Kinesis does not answer, or refuses the call.
pub async fn exists(client: &Client, stream: &str) -> Result<bool, String> {
    match client.describe_stream_summary().stream_name(stream).send().await {
        Ok(_) => Ok(true),
        Err(error) => match error.as_service_error() {
            Some(known) if known.is_resource_not_found_exception() => Ok(false),
            Some(known) if known.is_limit_exceeded_exception() => Ok(true),
            _ => Err(format!("stream {stream}: {}", DisplayErrorContext(&error))),
        },
    }
}

#[async_trait]
impl Backend for Kinesis {
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.log.clone())
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    async fn split(&self, site: &SiteId, shard: &str) {
        split(&self.client, &self.log.stream(site), shard, LOOK).await;
    }

    async fn merge(&self, site: &SiteId, lower: &str, upper: &str) {
        merge(&self.client, &self.log.stream(site), lower, upper, LOOK).await;
    }

    async fn recreate(&self, site: &SiteId) {
        delete(&self.client, &self.log.stream(site), LOOK).await;
        // The creation time of a stream has a resolution of one second.
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        self.log.ensure(site).await.expect("the stream can be made again");
    }

    async fn trim(&self, site: &SiteId, shard: &str, oldest: &[String], _before: &str) {
        let number = shard.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a shard has a number");
        self.emulator.forget(&self.log.stream(site), number, oldest).await;
    }
}
