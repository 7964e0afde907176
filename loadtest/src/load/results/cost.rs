//! The units of DynamoDB and Kinesis that a run would take of AWS, their cost, and the same at other rates.
//!
//! The units of DynamoDB are those that it told the sidecars. If it told none, they are counted here, as are those of
//! Kinesis: from the counts of calls, transactions, refs and records, and from the sizes of the plan. Counted units are
//! the least that AWS charges: a call whose size is not known counts as one. Blobs in S3, backups, and traffic between
//! regions are left out.

use lockstep::cli::cost::units::{COMMAND_BYTES, PUT_UNIT, SLOT_BYTES, TRANSACTIONAL, WRITE_UNIT};
use lockstep_proto::limits::INLINE_PACK_BYTES;

use super::types::{CostLine, CostReport, Growth, Report};
use crate::load::measure::Scraped;
use crate::load::plan::Arrival;
use crate::load::profile::Prices;
use crate::report::round;

/// The factors of the growth: the peak hours of 100,000 and 300,000 builds per day, and ten times the latter.
const RATES: [(&str, f64); 3] = [
    ("100,000 builds, peak hour", 3.8),
    ("300,000 builds, peak hour", 11.3),
    ("300,000 builds, peak hour, times 10", 113.0),
];

/// The mean sizes of a transaction of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sizes {
    /// Write units of its slot.
    pub slot: f64,
    /// Units of its record in a stream.
    pub record: f64,
}

impl Sizes {
    /// The means over all operations that move refs. A larger pack than a slot holds is in the blob store.
    #[must_use]
    pub fn of(arrivals: &[Arrival]) -> Self {
        let (mut count, mut slot, mut record) = (0_u32, 0.0, 0.0);
        for arrival in arrivals.iter().filter(|arrival| !arrival.class.is_read()) {
            let pack = if arrival.bytes as usize > INLINE_PACK_BYTES { 0 } else { arrival.bytes };
            let bytes = SLOT_BYTES + COMMAND_BYTES.saturating_mul(arrival.count.max(1)).saturating_add(pack);
            count += 1;
            slot += f64::from(bytes.div_ceil(WRITE_UNIT));
            record += f64::from(bytes.div_ceil(PUT_UNIT));
        }
        let count = f64::from(count.max(1));
        Self { slot: slot / count, record: record / count }
    }
}

fn sum(metrics: &Scraped, metric: &str) -> f64 {
    metrics.by(metric, "none").values().sum()
}

/// The batches that were committed. The sidecars count the refused ones, and those without an outcome, beside them.
pub(super) fn committed(metrics: &Scraped) -> f64 {
    let outcomes = metrics.by("lockstep_commit_total", "outcome");
    ["committed", "committed_not_yet_visible"].iter().filter_map(|outcome| outcomes.get(*outcome)).sum()
}

/// The cost of a run of this many seconds at this many sites. None if nothing was committed.
pub(super) fn cost(metrics: &Scraped, sizes: Sizes, prices: &Prices, seconds: f64, sites: usize) -> Option<CostReport> {
    let transactions = committed(metrics);
    if transactions < 1.0 {
        return None;
    }
    let calls = metrics.by("lockstep_refdb_round_trips_total", "op");
    let of = |ops: &[&str]| ops.iter().filter_map(|op| calls.get(*op)).sum::<f64>();
    // Per transaction: its refs and its slot at the commit, and the removal of the slot some time later.
    let commits = TRANSACTIONAL * (sum(metrics, "lockstep_commit_refs_total") + transactions * sizes.slot);
    let writes = commits + transactions * sizes.slot + of(&["lock", "poison", "mark", "incarnation", "site", "node"]);
    let reads = of(&["read", "scan", "slot"]);
    let told = metrics.by("lockstep_refdb_request_units_total", "kind");
    let [writes, reads] = [("write", writes), ("read", reads)]
        .map(|(kind, counted)| told.get(kind).copied().filter(|told| *told > 0.0).unwrap_or(counted));
    let appended = sum(metrics, "lockstep_publish_slots_total") + sum(metrics, "lockstep_publish_repeated_total");
    #[expect(clippy::cast_precision_loss, reason = "a few sites")]
    let hours = sites as f64 * seconds / 3_600.0;
    let line = |name: &str, count: f64, price: Option<f64>, per: f64| CostLine {
        name: name.to_owned(),
        count: round(count),
        per_transaction: round(count / transactions),
        dollars: price.map(|price| count / per * price),
    };
    let lines = vec![
        line("DynamoDB write units", writes, prices.write_units_million, 1e6),
        line("DynamoDB read units", reads, prices.read_units_million, 1e6),
        line("Kinesis PUT units", appended * sizes.record, prices.put_units_million, 1e6),
        line("Kinesis shard hours", hours, prices.shard_hour, 1.0),
    ];
    let dollars = lines.iter().map(|line| line.dollars).sum::<Option<f64>>();
    Some(CostReport { transactions, lines, dollars })
}

