//! Tasks for a Gerrit that does not ask by itself: the sidecar takes them from its own queue and tells it.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::limits;
use lockstep_proto::refresh::{DoneRequest, FailedTask, TasksRequest};

use super::Refresh;
use crate::backoff::Backoff;
use crate::gerrit::{Gerrit, GerritError};
use crate::links::Refreshes;

/// The first pause when Gerrit takes nothing, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Most tasks that are told at once: calls that they have in common are made once.
const MOST: u32 = 64;

impl Refresh {
    /// Tells this Gerrit what to look at, until the node ends.
    pub async fn drive(self: Arc<Self>, gerrit: Arc<dyn Gerrit>) {
        let mut backoff = Backoff::new(Arc::clone(&self.parts.entropy), PAUSES.0, PAUSES.1);
        let mut life = 0_u64;
        loop {
            let request = TasksRequest { session: format!("rest-{life}"), most: MOST, wait_ms: limits::POLL_WAIT_MS };
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
            if self.done(&report).is_err() {
                return;
            }
            if takes_nothing {
                // It may be another process that comes back, which has lost what the one before had not on its disk.
                life += 1;
                backoff.wait().await;
            } else {
                backoff.reset();
            }
        }
    }
}
