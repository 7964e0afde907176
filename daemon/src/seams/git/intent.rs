//! Records which locks are the sidecar's own, so that a start-up removes stale locks without guessing by age.
//!
//! Before each ref transaction, the refs that git is going to lock are written into a file of the session. Afterwards
//! the record is cleared by a zero in its first byte. Truncating the file instead would be a change in the file
//! system's own journal, and would wait behind every sync. A killed sidecar leaves its record in place. No fsync is
//! needed: after a power cut every lock on the volume is stale, because no process is alive that could hold one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

/// Ends a record. The bytes after it are the rest of an earlier, longer record.
const END: &str = "\0";

/// The lock record of one session.
pub(super) struct Intent {
    file: File,
    path: PathBuf,
}

impl Intent {
    /// Creates the record in `folder`, under a unique name.
    pub(super) fn create(folder: &Path) -> std::io::Result<Self> {
        let (file, path) = tempfile::Builder::new().prefix("session-").tempfile_in(folder)?.keep()?;
        Ok(Self { file, path })
    }

    /// Records that these refs of the project are about to be locked.
    pub(super) fn record(&self, project: &ProjectName, refs: impl Iterator<Item = String>) -> std::io::Result<()> {
        let lines: Vec<String> = std::iter::once(project.to_string()).chain(refs).collect();
        self.file.write_all_at(format!("{}{END}", lines.join("\n")).as_bytes(), 0)
    }

    /// Records that the refs are no longer locked.
    pub(super) fn clear(&self) -> std::io::Result<()> {
        self.file.write_all_at(END.as_bytes(), 0)
    }
}

impl Drop for Intent {
    /// Removes a cleared record. A filled one stays for the next start-up.
    fn drop(&mut self) {
        let mut first = [0];
        if self.file.read_at(&mut first, 0).is_ok_and(|count| first[..count] == END.as_bytes()[..count]) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns the projects and refs that sessions without an orderly end were about to lock.
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
