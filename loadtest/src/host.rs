//! The machine, and the resources that a process uses, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::Fallible;

/// The machine of a benchmark.
#[derive(Clone, Debug)]
pub struct Host {
    cores: usize,
    kernel: String,
    cpu: String,
    git: String,
}

impl Host {
    /// Reads the properties of this machine.
    pub fn look() -> Self {
        let first_line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let git = Command::new("git").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            cpu: model.map(|(_, name)| name.trim().to_owned()).unwrap_or_default(),
            git: String::from_utf8_lossy(&git).trim().to_owned(),
        }
    }

    /// The machine for a figure, with its present load: a machine with other load is slower.
    pub fn json(&self) -> Value {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        json!({"cores": self.cores, "kernel": self.kernel, "cpu": self.cpu, "git": self.git, "load_1m": load})
    }
}

/// A line of `/proc/<pid>/status`, in bytes. Zero if the process has ended.
fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The resident memory of a process, in bytes.
pub fn resident(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS")
}

/// The peak resident memory of a process, in bytes.
pub fn peak_resident(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM")
}

/// The part of the resident memory that is not backed by files, in bytes. The kernel may drop the rest.
pub fn anonymous(pid: u32) -> u64 {
    status_bytes(pid, "RssAnon")
}

/// The number of threads of a process.
pub fn threads(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count() as u64)
}

/// The processes of the machine at one moment. `/proc` is read once for any number of questions: a site has hundreds of
/// children, and the measurement takes its time from the same processors.
#[derive(Debug)]
pub struct Processes {
    /// The content of `/proc/<pid>/stat` by process.
    stats: BTreeMap<u32, String>,
    children: BTreeMap<u32, Vec<u32>>,
}

impl Processes {
    /// Reads `/proc`. A process that ends meanwhile is left out.
    pub fn look() -> Self {
        let mut all = Self { stats: BTreeMap::new(), children: BTreeMap::new() };
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
            all.children.entry(parent.unwrap_or(0)).or_default().push(pid);
            all.stats.insert(pid, stat);
        }
        all
    }

    /// The content of `/proc/<pid>/stat`. None if there was no such process.
    pub fn stat(&self, pid: u32) -> Option<&str> {
        self.stats.get(&pid).map(String::as_str)
    }

    /// Every descendant of a process.
    pub fn below(&self, pid: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut work = vec![pid];
        while let Some(parent) = work.pop() {
            let children = self.children.get(&parent).into_iter().flatten();
            found.extend(children.clone());
            work.extend(children);
        }
        found
    }
}

/// Every descendant of a process, with its command line.
pub fn descendants(pid: u32) -> Vec<(u32, String)> {
    let line = |child: u32| {
        let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        (child, String::from_utf8_lossy(&line).replace('\0', " "))
    };
    Processes::look().below(pid).into_iter().map(line).collect()
}

/// The processor time of this thread, in seconds.
pub fn thread_seconds() -> Fallible<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos / 1e9)
}

/// Converts bytes to MiB.
#[expect(clippy::cast_precision_loss, reason = "a process's memory")]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn the_children_of_children_are_found_in_one_look() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; :"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let mut input = shell.stdin.take().unwrap();
        writeln!(input, "it runs").unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "it runs\n");
        let all = Processes::look();
        let below = all.below(shell.id());
        assert!(below.len() == 1 && all.stat(below[0]).unwrap().contains("(cat)"), "{below:?}");
        assert!(all.below(std::process::id()).contains(&below[0]));
        drop(input);
        shell.wait().unwrap();
    }
}
