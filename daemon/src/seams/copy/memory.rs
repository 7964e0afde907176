//! The memory that a new process can get: that of the machine, within the limits of this process's control groups.
//!
//! In a container the limit counts. The kernel may kill the whole container, and not only the process that is
//! chosen first, when its group has no memory left.

use std::path::{Path, PathBuf};

/// Why the memory is not known.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file of the kernel cannot be read.
    #[error("/proc/meminfo: {0}")]
    Unreadable(std::io::Error),
    /// The kernel does not state the available memory.
    #[error("/proc/meminfo does not tell MemAvailable")]
    NotTold,
}

/// The memory that this process and its children can still get without swapping, in bytes.
///
/// # Errors
/// The kernel does not tell it.
pub fn available_memory() -> Result<u64, MemoryError> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(MemoryError::Unreadable)?;
    let machine = field(&text, "MemAvailable:").ok_or(MemoryError::NotTold)? << 10;
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Ok(groups(Path::new("/sys/fs/cgroup"), &own).iter().filter_map(|group| left(group)).fold(machine, u64::min))
}

/// The first number after a name.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The folders of the control group (version 2) that a process is in, and of all groups around it. `own` is the text of
/// `/proc/self/cgroup`.
fn groups(root: &Path, own: &str) -> Vec<PathBuf> {
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let own = root.join(path.trim_end());
    own.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_owned).collect()
}

/// The memory that a group has left. Files that nobody has changed or used of late make room. `None`: it has no limit.
fn left(group: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let used = number("memory.current")?.saturating_sub(field(&read("memory.stat")?, "inactive_file ")?);
    Some(number("memory.max")?.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, max: &str, current: u64, inactive: u64) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("memory.max"), format!("{max}\n")).unwrap();
        std::fs::write(folder.join("memory.current"), format!("{current}\n")).unwrap();
        let stat = format!("anon 5\nfile 7\ninactive_anon 3\ninactive_file {inactive}\n");
        std::fs::write(folder.join("memory.stat"), stat).unwrap();
    }

    #[test]
    fn the_tightest_of_all_groups_around_a_process_counts() {
        let root = tempfile::tempdir().unwrap();
        group(&root.path().join("pod"), "1000", 900, 300);
        group(&root.path().join("pod/own"), "max", 700, 100);
        let all = groups(root.path(), "1:cpu:/other\n0::/pod/own\n");
        assert_eq!(all.len(), 3, "its own, the one around it, and the root: {all:?}");
        let all: Vec<Option<u64>> = all.iter().map(|group| left(group)).collect();
        assert_eq!(all, [None, Some(400), None], "1000 - (900 - 300)");
        assert!(groups(root.path(), "4:memory:/version/1\n").is_empty());
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(available_memory().unwrap() > 1 << 20);
    }
}
