//! An event log in memory, for tests and the simulator.
//!
//! It is deterministic: the hash of a record's key decides its shard, positions are counted, and nothing waits. Clones
//! share the streams, so that one "service" serves many simulated sites. Beyond the contract it can split and merge
//! shards, trim old records, and create a stream again under its name.
//!
//! As with Kinesis, a position can be opened only while the record that it names is kept. Without that record it is
//! unknown whether later ones are gone too.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::SiteId;
use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};

use super::limits::RECORD_BYTES;
use super::{Batch, EventLog, EventLogError, OpenShards, Position, Record, ShardInfo, ShardReader, StreamInfo};
use crate::base::clock::{Clock, SystemClock};

/// Event logs in memory. Clones share them.
#[derive(Clone)]
pub struct MemoryEventLog {
    state: Arc<Mutex<State>>,
    shards: u32,
    /// The clock that tells when a record was taken. No reader but those of [`EventLog::open_since`] depends on it.
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for MemoryEventLog {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MemoryEventLog").field("state", &self.state).field("shards", &self.shards).finish()
    }
}

#[derive(Debug, Default)]
struct State {
    streams: BTreeMap<SiteId, Stream>,
    /// The number of streams ever created. It is the identity of each new one.
    made: u64,
}

#[derive(Debug)]
struct Stream {
    created: u64,
    /// The last sequence number given out; numbers start at 1.
    last: u64,
    shards: BTreeMap<String, Shard>,
    /// The number of shards ever created.
    made: u32,
}

#[derive(Debug)]
struct Shard {
    parents: Vec<String>,
    /// The first and the last hash that belong to this shard.
    range: (u64, u64),
    open: bool,
    records: BTreeMap<u64, Taken>,
    /// The last sequence number that was trimmed.
    trimmed: u64,
}

/// A record in a shard.
#[derive(Debug)]
struct Taken {
    data: Bytes,
    /// When it was appended, in milliseconds since 1970.
    at_ms: u64,
}

struct MemoryReader {
    log: MemoryEventLog,
    site: SiteId,
    created: u64,
    shard: String,
    /// The last record that was read, or the one that the position names. None at the start.
    after: Option<u64>,
    /// Records that were appended before this time are passed over.
    since_ms: u64,
}

impl MemoryEventLog {
    /// An event log without streams. Each new stream gets `shards` shards, at least one.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        Self { state: Arc::default(), shards: shards.max(1), clock: Arc::new(SystemClock) }
    }

    /// Splits an open shard in two, as an operator would. Returns the ids of the children.
    pub fn split(&self, site: &SiteId, shard: &str) -> Result<[String; 2], EventLogError> {
        self.lock().stream_mut(site)?.split(shard)
    }

    /// Merges two open neighbours, the lower one first. Returns the id of the child.
    pub fn merge(&self, site: &SiteId, lower: &str, upper: &str) -> Result<String, EventLogError> {
        self.lock().stream_mut(site)?.merge(lower, upper)
    }

    /// Removes the records before the sequence number `before`, and the closed shards that are empty then.
    pub fn trim(&self, site: &SiteId, before: &str) -> Result<(), EventLogError> {
        let before: u64 = before.parse().map_err(|_| EventLogError::Trimmed(before.to_owned()))?;
        let mut state = self.lock();
        let stream = state.stream_mut(site)?;
        for shard in stream.shards.values_mut() {
            let kept = shard.records.split_off(&before);
            if let Some((last, _)) = shard.records.last_key_value() {
                shard.trimmed = *last;
            }
            shard.records = kept;
        }
        stream.shards.retain(|_, shard| shard.open || !shard.records.is_empty());
        Ok(())
    }

    /// Deletes the site's stream and creates another one of the same name, which does not reuse sequence numbers.
    pub fn recreate(&self, site: &SiteId) {
        let mut state = self.lock();
        let last = state.streams.remove(site).map_or(0, |stream| stream.last);
        state.create(site, self.shards, last);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Creates the site's stream if it does not exist. Its first record gets the number after `last`.
    fn create(&mut self, site: &SiteId, shards: u32, last: u64) {
        if self.streams.contains_key(site) {
            return;
        }
        self.made += 1;
        let mut stream = Stream { created: self.made, last, shards: BTreeMap::new(), made: 0 };
        let width = u64::MAX / u64::from(shards);
        for index in 0..u64::from(shards) {
            let high = if index + 1 == u64::from(shards) { u64::MAX } else { width * (index + 1) - 1 };
            stream.add((width * index, high), Vec::new());
        }
        self.streams.insert(site.clone(), stream);
    }

    fn stream(&self, site: &SiteId) -> Result<&Stream, EventLogError> {
        self.streams.get(site).ok_or_else(|| EventLogError::Absent(format!("stream of site {site}")))
    }

    fn stream_mut(&mut self, site: &SiteId) -> Result<&mut Stream, EventLogError> {
        self.streams.get_mut(site).ok_or_else(|| EventLogError::Absent(format!("stream of site {site}")))
    }
}

