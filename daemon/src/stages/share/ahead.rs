//! Reads a shard ahead of this node's own work, while the node reads it for its siblings.
//!
//! The consume stage asks for the next records when it has room for them, which is as fast as this node applies. Its
//! siblings may be faster. So a task of its own reads the stream for all of them, into the buffer for siblings and into
//! a queue for this node. The queue is as large as the buffer, and holds the same bytes. When it is full the reading
//! pauses: the siblings find no progress, and read the stream, until another node takes the lease. The records that
//! are left in the queue then have no buffer any more, so all queues together have a bound of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::buffer::{Bounds, size};
use super::stream::StreamReader;
use crate::base::tasks::Tasks;
use crate::seams::eventlog::{Batch, EventLogError};

/// A shard that is read ahead. The reading ends when this is dropped.
pub(super) struct Ahead {
    queue: Arc<Queue>,
    stop: CancellationToken,
}

/// The records that were read, and that this node has not taken yet.
struct Queue {
    state: Mutex<Pending>,
    /// Tells that something was put into the queue, or taken out of it.
    changed: Notify,
    /// The content of the queues of all shards together.
    all: Arc<Mutex<Bounds>>,
}

#[derive(Default)]
struct Pending {
    batches: VecDeque<Batch>,
    /// The records of all batches together, and their bytes.
    records: usize,
    bytes: usize,
    /// Why the reading has ended.
    failed: Option<EventLogError>,
}

impl Ahead {
    /// Begins to read on where a reader is, at most `limit` records at a time.
    pub(super) fn begin(reader: StreamReader, limit: usize, interval: Duration, tasks: &Tasks) -> Self {
        let (queue, stop) = (Arc::new(Queue::new(reader.shards().queued())), CancellationToken::new());
        let (into, stopped) = (Arc::clone(&queue), stop.clone());
        tasks.spawn("read-ahead", async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = read_on(reader, limit, interval, &into) => {}
            }
        });
        Self { queue, stop }
    }

    /// The next records, at most `limit`. Waits for them, or for the news that there are none.
    pub(super) async fn next(&self, limit: usize) -> Result<Batch, EventLogError> {
        loop {
            let changed = self.queue.changed.notified();
            if let Some(end) = self.queue.take(limit) {
                return end;
            }
            changed.await;
        }
    }

    /// Whether the reading was ended. It does not begin again.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends the reading. Returns the next records that were read before, at most `limit`. None if nothing is left.
    pub(super) fn left(&self, limit: usize) -> Option<Result<Batch, EventLogError>> {
        self.stop.cancel();
        self.queue.take(limit)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Reads until the shard ends, or a read fails.
async fn read_on(mut reader: StreamReader, limit: usize, interval: Duration, into: &Queue) {
    loop {
        let (most, whole) = (reader.shards().bounds(), reader.shards().whole());
        into.room(most, whole).await;
        match reader.next(limit).await {
            Err(error) => return into.fail(error),
            Ok(batch) => {
                let has_read_all = batch.records.is_empty() || (!batch.behind && batch.records.len() < limit);
                let has_ended = batch.ended;
                into.put(batch);
                if has_ended {
                    return;
                }
                if has_read_all && !reader.waits() {
                    sleep(interval).await;
                }
            }
        }
    }
}

impl Queue {
    fn new(all: Arc<Mutex<Bounds>>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), all }
    }

    /// Waits until there is room for one more read, in this queue and among all of them. An empty queue has room.
    async fn room(&self, most: Bounds, whole: Bounds) {
        loop {
            let changed = self.changed.notified();
            if self.has_room(most, whole) {
                return;
            }
            changed.await;
        }
    }

    fn has_room(&self, most: Bounds, whole: Bounds) -> bool {
        let all = *self.all.lock();
        let is_any_left = all.records < whole.records && all.bytes < whole.bytes;
        let pending = self.state.lock();
        pending.batches.is_empty() || (is_any_left && pending.has_room(most))
    }

    fn put(&self, batch: Batch) {
        let mut all = self.all.lock();
        (all.records, all.bytes) = (all.records + batch.records.len(), all.bytes + bytes(&batch));
        drop(all);
        self.state.lock().put(batch);
        self.changed.notify_waiters();
    }

    fn fail(&self, error: EventLogError) {
        self.state.lock().failed = Some(error);
        self.changed.notify_waiters();
    }

    fn take(&self, limit: usize) -> Option<Result<Batch, EventLogError>> {
        let taken = self.state.lock().take(limit)?;
        if let Ok(batch) = &taken {
            self.gives(batch.records.len(), bytes(batch));
        }
        self.changed.notify_waiters();
        Some(taken)
    }

    fn gives(&self, records: usize, bytes: usize) {
        let mut all = self.all.lock();
        (all.records, all.bytes) = (all.records.saturating_sub(records), all.bytes.saturating_sub(bytes));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let Pending { records, bytes, .. } = *self.state.get_mut();
        self.gives(records, bytes);
    }
}

