//! The use of AWS in a month: of an estate under the load of the model, or of running nodes by their counters.

use std::time::Duration;

use serde::Serialize;

use super::estate::{Estate, ReadingMode};
use super::idle::{IdleCall, Paces, calls, lease_turns};
use super::model::{Day, Model};
use super::traffic::Traffic;
use super::units::{collect_units, commit_units};

/// The hours and the days of a month.
pub const MONTH_HOURS: f64 = 730.0;
const MONTH_DAYS: f64 = MONTH_HOURS / 24.0;
/// The bytes of the item of a ref.
const REF_BYTES: f64 = 250.0;
/// The bytes of a GB, as AWS bills it.
pub const GB: f64 = 1_073_741_824.0;
/// The days for which a blob is stored: it goes with its slot, once every node has applied it.
const BLOB_DAYS: f64 = 1.0;
/// The refs that a read unit of a verification covers.
const REFS_PER_READ: f64 = 20.0;
/// The reads of a node per second and shard: the setting `eventlog.poll_interval` is a second by default.
const POLLS_PER_SECOND: f64 = 1.0;

/// The use of AWS in a month.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Write units of the tables, before they are multiplied by replicas.
    pub write_units: f64,
    /// Read units of the tables.
    pub read_units: f64,
    /// Write units per second in the peak hour.
    pub peak_writes: f64,
    /// Read units per second in the peak hour.
    pub peak_reads: f64,
    /// GB in the tables.
    pub table_gb: f64,
    /// PUT payload units of the streams.
    pub put_units: f64,
    /// GB into the streams, each record rounded up to a KiB.
    pub gb_in: f64,
    /// GB out of the streams, to all nodes that read them.
    pub gb_out: f64,
    /// Reads per second and shard while the streams are polled. Kinesis takes five from all readers together.
    pub shard_reads: f64,
    /// Pairs of a consumer of enhanced fan-out and a stream.
    pub consumers: f64,
    /// Requests that store blobs.
    pub blob_puts: f64,
    /// Requests that fetch blobs.
    pub blob_gets: f64,
    /// GB-months of stored blobs.
    pub blob_gb: f64,
}

/// The figures of the model beside the use of a month: those that a test holds against counted units.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Write units of a mean ref transaction: its commit and the collection of its slot.
    pub writes_per_transaction: f64,
    /// Write units of a node that idles, per hour.
    pub idle_writes_per_hour: f64,
    /// Read units of a node that idles, per hour.
    pub idle_reads_per_hour: f64,
    /// Write units of all transactions of a working day, marks included.
    pub writes_per_day: f64,
    /// Working days of a month: a day of a weekend counts as a part of one.
    pub days: f64,
    /// The traffic of a working day.
    pub traffic: Traffic,
    /// The periodic calls of a node that idles.
    pub idle: Vec<IdleCall>,
}

impl Figures {
    /// The figures of an estate under the load of the model.
    #[must_use]
    pub fn of(model: &Model, estate: &Estate) -> Self {
        let traffic = Traffic::of(model, !estate.no_events);
        let commits = commit_units(estate.tables.has_transactions(), traffic.refs, traffic.slot_units);
        let of_transactions = commits + collect_units(traffic.slot_units);
        // A node writes its marks after commits, at most once per second.
        let (sites, nodes) = (f64::from(estate.sites), estate.nodes());
        let marks = traffic.transactions.min(nodes * 86_400.0);
        let paces = Paces::with(Duration::from_secs(u64::from(estate.heartbeat_s)));
        let mut idle = calls(paces, sites, nodes, f64::from(model.projects));
        if estate.shares() {
            idle.push(lease_turns(sites, nodes, f64::from(estate.shards)));
        }
        let hour = |at: usize| idle.iter().map(|call| call.within(3_600.0)[at]).sum::<f64>();
        Self {
            writes_per_transaction: of_transactions / traffic.transactions.max(1.0),
            idle_writes_per_hour: hour(0),
            idle_reads_per_hour: hour(1),
            writes_per_day: of_transactions + marks,
            days: MONTH_DAYS * (5.0 + 2.0 * model.weekend_share) / 7.0,
            traffic,
            idle,
        }
    }
}

impl Usage {
    /// The use of an estate under the load of the model.
    #[must_use]
    pub fn of(model: &Model, estate: &Estate, figures: &Figures) -> Self {
        let (traffic, days, nodes) = (&figures.traffic, figures.days, estate.nodes());
        let refs = estate.refs as f64;
        let verified = nodes * (refs / REFS_PER_READ + f64::from(model.projects));
        let idle = |per_hour: f64| nodes * per_hour;
        let peak = Day::of(model).peak_per_second;
        let gb_in = traffic.record_kib * 1_024.0 / GB * days;
        Self {
            write_units: figures.writes_per_day * days + idle(figures.idle_writes_per_hour) * MONTH_HOURS,
            read_units: idle(figures.idle_reads_per_hour) * MONTH_HOURS + verified * MONTH_DAYS,
            peak_writes: figures.writes_per_day * peak + idle(figures.idle_writes_per_hour) / 3_600.0,
            peak_reads: idle(figures.idle_reads_per_hour) / 3_600.0 + verified / 86_400.0,
            table_gb: Self::table_gb(estate),
            put_units: traffic.put_units * days,
            gb_in,
            // The streams of all sites are read, the own one included.
            gb_out: gb_in * estate.readers(),
            shard_reads: match estate.reading {
                ReadingMode::Polling => estate.readers() * POLLS_PER_SECOND,
                ReadingMode::FanOut => 0.0,
            },
            // A node keeps its consumers while a sibling reads for it.
            consumers: match estate.reading {
                ReadingMode::Polling => 0.0,
                ReadingMode::FanOut => nodes * f64::from(estate.sites),
            },
            blob_puts: traffic.blob_requests * days,
            blob_gets: traffic.blobs * days * (nodes - 1.0),
            blob_gb: Self::blob_gb(traffic.blob_bytes * days),
        }
    }

