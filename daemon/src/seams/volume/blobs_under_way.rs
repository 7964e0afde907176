//! Blobs under way: an append-only file without any fsync.
//!
//! A blob is put into the blob store before its transaction is committed. If the process ends in between, nothing else
//! tells that the blob is there. The page cache keeps this file through a `kill -9`. After a crash of the machine the
//! file is unreliable and must not be used: a blob whose transaction was sent could look like one that was not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use lockstep_proto::TxnId;
use serde::{Deserialize, Serialize};

/// Above this size, in bytes, the file is rewritten without the blobs that are no longer under way.
const LARGE: u64 = 1024 * 1024;

/// Blobs under way: by key, the transaction that was sent with the blob last. None if none was sent.
pub type BlobsUnderWay = BTreeMap<String, Option<TxnId>>;

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    txn: Option<TxnId>,
    is_under_way: bool,
}

/// The file of blobs under way.
#[derive(Debug)]
pub(super) struct BlobFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    blobs: BlobsUnderWay,
}

impl BlobFile {
    /// Opens the file of an earlier process, and drops its incomplete last line: that step did not happen.
    pub(super) fn open(path: PathBuf) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(&path)?;
        let mut blobs = BlobsUnderWay::new();
        let text = std::fs::read(&path)?;
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        for Line { key, txn, is_under_way } in lines {
            match is_under_way {
                true => drop(blobs.insert(key, txn)),
                false => drop(blobs.remove(&key)),
            }
        }
        let mut opened = Self { path, file, bytes: 0, blobs };
        opened.rewrite()?;
        Ok(opened)
    }

    pub(super) fn all(&self) -> BlobsUnderWay {
        self.blobs.clone()
    }

    pub(super) fn note(&mut self, key: &str, txn: Option<&TxnId>) -> std::io::Result<()> {
        self.blobs.insert(key.to_owned(), txn.cloned());
        self.append(&Line { key: key.to_owned(), txn: txn.cloned(), is_under_way: true })
    }

    pub(super) fn end(&mut self, key: &str) -> std::io::Result<()> {
        if self.blobs.remove(key).is_none() {
            return Ok(());
        }
        self.append(&Line { key: key.to_owned(), txn: None, is_under_way: false })?;
        if self.bytes < LARGE { Ok(()) } else { self.rewrite() }
    }

    /// Forgets all blobs, also in the file.
    pub(super) fn clear(&mut self) -> std::io::Result<()> {
        self.blobs.clear();
        self.rewrite()
    }

    fn append(&mut self, line: &Line) -> std::io::Result<()> {
        // A line that could not be written as a whole ends here, and takes nothing of this one with it.
        let mut text = vec![b'\n'];
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self) -> std::io::Result<()> {
        let draft = self.path.with_extension("new-blobs");
        let mut text = Vec::new();
        for (key, txn) in &self.blobs {
            serde_json::to_writer(&mut text, &Line { key: key.clone(), txn: txn.clone(), is_under_way: true })?;
            text.push(b'\n');
        }
        std::fs::write(&draft, &text)?;
        // Opened before it takes the place of the other one: later lines must never go to a file that is gone.
        let file = File::options().append(true).open(&draft)?;
        std::fs::rename(&draft, &self.path)?;
        self.file = file;
        self.bytes = text.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_knows_the_blobs_that_were_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.blobs");
        let txn: TxnId = "n.1.0.0.00000000000000aa".parse().unwrap();
        let mut file = BlobFile::open(path.clone()).unwrap();
        file.note("packs/put", None).unwrap();
        file.note("packs/sent", None).unwrap();
        file.note("packs/sent", Some(&txn)).unwrap();
        file.note("packs/done", None).unwrap();
        file.end("packs/done").unwrap();
        let under_way = BTreeMap::from([("packs/put".to_owned(), None), ("packs/sent".to_owned(), Some(txn))]);
        assert_eq!(BlobFile::open(path.clone()).unwrap().all(), under_way);
        File::options().append(true).open(&path).unwrap().write_all(b"{\"key\":\"packs/to").unwrap();
        let mut torn = BlobFile::open(path.clone()).unwrap();
        torn.end("packs/put").unwrap();
        torn.end("packs/sent").unwrap();
        torn.note("packs/later", None).unwrap();
        assert_eq!(BlobFile::open(path.clone()).unwrap().all().len(), 1, "what follows a torn line is not lost");
        while torn.bytes < LARGE {
            torn.note("packs/later", None).unwrap();
        }
        torn.note("packs/last", None).unwrap();
        torn.end("packs/later").unwrap();
        assert!(torn.bytes < 1_000, "rewritten");
        assert_eq!(BlobFile::open(path.clone()).unwrap().all(), BTreeMap::from([("packs/last".to_owned(), None)]));
        torn.clear().unwrap();
        assert!(BlobFile::open(path).unwrap().all().is_empty());
    }

    /// The volume was full for a moment. A note that is lost lets the next start delete the blob of a commit.
    #[test]
    fn a_line_that_was_written_in_part_does_not_take_the_next_one_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.blobs");
        let txn: TxnId = "n.1.0.0.00000000000000aa".parse().unwrap();
        let mut file = BlobFile::open(path.clone()).unwrap();
        file.note("b", None).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"{\"key\":\"x").unwrap();
        file.note("b", Some(&txn)).unwrap();
        assert_eq!(BlobFile::open(path).unwrap().all(), BTreeMap::from([("b".to_owned(), Some(txn))]));
    }
}
