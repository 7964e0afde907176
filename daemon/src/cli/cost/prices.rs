//! The prices of AWS: a file, built in for one Region, or the user's own. Every field must be in it.

use serde::{Deserialize, Serialize};

/// The text of the built-in file.
pub const US_EAST_1: &str = include_str!("prices.toml");

/// The prices of one Region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The Region that has these prices.
    pub region: String,
    /// The day on which they were read.
    pub date: String,
    /// The place where they were read.
    pub source: String,
    /// The prices of the tables.
    pub dynamodb: TablePrices,
    /// The prices of the streams.
    pub kinesis: StreamPrices,
    /// The prices of the blob store.
    pub s3: BlobPrices,
}

/// The prices of DynamoDB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TablePrices {
    /// A million write request units.
    pub write_units_million: f64,
    /// A million read request units.
    pub read_units_million: f64,
    /// A million write request units of one replica of a table in several Regions.
    pub replicated_write_units_million: f64,
    /// A unit of provisioned write capacity, per hour.
    pub write_capacity_hour: f64,
    /// A unit of provisioned read capacity, per hour.
    pub read_capacity_hour: f64,
    /// A stored GB, per month and replica.
    pub storage_gb_month: f64,
}

/// The prices of Kinesis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPrices {
    /// A shard of a provisioned stream, per hour.
    pub shard_hour: f64,
    /// A million PUT payload units of 25 KB.
    pub put_units_million: f64,
    /// A shard whose records are kept from 24 hours to 7 days, per hour.
    pub retention_shard_hour: f64,
    /// A GB that is kept for more than 7 days, per month.
    pub long_retention_gb_month: f64,
    /// A consumer of enhanced fan-out at a shard, per hour.
    pub fan_out_shard_hour: f64,
    /// A GB that a consumer of enhanced fan-out takes.
    pub fan_out_gb: f64,
    /// An on-demand stream, per hour.
    pub stream_hour: f64,
    /// A GB into an on-demand stream.
    pub gb_in: f64,
    /// A GB out of an on-demand stream.
    pub gb_out: f64,
    /// A GB out of an on-demand stream by enhanced fan-out.
    pub on_demand_fan_out_gb: f64,
    /// A GB that an on-demand stream keeps from 24 hours to 7 days, per month.
    pub on_demand_retention_gb_month: f64,
}

/// The prices of S3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobPrices {
    /// A thousand requests that store.
    pub puts_thousand: f64,
    /// A thousand requests that fetch.
    pub gets_thousand: f64,
    /// A stored GB, per month.
    pub storage_gb_month: f64,
}

/// A file of prices that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// The text is no TOML, or a field is missing, unknown or of another type.
    #[error("{0}; `lockstep cost --print-prices` prints a whole file")]
    Unread(toml::de::Error),
    /// A price is impossible.
    #[error("{name} = {value}: a price is a number of at least 0")]
    Impossible {
        /// The section and the name of the field.
        name: String,
        /// Its value in the file.
        value: f64,
    },
}

impl Prices {
    /// Reads a file of prices.
    ///
    /// # Errors
    /// See [`PriceError`].
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let table: toml::Table = toml::from_str(text).map_err(PriceError::Unread)?;
        for (section, fields) in &table {
            for (name, value) in fields.as_table().into_iter().flatten() {
                let value = value.as_float().unwrap_or_default();
                if !(value >= 0.0 && value.is_finite()) {
                    return Err(PriceError::Impossible { name: format!("{section}.{name}"), value });
                }
            }
        }
        toml::from_str(text).map_err(PriceError::Unread)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The prices that are built in.
    pub fn prices() -> Prices {
        Prices::parse(US_EAST_1).unwrap()
    }

    #[test]
    fn the_built_in_prices_name_region_date_and_source() {
        let prices = prices();
        assert_eq!(prices.region, "us-east-1");
        assert!(!prices.date.is_empty() && !prices.source.is_empty());
        assert_eq!(prices.dynamodb.write_units_million, 0.625);
    }

    #[test]
    fn a_missing_an_unknown_and_an_impossible_price_are_named() {
        let why = |from: &str, to: &str| Prices::parse(&US_EAST_1.replace(from, to)).unwrap_err().to_string();
        assert!(why("gb_in = 0.08\n", "").contains("missing field `gb_in`"));
        assert!(why("gb_in = ", "gb_inn = ").contains("gb_inn"));
        assert_eq!(
            why("puts_thousand = 0.005", "puts_thousand = -1.0"),
            "s3.puts_thousand = -1: a price is a number of at least 0"
        );
    }
}
