//! Comparisons as text: the properties that differ, those that the endpoint does not tell, and the number of the
//! others.

use crate::cli::commands::table::Table;
use crate::seams::aws::{Property, Row, StreamMode, Verdict};

/// The differences of a comparison.
pub(super) fn compared(rows: &[Row]) -> String {
    let of = |verdict: Verdict| rows.iter().filter(move |row| row.verdict == verdict);
    let mut text = String::new();
    let missing = table(of(Verdict::Missing));
    if !missing.is_empty() {
        text.push_str(&format!("missing; `lockstep aws apply` adds it\n{missing}"));
    }
    let differ = table(of(Verdict::Differs));
    if !differ.is_empty() {
        text.push_str(&format!("different; for you to decide\n{differ}"));
        for row in of(Verdict::Differs) {
            let remedy = row.remedy.as_deref().unwrap_or_default();
            text.push_str(&format!("  {} of {}: {remedy}\n", row.property, row.resource));
        }
    }
    let silent: Vec<String> =
        of(Verdict::NotAnswered).map(|row| format!("  {} of {}\n", row.property, row.resource)).collect();
    if !silent.is_empty() {
        text.push_str(&format!("not answered by this endpoint\n{}", silent.concat()));
    }
    let same = of(Verdict::Same).count();
    if !rows.is_empty() {
        text.push_str(&format!("as wanted: {same} of {} properties\n", rows.len()));
    }
    text.push_str(&modes(rows));
    text
}

/// The cost of a shard per month, in cents, and that of an on-demand stream in dollars: list prices of us-east-1,
/// before the data. A test holds them against those of `lockstep cost`.
const SHARD_CENTS: u64 = 1_095;
const ON_DEMAND_DOLLARS: u64 = 29;

/// Tells for each stream whether the other mode may cost less. `docs/capacity.md` has the comparison.
fn modes(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let of_stream = |other: &&Row| other.resource == row.resource && other.property == Property::Shards;
        let shards: Option<u64> = rows.iter().find(of_stream).and_then(|other| other.found.parse().ok());
        match shards {
            Some(shards) => format!(
                "{}: provisioned, {shards} shards cost about {} dollars a month before the data, an on-demand stream \
                 about {ON_DEMAND_DOLLARS}. On-demand pays if the peak needs many times the usual shards; for a steady \
                 load, [eventlog.autoscale] sets the shards\n",
                row.resource,
                shards.saturating_mul(SHARD_CENTS).div_ceil(100)
            ),
            None if row.found != StreamMode::OnDemand.name() => String::new(),
            None => format!(
                "{}: on-demand costs about {ON_DEMAND_DOLLARS} dollars a month before the data, a shard about {}. \
                 Provisioned with [eventlog.autoscale] pays if few shards are enough for a steady load\n",
                row.resource,
                SHARD_CENTS.div_ceil(100)
            ),
        }
    };
    rows.iter().filter(|row| row.property == Property::StreamMode).map(line).collect()
}

fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut table = Table::new(&["resource", "region", "property", "wanted", "found"]);
    for row in rows {
        table.row(vec![
            row.resource.clone(),
            row.region.clone(),
            row.property.to_string(),
            row.wanted.clone(),
            row.found.clone(),
        ]);
    }
    table.render()
}

/// A step that was taken.
pub(super) fn step(row: &Row) -> String {
    match row.property {
        Property::Existence => format!("{} created", row.resource),
        _ => format!("{}: {} was {}, now {}", row.resource, row.property, row.found, row.wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cost::prices::{Prices, US_EAST_1};
    use crate::cli::cost::usage::MONTH_HOURS;
    use crate::seams::aws::Rows;

    #[test]
    fn the_cost_of_a_stream_is_that_of_the_built_in_prices() {
        let prices = Prices::parse(US_EAST_1).unwrap().kinesis;
        assert_eq!((prices.shard_hour * MONTH_HOURS * 100.0).round(), SHARD_CENTS as f64);
        assert_eq!((prices.stream_hour * MONTH_HOURS).round(), ON_DEMAND_DOLLARS as f64);
    }

    #[test]
    fn the_mode_of_a_stream_is_told_with_its_cost() {
        let mut rows = Rows::of("stream l-a", "eu-west-1");
        rows.differs_unless(true, Property::StreamMode, "any", "PROVISIONED", "");
        rows.missing_unless(true, Property::Shards, "1 or more", 4);
        let text = compared(&rows.done());
        assert!(text.contains("stream l-a: provisioned, 4 shards cost about 44 dollars a month"), "{text}");
        let mut rows = Rows::of("stream l-b", "eu-west-1");
        rows.differs_unless(true, Property::StreamMode, "any", "ON_DEMAND", "");
        let text = compared(&rows.done());
        assert!(text.contains("stream l-b: on-demand costs about 29 dollars a month"), "{text}");
    }

    #[test]
    fn differences_are_told_with_their_remedy_and_the_rest_is_counted() {
        let mut rows = Rows::of("stream l-a", "eu-west-1");
        rows.missing_unless(false, Property::Retention, "168 hours or more", "24 hours");
        rows.missing_unless(true, Property::Existence, "a stream", "a stream");
        rows.differs_unless(false, Property::StreamMode, "ON_DEMAND", "PROVISIONED", "aws kinesis update-stream-mode");
        rows.not_answered(Property::RecordSize, "1024 KiB");
        let rows = rows.done();
        let text = compared(&rows);
        for part in [
            "missing; `lockstep aws apply` adds it",
            "24 hours",
            "mode of stream l-a: aws kinesis update-stream-mode",
            "not answered by this endpoint\n  record size of stream l-a",
            "as wanted: 1 of 4 properties",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert_eq!(step(&rows[0]), "stream l-a: retention was 24 hours, now 168 hours or more");
    }
}
