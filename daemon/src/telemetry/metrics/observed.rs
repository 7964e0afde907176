//! Metrics that are computed when `/metrics` is read: the lag, so that it is right even while the pipeline stands
//! still, and the request units of the refdb, which its client counts.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::table;
use crate::seams::refdb::units::RequestUnits;
use crate::telemetry::status_board::StatusBoard;

/// Registers the lag, with one series per origin on the board, and the request units.
pub fn observe(meter: &Meter, board: &Arc<StatusBoard>, units: &Arc<RequestUnits>) {
    let seconds = board.clone();
    table::LAG_SECONDS
        .observed(meter)
        .with_callback(move |to| {
            for lag in seconds.lags() {
                to.observe(lag.seconds, &[KeyValue::new("origin", lag.origin.to_string())]);
            }
        })
        .build();
    let transactions = board.clone();
    table::LAG_TRANSACTIONS
        .observed(meter)
        .with_callback(move |to| {
            for lag in transactions.lags() {
                to.observe(lag.transactions as f64, &[KeyValue::new("origin", lag.origin.to_string())]);
            }
        })
        .build();
    let units = units.clone();
    table::REFDB_UNITS
        .summed(meter)
        .with_callback(move |to| {
            let all = units.consumed();
            to.observe(all.read, &[KeyValue::new("kind", "read")]);
            to.observe(all.write, &[KeyValue::new("kind", "write")]);
        })
        .build();
}