impl Stream {
    fn add(&mut self, range: (u64, u64), parents: Vec<String>) -> String {
        let id = format!("shard-{:06}", self.made);
        self.made += 1;
        let shard = Shard { parents, range, open: true, records: BTreeMap::new(), trimmed: 0 };
        self.shards.insert(id.clone(), shard);
        id
    }

    fn shard(&self, id: &str) -> Result<&Shard, EventLogError> {
        self.shards.get(id).ok_or_else(|| EventLogError::Absent(format!("shard {id}")))
    }

    fn open_range(&self, id: &str) -> Result<(u64, u64), EventLogError> {
        let shard = self.shard(id)?;
        if shard.open { Ok(shard.range) } else { Err(EventLogError::Broken(format!("shard {id} is closed"))) }
    }

    fn close(&mut self, id: &str) -> Result<(u64, u64), EventLogError> {
        let range = self.open_range(id)?;
        if let Some(shard) = self.shards.get_mut(id) {
            shard.open = false;
        }
        Ok(range)
    }

    /// Splits an open shard in the middle. Returns the ids of the children.
    fn split(&mut self, id: &str) -> Result<[String; 2], EventLogError> {
        let (low, high) = self.close(id)?;
        let middle = low + (high - low) / 2;
        let parents = vec![id.to_owned()];
        Ok([self.add((low, middle), parents.clone()), self.add((middle + 1, high), parents)])
    }

    /// Merges two open neighbours, the lower one first. Returns the id of the child.
    fn merge(&mut self, lower: &str, upper: &str) -> Result<String, EventLogError> {
        let (left, right) = (self.open_range(lower)?, self.open_range(upper)?);
        if left.1.checked_add(1) != Some(right.0) {
            return Err(EventLogError::Broken(format!("shards {lower} and {upper} are not neighbours")));
        }
        self.close(lower)?;
        self.close(upper)?;
        Ok(self.add((left.0, right.1), vec![lower.to_owned(), upper.to_owned()]))
    }

    /// The open shards with their ranges, in the order of the ranges.
    fn open_ranges(&self) -> Vec<(String, (u64, u64))> {
        let open = self.shards.iter().filter(|(_, shard)| shard.open);
        let mut open: Vec<_> = open.map(|(id, shard)| (id.clone(), shard.range)).collect();
        open.sort_by_key(|(_, range)| range.0);
        open
    }

    /// Splits the widest of these open shards, the first of several.
    fn split_widest(&mut self, open: &[(String, (u64, u64))]) -> Result<(), EventLogError> {
        let widest = open.iter().rev().max_by_key(|(_, (low, high))| high - low);
        let Some((id, _)) = widest else { return Ok(()) };
        self.split(id).map(drop)
    }

    /// Merges the two neighbours of these open shards that are narrowest together, the first of several.
    fn merge_narrowest(&mut self, open: &[(String, (u64, u64))]) -> Result<(), EventLogError> {
        let narrowest = open.windows(2).min_by_key(|pair| pair[1].1.1 - pair[0].1.0);
        let Some([(lower, _), (upper, _)]) = narrowest else { return Ok(()) };
        self.merge(lower, upper).map(drop)
    }

    /// Splits and merges shards until so many are open.
    fn set_open(&mut self, to: usize) -> Result<(), EventLogError> {
        loop {
            let open = self.open_ranges();
            match open.len().cmp(&to) {
                Ordering::Equal => return Ok(()),
                Ordering::Less => self.split_widest(&open)?,
                Ordering::Greater => self.merge_narrowest(&open)?,
            }
        }
    }

