//! An append-only file of JSON lines, without any fsync.
//!
//! The page cache keeps it through a `kill -9`. A line that could not be written as a whole is lost, and nothing else.
//! After a crash of the machine the file is unreliable.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Above this size, in bytes, a file should be rewritten without the lines that count no longer.
pub(super) const LARGE: u64 = 1024 * 1024;

/// The file, open for more lines.
#[derive(Debug)]
pub(super) struct LineFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl LineFile {
    /// Opens the file of an earlier process, or creates it.
    pub(super) fn open(path: PathBuf) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    /// Reads the lines of a file, without those that are incomplete: their steps did not happen.
    pub(super) fn read<T: DeserializeOwned>(path: &Path) -> std::io::Result<Vec<T>> {
        let text = std::fs::read(path)?;
        Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// The size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends lines, as [`encoded`] returns them.
    pub(super) fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        // A line that could not be written as a whole ends here, and takes nothing of these with it.
        let text = [b"\n", lines].concat();
        self.file.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Writes the file again, with these lines alone.
    pub(super) fn rewrite(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let mut draft = OsString::from(&self.path);
        draft.push(".new");
        std::fs::write(&draft, lines)?;
        // Opened before it takes the place of the other one: later lines must never go to a file that is gone.
        let file = File::options().append(true).open(&draft)?;
        std::fs::rename(&draft, &self.path)?;
        self.file = file;
        self.bytes = lines.len() as u64;
        Ok(())
    }

    /// Drops all lines, durably.
    pub(super) fn clear(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_all()?;
        self.bytes = 0;
        Ok(())
    }
}

/// One line for each value.
pub(super) fn encoded<T: Serialize>(values: impl IntoIterator<Item = T>) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for value in values {
        serde_json::to_writer(&mut text, &value)?;
        text.push(b'\n');
    }
    Ok(text)
}
