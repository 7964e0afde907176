//! The journal of a watch: one JSON document per line. When it has half of its largest size, it becomes the older half,
//! and the older half before it is removed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The two halves of a journal, the older one first.
const HALVES: [&str; 2] = ["shadow.1.jsonl", "shadow.jsonl"];

/// An entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(super) enum Entry {
    /// A watch begins. It knows nothing of the time before.
    Begins {
        /// The name of its site.
        site: String,
        /// The name of its node.
        node: String,
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// The pause between two looks, in milliseconds.
        every_ms: u64,
        /// Whether the same watch goes on in a new half of its journal.
        continues: bool,
    },
    /// The watch has looked at all repositories.
    Looked {
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// The refs of a project, as the watch first saw it.
    Project {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// The name of the project.
        project: String,
        /// The state of its refs.
        state: State,
    },
    /// Refs that moved between two looks: one proposal.
    Moved {
        /// When the look was, in milliseconds since 1970.
        at_ms: u64,
        /// The name of the project.
        project: String,
        /// The moves, in the order of their writes as far as the disk tells.
        moves: Vec<Move>,
        /// The state of the refs afterwards.
        state: State,
    },
    /// The repository of a project is gone.
    Gone {
        /// When the look was, in milliseconds since 1970.
        at_ms: u64,
        /// The name of the project.
        project: String,
    },
    /// A repository cannot be read, or Lockstep would not take it.
    Problem {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// The reason, as text for people.
        why: String,
    },
}

/// The number of refs of a project, and the SHA-256 of the lines `<value> <name>` in the order of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) refs: u64,
    pub(super) digest: String,
}

/// A move of one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Move {
    /// The name of the ref, or `HEAD`.
    pub(super) name: String,
    /// The value before. None if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) old: Option<String>,
    /// The value afterwards. None if the ref was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) new: Option<String>,
    /// Why Lockstep would have refused the move, as far as the name tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
}

/// A journal that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("the journal {path} cannot be {what}: {why}; free space, or name another folder")]
pub struct JournalError {
    path: PathBuf,
    what: &'static str,
    why: String,
}

impl JournalError {
    fn of(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self { path: path.to_owned(), what, why: error.to_string() }
    }
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    bytes: u64,
    most_bytes: u64,
}

impl Journal {
    /// Opens the journal in a folder, which is created if it is missing. It takes at most about `most_bytes`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn open(folder: &Path, most_bytes: u64) -> Result<Self, JournalError> {
        std::fs::create_dir_all(folder).map_err(JournalError::of(folder, "created"))?;
        let path = folder.join(HALVES[1]);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(JournalError::of(&path, "written"))?;
        let bytes = file.metadata().map_err(JournalError::of(&path, "read"))?.len();
        Ok(Self { folder: folder.to_owned(), file, bytes, most_bytes })
    }

    /// Whether the next entry should begin a new half.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.most_bytes / 2
    }

    /// Begins a new half. The older one before is lost.
    pub(super) fn turn(&mut self) -> Result<(), JournalError> {
        let [older, newer] = HALVES.map(|name| self.folder.join(name));
        std::fs::rename(&newer, &older).map_err(JournalError::of(&older, "written"))?;
        *self = Self::open(&self.folder, self.most_bytes)?;
        Ok(())
    }

    pub(super) fn put(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let path = self.folder.join(HALVES[1]);
        let line = serde_json::to_string(entry).map_err(|error| JournalError::of(&path, "written")(error.into()))?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(JournalError::of(&path, "written"))?;
        self.bytes += line.len() as u64 + 1;
        Ok(())
    }
}

/// The entries of one site, from the folder of its journal.
#[derive(Clone, Debug, Default)]
pub struct Entries(pub(super) Vec<Entry>);

/// Reads a journal. A line that was cut off by a crash ends its half.
///
/// # Errors
/// There is no journal in the folder, or it cannot be read.
pub fn read(folder: &Path) -> Result<Entries, JournalError> {
    let mut entries = Vec::new();
    let mut found = false;
    for path in HALVES.map(|name| folder.join(name)) {
        let Ok(file) = File::open(&path) else { continue };
        found = true;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(JournalError::of(&path, "read"))?;
            let Ok(entry) = serde_json::from_str(&line) else { break };
            entries.push(entry);
        }
    }
    match found {
        true => Ok(Entries(entries)),
        false => Err(JournalError::of(folder, "read")(std::io::ErrorKind::NotFound.into())),
    }
}
