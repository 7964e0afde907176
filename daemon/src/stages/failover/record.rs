//! The record of the failover in the refdb: reads it, and replaces it under the condition that nobody else has.

use lockstep_proto::failover::Failover;

use crate::seams::refdb::{FailoverRecord, RefDb, RefDbError};

/// A failover with the revision of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) revision: u64,
    pub(super) failover: Failover,
}

/// Reads the failover that is in progress, or else the last one.
pub(super) async fn read(refdb: &RefDb) -> Result<Option<Stored>, RefDbError> {
    refdb.registry.failover().await?.map(decode).transpose()
}

/// Replaces the record of revision `before` (0: there is none). Returns whether it was replaced. If not, somebody else
/// has replaced it.
pub(super) async fn replace(refdb: &RefDb, before: u64, failover: &Failover) -> Result<bool, RefDbError> {
    let body = serde_json::to_string(failover).map_err(|error| RefDbError::Broken(error.to_string()))?;
    let record = FailoverRecord { revision: before + 1, body };
    Ok(refdb.registry.put_failover(&record).await? == record)
}

fn decode(record: FailoverRecord) -> Result<Stored, RefDbError> {
    let broken =
        |error| RefDbError::Broken(format!("the record of the failover cannot be read by this release: {error}"));
    let failover = serde_json::from_str(&record.body).map_err(broken)?;
    Ok(Stored { revision: record.revision, failover })
}
