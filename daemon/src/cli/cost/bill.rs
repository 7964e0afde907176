//! The bill of a month: one line per item, with its formula.

use serde::Serialize;

use super::estate::{Estate, ReadingMode, StreamMode, TableMode};
use super::prices::Prices;
use super::usage::{MONTH_HOURS, Usage};

/// The share of a provisioned capacity that the peak hour uses.
const UTILIZATION: f64 = 0.7;
/// The days that the prices of the streams tell apart.
const DAY_HOURS: f64 = 24.0;
const WEEK_HOURS: f64 = 168.0;
const MILLION: f64 = 1e6;
const THOUSAND: f64 = 1e3;

/// A line of the bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BillLine {
    /// The item, with its unit.
    pub item: &'static str,
    /// The quantity that a month takes.
    pub quantity: f64,
    /// The price of one.
    pub price: f64,
    /// The product, in USD per month.
    pub dollars: f64,
    /// The formula of the quantity.
    pub formula: &'static str,
}

impl BillLine {
    fn new(item: &'static str, quantity: f64, price: f64, formula: &'static str) -> Self {
        Self { item, quantity, price, dollars: quantity * price, formula }
    }
}

/// The lines of a month at these prices. A line that costs nothing here is left out.
#[must_use]
pub fn bill(usage: &Usage, estate: &Estate, prices: &Prices) -> Vec<BillLine> {
    let mut lines = tables(usage, estate, prices);
    lines.extend(streams(usage, estate, prices));
    lines.extend(blobs(usage, prices));
    lines.retain(|line| line.dollars > 0.0);
    lines
}

/// The sum of all lines, in USD per month.
#[must_use]
pub fn total(lines: &[BillLine]) -> f64 {
    lines.iter().map(|line| line.dollars).sum()
}

fn tables(usage: &Usage, estate: &Estate, prices: &Prices) -> Vec<BillLine> {
    let prices = &prices.dynamodb;
    let reads = || {
        let formula = "idle reads x nodes x 730 h + nodes x (refs / 20 + projects) x 30.4 days";
        BillLine::new("DynamoDB read units", usage.read_units, prices.read_units_million / MILLION, formula)
    };
    let mut lines = match estate.tables {
        TableMode::OnDemand => vec![
            BillLine::new(
                "DynamoDB write units",
                usage.write_units,
                prices.write_units_million / MILLION,
                "units of a day x working days + idle writes x nodes x 730 h",
            ),
            reads(),
        ],
        TableMode::Mrsc => vec![
            BillLine::new(
                "DynamoDB replicated write units",
                usage.write_units * estate.replicas(),
                prices.replicated_write_units_million / MILLION,
                "(units of a day x working days + idle writes x nodes x 730 h) x Regions",
            ),
            reads(),
        ],
        TableMode::Provisioned => {
            let hours = |peak: f64| (peak / UTILIZATION).ceil().max(1.0) * MONTH_HOURS;
            let formula = "units per second in the peak hour / 0.7, rounded up, x 730 h";
            vec![
                BillLine::new(
                    "DynamoDB write capacity hours",
                    hours(usage.peak_writes),
                    prices.write_capacity_hour,
                    formula,
                ),
                BillLine::new(
                    "DynamoDB read capacity hours",
                    hours(usage.peak_reads),
                    prices.read_capacity_hour,
                    formula,
                ),
            ]
        }
    };
    lines.push(BillLine::new(
        "DynamoDB storage, GB-months",
        usage.table_gb * estate.replicas(),
        prices.storage_gb_month,
        "refs x 250 bytes x Regions; slots are collected",
    ));
    lines
}

fn streams(usage: &Usage, estate: &Estate, prices: &Prices) -> Vec<BillLine> {
    let prices = &prices.kinesis;
    let (sites, retention) = (f64::from(estate.sites), f64::from(estate.retention_hours));
    let shards = f64::from(estate.shards);
    let is_fan_out = estate.reading == ReadingMode::FanOut || usage.consumers > 0.0;
    // The GB that lie in the streams at any time, between two ages.
    let kept = |from: f64, to: f64| usage.gb_in * (retention.min(to) - from).max(0.0) / MONTH_HOURS;
    let long = BillLine::new(
        "Kinesis records above 7 days, GB-months",
        kept(WEEK_HOURS, f64::MAX),
        prices.long_retention_gb_month,
        "GB in x (retention - 168 h) / 730 h",
    );
    let mut lines = match estate.streams {
        StreamMode::Provisioned => vec![
            BillLine::new(
                "Kinesis shard hours",
                sites * shards * MONTH_HOURS,
                prices.shard_hour,
                "sites x shards x 730 h",
            ),
            BillLine::new(
                "Kinesis PUT payload units",
                usage.put_units,
                prices.put_units_million / MILLION,
                "per record: its bytes / 25 KiB, rounded up",
            ),
            BillLine::new(
                "Kinesis retention above 24 hours, shard hours",
                if retention > DAY_HOURS { sites * shards * MONTH_HOURS } else { 0.0 },
                prices.retention_shard_hour,
                "sites x shards x 730 h, if the retention is above 24 h",
            ),
        ],
        StreamMode::OnDemand => vec![
            BillLine::new("Kinesis stream hours", sites * MONTH_HOURS, prices.stream_hour, "sites x 730 h"),
            BillLine::new("Kinesis GB in", usage.gb_in, prices.gb_in, "per record: its bytes, rounded up to a KiB"),
            BillLine::new(
                "Kinesis GB out",
                usage.gb_out,
                if is_fan_out { prices.on_demand_fan_out_gb } else { prices.gb_out },
                "GB in x readers: one node per site if nodes share their reads, or else all nodes",
            ),
            BillLine::new(
                "Kinesis records of 24 hours to 7 days, GB-months",
                kept(DAY_HOURS, WEEK_HOURS),
                prices.on_demand_retention_gb_month,
                "GB in x (retention, at most 168 h, - 24 h) / 730 h",
            ),
        ],
    };
    if is_fan_out && estate.streams == StreamMode::Provisioned {
        lines.push(BillLine::new(
            "Kinesis consumer-shard hours",
            usage.consumers * shards * MONTH_HOURS,
            prices.fan_out_shard_hour,
            "nodes x streams x shards x 730 h",
        ));
        lines.push(BillLine::new("Kinesis GB to consumers", usage.gb_out, prices.fan_out_gb, "GB in x readers"));
    }
    lines.push(long);
    lines
}

