//! The use of AWS by running nodes: the growth of their own counters between two looks at `/metrics`.
//!
//! DynamoDB tells the units of each answered call, so these are exact but for refused conditions, which are billed and
//! not told. Units of streams are at least those that follow from records and bytes.

use serde::Serialize;

use super::estate::{Estate, ReadingMode};
use super::units::{PUT_UNIT, blob_requests};
use super::usage::{GB, MONTH_HOURS, Usage};

/// The counters of one or several nodes from which a bill follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counted {
    /// Write units that DynamoDB told.
    pub write_units: f64,
    /// Read units that DynamoDB told.
    pub read_units: f64,
    /// Batches that were committed.
    pub transactions: f64,
    /// Refs that were committed.
    pub refs: f64,
    /// Records that the event log took.
    pub records: f64,
    /// Bytes of these records.
    pub appended_bytes: f64,
    /// Bytes that were read from the event log.
    pub read_bytes: f64,
    /// Streams that are read by enhanced fan-out now.
    pub consumers: f64,
    /// Blobs that were stored.
    pub blob_puts: f64,
    /// Bytes of these blobs.
    pub blob_bytes: f64,
    /// Blobs that were fetched.
    pub blob_gets: f64,
}

/// Why the counters give no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// A page has no counter of a sidecar.
    #[error("the page has no metric `lockstep_ready`: give the address of a sidecar's health listener")]
    NoSidecar,
    /// A counter is lower than before.
    #[error("a counter went back: a node has started again meanwhile; measure again")]
    Restarted,
}

impl Counted {
    /// The counters in a page of metrics.
    ///
    /// # Errors
    /// The page is none of a sidecar.
    pub fn read(page: &str) -> Result<Self, MeasureError> {
        let is_one = page.lines().any(|line| line.starts_with("lockstep_ready"));
        if !is_one {
            return Err(MeasureError::NoSidecar);
        }
        let sum = |metric: &str, label: &str| sum(page, metric, label);
        let committed = sum("lockstep_commit_total", "outcome=\"committed\"");
        Ok(Self {
            write_units: sum("lockstep_refdb_request_units_total", "kind=\"write\""),
            read_units: sum("lockstep_refdb_request_units_total", "kind=\"read\""),
            transactions: committed + sum("lockstep_commit_total", "outcome=\"committed_not_yet_visible\""),
            refs: sum("lockstep_commit_refs_total", ""),
            records: sum("lockstep_eventlog_appended_records_total", ""),
            appended_bytes: sum("lockstep_eventlog_appended_bytes_total", ""),
            read_bytes: sum("lockstep_eventlog_read_bytes_total", ""),
            consumers: sum("lockstep_eventlog_fan_out_streams", ""),
            blob_puts: sum("lockstep_blob_calls_total", "call=\"put\""),
            blob_bytes: sum("lockstep_blob_bytes_total", "call=\"put\""),
            blob_gets: sum("lockstep_blob_calls_total", "call=\"get\""),
        })
    }

