//! Waits of callers until a site shows a transaction. They do not count as work, and have a bound of their own.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use lockstep_proto::arrival::AwaitResponse;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::{SiteId, TxnId, limits};
use serde::Deserialize;

use super::admission::Await;
use super::check;
use super::context::{Answer, Api};
use super::error::Failure;

/// The query of a wait.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AwaitQuery {
    txn: TxnId,
    site: Option<SiteId>,
    wait_ms: Option<u64>,
}

/// Waits until a site shows a transaction: each of its refs has the value of the transaction or a later one there.
#[utoipa::path(get, path = "/v1/await", tag = "bridge",
    params(
        ("txn" = String, Query, description = "Transaction id, as a push or an earlier answer tells it"),
        ("site" = Option<String>, Query, description = "The site that must show it; by default the one of this node"),
        ("wait_ms" = Option<u64>, Query,
            description = "How long to wait, in milliseconds: 0 to 30000, and 30000 by default. The answer is \
                `not_yet` when the time is over: ask again")),
    responses((status = 200, description = "A verdict: shown, not yet, refused or unknown", body = AwaitResponse),
        (status = 400, description = "The request is malformed, or there is no such site", body = ApiError),
        (status = 401, description = "There is no valid bearer token (TCP listener only)", body = ApiError),
        (status = 503, description = "Too many calls wait for transactions, or this sidecar is starting or stopping: \
                                      try again after `Retry-After` seconds", body = ApiError)))]
pub(super) async fn await_transaction(
    State(api): State<Api>,
    _permit: Await,
    query: Result<Query<AwaitQuery>, QueryRejection>,
) -> Answer<AwaitResponse> {
    let Query(AwaitQuery { txn, site, wait_ms }) = query.map_err(|rejection| {
        let (why, form) = (rejection.body_text(), "GET /v1/await?txn=TXN&site=SITE&wait_ms=30000");
        Failure::malformed(format!("query: {why}; its form is {form}, and txn alone is required"))
    })?;
    let wait_ms = wait_ms.unwrap_or(limits::POLL_WAIT_MS);
    check::wait(wait_ms)?;
    let Some(arrivals) = &api.arrivals else {
        return Err(Failure::unavailable("this sidecar is starting; try again"));
    };
    Ok(Json(arrivals.arrival(txn, site, Duration::from_millis(wait_ms)).await?))
}
