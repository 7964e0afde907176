//! A test double of Gerrit that records its refresh tasks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use lockstep_proto::refresh::Task;
use parking_lot::Mutex;

use super::{Gerrit, GerritError};

/// Answers the tasks with the configured errors, and with `Ok` when none is left.
#[derive(Debug, Default)]
pub struct RecordingGerrit {
    told: Mutex<Vec<Task>>,
    answers: Mutex<VecDeque<GerritError>>,
    restarts: AtomicU64,
}

impl RecordingGerrit {
    /// Makes the next tasks fail with these errors, one error per task.
    pub fn will_fail(&self, errors: impl IntoIterator<Item = GerritError>) {
        self.answers.lock().extend(errors);
    }

    /// Simulates a restart: another process answers from now on.
    pub fn restart(&self) {
        self.restarts.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the tasks since the last call of this method.
    #[must_use]
    pub fn take(&self) -> Vec<Task> {
        std::mem::take(&mut self.told.lock())
    }
}

#[async_trait]
impl Gerrit for RecordingGerrit {
    async fn refresh(&self, tasks: &[Task]) -> Vec<Result<(), GerritError>> {
        self.told.lock().extend(tasks.iter().cloned());
        let mut answers = self.answers.lock();
        tasks.iter().map(|_| answers.pop_front().map_or(Ok(()), Err)).collect()
    }

    async fn process(&self) -> Result<u64, GerritError> {
        Ok(self.restarts.load(Ordering::SeqCst))
    }
}
