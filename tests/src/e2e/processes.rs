//! Facts of the kernel about processes: those in a folder, their open files and sockets, and their environment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// The processes that work in a folder.
///
/// # Panics
/// If there is no `/proc`.
#[must_use]
pub fn processes_in(folder: &Path) -> Vec<Pid> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let id = |entry: std::fs::DirEntry| {
        let cwd = std::fs::read_link(entry.path().join("cwd")).ok()?;
        let id = entry.file_name().to_str()?.parse().ok()?;
        cwd.starts_with(folder).then(|| Pid::from_raw(id)).flatten()
    };
    all.filter_map(id).collect()
}

/// The processes that a process has started, and all that these have started.
pub fn descendants(of: Pid) -> Vec<Pid> {
    let parent = |entry: std::fs::DirEntry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
        Some((Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?, Pid::from_raw(parent)?))
    };
    let all: Vec<(Pid, Pid)> = std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(parent).collect();
    let (mut found, mut looked_at) = (vec![of], 0);
    while looked_at < found.len() {
        let of = found[looked_at];
        found.extend(all.iter().filter(|(_, parent)| *parent == of).map(|(process, _)| *process));
        looked_at += 1;
    }
    found.split_off(1)
}

/// Whether a process runs. One that has ended, and that nobody has waited for, does not.
pub fn is_alive(process: Pid) -> bool {
    let status = std::fs::read_to_string(folder(process).join("status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains("zombie"))
}

fn folder(process: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()))
}

/// Whether a process was started with this first argument.
#[must_use]
pub fn runs(process: Pid, command: &str) -> bool {
    let line = std::fs::read_to_string(folder(process).join("cmdline")).unwrap_or_default();
    line.split('\0').nth(1) == Some(command)
}

/// The names in the environment with which a process was started.
#[must_use]
pub fn environment(process: Pid) -> BTreeSet<String> {
    let all = std::fs::read(folder(process).join("environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&all);
    text.split('\0').filter_map(|one| Some(one.split_once('=')?.0.to_owned())).collect()
}

/// The files that a process has open for writing. Devices such as `/dev/null` keep nothing, and do not count.
#[must_use]
pub fn files(process: Pid) -> Vec<PathBuf> {
    let handles = std::fs::read_dir(folder(process).join("fd")).into_iter().flatten().flatten();
    let written = |handle: std::fs::DirEntry| {
        let info = folder(process).join("fdinfo").join(handle.file_name());
        let info = std::fs::read_to_string(info).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim().to_owned();
        let flags = u32::from_str_radix(&flags, 8).ok()?;
        let path = std::fs::read_link(handle.path()).ok()?;
        (flags & 3 != 0 && path.is_absolute() && !path.starts_with("/dev")).then_some(path)
    };
    handles.filter_map(written).collect()
}

/// The sockets of a process that lead to a network, as lines of `/proc`. Empty if the process has ended.
#[must_use]
pub fn network_sockets(process: Pid) -> Vec<String> {
    let folder = folder(process);
    let handles = std::fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
    let inode = |entry: std::fs::DirEntry| {
        let link = std::fs::read_link(entry.path()).ok()?;
        Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    let own: BTreeSet<String> = handles.filter_map(inode).collect();
    let tables = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"];
    let lines = tables.map(|table| std::fs::read_to_string(folder.join("net").join(table)).unwrap_or_default());
    let is_own = |line: &&str| line.split_whitespace().nth(9).is_some_and(|inode| own.contains(inode));
    lines.iter().flat_map(|text| text.lines()).filter(is_own).map(str::to_owned).collect()
}
