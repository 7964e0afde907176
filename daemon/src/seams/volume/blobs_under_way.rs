//! Blobs under way: an append-only file without any fsync.
//!
//! A blob is put into the blob store before its transaction is committed. If the process ends in between, nothing else
//! tells that the blob is there. The page cache keeps this file through a `kill -9`. After a crash of the machine the
//! file is unreliable and must not be used: a blob whose transaction was sent could look like one that was not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockstep_proto::TxnId;
use serde::{Deserialize, Serialize};

use super::line_file::{LARGE, LineFile, encoded};

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
    lines: LineFile,
    blobs: BlobsUnderWay,
}

impl BlobFile {
    /// Opens the file of an earlier process.
    pub(super) fn open(path: PathBuf) -> std::io::Result<Self> {
        let lines = LineFile::open(path.clone())?;
        let mut blobs = BlobsUnderWay::new();
        for Line { key, txn, is_under_way } in LineFile::read(&path)? {
            match is_under_way {
                true => drop(blobs.insert(key, txn)),
                false => drop(blobs.remove(&key)),
            }
        }
        let mut opened = Self { lines, blobs };
        opened.rewrite()?;
        Ok(opened)
    }

    pub(super) fn all(&self) -> BlobsUnderWay {
        self.blobs.clone()
    }

    pub(super) fn note(&mut self, key: &str, txn: Option<&TxnId>) -> std::io::Result<()> {
        self.blobs.insert(key.to_owned(), txn.cloned());
        self.append(Line { key: key.to_owned(), txn: txn.cloned(), is_under_way: true })
    }

    pub(super) fn end(&mut self, key: &str) -> std::io::Result<()> {
        if self.blobs.remove(key).is_none() {
            return Ok(());
        }
        self.append(Line { key: key.to_owned(), txn: None, is_under_way: false })?;
        if self.lines.bytes() < LARGE { Ok(()) } else { self.rewrite() }
    }

    /// Forgets all blobs, also in the file.
    pub(super) fn clear(&mut self) -> std::io::Result<()> {
        self.blobs.clear();
        self.rewrite()
    }

    fn append(&mut self, line: Line) -> std::io::Result<()> {
        self.lines.append(&encoded([line])?)
    }

    fn rewrite(&mut self) -> std::io::Result<()> {
        let line =
            |(key, txn): (&String, &Option<TxnId>)| Line { key: key.clone(), txn: txn.clone(), is_under_way: true };
        self.lines.rewrite(&encoded(self.blobs.iter().map(line))?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

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
        while torn.lines.bytes() < LARGE {
            torn.note("packs/later", None).unwrap();
        }
        torn.note("packs/last", None).unwrap();
        torn.end("packs/later").unwrap();
        assert!(torn.lines.bytes() < 1_000, "rewritten");
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
