//! The lag metrics. They are computed when `/metrics` is read, so they are right even while the pipeline stands still.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::table;
use crate::telemetry::status_board::StatusBoard;

/// Registers the lag metrics, with one series per origin on the board.
pub fn observe_board(meter: &Meter, board: &Arc<StatusBoard>) {
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
}
