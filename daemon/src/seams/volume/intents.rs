//! Move intents: an append-only file without any fsync.
//!
//! Until the next sync, the version map is behind the refs on disk. After a crash of the process the refs are ahead of
//! it, and nothing else on the disk says how far: a ref that was deleted, created and deleted again looks like a ref
//! that was deleted once. This file records the difference, and the page cache keeps it through a `kill -9`. After a
//! crash of the machine the file is unreliable and is not used: such a node asks the refdb.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use lockstep_proto::{ProjectKey, RefKey};
use serde::{Deserialize, Serialize};

use super::RefRecord;

/// Above this size, in bytes, the file is rewritten without the intents that have ended.
const LARGE: u64 = 1024 * 1024;

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
    path: PathBuf,
    file: File,
    bytes: u64,
    next: u64,
    open: VecDeque<(u64, Vec<u8>)>,
}

impl IntentFile {
    /// Opens the file of an earlier process, without its incomplete last line.
    pub(super) fn open(path: PathBuf) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(&path)?;
        let text = std::fs::read(&path)?;
        // The next line would otherwise become the end of the incomplete one, and be lost with it.
        let bytes = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end as u64 + 1);
        if bytes < text.len() as u64 {
            file.set_len(bytes)?;
        }
        Ok(Self { path, file, bytes, next: 0, open: VecDeque::new() })
    }

    /// Reads the move intents of an earlier process. The move of an incomplete last line did not happen.
    pub(super) fn read(path: &Path) -> std::io::Result<Vec<MoveIntent>> {
        let lines = BufReader::new(File::open(path)?).lines();
        let moves = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
        Ok(moves.collect())
    }

    pub(super) fn record_intents(&mut self, moves: &[MoveIntent]) -> std::io::Result<u64> {
        let mut text = Vec::new();
        for step in moves {
            serde_json::to_writer(&mut text, step)?;
            text.push(b'\n');
        }
        self.file.write_all(&text)?;
        self.bytes += text.len() as u64;
        self.next += 1;
        self.open.push_back((self.next, text));
        Ok(self.next)
    }

    /// Drops all move intents, durably.
    pub(super) fn clear(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_all()?;
        self.bytes = 0;
        self.open.clear();
        Ok(())
    }

    /// Drops the move intents up to this number. Their moves are durable in the version map.
    pub(super) fn end(&mut self, until: u64) -> std::io::Result<()> {
        while self.open.front().is_some_and(|(number, _)| *number <= until) {
            self.open.pop_front();
        }
        if self.bytes < LARGE {
            // Ended intents may stay in the file: the version map is at least as new. Truncating the file each time
            // would be a change in the file system's own journal, and would wait behind every sync.
            return Ok(());
        }
        let draft = self.path.with_extension("new");
        let text: Vec<u8> = self.open.iter().flat_map(|(_, text)| text.iter().copied()).collect();
        std::fs::write(&draft, &text)?;
        std::fs::rename(&draft, &self.path)?;
        self.file = File::options().append(true).open(&self.path)?;
        self.bytes = text.len() as u64;
        Ok(())
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
        while file.bytes < LARGE {
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
}
