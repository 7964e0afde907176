//! Appends transactions to the event log until they are certainly in it: for the publisher of a living journal, and for
//! the drain of a dead one.

use bytes::Bytes;
use lockstep_proto::{DecodeError, SiteId, Transaction};

use super::{EventLog, EventLogError, Record};

/// Why records are not known to be in the event log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A request to the event log failed as a whole.
    #[error(transparent)]
    EventLog(EventLogError),
    /// The event log answered, but did not take this many records.
    #[error("the event log did not take {0} records")]
    NotTaken(usize),
}

/// A transaction's bytes as a record of the event log. The project is the partition key, so that a project's
/// transactions of one site stay in one shard.
///
/// # Errors
/// The bytes are not a transaction.
pub fn record(data: Bytes) -> Result<Record, DecodeError> {
    let project = Transaction::project_of(&data)?;
    Ok(Record { partition_key: project.name.to_string(), data })
}

/// Appends all records. Those that fail are appended again, in their order, in at most three requests altogether. If
/// some still fail, the caller must append all of them again later: duplicates are harmless, gaps are not.
///
/// # Errors
/// At least one record is not known to be in the event log.
pub async fn append_all(eventlog: &dyn EventLog, site: &SiteId, records: &mut Vec<Record>) -> Result<(), AppendError> {
    for _ in 0..3 {
        if records.is_empty() {
            return Ok(());
        }
        let answers = eventlog.append(site, records).await.map_err(AppendError::EventLog)?;
        let mut failed = answers.into_iter().map(|answer| answer.is_err());
        records.retain(|_| failed.next().unwrap_or(true));
    }
    if records.is_empty() { Ok(()) } else { Err(AppendError::NotTaken(records.len())) }
}