    fn append(&mut self, record: &Record, at_ms: u64) -> Result<(), EventLogError> {
        let bytes = record.partition_key.len() + record.data.len();
        if bytes > RECORD_BYTES {
            return Err(EventLogError::TooLarge { bytes, limit: RECORD_BYTES });
        }
        let hash = hash(&record.partition_key);
        let home = self.shards.values_mut().find(|shard| shard.open && shard.range.0 <= hash && hash <= shard.range.1);
        let shard = home.ok_or_else(|| EventLogError::NotNow("no open shard for the key".to_owned()))?;
        self.last += 1;
        shard.records.insert(self.last, Taken { data: record.data.clone(), at_ms });
        Ok(())
    }
}

/// The hash of a key, which is the same on every machine and in every release.
fn hash(key: &str) -> u64 {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

fn info((id, shard): (&String, &Shard)) -> ShardInfo {
    ShardInfo { id: id.clone(), parents: shard.parents.clone() }
}

#[async_trait]
impl EventLog for MemoryEventLog {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        self.lock().create(site, self.shards, 0);
        Ok(())
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        let state = self.lock();
        let stream = state.stream(site)?;
        Ok(StreamInfo { created: stream.created.to_string(), shards: stream.shards.iter().map(info).collect() })
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        let now = self.clock.now_ms();
        let mut state = self.lock();
        let stream = state.stream_mut(site)?;
        Ok(records.iter().map(|record| stream.append(record, now)).collect())
    }

    async fn open_shards(&self, site: &SiteId) -> Result<Option<OpenShards>, EventLogError> {
        let count = self.lock().stream(site)?.open_ranges().len();
        Ok(Some(OpenShards { count: u32::try_from(count).unwrap_or(u32::MAX), is_changing: false }))
    }

    async fn set_shards(&self, site: &SiteId, from: u32, to: u32) -> Result<(), EventLogError> {
        let mut state = self.lock();
        let stream = state.stream_mut(site)?;
        let open = stream.open_ranges().len();
        if u32::try_from(open) != Ok(from) {
            return Err(EventLogError::NotNow(format!("the stream of {site} has {open} open shards, not {from}")));
        }
        if to == from || to == 0 || to > from.saturating_mul(2) || to < from.div_ceil(2) {
            return Err(EventLogError::Broken(format!("{from} shards cannot become {to}")));
        }
        stream.set_open(to as usize)
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        let state = self.lock();
        let stream = state.stream(site)?;
        let records = &stream.shard(shard)?.records;
        let after = match from {
            Position::Start => None,
            Position::After(text) => {
                let number = text.parse().ok().filter(|number| records.contains_key(number));
                Some(number.ok_or_else(|| EventLogError::Trimmed(text.clone()))?)
            }
            Position::End => return Err(EventLogError::Broken(format!("shard {shard} was read to its end"))),
        };
        let (site, created, shard) = (site.clone(), stream.created, shard.to_owned());
        Ok(Box::new(MemoryReader { log: self.clone(), site, created, shard, after, since_ms: 0 }))
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        let state = self.lock();
        let stream = state.stream(site)?;
        stream.shard(shard)?;
        let (site, created, shard) = (site.clone(), stream.created, shard.to_owned());
        Ok(Box::new(MemoryReader { log: self.clone(), site, created, shard, after: None, since_ms: ms }))
    }
}

impl MemoryReader {
    fn read(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        let log = self.log.clone();
        let state = log.lock();
        let stream = state.stream(&self.site)?;
        if stream.created != self.created {
            return Err(EventLogError::Absent(format!("shard {} of the stream that was opened", self.shard)));
        }
        let shard = stream.shard(&self.shard)?;
        if let Some(after) = self.after.filter(|after| *after < shard.trimmed) {
            return Err(EventLogError::Trimmed(after.to_string()));
        }
        let from = self.after.map_or(0, |after| after + 1);
        let mut rest = shard.records.range(from..).filter(|(_, taken)| taken.at_ms >= self.since_ms);
        let records: Vec<_> =
            rest.by_ref().take(limit).map(|(number, taken)| (number.to_string(), taken.data.clone())).collect();
        let behind = rest.next().is_some();
        let ended = !shard.open && !behind;
        self.after = records.last().and_then(|(number, _)| number.parse().ok()).or(self.after);
        Ok(Batch { records, ended, behind })
    }
}

#[async_trait]
impl ShardReader for MemoryReader {
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        self.read(limit)
    }
}
