//! The publish stage moves settled slots from the journal to the event log, in the order of each project.
//!
//! It may lag without bound and blocks nobody. While the event log is unreachable, memory grows only up to the limit of
//! the journal's cache; transactions beyond it are read back from the refdb later. The published mark moves only past
//! slots whose append was answered. Slots above the mark that are in the log already are remembered, and not appended
//! again. After a lost answer the records of that append are appended again, and the readers skip the duplicates.
//!
//! A record that the stream will never take is given up: the mark passes it, and the other nodes' sweepers read it from
//! the journal.
//!
//! | file | idea |
//! |---|---|
//! | `carrier` | carries one journal: slots to look at, records to append, marks that follow |
//! | `source` | the journals: the living one, and those that dead incarnations left |
//! | `leftovers` | publishes the journals that dead incarnations left |

mod carrier;
mod leftovers;
mod source;

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::DecodeError;

pub use leftovers::LeftoverPublisher;

use crate::seams::refdb::RefDbError;
use crate::state::context::NodeContext;
use crate::state::journal::Journal;
use carrier::{Carrier, Step};

/// Why a slot was not published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    /// A slot could not be read from the refdb.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// A committed transaction cannot be read.
    #[error(transparent)]
    Unreadable(DecodeError),
}

/// Publishes the living journal of this node.
pub struct Publisher {
    /// The journal of the incarnation.
    journal: Arc<Journal>,
    /// Carries the journal to the event log.
    carrier: Carrier,
}

impl Publisher {
    /// Creates the publisher of a journal.
    #[must_use]
    pub fn new(context: &NodeContext, journal: Arc<Journal>) -> Self {
        let carrier = Carrier::new(context, context.site.clone(), &journal);
        Self { journal, carrier }
    }

    /// Publishes until the task is aborted.
    pub async fn run(mut self) {
        loop {
            let step = self.carrier.step(&self.journal).await;
            for (lane, mark) in self.carrier.marks() {
                self.journal.published(lane, mark);
            }
            let pause = async {
                match step {
                    Step::Busy => {}
                    Step::Waits(until) => tokio::time::sleep_until(until).await,
                    Step::Idle => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            };
            tokio::select! {
                biased;
                () = self.journal.publishable(), if step != Step::Busy => {}
                () = pause => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
