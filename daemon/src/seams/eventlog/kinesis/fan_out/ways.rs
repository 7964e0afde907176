//! How the shards of one stream are read: the choice, this node's consumer, and the present way of each shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_kinesis::Client;
use parking_lot::Mutex;

use super::consumer::{self, RegisterError};
use crate::seams::eventlog::kinesis::KinesisSettings;
use crate::seams::eventlog::{EventLogError, Readers, Reading, Way};

/// The way to read a stream, as the configuration has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadingMode {
    /// Polling, as long as the reads of a shard are enough for all readers. Enhanced fan-out beyond that.
    Auto,
    /// Polling, whatever the number of readers.
    #[default]
    Polling,
    /// Enhanced fan-out, and polling only while it is refused.
    FanOut,
}

/// Chooses the way for a stream with this number of readers, and says why. `polled_by` is the number of readers for
/// which the reads of a shard are enough. Zero readers: their number is not known yet.
pub(super) fn choose(mode: ReadingMode, polled_by: usize, readers: usize) -> (Way, String) {
    match mode {
        ReadingMode::Polling => (Way::Polling, "it is configured".to_owned()),
        ReadingMode::FanOut => (Way::FanOut, "it is configured".to_owned()),
        ReadingMode::Auto if readers == 0 => (Way::Polling, "auto: the number of readers is not known yet".to_owned()),
        ReadingMode::Auto if readers > polled_by => {
            let why = format!("auto: {readers} nodes read it, and the reads of a shard are enough for {polled_by}");
            (Way::FanOut, why)
        }
        ReadingMode::Auto => {
            let why =
                format!("auto: {readers} nodes read it, of {polled_by} for which the reads of a shard are enough");
            (Way::Polling, why)
        }
    }
}

/// The state that the readers of one stream share.
#[derive(Debug)]
pub(in crate::seams::eventlog::kinesis) struct StreamWays {
    pub(super) client: Client,
    pub(super) stream: String,
    pub(super) settings: KinesisSettings,
    readers: AtomicUsize,
    /// The ARN of this node's consumer, if it is registered.
    consumer: tokio::sync::Mutex<Option<String>>,
    /// The present way of each shard that is being read.
    shards: Mutex<BTreeMap<String, Reading>>,
    /// The names of the consumers of nodes that left, which are no longer there.
    cleared: Mutex<BTreeSet<String>>,
}

impl StreamWays {
    /// The state of a stream of which no shard is read yet.
    pub(in crate::seams::eventlog::kinesis) fn new(client: Client, stream: String, settings: KinesisSettings) -> Self {
        let (readers, consumer) = (AtomicUsize::new(0), tokio::sync::Mutex::default());
        Self { client, stream, settings, readers, consumer, shards: Mutex::default(), cleared: Mutex::default() }
    }

    /// The way that is chosen now, with the reason.
    pub(super) fn choice(&self) -> (Way, String) {
        choose(self.settings.reading, self.settings.polled_by, self.readers.load(Ordering::Relaxed))
    }

    /// The ARN of this node's consumer. It is registered if it is not there.
    pub(super) async fn consumer(&self) -> Result<String, RegisterError> {
        let mut known = self.consumer.lock().await;
        if let Some(arn) = known.as_ref() {
            return Ok(arn.clone());
        }
        let name = &self.settings.consumer;
        let arn = consumer::ensure(&self.client, &self.stream, name, &self.settings.fan_out).await?;
        tracing::info!(stream = self.stream, consumer = arn, "reading by enhanced fan-out");
        Ok(known.insert(arn).clone())
    }

    /// Forgets a consumer that Kinesis does not know, so that it is looked up again.
    pub(super) async fn forget(&self, arn: &str) {
        let mut known = self.consumer.lock().await;
        if known.as_deref() == Some(arn) {
            *known = None;
        }
    }

    /// Notes how a shard is read from now on.
    pub(super) fn note(&self, shard: &str, reading: Reading) {
        self.shards.lock().insert(shard.to_owned(), reading);
    }

    /// Notes that a shard is not read any more.
    pub(super) fn left(&self, shard: &str) {
        self.shards.lock().remove(shard);
    }

    /// How the stream is read now. A shard whose reader was refused the chosen way comes first.
    pub(in crate::seams::eventlog::kinesis) fn reading(&self) -> Reading {
        let shards = self.shards.lock();
        let found = shards.values().find(|reading| reading.is_fallback).or_else(|| shards.values().next());
        found.cloned().unwrap_or_else(|| {
            let (way, reason) = self.choice();
            Reading { way, is_fallback: false, reason }
        })
    }

    /// Learns which nodes read the stream. Deregisters the consumers of the nodes that left, and this node's own one
    /// once it polls by choice.
    pub(in crate::seams::eventlog::kinesis) async fn tell(
        &self,
        count: usize,
        gone: BTreeSet<String>,
    ) -> Result<(), EventLogError> {
        self.readers.store(count, Ordering::Relaxed);
        if self.settings.reading == ReadingMode::Polling {
            return Ok(());
        }
        let mut names: BTreeSet<String> = {
            let mut cleared = self.cleared.lock();
            cleared.retain(|name| gone.contains(name));
            gone.difference(&cleared).cloned().collect()
        };
        let mut known = self.consumer.lock().await;
        let is_pushed = self.shards.lock().values().any(|reading| reading.way == Way::FanOut);
        let is_idle = known.is_some() && !is_pushed && self.choice().0 == Way::Polling;
        if is_idle {
            names.insert(self.settings.consumer.clone());
        }
        if names.is_empty() {
            return Ok(());
        }
        consumer::deregister(&self.client, &self.stream, &names).await?;
        if is_idle {
            *known = None;
            names.remove(&self.settings.consumer);
        }
        self.cleared.lock().extend(names);
        Ok(())
    }

    /// The names of the consumers of nodes that left, as those nodes have registered them.
    pub(in crate::seams::eventlog::kinesis) fn names(&self, prefix: &str, readers: &Readers) -> BTreeSet<String> {
        let name = |(site, node): &(_, _)| consumer::consumer_name(prefix, site, node);
        readers.gone.iter().map(name).filter(|name| *name != self.settings.consumer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_polls_up_to_the_readers_that_a_shard_serves_and_says_why() {
        let way = |mode, readers| choose(mode, 5, readers).0;
        assert_eq!([0, 1, 5, 6].map(|readers| way(ReadingMode::Auto, readers)), {
            use Way::{FanOut, Polling};
            [Polling, Polling, Polling, FanOut]
        });
        assert_eq!(way(ReadingMode::Polling, 50), Way::Polling);
        assert_eq!(way(ReadingMode::FanOut, 1), Way::FanOut);
        let (_, why) = choose(ReadingMode::Auto, 5, 6);
        assert!(why.contains("6 nodes") && why.contains('5'), "{why}");
    }
}
