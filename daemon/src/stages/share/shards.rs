//! The shards that this node reads, with the buffers of those that it reads for its siblings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use lockstep_proto::sharing::{
    HandedRecord, MOST_RECORDS, RECORDS_BYTES, RECORDS_WAIT_MS, RecordOrigin, RecordsAnswer, RecordsRequest,
};
use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::buffer::{Bounds, Buffer, Found};
use crate::seams::eventlog::Batch;
use crate::seams::volume::ShardId;

/// The most calls of siblings that wait for records at the same time. Further siblings read the stream.
const MOST_CALLS: usize = 1_024;
/// For so many turns a shard without a reader is kept for siblings that are behind.
const KEPT_TURNS: u32 = 6;

/// A shard that this node reads.
#[derive(Default)]
pub(super) struct Shard {
    state: Mutex<State>,
    /// Tells waiting calls that the shard was read, or that this node does not read it for others any more.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Whether this node has the lease.
    is_held: bool,
    /// The records, once this node has the lease and has read the shard.
    buffer: Option<Buffer>,
    /// The number of reads of the stream that have begun.
    begun: u64,
    /// The number of the last one of them that has succeeded.
    read: u64,
    /// Whether the stream was read since the last turn.
    has_progressed: bool,
    /// Whether the stream was read to the end of the shard.
    has_ended: bool,
    /// The number of readers of the shard that are open here. For a moment an earlier one may be left.
    readers: u32,
    /// The number of turns without an open reader.
    idle: u32,
    /// Where the last records came from, and why.
    shown: Option<(RecordOrigin, String)>,
    /// The last record of the stream, and a moment at which nothing was behind it.
    proven: Option<(String, Moment)>,
}

/// A moment, on the clock that counts the time which the machine runs, and on the wall clock. Neither is enough: the
/// one stands still while a machine sleeps, and the other one is set.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) ms: u64,
}

impl Moment {
    /// Whether another moment was less than this time before, on both clocks.
    fn is_within(&self, time: Duration, before: &Self) -> bool {
        let by_wall = self.ms.checked_sub(before.ms).map(Duration::from_millis);
        self.at.duration_since(before.at) < time && by_wall.is_some_and(|by_wall| by_wall < time)
    }
}

/// All shards that this node reads.
pub(super) struct Shards {
    /// The site of this node.
    site: SiteId,
    /// The bounds of all buffers together. They are divided among the shards that this node has leases of.
    bounds: Bounds,
    /// The content of the queues of all shards that are read ahead.
    queued: Arc<Mutex<Bounds>>,
    state: Mutex<BTreeMap<ShardId, Arc<Shard>>>,
    /// The calls that wait, by sibling and shard, each with its number.
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    last: u64,
    waiting: BTreeMap<(NodeId, ShardId), u64>,
}

/// The place of a waiting call.
struct Place<'a> {
    shards: &'a Shards,
    key: (NodeId, ShardId),
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut calls = self.shards.calls.lock();
        if calls.waiting.get(&self.key) == Some(&self.number) {
            calls.waiting.remove(&self.key);
        }
    }
}

impl Place<'_> {
    /// Whether the sibling has made no newer call for the shard.
    fn is_newest(&self) -> bool {
        self.shards.calls.lock().waiting.get(&self.key) == Some(&self.number)
    }
}

impl Shards {
    /// No shards yet. All buffers together stay within the bounds.
    pub(super) fn new(site: SiteId, bounds: Bounds) -> Self {
        Self { site, bounds, queued: Arc::default(), state: Mutex::default(), calls: Mutex::default() }
    }

    /// The key of the lease of a shard at this site.
    pub(super) fn lease(&self, id: &ShardId) -> String {
        format!("{} {} {}", self.site, id.site, id.shard)
    }

    /// A reader of this shard was opened here.
    pub(super) fn opened(&self, id: &ShardId) -> Arc<Shard> {
        // A turn must not drop the shard before it has a reader.
        let mut shards = self.state.lock();
        let shard = Arc::clone(shards.entry(id.clone()).or_default());
        let mut state = shard.state.lock();
        state.readers += 1;
        (state.has_ended, state.idle) = (false, 0);
        drop(state);
        shard
    }