fn blobs(usage: &Usage, prices: &Prices) -> Vec<BillLine> {
    let prices = &prices.s3;
    vec![
        BillLine::new(
            "S3 requests that store",
            usage.blob_puts,
            prices.puts_thousand / THOUSAND,
            "packs above 128 KiB, and one per part of 8 MiB",
        ),
        BillLine::new(
            "S3 requests that fetch",
            usage.blob_gets,
            prices.gets_thousand / THOUSAND,
            "packs above 128 KiB x other nodes, at most: peers give them too",
        ),
        BillLine::new(
            "S3 storage, GB-months",
            usage.blob_gb,
            prices.storage_gb_month,
            "bytes of these packs, stored for a day",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::estate::tests::estate;
    use super::super::prices::tests::prices;
    use super::*;

    fn usage() -> Usage {
        Usage {
            write_units: 2e6,
            read_units: 4e6,
            peak_writes: 7.0,
            peak_reads: 0.1,
            table_gb: 10.0,
            put_units: 1e6,
            gb_in: 73.0,
            gb_out: 219.0,
            shard_reads: 3.0,
            consumers: 0.0,
            blob_puts: 1_000.0,
            blob_gets: 2_000.0,
            blob_gb: 1.0,
        }
    }

    fn dollars(estate: &Estate, usage: &Usage, item: &str) -> f64 {
        let lines = bill(usage, estate, &prices());
        lines.iter().find(|line| line.item.contains(item)).map_or(0.0, |line| line.dollars)
    }

    fn close(value: f64, wanted: f64) {
        assert!((value - wanted).abs() < 1e-9 * wanted.max(1.0), "{value}, not {wanted}");
    }

    #[test]
    fn each_kind_of_table_has_its_price() {
        let mode = |tables| Estate { tables, ..estate() };
        close(dollars(&mode(TableMode::OnDemand), &usage(), "write units"), 1.25);
        close(dollars(&mode(TableMode::OnDemand), &usage(), "read units"), 0.5);
        close(dollars(&mode(TableMode::Mrsc), &usage(), "replicated write units"), 3.75);
        close(dollars(&mode(TableMode::Mrsc), &usage(), "DynamoDB storage"), 7.5);
        // 7 units per second at 70 % are ten units of capacity.
        close(dollars(&mode(TableMode::Provisioned), &usage(), "write capacity"), 10.0 * 730.0 * 0.00065);
        close(dollars(&mode(TableMode::Provisioned), &usage(), "read capacity"), 730.0 * 0.00013);
    }

    #[test]
    fn provisioned_streams_are_paid_by_shard_and_on_demand_ones_by_byte() {
        let provisioned = estate();
        close(dollars(&provisioned, &usage(), "shard hours"), 6.0 * 730.0 * 0.015);
        close(dollars(&provisioned, &usage(), "retention above 24"), 6.0 * 730.0 * 0.02);
        close(dollars(&Estate { retention_hours: 24, ..estate() }, &usage(), "retention above 24"), 0.0);
        let on_demand = Estate { streams: StreamMode::OnDemand, ..estate() };
        close(dollars(&on_demand, &usage(), "stream hours"), 3.0 * 730.0 * 0.04);
        close(dollars(&on_demand, &usage(), "GB in"), 73.0 * 0.08);
        close(dollars(&on_demand, &usage(), "24 hours to 7 days"), 73.0 * 144.0 / 730.0 * 0.1);
        let month = Estate { retention_hours: 898, ..on_demand };
        close(dollars(&month, &usage(), "above 7 days"), 73.0 * 0.023);
    }

    #[test]
    fn fan_out_is_paid_per_consumer_and_shard() {
        let fan_out = Estate { reading: ReadingMode::FanOut, ..estate() };
        let usage = Usage { consumers: 9.0, ..usage() };
        close(dollars(&fan_out, &usage, "consumer-shard"), 9.0 * 2.0 * 730.0 * 0.015);
        close(dollars(&fan_out, &usage, "GB to consumers"), 219.0 * 0.013);
        let on_demand = Estate { streams: StreamMode::OnDemand, ..fan_out };
        close(dollars(&on_demand, &usage, "GB out"), 219.0 * 0.05);
        close(dollars(&on_demand, &usage, "consumer-shard"), 0.0);
    }

    #[test]
    fn the_total_is_the_sum_of_the_lines_and_free_items_are_left_out() {
        let lines = bill(&usage(), &estate(), &prices());
        close(total(&lines), lines.iter().map(|line| line.quantity * line.price).sum());
        assert!(lines.iter().all(|line| line.dollars > 0.0 && !line.formula.is_empty()));
        assert!(bill(&Usage::default(), &estate(), &prices()).iter().all(|line| line.item.starts_with("Kinesis")));
    }
}
