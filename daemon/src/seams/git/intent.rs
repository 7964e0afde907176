//! Which locks are ours: the record that lets a start-up remove stale locks without guessing by age.
//!
//! Before a ref transaction, the refs that git is going to lock are written into a file of the session; it is
//! cleared afterwards, by a zero in its first byte: cutting the file would be a change of the file system's own
//! journal, and wait behind every sync. A killed sidecar leaves it filled. No fsync: after a power cut every lock of the volume is
//! stale, because nobody lives that could hold it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

/// Ends a record; what comes behind it is left of an earlier, longer one.
const END: &str = "\0";

/// The record of one session.
pub(super) struct Intent {
    file: File,
    path: PathBuf,
}

impl Intent {
    /// Makes the record in `folder`, under a name of its own.
    pub(super) fn create(folder: &Path) -> std::io::Result<Self> {
        let (file, path) = tempfile::Builder::new().prefix("session-").tempfile_in(folder)?.keep()?;
        Ok(Self { file, path })
    }

    /// Says that these refs of the project are about to be locked.
    pub(super) fn record(&self, project: &ProjectName, refs: impl Iterator<Item = String>) -> std::io::Result<()> {
        let lines: Vec<String> = std::iter::once(project.to_string()).chain(refs).collect();
        self.file.write_all_at(format!("{}{END}", lines.join("\n")).as_bytes(), 0)
    }

    /// Says that they are locked no longer.
    pub(super) fn clear(&self) -> std::io::Result<()> {
        self.file.write_all_at(END.as_bytes(), 0)
    }
}

impl Drop for Intent {
    /// A cleared record is removed; a filled one stays for the next start-up.
    fn drop(&mut self) {
        let mut first = [0];
        if self.file.read_at(&mut first, 0).is_ok_and(|count| first[..count] == END.as_bytes()[..count]) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What sessions that did not end in order were about to lock: projects and their refs.
pub(super) fn left(folder: &Path) -> std::io::Result<Vec<(ProjectName, Vec<String>)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        let mut lines = text.split(END).next().unwrap_or_default().lines();
        if let Some(Ok(project)) = lines.next().map(str::parse) {
            found.push((project, lines.map(str::to_owned).collect()));
        }
    }
    Ok(found)
}