impl Pending {
    fn has_room(&self, most: Bounds) -> bool {
        self.batches.is_empty() || (self.records < most.records && self.bytes < most.bytes)
    }

    /// Adds the result of a read. A read without records only tells more about the records before it.
    fn put(&mut self, batch: Batch) {
        self.records += batch.records.len();
        self.bytes += bytes(&batch);
        match self.batches.back_mut() {
            Some(last) if batch.records.is_empty() => (last.ended, last.behind) = (batch.ended, batch.behind),
            _ => self.batches.push_back(batch),
        }
    }

    /// The next records, at most `limit`, or the reason why there will be none. None if there are none yet.
    fn take(&mut self, limit: usize) -> Option<Result<Batch, EventLogError>> {
        let Some(mut batch) = self.batches.pop_front() else { return self.failed.take().map(Err) };
        if batch.records.len() > limit {
            let rest = batch.records.split_off(limit);
            self.batches.push_front(Batch { records: rest, ..batch });
            batch = Batch { records: batch.records, ended: false, behind: true };
        }
        self.records -= batch.records.len();
        self.bytes -= bytes(&batch);
        Some(Ok(batch))
    }
}

fn bytes(batch: &Batch) -> usize {
    batch.records.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn batch(numbers: std::ops::Range<u32>, behind: bool) -> Batch {
        let record = |number: u32| (number.to_string(), Bytes::from_static(b"data"));
        Batch { records: numbers.map(record).collect(), ended: false, behind }
    }

    #[test]
    fn records_leave_the_queue_in_order_at_most_as_many_as_are_wanted_and_an_error_comes_last() {
        let mut queue = Pending::default();
        queue.put(batch(10..15, true));
        queue.put(batch(15..17, true));
        queue.put(batch(0..0, false));
        queue.failed = Some(EventLogError::NotNow("away".to_owned()));
        assert_eq!((queue.records, queue.bytes, queue.batches.len()), (7, 42, 2), "an empty read is no batch");
        assert_eq!(queue.take(3), Some(Ok(batch(10..13, true))));
        assert_eq!(queue.take(3), Some(Ok(batch(13..15, true))));
        assert_eq!(queue.take(3), Some(Ok(batch(15..17, false))), "the last read has found the end");
        assert_eq!(queue.take(3), Some(Err(EventLogError::NotNow("away".to_owned()))));
        assert_eq!((queue.take(3), queue.records, queue.bytes), (None, 0, 0));
    }

    #[test]
    fn all_queues_together_have_a_bound_until_their_records_are_taken_or_dropped() {
        let all: Arc<Mutex<Bounds>> = Arc::default();
        let (one, two) = (Queue::new(Arc::clone(&all)), Queue::new(Arc::clone(&all)));
        let whole = Bounds { records: 100, bytes: 12 };
        one.put(batch(10..12, true));
        assert_eq!(*all.lock(), Bounds { records: 2, bytes: 12 });
        assert!(two.has_room(whole, whole), "an empty queue has room: the reading goes on");
        two.put(batch(12..13, true));
        assert!(!two.has_room(whole, whole), "its share has room, and all queues together have none");
        drop(one);
        assert!(two.has_room(whole, whole));
        assert!(two.take(9).is_some());
        assert_eq!(*all.lock(), Bounds::default());
    }

    #[test]
    fn an_empty_queue_has_room_whatever_the_bounds_are() {
        let (mut queue, most) = (Pending::default(), Bounds { records: 3, bytes: 0 });
        assert!(queue.has_room(most));
        queue.put(batch(10..11, true));
        assert!(!queue.has_room(most) && queue.has_room(Bounds { bytes: 100, ..most }));
        queue.put(batch(11..13, true));
        assert!(!queue.has_room(Bounds { bytes: 100, ..most }));
    }
}