    /// The GB of the refs of an estate.
    pub(super) fn table_gb(estate: &Estate) -> f64 {
        estate.refs as f64 * REF_BYTES / GB
    }

    /// The GB-months of these bytes of blobs, stored in the course of a month.
    pub(super) fn blob_gb(bytes: f64) -> f64 {
        bytes / GB * BLOB_DAYS / MONTH_DAYS
    }
}

#[cfg(test)]
mod tests {
    use super::super::estate::tests::estate;
    use super::super::estate::{SharingMode, TableMode};
    use super::*;

    fn close(value: f64, wanted: f64) {
        assert!((value / wanted - 1.0).abs() < 1e-9, "{value}, not {wanted}");
    }

    #[test]
    fn a_month_is_its_working_days_and_its_idle_hours() {
        let (model, estate) = (Model::default(), estate());
        let figures = Figures::of(&model, &estate);
        let usage = Usage::of(&model, &estate, &figures);
        close(figures.days, 730.0 / 24.0 * 5.16 / 7.0);
        close(usage.write_units, figures.writes_per_day * figures.days + 3.0 * figures.idle_writes_per_hour * 730.0);
        let Traffic { transactions, refs, slot_units, .. } = figures.traffic;
        // Two units per ref and per slot unit of a transaction, one to collect each, and one mark per transaction.
        close(figures.writes_per_day, 2.0 * (refs + slot_units) + slot_units + transactions);
        close(figures.writes_per_transaction, (2.0 * (refs + slot_units) + slot_units) / transactions);
        close(usage.gb_out, 3.0 * usage.gb_in);
        assert_eq!(usage.consumers, 0.0);
    }

    #[test]
    fn tables_without_transactions_write_each_ref_twice_and_the_slot_once() {
        let model = Model::default();
        let of = |tables| Figures::of(&model, &Estate { tables, ..estate() });
        let Traffic { transactions, refs, slot_units, .. } = of(TableMode::Mrsc).traffic;
        close(of(TableMode::Mrsc).writes_per_transaction, (2.0 * refs + 2.0 * slot_units) / transactions);
        assert_eq!(of(TableMode::Provisioned), of(TableMode::OnDemand));
    }

    #[test]
    fn more_nodes_read_more_and_the_transactions_cost_the_same() {
        let model = Model::default();
        let of = |nodes_per_site, reading| {
            let estate = Estate { nodes_per_site, reading, sharing: SharingMode::Off, ..estate() };
            Usage::of(&model, &estate, &Figures::of(&model, &estate))
        };
        let (few, many) = (of(1, ReadingMode::FanOut), of(10, ReadingMode::FanOut));
        assert_eq!([few.consumers, many.consumers], [9.0, 90.0]);
        close(many.gb_out, 10.0 * few.gb_out);
        assert_eq!(few.put_units, many.put_units);
        assert!(many.read_units > 10.0 * few.read_units, "each node also reads the records of the others");
    }

    #[test]
    fn nodes_that_share_read_the_streams_as_one_node_per_site() {
        let model = Model::default();
        let of = |nodes_per_site, sharing, reading| {
            let estate = Estate { nodes_per_site, sharing, reading, ..estate() };
            let figures = Figures::of(&model, &estate);
            (Usage::of(&model, &estate, &figures), figures.idle_reads_per_hour)
        };
        let polled = |nodes, sharing| of(nodes, sharing, ReadingMode::Polling);
        let ((one, _), (shared, with)) = (polled(1, SharingMode::Auto), polled(50, SharingMode::Auto));
        let (alone, without) = polled(50, SharingMode::Off);
        assert_eq!((shared.gb_out, shared.shard_reads), (one.gb_out, 3.0));
        assert_eq!((alone.shard_reads, alone.put_units), (150.0, one.put_units));
        close(alone.gb_out, 50.0 * one.gb_out);
        // Each node reads the leases 480 times per hour.
        close(with - without, 480.0);
        // Of 150 nodes 18 have a lease, and write two units 480 times per hour.
        close((shared.write_units - alone.write_units) / 730.0, 18.0 * 2.0 * 480.0);
        let (sent, _) = of(50, SharingMode::Auto, ReadingMode::FanOut);
        assert_eq!((sent.gb_out, sent.shard_reads, sent.consumers), (one.gb_out, 0.0, 450.0));
    }
}