    /// The leases of the shards that are read here, or were until lately, and those among them whose streams were read
    /// since the last call. Shards without a reader for long are dropped.
    pub(super) fn turn(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut wanted, mut progressed) = (BTreeSet::new(), BTreeSet::new());
        self.state.lock().retain(|id, shard| {
            let mut state = shard.state.lock();
            state.idle = if state.readers > 0 { 0 } else { state.idle + 1 };
            if state.idle > KEPT_TURNS {
                return false;
            }
            wanted.insert(self.lease(id));
            // Of a shard that has ended, the buffer alone is kept. A reader that failed is no progress.
            if std::mem::take(&mut state.has_progressed) || state.has_ended {
                progressed.insert(self.lease(id));
            }
            true
        });
        (wanted, progressed)
    }

    /// From now on, this node reads the shards of these leases for its siblings, and no others.
    pub(super) fn hold(&self, leases: &BTreeSet<String>) {
        let shards = self.state.lock().clone();
        let bounds = self.each(leases.len());
        for (id, shard) in shards {
            let mut state = shard.state.lock();
            state.is_held = leases.contains(&self.lease(&id));
            if !state.is_held {
                state.buffer = None;
            } else if let Some(buffer) = &mut state.buffer {
                buffer.shrink(bounds);
            }
            drop(state);
            shard.changed.notify_waiters();
        }
    }

    /// The bounds of each of so many buffers.
    fn each(&self, count: usize) -> Bounds {
        let count = count.max(1);
        Bounds { records: (self.bounds.records / count).max(1), bytes: self.bounds.bytes / count }
    }

    /// The bounds of all buffers together, and of all queues together.
    pub(super) fn whole(&self) -> Bounds {
        self.bounds
    }

    /// The content of the queues of all shards that are read ahead. Each queue counts what it takes and gives.
    pub(super) fn queued(&self) -> Arc<Mutex<Bounds>> {
        Arc::clone(&self.queued)
    }

    /// The bounds of the buffer of each shard that this node reads for its siblings.
    pub(super) fn bounds(&self) -> Bounds {
        let held = self.state.lock().values().filter(|shard| shard.state.lock().is_held).count();
        self.each(held)
    }

    /// Notes records that were read from the stream behind a position, by the read with this number.
    pub(super) fn took(&self, shard: &Shard, read: u64, after: Option<&str>, batch: &Batch) {
        let bounds = self.bounds();
        let mut state = shard.state.lock();
        state.read = state.read.max(read);
        // A stream that has more, and gives nothing, is no progress: another node may get it.
        state.has_progressed |= batch.ended || !batch.behind || !batch.records.is_empty();
        state.has_ended = batch.ended;
        if state.is_held {
            let fits = state.buffer.take().filter(|buffer| buffer.end() == after);
            let mut buffer = fits.unwrap_or_else(|| Buffer::begin(after.map(str::to_owned)));
            buffer.push(batch, bounds);
            state.buffer = Some(buffer);
        }
        drop(state);
        shard.changed.notify_waiters();
    }

    /// The shards that are read here, each with the origin of its last records, and the reason.
    pub(super) fn shown(&self) -> Vec<(ShardId, RecordOrigin, String)> {
        let shards = self.state.lock();
        let of = |(id, shard): (&ShardId, &Arc<Shard>)| {
            let (origin, reason) = shard.state.lock().shown.clone()?;
            Some((id.clone(), origin, reason))
        };
        shards.iter().filter_map(of).collect()
    }

    /// Answers a sibling that asks for records, and waits for them as long as it says.
    ///
    /// # Errors
    /// Too many calls wait.
    pub(super) async fn answer(&self, request: &RecordsRequest) -> Result<RecordsAnswer, TooManyCalls> {
        let RecordsRequest { stream, created, shard, .. } = request.clone();
        let id = ShardId { site: stream, created, shard };
        let Some(shard) = self.state.lock().get(&id).cloned() else { return Ok(RecordsAnswer::NotReader) };
        let place = self.enter(request.reader.clone(), id, &shard)?;
        let deadline = Instant::now() + Duration::from_millis(request.wait_ms.min(RECORDS_WAIT_MS));
        let begun = shard.state.lock().begun;
        loop {
            let changed = shard.changed.notified();
            let (found, read) = shard.look(request);
            match found {
                None => return Ok(RecordsAnswer::NotReader),
                Some(Found::Elsewhere(oldest)) => return Ok(RecordsAnswer::Elsewhere { oldest }),
                Some(Found::Records(batch)) => {
                    // As below: the stream may have more by now.
                    let behind = !batch.ended && (batch.behind || read <= begun);
                    return Ok(handed(request, Batch { behind, ..batch }));
                }
                Some(_) if !place.is_newest() => return Ok(RecordsAnswer::Silent),
                Some(Found::Ahead | Found::Nothing { .. }) if Instant::now() < deadline => {}
                // A read that had begun before may have missed a record of that time.
                Some(Found::Nothing { behind }) if read > begun => {
                    return Ok(handed(request, Batch { behind, ..Batch::default() }));
                }
                Some(Found::Ahead | Found::Nothing { .. }) => return Ok(RecordsAnswer::Silent),
            }
            // After the deadline the next look decides.
            let _ = timeout_at(deadline, changed).await;
        }
    }

    /// Takes the place of a call, and ends an earlier call of the same sibling for the shard.
    fn enter(&self, reader: NodeId, id: ShardId, shard: &Shard) -> Result<Place<'_>, TooManyCalls> {
        let mut calls = self.calls.lock();
        let key = (reader, id);
        if calls.waiting.len() >= MOST_CALLS && !calls.waiting.contains_key(&key) {
            return Err(TooManyCalls);
        }
        calls.last += 1;
        let number = calls.last;
        calls.waiting.insert(key.clone(), number);
        drop(calls);
        shard.changed.notify_waiters();
        Ok(Place { shards: self, key, number })
    }
}

