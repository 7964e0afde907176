//! A mirror of the raw event logs: the transaction of each record of each shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use lockstep::seams::eventlog::{Batch, EventLog, EventLogError, Position, ShardReader, StreamInfo};
use lockstep_proto::{Announcement, SiteId, Transaction, TxnId};

use super::check::checkpoints::Logged;

/// The mirror. The raw event log is in memory and answers at once.
pub struct Mirror {
    log: Arc<dyn EventLog>,
    readers: BTreeMap<(SiteId, String), Box<dyn ShardReader>>,
    /// The records of each shard, in order.
    pub records: BTreeMap<(SiteId, String), Vec<Logged>>,
    /// The transactions that are in any shard.
    pub logged: BTreeSet<TxnId>,
    /// The announcements that are in any shard: the carrying transaction, and the event's id.
    pub announced: BTreeMap<TxnId, String>,
    /// Per stream, the number below which records are trimmed.
    pub trimmed: BTreeMap<SiteId, u64>,
    /// Records that the simulator forged. They do not count as transactions.
    pub forged: BTreeSet<Bytes>,
}

impl Mirror {
    /// A mirror that has read no record of `log` yet.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self {
            log,
            readers: BTreeMap::new(),
            records: BTreeMap::new(),
            logged: BTreeSet::new(),
            announced: BTreeMap::new(),
            trimmed: BTreeMap::new(),
            forged: BTreeSet::new(),
        }
    }

    /// A site's stream as it is now. None before it is created.
    #[must_use]
    pub fn stream(&self, site: &SiteId) -> Option<StreamInfo> {
        self.log.describe(site).now_or_never()?.ok()
    }

    /// Reads the new records of a site's stream.
    pub fn refresh(&mut self, site: &SiteId) {
        let shards = self.stream(site).map(|stream| stream.shards).unwrap_or_default();
        for shard in shards {
            let key = (site.clone(), shard.id.clone());
            if !self.readers.contains_key(&key) {
                let opened = self.log.open(site, &shard.id, &Position::Start).now_or_never();
                let Some(Ok(reader)) = opened else { continue };
                self.readers.insert(key.clone(), reader);
            }
            self.read(&key);
        }
    }

    fn read(&mut self, key: &(SiteId, String)) {
        let Some(reader) = self.readers.get_mut(key) else { return };
        let records = self.records.entry(key.clone()).or_default();
        while let Some(batch) = now(reader.next(500)) {
            let ended = batch.ended || batch.records.is_empty();
            for (number, data) in batch.records {
                let good = Transaction::outlined(&data).ok().filter(|_| !self.forged.contains(&data));
                let txn = good.map(|transaction| transaction.id);
                self.logged.extend(txn.clone());
                let announcement = txn.clone().zip(Announcement::decode(&data).ok());
                self.announced.extend(announcement.map(|(txn, announcement)| (txn, announcement.event_id)));
                records.push((number, txn));
            }
            if ended {
                return;
            }
        }
    }
}

fn now(read: impl Future<Output = Result<Batch, EventLogError>>) -> Option<Batch> {
    read.now_or_never()?.ok()
}
