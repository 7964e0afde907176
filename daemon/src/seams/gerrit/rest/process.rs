//! Identifies the Gerrit process that answers. No REST call returns its start time. But its queue holds a task that is
//! scheduled once, at the start, and stays until the process ends: the task that maintains the log files. No two
//! processes have this task with the same id and schedule time.

use http::Method;
use serde_json::Value;

use super::RestGerrit;
use crate::seams::gerrit::GerritError;

/// The prefix of the task's name: `Log File Manager`, or `Log File Compressor` in earlier releases.
const OF_LOG_FILES: &str = "Log File";

/// Counts the processes that could be distinguished.
#[derive(Debug, Default)]
pub(super) struct Processes {
    count: u64,
    /// The mark of the last process; `None` when its queue showed none.
    mark: Option<String>,
    /// Whether any queue ever showed a mark. From then on, a queue without a mark may belong to another process.
    was_told: bool,
}

impl Processes {
    /// Takes the mark of a queue and returns the number of the process. A queue without a mark may belong to the same
    /// process after its mark disappeared, or to one that never had a mark.
    fn seen(&mut self, mark: Option<String>) -> u64 {
        if self.was_told && self.mark != mark {
            self.count += 1;
        }
        self.was_told |= mark.is_some();
        self.mark = mark;
        self.count
    }
}

impl RestGerrit {
    /// See [`crate::seams::gerrit::Gerrit::process`]. A Gerrit whose queue is unreadable or lacks the task
    /// (`log.compress` and `log.timeToKeep` are off) always counts as the same process.
    pub(super) async fn ask_for_process(&self) -> Result<u64, GerritError> {
        let mark = match self.settings.call(Method::GET, "/config/server/tasks/", None).await {
            Ok(answer) => mark(&answer.json()),
            Err(GerritError::Failed(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(self.processes.lock().seen(mark))
    }
}

/// Returns the latest mark in the queue. A process also runs the task once at its start, so there may be two.
fn mark(queue: &Value) -> Option<String> {
    let text = |task: &Value, field: &str| task.get(field).and_then(Value::as_str).map(str::to_owned);
    let of_log_files = queue.as_array()?.iter().filter(|task| {
        let name = text(task, "command");
        name.is_some_and(|name| name.starts_with(OF_LOG_FILES))
    });
    of_log_files.filter_map(|task| Some(format!("{} {}", text(task, "start_time")?, text(task, "id")?))).max()
}
