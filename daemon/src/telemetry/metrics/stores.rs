//! The instruments of the event log and the blob store: what AWS bills.

use lockstep_proto::capacity::StreamCapacity;
use lockstep_proto::sharing::RecordOrigin;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Meter};

use super::labels::{BlobCall, Label};
use super::table;

/// The metrics of the event log.
#[derive(Clone, Debug)]
pub struct EventLogMetrics {
    appended_records: Counter<u64>,
    appended_bytes: Counter<u64>,
    read_bytes: Counter<u64>,
    fan_out_streams: Gauge<u64>,
    fallback_streams: Gauge<u64>,
    shared_records: Counter<u64>,
    lease_changes: Counter<u64>,
    read_alone: Counter<u64>,
    leases: Gauge<u64>,
    stream_shards: Gauge<u64>,
    stream_load: Gauge<u64>,
    stream_changes: Gauge<u64>,
    stream_stuck: Gauge<u64>,
}

impl EventLogMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            appended_records: table::APPENDED_RECORDS.counter(meter),
            appended_bytes: table::APPENDED_BYTES.counter(meter),
            read_bytes: table::READ_BYTES.counter(meter),
            fan_out_streams: table::FAN_OUT_STREAMS.gauge(meter),
            fallback_streams: table::FALLBACK_STREAMS.gauge(meter),
            shared_records: table::SHARED_RECORDS.counter(meter),
            lease_changes: table::LEASE_CHANGES.counter(meter),
            read_alone: table::READ_ALONE.counter(meter),
            leases: table::READER_LEASES.gauge(meter),
            stream_shards: table::STREAM_SHARDS.gauge(meter),
            stream_load: table::STREAM_LOAD.gauge(meter),
            stream_changes: table::STREAM_CHANGES.gauge(meter),
            stream_stuck: table::STREAM_STUCK.gauge(meter),
        }
    }

    /// Counts records that the event log took, and their bytes.
    pub fn appended(&self, records: u64, bytes: u64) {
        self.appended_records.add(records, &[]);
        self.appended_bytes.add(bytes, &[]);
    }

    /// Records how many streams are read by enhanced fan-out, and how many are polled because it is refused.
    pub fn streams(&self, fan_out: u64, fallback: u64) {
        self.fan_out_streams.record(fan_out, &[]);
        self.fallback_streams.record(fallback, &[]);
    }

    /// Counts records of shards that are shared, by the place from which they came.
    pub fn records_from(&self, origin: RecordOrigin, records: u64) {
        self.shared_records.add(records, &[KeyValue::new("source", origin.as_str())]);
    }

    /// Counts a change of a reader's lease.
    pub fn lease_changed(&self, change: &'static str) {
        self.lease_changes.add(1, &[KeyValue::new("change", change)]);
    }

    /// Counts a call for which a sibling had no records.
    pub fn read_alone(&self, reason: &'static str) {
        self.read_alone.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// Records the number of shards that this node reads for its siblings.
    pub fn leases(&self, count: u64) {
        self.leases.record(count, &[]);
    }

    /// Records the capacity of this site's stream, as its autoscaler saw it last.
    pub fn capacity(&self, of: &StreamCapacity) {
        self.stream_shards.record(u64::from(of.shards), &[]);
        self.stream_load.record(of.load / 10 / u64::from(of.shards.max(1)), &[]);
        self.stream_changes.record(of.calls_ms.len() as u64, &[]);
        self.stream_stuck.record(u64::from(of.stuck), &[]);
    }

    /// Counts the bytes of records that were read.
    pub fn read(&self, bytes: u64) {
        self.read_bytes.add(bytes, &[]);
    }
}

/// The metrics of the blob store.
#[derive(Clone, Debug)]
pub struct BlobMetrics {
    calls: Counter<u64>,
    bytes: Counter<u64>,
}

impl BlobMetrics {
    pub(super) fn new(meter: &Meter) -> Self {
        Self { calls: table::BLOB_CALLS.counter(meter), bytes: table::BLOB_BYTES.counter(meter) }
    }

    /// Counts a call that succeeded, and the bytes that it moved.
    pub fn called(&self, call: BlobCall, bytes: u64) {
        let label = [KeyValue::new("call", call.text())];
        self.calls.add(1, &label);
        if bytes > 0 {
            self.bytes.add(bytes, &label);
        }
    }
}