    /// The counters with those of another node.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.with(other, |one, two| one + two)
    }

    /// The growth since an earlier look. The number of consumers is that of now.
    ///
    /// # Errors
    /// A counter went back.
    pub fn since(&self, before: &Self) -> Result<Self, MeasureError> {
        let before = Self { consumers: 0.0, ..before.clone() };
        let mut went_back = false;
        let growth = self.with(&before, |now, then| {
            went_back |= now < then;
            now - then
        });
        if went_back { Err(MeasureError::Restarted) } else { Ok(growth) }
    }

    /// The use of a month in which every hour is like the measured time.
    #[must_use]
    pub fn month(&self, seconds: f64, estate: &Estate) -> Usage {
        let month = MONTH_HOURS * 3_600.0 / seconds.max(1.0);
        let put_units = self.records.max(self.appended_bytes / f64::from(PUT_UNIT));
        let mean_blob = self.blob_bytes / self.blob_puts.max(1.0);
        Usage {
            write_units: self.write_units * month,
            read_units: self.read_units * month,
            peak_writes: self.write_units / seconds.max(1.0),
            peak_reads: self.read_units / seconds.max(1.0),
            table_gb: Usage::table_gb(estate),
            put_units: put_units * month,
            gb_in: self.appended_bytes.max(self.records * 1_024.0) / GB * month,
            gb_out: self.read_bytes / GB * month,
            // No counter tells the calls of one shard.
            shard_reads: 0.0,
            consumers: if estate.reading == ReadingMode::FanOut { self.consumers } else { 0.0 },
            blob_puts: self.blob_puts * blob_requests(mean_blob) * month,
            blob_gets: self.blob_gets * month,
            blob_gb: Usage::blob_gb(self.blob_bytes * month),
        }
    }

    fn with(&self, other: &Self, mut of: impl FnMut(f64, f64) -> f64) -> Self {
        Self {
            write_units: of(self.write_units, other.write_units),
            read_units: of(self.read_units, other.read_units),
            transactions: of(self.transactions, other.transactions),
            refs: of(self.refs, other.refs),
            records: of(self.records, other.records),
            appended_bytes: of(self.appended_bytes, other.appended_bytes),
            read_bytes: of(self.read_bytes, other.read_bytes),
            consumers: of(self.consumers, other.consumers),
            blob_puts: of(self.blob_puts, other.blob_puts),
            blob_bytes: of(self.blob_bytes, other.blob_bytes),
            blob_gets: of(self.blob_gets, other.blob_gets),
        }
    }
}

/// The sum of the series of a metric that have this label. Zero if there is none.
fn sum(page: &str, metric: &str, label: &str) -> f64 {
    let series = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let own = series.filter(|(series, _)| {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        name == metric && labels.contains(label)
    });
    own.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::estate::tests::estate;
    use super::*;

    const PAGE: &str = "\
# HELP lockstep_ready 1 when every latch of /readyz is open, else 0
# TYPE lockstep_ready gauge
lockstep_ready 1
lockstep_commit_total{outcome=\"committed\"} 90
lockstep_commit_total{outcome=\"committed_not_yet_visible\"} 10
lockstep_commit_total{outcome=\"refused\"} 50
lockstep_commit_refs_total 150
lockstep_refdb_request_units_total{kind=\"read\"} 1800.5
lockstep_refdb_request_units_total{kind=\"write\"} 720
lockstep_eventlog_appended_records_total 100
lockstep_eventlog_appended_bytes_total 51200000
lockstep_eventlog_read_bytes_total 102400000
lockstep_eventlog_fan_out_streams 3
lockstep_blob_calls_total{call=\"get\"} 4
lockstep_blob_calls_total{call=\"put\"} 2
lockstep_blob_bytes_total{call=\"put\"} 2000000
";

    #[test]
    fn the_counters_of_a_page_are_read_by_their_labels() {
        let counted = Counted::read(PAGE).unwrap();
        assert_eq!([counted.write_units, counted.read_units], [720.0, 1_800.5]);
        assert_eq!([counted.transactions, counted.refs], [100.0, 150.0]);
        assert_eq!([counted.blob_puts, counted.blob_gets, counted.consumers], [2.0, 4.0, 3.0]);
        assert_eq!(Counted::read("up 1\n"), Err(MeasureError::NoSidecar));
    }

    #[test]
    fn the_growth_of_two_nodes_in_an_hour_is_that_of_a_month_divided() {
        let now = Counted::read(PAGE).unwrap();
        let both = now.and(&now);
        assert_eq!(both.write_units, 1_440.0);
        let growth = both.since(&now).unwrap();
        assert_eq!((growth.write_units, growth.consumers), (720.0, 6.0));
        assert_eq!(now.since(&both), Err(MeasureError::Restarted));
        let month = growth.month(3_600.0, &Estate { reading: ReadingMode::FanOut, ..estate() });
        assert_eq!([month.write_units, month.blob_puts, month.consumers], [720.0 * 730.0, 1_460.0, 6.0]);
        // 512 kB per record are 20 units of 25 KiB.
        assert_eq!(month.put_units, 2_000.0 * 730.0);
        assert_eq!(month.gb_in, 51_200_000.0 / GB * 730.0);
        assert_eq!(month.peak_writes, 0.2);
    }
}
