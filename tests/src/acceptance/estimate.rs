//! The price of a run over AWS: an upper bound of its units, at the list prices that `lockstep cost` has.

use lockstep::cli::cost::prices::{PriceError, Prices, US_EAST_1};

/// Upper bounds of a whole run. The cases of the refdb write and delete some ten thousand items. A stream per case of
/// the event log lives for less than an hour, which is billed whole; two of them are split or made again.
const WRITE_UNITS: f64 = 200_000.0;
const READ_UNITS: f64 = 100_000.0;
const SHARD_HOURS: f64 = 24.0;
const PUT_UNITS: f64 = 10_000.0;
const BLOB_REQUESTS: f64 = 500.0;

/// The estimate in dollars, and as text.
///
/// # Errors
/// The built-in prices cannot be read.
pub fn estimate() -> Result<(f64, String), PriceError> {
    let prices = Prices::parse(US_EAST_1)?;
    let of_tables = &prices.dynamodb;
    let tables = (WRITE_UNITS * of_tables.write_units_million + READ_UNITS * of_tables.read_units_million) / 1e6;
    let streams = SHARD_HOURS * prices.kinesis.shard_hour + PUT_UNITS / 1e6 * prices.kinesis.put_units_million;
    let blobs = BLOB_REQUESTS / 1e3 * (prices.s3.puts_thousand + prices.s3.gets_thousand);
    let dollars = tables + streams + blobs;
    let text = format!(
        "estimate: at most USD {dollars:.2} at list prices of {} of {}: tables {tables:.2}, streams {streams:.2}, \
         blobs {blobs:.2}; about an hour, most of it waiting for streams",
        prices.region, prices.date
    );
    Ok((dollars, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_less_than_a_dollar_and_says_so() {
        let (dollars, text) = estimate().unwrap();
        assert!((0.1..1.0).contains(&dollars), "{dollars}");
        assert!(text.contains("us-east-1") && text.contains(&format!("{dollars:.2}")), "{text}");
    }
}