/// Too many siblings wait for records of this node already.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_CALLS} calls already wait for records of this node: read the stream")]
pub(super) struct TooManyCalls;

impl Shard {
    /// The content of the buffer behind the position of a request, and the number of the last read. No content if this
    /// node does not read the shard for others.
    fn look(&self, request: &RecordsRequest) -> (Option<Found>, u64) {
        let state = self.state.lock();
        let most = Bounds { records: request.most.clamp(1, MOST_RECORDS), bytes: RECORDS_BYTES };
        let found = match &state.buffer {
            Some(buffer) if state.is_held => Some(buffer.after(request.after.as_deref(), most)),
            // It has the lease, and has not read yet.
            None if state.is_held => Some(Found::Ahead),
            _ => None,
        };
        (found, state.read)
    }

    /// A read of the stream begins. Returns its number.
    pub(super) fn begins_read(&self) -> u64 {
        let mut state = self.state.lock();
        state.begun += 1;
        state.begun
    }

    /// Notes that the stream had no record behind this one at a moment.
    pub(super) fn had_nothing_behind(&self, last: Option<&str>, at: Moment) {
        self.state.lock().proven = last.map(|last| (last.to_owned(), at));
    }

    /// Whether the stream had no record behind this one less than this time ago.
    pub(super) fn is_proven(&self, last: Option<&str>, within: Duration, now: Moment) -> bool {
        let state = self.state.lock();
        state.proven.as_ref().is_some_and(|(of, at)| Some(of.as_str()) == last && now.is_within(within, at))
    }

    /// Notes where the last records came from, and why.
    pub(super) fn shows(&self, origin: RecordOrigin, reason: impl Into<String>) {
        self.state.lock().shown = Some((origin, reason.into()));
    }

    /// A reader of this shard was closed.
    pub(super) fn closed(&self) {
        let mut state = self.state.lock();
        state.readers = state.readers.saturating_sub(1);
    }
}

/// Records as the answer to a request.
fn handed(request: &RecordsRequest, batch: Batch) -> RecordsAnswer {
    let hand = |(sequence, data)| HandedRecord { sequence, data: BASE64_STANDARD.encode::<bytes::Bytes>(data) };
    let records = batch.records.into_iter().map(hand).collect();
    RecordsAnswer::Records { follows: request.after.clone(), records, ended: batch.ended, behind: batch.behind }
}
