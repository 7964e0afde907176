//! Tasks for a Gerrit that does not ask by itself: the sidecar takes them from its own queue and tells it.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::limits;
use lockstep_proto::refresh::{DoneRequest, FailedTask, TasksRequest};

use super::Refresh;
use crate::base::backoff::Backoff;
use crate::seams::gerrit::{Gerrit, GerritError};
use crate::stages::ports::Refreshes;

/// The first pause when Gerrit takes nothing, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Most tasks that are told at once: calls that they have in common are made once.
const MOST: u32 = 64;

/// One process of Gerrit, as the queue knows it.
#[derive(Debug, Default)]
struct Session {
    number: u64,
    /// The process; none when it did not answer.
    process: Option<u64>,
}

impl Session {
    /// Asks which process answers. Another one, or nobody knows which, is another session: it has lost what the one before had
    /// not on its disk.
    ///
    /// # Errors
    /// It is another session, and why.
    async fn goes_on(&mut self, gerrit: &dyn Gerrit) -> Result<(), String> {
        let before = self.process;
        let now = gerrit.process().await;
        self.process = now.as_ref().ok().copied();
        if self.process.is_some() && self.process == before {
            return Ok(());
        }
        self.number += 1;
        Err(match now {
            Ok(_) => "another process of Gerrit answers: it may not have what the one before did".to_owned(),
            Err(error) => format!("it is not known which process of Gerrit did it: {error}"),
        })
    }
}

impl Refresh {
    /// Tells this Gerrit what to look at, until the node ends.
    pub async fn drive(self: Arc<Self>, gerrit: Arc<dyn Gerrit>) {
        let mut backoff = Backoff::new(Arc::clone(&self.parts.entropy), PAUSES.0, PAUSES.1);
        let mut session = Session::default();
        loop {
            let _ = session.goes_on(gerrit.as_ref()).await;
            let name = format!("rest-{}", session.number);
            let request = TasksRequest { session: name, most: MOST, wait_ms: limits::POLL_WAIT_MS };
            let Ok(response) = self.tasks(request.clone()).await else { return };
            let ends = gerrit.refresh(&response.tasks).await;
            let mut report = DoneRequest { session: request.session, done: Vec::new(), failed: Vec::new() };
            let mut takes_nothing = false;
            for (task, end) in response.tasks.iter().zip(ends) {
                match end {
                    Ok(()) => report.done.push(task.id),
                    Err(error) => {
                        takes_nothing |= !matches!(error, GerritError::Failed(_));
                        report.failed.push(FailedTask { id: task.id, why: error.to_string() });
                    }
                }
            }
            // What was done counts when the process that was asked before still answers: an acknowledgement also says that it
            // lives, and so has on its disk what it acknowledged long ago.
            if !report.done.is_empty()
                && let Err(why) = session.goes_on(gerrit.as_ref()).await
            {
                report.failed.extend(report.done.drain(..).map(|id| FailedTask { id, why: why.clone() }));
            }
            if self.done(&report).is_err() {
                return;
            }
            if takes_nothing || session.process.is_none() {
                // It may be another process that comes back.
                session.number += 1;
                backoff.wait().await;
            } else {
                backoff.reset();
            }
        }
    }
}
