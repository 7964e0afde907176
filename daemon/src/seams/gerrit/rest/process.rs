//! Which process of Gerrit answers. No call says when it was started; but its queue has a task that is scheduled once, when it
//! starts, and stays in it until it ends: the one that looks after the log files. Its id and the time at which it was
//! scheduled are another process's at no time.

use http::Method;
use serde_json::Value;

use super::RestGerrit;
use crate::seams::gerrit::GerritError;

/// What the task's name begins with: `Log File Manager`; `Log File Compressor` in earlier releases.
const OF_LOG_FILES: &str = "Log File";

/// Processes that were told apart.
#[derive(Debug, Default)]
pub(super) struct Processes {
    count: u64,
    /// What tells the last one; none while nothing does.
    mark: Option<String>,
    /// Whether anything ever did: then whatever comes after nothing may be another process.
    was_told: bool,
}

impl Processes {
    /// The queue was shown. One that shows no mark may be the same, but its mark is gone, or was never there.
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
    /// See [`crate::seams::gerrit::Gerrit::process`]. A Gerrit whose queue cannot be read or has no such task (`log.compress` and `log.timeToKeep` are off) is
    /// always the same one.
    pub(super) async fn ask_for_process(&self) -> Result<u64, GerritError> {
        let mark = match self.settings.call(Method::GET, "/config/server/tasks/", None).await {
            Ok(answer) => mark(&answer.json()),
            Err(GerritError::Failed(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(self.processes.lock().seen(mark))
    }
}

/// The last one: a process that starts looks after its log files at once, too.
fn mark(queue: &Value) -> Option<String> {
    let text = |task: &Value, field: &str| task.get(field).and_then(Value::as_str).map(str::to_owned);
    let of_log_files = queue.as_array()?.iter().filter(|task| {
        let name = text(task, "command");
        name.is_some_and(|name| name.starts_with(OF_LOG_FILES))
    });
    of_log_files.filter_map(|task| Some(format!("{} {}", text(task, "start_time")?, text(task, "id")?))).max()
}
