//! Drives a Gerrit without the bridge: the sidecar takes refresh tasks from its own queue and calls Gerrit to do them.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::limits;
use lockstep_proto::refresh::{DoneRequest, FailedTask, TasksRequest};

use super::Refresh;
use crate::base::backoff::Backoff;
use crate::seams::gerrit::{Gerrit, GerritError};
use crate::stages::ports::Refreshes;

/// The first and the longest pause while Gerrit does not answer or denies access.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Maximum number of tasks per batch. Calls that several tasks of a batch need are made once.
const MOST: u32 = 64;

/// The Gerrit process that the sidecar talks to, as a session of the queue.
#[derive(Debug, Default)]
struct Session {
    number: u64,
    /// The number that identifies the process; none when Gerrit did not answer.
    process: Option<u64>,
}

/// Why a new session began.
#[derive(Debug, thiserror::Error)]
enum NewSession {
    /// A different Gerrit process answers now. It may lack the work of the earlier one.
    #[error("a different Gerrit process answers now and may lack the work of the previous one")]
    OtherProcess,
    /// Gerrit did not say which process answers.
    #[error("cannot tell which Gerrit process did the task: {0}")]
    Unknown(GerritError),
}

impl Session {
    /// Asks Gerrit which process answers. A different or an unknown process begins a new session, because it may lack
    /// index writes that the previous one had acknowledged and not yet written to disk.
    ///
    /// # Errors
    /// A new session began.
    async fn goes_on(&mut self, gerrit: &dyn Gerrit) -> Result<(), NewSession> {
        let before = self.process;
        let now = gerrit.process().await;
        self.process = now.as_ref().ok().copied();
        if self.process.is_some() && self.process == before {
            return Ok(());
        }
        self.number += 1;
        Err(match now {
            Ok(_) => NewSession::OtherProcess,
            Err(error) => NewSession::Unknown(error),
        })
    }
}

impl Refresh {
    /// Takes due tasks and has this Gerrit do them, until the node ends.
    pub async fn drive(self: Arc<Self>, gerrit: Arc<dyn Gerrit>) {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), PAUSES.0, PAUSES.1);
        let mut session = Session::default();
        loop {
            let _ = session.goes_on(gerrit.as_ref()).await;
            let name = format!("rest-{}", session.number);
            let request =
                TasksRequest { session: name, most: MOST, wait_ms: limits::POLL_WAIT_MS, commit_within_ms: None };
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
            // Completed tasks count only if the process that did them still answers. An acknowledgement also proves
            // that this process is alive, so that its older acknowledgements are on its disk by now.
            if !report.done.is_empty()
                && let Err(why) = session.goes_on(gerrit.as_ref()).await
            {
                report.failed.extend(report.done.drain(..).map(|id| FailedTask { id, why: why.to_string() }));
            }
            if self.done(&report).is_err() {
                return;
            }
            if takes_nothing || session.process.is_none() {
                // A different process may come back, so a new session begins.
                session.number += 1;
                backoff.wait().await;
            } else {
                backoff.reset();
            }
        }
    }
}
