//! Move intents: an append-only file without any fsync.
//!
//! Until the next sync, the version map is behind the refs on disk. After a crash of the process the refs are ahead of
//! it, and nothing else on the disk says how far: a ref that was deleted, created and deleted again looks like a ref
//! that was deleted once. This file records the difference, and the page cache keeps it through a `kill -9`. After a
//! crash of the machine the file is unreliable and is not used: such a node asks the refdb.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use lockstep_proto::{ProjectKey, RefKey};
use serde::{Deserialize, Serialize};

use super::RefRecord;
use super::line_file::{LARGE, LineFile, encoded};

/// A ref move that is about to happen: the ref will have this record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveIntent {
    /// The incarnation of the project.
    pub project: ProjectKey,
    /// The ref or pseudo-ref.
    pub key: RefKey,
    /// The version, value and transaction of the ref after the move.
    pub record: RefRecord,
}

/// The file of move intents.
#[derive(Debug)]
pub(super) struct IntentFile {
    lines: LineFile,
    next: u64,
    open: VecDeque<(u64, Vec<u8>)>,
}

impl IntentFile {
    /// Opens the file of an earlier process.
    pub(super) fn open(path: PathBuf) -> std::io::Result<Self> {
        Ok(Self { lines: LineFile::open(path)?, next: 0, open: VecDeque::new() })
    }

    /// Reads the move intents of an earlier process.
    pub(super) fn read(path: &Path) -> std::io::Result<Vec<MoveIntent>> {
        LineFile::read(path)
    }

    pub(super) fn record_intents(&mut self, moves: &[MoveIntent]) -> std::io::Result<u64> {
        let text = encoded(moves)?;
        self.lines.append(&text)?;
        self.next += 1;
        self.open.push_back((self.next, text));
        Ok(self.next)
    }

    /// Drops all move intents, durably.
    pub(super) fn clear(&mut self) -> std::io::Result<()> {
        self.lines.clear()?;
        self.open.clear();
        Ok(())
    }

    /// Drops the move intents up to this number. Their moves are durable in the version map.
    pub(super) fn end(&mut self, until: u64) -> std::io::Result<()> {
        while self.open.front().is_some_and(|(number, _)| *number <= until) {
            self.open.pop_front();
        }
        if self.lines.bytes() < LARGE {
            // Ended intents may stay in the file: the version map is at least as new. Truncating the file each time
            // would be a change in the file system's own journal, and would wait behind every sync.
            return Ok(());
        }
        let text: Vec<u8> = self.open.iter().flat_map(|(_, text)| text.iter().copied()).collect();
        self.lines.rewrite(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(version: u64) -> MoveIntent {
        let record = RefRecord {
            version: lockstep_proto::Version(version),
            value: lockstep_proto::RefValue::Absent,
            txn: "n.1.0.0.00000000000000aa".parse().unwrap(),
        };
        MoveIntent { project: "p#1".parse().unwrap(), key: "refs/heads/a".parse().unwrap(), record }
    }

    #[test]
    fn the_file_drops_ended_intents_and_keeps_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("announced");
        let mut file = IntentFile::open(path.clone()).unwrap();
        let first = file.record_intents(&[step(1)]).unwrap();
        let second = file.record_intents(&[step(2), step(3)]).unwrap();
        assert_eq!(IntentFile::read(&path).unwrap(), vec![step(1), step(2), step(3)]);
        file.end(first).unwrap();
        assert_eq!(IntentFile::read(&path).unwrap().len(), 3, "rewritten only above LARGE");
        let mut last = second;
        while file.lines.bytes() < LARGE {
            last = file.record_intents(&[step(4)]).unwrap();
        }
        file.end(last - 1).unwrap();
        assert_eq!(IntentFile::read(&path).unwrap(), vec![step(4)], "the intent that has not ended");
        file.record_intents(&[step(5)]).unwrap();
        assert_eq!(IntentFile::read(&path).unwrap(), vec![step(4), step(5)]);
    }

    #[test]
    fn a_file_that_was_cleared_has_the_later_intents_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("announced");
        let mut file = IntentFile::open(path.clone()).unwrap();
        file.record_intents(&[step(1)]).unwrap();
        file.clear().unwrap();
        assert_eq!(IntentFile::read(&path).unwrap(), vec![]);
        file.record_intents(&[step(2)]).unwrap();
        assert_eq!(IntentFile::read(&path).unwrap(), vec![step(2)]);
    }

    #[test]
    fn a_line_that_was_cut_short_is_no_announcement() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("announced");
        IntentFile::open(path.clone()).unwrap().record_intents(&[step(1), step(2)]).unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        assert_eq!(IntentFile::read(&path).unwrap(), vec![step(1)]);
        IntentFile::open(path.clone()).unwrap().record_intents(&[step(3)]).unwrap();
        assert_eq!(IntentFile::read(&path).unwrap(), vec![step(1), step(3)], "what follows a torn line is not lost");
    }

    /// The volume was full for a moment, and the process went on.
    #[test]
    fn an_intent_after_one_that_was_cut_short_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("announced");
        let mut file = IntentFile::open(path.clone()).unwrap();
        file.record_intents(&[step(1)]).unwrap();
        let mut cut = std::fs::read(&path).unwrap();
        cut.extend_from_slice(b"{\"project\":\"p");
        std::fs::write(&path, cut).unwrap();
        file.record_intents(&[step(2)]).unwrap();
        assert_eq!(IntentFile::read(&path).unwrap(), vec![step(1), step(2)]);
    }
}