/// The processors and the dollars at other rates, from their measured cost per transaction. Empty without that.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "seconds")]
pub(super) fn growth(report: &Report) -> Vec<Growth> {
    let Some(cost) = &report.cost else { return Vec::new() };
    let warm_up = report.profile.run.warm_up_s as usize;
    let sidecars: Vec<_> = report.processes.iter().filter(|one| one.name.starts_with("sidecar")).collect();
    let seconds = report.course.offered.len() as f64;
    if sidecars.is_empty() || seconds <= warm_up as f64 {
        return Vec::new();
    }
    let per_second = cost.transactions / seconds;
    let cores = sidecars.iter().map(|one| one.mean_cores(warm_up)).sum::<f64>() / sidecars.len() as f64;
    // Shards are paid by the hour, whatever passes through them.
    let (by_use, by_hour): (Vec<_>, Vec<_>) = cost.lines.iter().partition(|line| !line.name.ends_with("hours"));
    let dollars = |lines: &[&CostLine]| lines.iter().map(|line| line.dollars).sum::<Option<f64>>();
    let at = |(name, rate): &(&str, f64)| Growth {
        name: (*name).to_owned(),
        per_second: *rate,
        cores_per_site: round(cores / per_second * rate),
        dollars_per_hour: dollars(&by_use)
            .zip(dollars(&by_hour))
            .map(|(by_use, by_hour)| round(by_use / cost.transactions * rate * 3_600.0 + by_hour / seconds * 3_600.0)),
    };
    RATES.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gather::tests::report;
    use super::*;
    use crate::load::model::Class;

    const SIZES: Sizes = Sizes { slot: 3.0, record: 1.0 };

    fn metrics() -> Scraped {
        let series = [
            ("lockstep_commit_total{outcome=\"committed\"}", 90.0),
            ("lockstep_commit_total{outcome=\"committed_not_yet_visible\"}", 10.0),
            ("lockstep_commit_total{outcome=\"refused\"}", 50.0),
            ("lockstep_commit_total{outcome=\"unknown\"}", 5.0),
            ("lockstep_commit_refs_total{}", 150.0),
            ("lockstep_publish_slots_total{}", 100.0),
            ("lockstep_publish_repeated_total{}", 10.0),
            ("lockstep_refdb_round_trips_total{op=\"commit\",end=\"answered\"}", 100.0),
            ("lockstep_refdb_round_trips_total{op=\"read\",end=\"answered\"}", 40.0),
            ("lockstep_refdb_round_trips_total{op=\"node\",end=\"answered\"}", 7.0),
        ];
        Scraped(series.map(|(name, value)| (name.to_owned(), value)).into())
    }

    fn prices() -> Prices {
        let some = Some(1_000.0);
        Prices { write_units_million: some, read_units_million: some, put_units_million: some, shard_hour: Some(2.0) }
    }

    #[test]
    fn a_larger_push_takes_more_units_and_a_large_pack_is_in_the_blob_store() {
        let arrival = |class: Class, bytes: u32, count: u32| Arrival {
            at_us: 0,
            class,
            project: 0,
            site: 0,
            pick: 0,
            count,
            bytes,
            git: false,
            at_home: false,
        };
        let of = |class, bytes, count| Sizes::of(&[arrival(class, bytes, count)]);
        assert_eq!(of(Class::CiVote, 100, 1), Sizes { slot: 1.0, record: 1.0 });
        assert_eq!(of(Class::PushPatchSet, 30_000, 1), Sizes { slot: 30.0, record: 2.0 });
        assert_eq!(of(Class::PushPatchSet, 9_000_000, 1), Sizes { slot: 1.0, record: 1.0 });
        assert_eq!(of(Class::ReleaseTag, 100, 2_000), Sizes { slot: 294.0, record: 12.0 });
        assert_eq!(of(Class::Clone, 100, 1), Sizes::default(), "a read takes none");
    }

    #[test]
    fn units_and_dollars_are_those_of_the_counts() {
        let cost = cost(&metrics(), SIZES, &prices(), 1_800.0, 3).unwrap();
        let counts: Vec<f64> = cost.lines.iter().map(|line| line.count).collect();
        assert_eq!(cost.transactions, 100.0, "those that were refused or are unknown do not count");
        assert_eq!(counts, [2.0 * (150.0 + 300.0) + 300.0 + 7.0, 40.0, 110.0, 1.5]);
        assert_eq!(cost.dollars.map(round), Some(round(1.207 + 0.04 + 0.11 + 3.0)));
        let mut told = metrics();
        told.0.insert("lockstep_refdb_request_units_total{kind=\"write\"}".to_owned(), 1_500.0);
        let counts = super::cost(&told, SIZES, &prices(), 1_800.0, 3).unwrap().lines;
        assert_eq!((counts[0].count, counts[1].count), (1_500.0, 40.0), "what DynamoDB tells comes first");
        assert_eq!(super::cost(&Scraped::default(), SIZES, &prices(), 1_800.0, 3), None);
        let free = super::cost(&metrics(), SIZES, &Prices::default(), 1_800.0, 3).unwrap();
        assert_eq!((free.dollars, free.lines[0].dollars), (None, None), "no price is made up");
    }

    #[test]
    fn growth_is_proportional_to_transactions_and_shards_are_paid_by_the_hour() {
        let mut report = report();
        report.profile.run.warm_up_s = 0.0;
        assert!(growth(&report).is_empty());
        report.course.offered = vec![1; 100];
        report.cost = cost(&metrics(), SIZES, &prices(), 100.0, 3);
        let course = serde_json::json!({"name": "sidecar a", "cores": [0.5, 0.5], "memory_mib": [], "files": []});
        report.processes = vec![serde_json::from_value(course).unwrap()];
        let all = growth(&report);
        // One transaction per second took half a core; shards cost 6 dollars per hour.
        assert_eq!(all[2].cores_per_site, 56.5);
        let by_use = (1.207 + 0.04 + 0.11) / 100.0 * 113.0 * 3_600.0;
        assert!((all[2].dollars_per_hour.unwrap() - by_use - 6.0).abs() < 0.01, "{all:?}");
    }
}
