//! The use of every process, once per second, from `/proc`. The git children of a sidecar count with it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::{descendants, resident};

/// Clock ticks per second in `/proc`. It is 100 on every Linux.
const TICKS: f64 = 100.0;

/// The course of one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessCourse {
    /// The name.
    pub name: String,
    /// Per second: processor time with children, as a number of cores. None while it does not run.
    pub cores: Vec<Option<f64>>,
    /// Per second: resident memory with children, in MiB.
    pub memory_mib: Vec<Option<f64>>,
    /// Per second: open file descriptors of the process itself.
    pub files: Vec<Option<u64>>,
    /// Processor time at the last sample, in seconds, of the process with this id.
    #[serde(skip)]
    last: Option<(u32, f64)>,
}

impl ProcessCourse {
    /// The mean number of cores from a second on.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
    pub fn mean_cores(&self, from: usize) -> f64 {
        let all: Vec<f64> = self.cores.iter().skip(from).filter_map(|cores| *cores).collect();
        if all.is_empty() { 0.0 } else { all.iter().sum::<f64>() / all.len() as f64 }
    }

    /// The highest memory, in MiB.
    #[must_use]
    pub fn most_memory(&self) -> f64 {
        self.memory_mib.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// The most open files.
    #[must_use]
    pub fn most_files(&self) -> u64 {
        self.files.iter().flatten().copied().max().unwrap_or(0)
    }
}

/// Processor time of a process in seconds: its own, and that of children which have ended.
pub(super) fn processor_seconds(pid: u32, with_children: bool) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    // The fields begin with the state, which is number 3 of proc(5): utime is 14, stime 15, cutime 16, cstime 17.
    let own = ticks(11)? + ticks(12)?;
    let children = if with_children { ticks(13)? + ticks(14)? } else { 0.0 };
    Some((own + children) / TICKS)
}

/// Adds a sample of each process at a second of the run. `elapsed` is the time since the last one. The generator counts
/// without its children: they are the sites, and the git processes of clients.
pub fn sample_processes(
    courses: &mut BTreeMap<String, ProcessCourse>,
    processes: &[(String, u32)],
    second: usize,
    elapsed: Duration,
) {
    for (name, pid) in processes {
        let course = courses.entry(name.clone()).or_insert_with(|| {
            let name = name.clone();
            ProcessCourse { name, ..ProcessCourse::default() }
        });
        let is_own = *pid == std::process::id();
        let below = if is_own { Vec::new() } else { descendants(*pid) };
        let Some(own) = processor_seconds(*pid, !is_own) else { continue };
        let seconds = own + below.iter().filter_map(|(pid, _)| processor_seconds(*pid, true)).sum::<f64>();
        let memory = resident(*pid) + below.iter().map(|(pid, _)| resident(*pid)).sum::<u64>();
        let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64);
        let before = course.last.filter(|(last, _)| last == pid).map(|(_, seconds)| seconds);
        let cores = before.map(|before| (seconds - before).max(0.0) / elapsed.as_secs_f64().max(0.001));
        course.last = Some((*pid, seconds));
        course.cores.resize(second, None);
        course.memory_mib.resize(second, None);
        course.files.resize(second, None);
        course.cores.push(cores);
        course.memory_mib.push(Some(crate::host::mib(memory)));
        course.files.push(Some(files));
    }
}
