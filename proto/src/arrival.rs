//! The answer to `GET /v1/await`: whether a site shows a transaction.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::SiteId;
use crate::slot::TxnId;

/// Whether a site shows a transaction: each of its refs has the value of the transaction or a later one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// Every living node of the site shows it. A fetch from there gets it, or something newer.
    Shown,
    /// Not within the time of the request. Ask again.
    NotYet,
    /// It was not committed, and never will be.
    Refused,
    /// Nothing here tells whether it was ever committed. Asking again does not help.
    Unknown,
}

/// The answer to a request that waits for a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AwaitResponse {
    /// Whether the site shows the transaction.
    pub outcome: Arrival,
    /// The transaction that is waited for.
    #[schema(value_type = String)]
    pub txn: TxnId,
    /// The site that is to show it.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Whether the same request, unchanged, may have another answer later.
    pub retry: bool,
    /// The reason in words, unless the transaction is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
