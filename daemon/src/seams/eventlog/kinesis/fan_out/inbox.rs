//! The events of one subscription: a task receives them as they come, and the reader takes their records.
//!
//! The task keeps reading while the reader is busy, so that the last event tells the state of the shard now, and not
//! that of a moment ago. It pauses while many bytes wait, so that memory stays bounded.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::error::{DisplayErrorContext, SdkError};
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{SubscribeToShardEvent, SubscribeToShardEventStream};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::seams::eventlog::kinesis::reader::pair;
use crate::seams::eventlog::position::compare;

/// Bytes of records that wait for the reader at most. One more event may come on top.
const WAITING_BYTES: usize = 2 << 20;

/// A running subscription. Its task ends when this is dropped.
pub(super) struct Subscription {
    pub(super) inbox: Arc<Inbox>,
    /// When Kinesis accepted it.
    pub(super) begun: Instant,
    _task: JoinSet<()>,
}

impl Subscription {
    /// Begins to receive the events of an accepted subscription. Without an event for `silence` it is over.
    pub(super) fn begin(accepted: SubscribeToShardOutput, silence: Duration) -> Self {
        let inbox = Arc::new(Inbox::default());
        let mut task = JoinSet::new();
        task.spawn(receive(accepted, Arc::clone(&inbox), silence));
        Self { inbox, begun: Instant::now(), _task: task }
    }
}

/// Why a subscription is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// It has ended: Kinesis cuts each one after five minutes.
    Cut,
    /// Another subscription of the same consumer to this shard took its place.
    Replaced,
    /// It failed, and this is why.
    Failed(String),
}

/// The events that were received.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) state: Mutex<Received>,
    /// Notified after each event, and at the end.
    pub(super) arrived: Notify,
    /// Notified after records were taken.
    pub(super) room: Notify,
}

/// The contents of the events of a subscription.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// The records that the reader has not taken yet.
    pub(super) records: VecDeque<(String, Bytes)>,
    bytes: usize,
    /// The number of events so far.
    pub(super) events: u64,
    /// The number of events at the newest end of the shard that had no record.
    pub(super) empty: u32,
    /// How far the last event was behind the newest record, in milliseconds. None before the first event.
    pub(super) behind_ms: Option<i64>,
    /// Where another subscription goes on after all these records, and when that was said.
    pub(super) reached: Option<(String, Instant)>,
    /// Whether the shard has ended: there are no records behind these.
    pub(super) ended: bool,
    pub(super) over: Option<Over>,
}

impl Received {
    /// Notes an event. A shard ends with an event that names its children and no sequence number to go on at: the SDK
    /// shows an absent number as an empty text. The emulator names the children of a closed shard from the beginning,
    /// so there the end is the first such event without records.
    fn note(&mut self, event: SubscribeToShardEvent) {
        let is_empty = event.records.is_empty();
        let has_next = !event.continuation_sequence_number.is_empty();
        self.ended |= !event.child_shards().is_empty() && (is_empty || !has_next);
        self.events += 1;
        self.empty += u32::from(is_empty && event.millis_behind_latest == 0);
        self.behind_ms = Some(event.millis_behind_latest);
        if has_next {
            self.reached = Some((event.continuation_sequence_number, Instant::now()));
        }
        for record in event.records {
            let record = pair(record);
            self.bytes += record.1.len();
            self.records.push_back(record);
        }
    }

    /// Removes the first record.
    pub(super) fn pop(&mut self) -> Option<(String, Bytes)> {
        let record = self.records.pop_front()?;
        self.bytes -= record.1.len();
        Some(record)
    }

    /// Takes at most `limit` records behind the sequence number `after`. A subscription may repeat earlier ones.
    pub(super) fn take(&mut self, limit: usize, after: Option<&str>) -> Vec<(String, Bytes)> {
        let is_known = |(sequence, _): &(String, Bytes)| after.is_some_and(|after| compare(sequence, after).is_le());
        while self.records.front().is_some_and(is_known) {
            self.pop();
        }
        (0..limit).map_while(|_| self.pop()).collect()
    }

    /// Whether there may be more records behind these now.
    pub(super) fn is_behind(&self) -> bool {
        !self.records.is_empty() || self.behind_ms.is_none_or(|behind| behind > 0)
    }
}

async fn receive(mut accepted: SubscribeToShardOutput, inbox: Arc<Inbox>, silence: Duration) {
    loop {
        let over = match timeout(silence, accepted.event_stream.recv()).await {
            Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => {
                inbox.state.lock().note(event);
                None
            }
            // An event of a kind that this release does not know says nothing about records.
            Ok(Ok(Some(_))) => None,
            Ok(Ok(None)) => Some(Over::Cut),
            Ok(Err(error)) => Some(of(&error)),
            Err(_) => Some(Over::Failed(format!("no event for {silence:?}"))),
        };
        let is_over = over.is_some();
        inbox.state.lock().over = over;
        inbox.arrived.notify_one();
        if is_over {
            return;
        }
        while inbox.state.lock().bytes > WAITING_BYTES {
            inbox.room.notified().await;
        }
    }
}

/// The end that an error of the stream of events means.
fn of<R: Debug>(error: &SdkError<SubscribeToShardEventStreamError, R>) -> Over {
    match error.as_service_error() {
        Some(error) if error.is_resource_in_use_exception() => Over::Replaced,
        _ => Over::Failed(DisplayErrorContext(error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::primitives::Blob;
    use aws_sdk_kinesis::types::{ChildShard, HashKeyRange, Record};

    use super::*;

    fn event(records: &[&str], next: &str, has_children: bool) -> SubscribeToShardEvent {
        let record = |sequence: &&str| {
            let record = Record::builder().sequence_number(*sequence).partition_key("p").data(Blob::new(b"1234"));
            record.build().unwrap()
        };
        let range = HashKeyRange::builder().starting_hash_key("0").ending_hash_key("1").build().unwrap();
        let child = ChildShard::builder().shard_id("c").parent_shards("s").hash_key_range(range).build().unwrap();
        SubscribeToShardEvent::builder()
            .set_records(Some(records.iter().map(record).collect()))
            .continuation_sequence_number(next)
            .millis_behind_latest(0)
            .set_child_shards(has_children.then(|| vec![child]))
            .build()
            .unwrap()
    }

    #[test]
    fn a_shard_ends_with_its_children_and_not_before_its_last_record() {
        let mut aws = Received::default();
        aws.note(event(&["1"], "1", false));
        assert!(!aws.ended);
        aws.note(event(&["2"], "", true));
        assert!(aws.ended, "the last event has children, and nothing to go on at");
        let mut emulator = Received::default();
        emulator.note(event(&["1"], "2", true));
        assert!(!emulator.ended, "more records may follow");
        emulator.note(event(&[], "2", true));
        assert!(emulator.ended);
        let mut odd = Received::default();
        odd.note(event(&[], "", false));
        assert!(!odd.ended, "an event that says nothing is no end");
    }

    #[test]
    fn records_that_were_read_before_are_left_out_and_numbers_are_compared_by_length_first() {
        let mut received = Received::default();
        received.note(event(&["8", "9", "10", "11"], "12", false));
        let numbers = |taken: Vec<(String, Bytes)>| taken.into_iter().map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(numbers(received.take(1, Some("9"))), ["10"]);
        assert!(received.is_behind());
        assert_eq!(numbers(received.take(9, Some("10"))), ["11"]);
        assert!(!received.is_behind());
        assert_eq!(received.bytes, 0);
    }
}
