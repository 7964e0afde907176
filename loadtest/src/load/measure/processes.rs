//! The use of every process, once per second, from `/proc`: processors, memory, files, disk. The git children of a
//! sidecar count with it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::{Processes, resident};

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
    /// Per second: MiB that it and its children had the disk read, the page cache left out. Never of the generator:
    /// its children are the sites.
    #[serde(default)]
    pub read_mib: Vec<Option<f64>>,
    /// Per second: MiB that they had the disk write.
    #[serde(default)]
    pub written_mib: Vec<Option<f64>>,
    /// The last sample.
    #[serde(skip)]
    last: Option<Sample>,
}

/// The sums of a process since its start.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    pid: u32,
    /// Processor time in seconds.
    seconds: f64,
    /// Bytes that the disk read and wrote. None if they cannot be read, or count for other processes.
    disk: Option<[u64; 2]>,
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

    /// All that the disk read and wrote for it from a second on, in MiB. None if it was not measured.
    #[must_use]
    pub fn disk(&self, from: usize) -> Option<[f64; 2]> {
        let sum = |values: &[Option<f64>]| {
            let all: Vec<f64> = values.iter().skip(from).flatten().copied().collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>())
        };
        Some([sum(&self.read_mib)?, sum(&self.written_mib)?])
    }

    /// The most open files.
    #[must_use]
    pub fn most_files(&self) -> u64 {
        self.files.iter().flatten().copied().max().unwrap_or(0)
    }
}

/// Processor time of a process in seconds: its own, and that of children which have ended.
pub(super) fn processor_seconds(pid: u32, with_children: bool) -> Option<f64> {
    seconds_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, with_children)
}

/// The same, from the content of `/proc/<pid>/stat`.
fn seconds_in(stat: &str, with_children: bool) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    // The fields begin with the state, which is number 3 of proc(5): utime is 14, stime 15, cutime 16, cstime 17.
    let own = ticks(11)? + ticks(12)?;
    let children = if with_children { ticks(13)? + ticks(14)? } else { 0.0 };
    Some((own + children) / TICKS)
}

/// The bytes that the disk read and wrote for a process, and for its children that have ended. None for a process of
/// another user.
fn disk_bytes(pid: u32) -> Option<[u64; 2]> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some([value("read_bytes:")?, value("write_bytes:")?])
}

/// Adds a sample of each process at a second of the run. `elapsed` is the time since the last one. The generator counts
/// without its children: they are the sites, and the git processes of clients.
pub fn sample_processes(
    courses: &mut BTreeMap<String, ProcessCourse>,
    processes: &[(String, u32)],
    second: usize,
    elapsed: Duration,
) {
    let all = Processes::look();
    for (name, pid) in processes {
        let course = courses.entry(name.clone()).or_insert_with(|| {
            let name = name.clone();
            ProcessCourse { name, ..ProcessCourse::default() }
        });
        let is_own = *pid == std::process::id();
        let below = if is_own { Vec::new() } else { all.below(*pid) };
        let seconds_of = |pid: u32, with_children| seconds_in(all.stat(pid)?, with_children);
        let Some(own) = seconds_of(*pid, !is_own) else { continue };
        let seconds = own + below.iter().filter_map(|pid| seconds_of(*pid, true)).sum::<f64>();
        let memory = resident(*pid) + below.iter().map(|pid| resident(*pid)).sum::<u64>();
        let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64);
        let disk = if is_own { None } else { disk_bytes(*pid) };
        let disk = disk.map(|own| {
            let children = below.iter().filter_map(|pid| disk_bytes(*pid));
            children.fold(own, |[read, written], child| [read + child[0], written + child[1]])
        });
        let before = course.last.filter(|last| last.pid == *pid);
        let span = elapsed.as_secs_f64().max(0.001);
        let cores = before.map(|before| (seconds - before.seconds).max(0.0) / span);
        let grown = |at: usize| {
            let (now, before) = (disk?[at], before?.disk?[at]);
            Some(crate::host::mib(now.saturating_sub(before)) / span)
        };
        let [read, written] = [grown(0), grown(1)];
        course.last = Some(Sample { pid: *pid, seconds, disk });
        course.cores.resize(second, None);
        course.memory_mib.resize(second, None);
        course.files.resize(second, None);
        course.read_mib.resize(second, None);
        course.written_mib.resize(second, None);
        course.read_mib.push(read);
        course.written_mib.push(written);
        course.cores.push(cores);
        course.memory_mib.push(Some(crate::host::mib(memory)));
        course.files.push(Some(files));
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_and_its_bytes_on_the_disk_are_sampled() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut courses = BTreeMap::new();
        let own = ("generator".to_owned(), std::process::id());
        let processes = [own, ("cat".to_owned(), child.id())];
        for second in 0..2 {
            sample_processes(&mut courses, &processes, second, Duration::from_secs(1));
        }
        let course = &courses["cat"];
        if fs::read("/proc/self/io").is_ok() {
            assert_eq!(course.written_mib, [None, Some(0.0)], "the first sample has none before it");
            assert!(course.disk(1).is_some_and(|[_, written]| written < 1.0), "{course:?}");
        } else {
            eprintln!("bytes on the disk: NOT RUN: /proc/self/io cannot be read");
        }
        assert!(course.most_files() >= 3 && course.most_memory() > 0.0, "{course:?}");
        assert_eq!(courses["generator"].disk(0), None, "its children are the sites");
        child.kill().unwrap();
        let _ = child.wait().unwrap();
    }

    #[test]
    fn the_sum_of_the_disk_leaves_the_warm_up_out() {
        let course = ProcessCourse {
            read_mib: vec![Some(9.0), Some(1.0), None, Some(2.0)],
            written_mib: vec![Some(9.0), Some(4.0), None, Some(0.5)],
            ..ProcessCourse::default()
        };
        assert_eq!(course.disk(1), Some([3.0, 4.5]));
        assert_eq!(ProcessCourse::default().disk(0), None);
    }
}
