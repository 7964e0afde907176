//! Delivers records to the event log under any throttling: for the publisher of a living journal, for the journals that
//! dead incarnations left, and for the outbox of stream events.
//!
//! Kinesis answers each record of a request by itself. So a sender keeps these rules ([ADR 19] has the reasons):
//! - A record whose append was answered is never appended again. There is one exception: a record that overtook an
//!   earlier refused record of its group (its project). It is appended again behind that record.
//! - A group that was refused pauses by itself. Other groups go on.
//! - Requests grow while the stream takes them whole, and shrink to about twice of the last part that it took.
//! - A record that the stream will never take ([`EventLogError::TooLarge`]) is given up, and reported. No throttling
//!   is ever taken for that.
//!
//! | file | idea |
//! |---|---|
//! | `pace` | how much may be sent now, and which groups pause: a pure function of answers and times |
//! | `queue` | the records that wait, in the order of their groups |
//! | `lane` | the published mark of one lane, and the slots above it that are in the log already |
//!
//! [ADR 19]: ../../../../../docs/adr/0019-progress-under-throttling.md

mod lane;
mod pace;
mod queue;

use bytes::Bytes;
use lockstep_proto::{DecodeError, Transaction};

pub use lane::LaneProgress;
pub use pace::{Attempted, Budget, Pace};
pub use queue::{Answered, Queue};

use super::{EventLogError, Record};

/// The answer of the event log to one record.
pub type Answer = Result<(), EventLogError>;

/// A transaction's bytes as a record of the event log. The project is the partition key, so that a project's
/// transactions of one site stay in one shard.
///
/// # Errors
/// The bytes are not a transaction.
pub fn record(data: Bytes) -> Result<Record, DecodeError> {
    let project = Transaction::project_of(&data)?;
    Ok(Record { partition_key: project.name.to_string(), data })
}
