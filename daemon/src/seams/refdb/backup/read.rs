//! Reads a backup line by line, and verifies it: format, checksum and counts.

use std::io::{BufRead, Read};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::format::{Counts, End, Entry, FORMAT, Head, LONGEST_LINE, RELEASE};

/// Why a file is no whole backup.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    File(#[from] std::io::Error),
    /// The first line is no head of a backup.
    #[error("the file is no backup of a refdb: its first line is no head of one")]
    NoBackup,
    /// A later release has written it, in a format that this release does not know.
    #[error(
        "the backup is from a later release: {release} wrote it in format {format}, and this release ({RELEASE}) reads \
         formats up to {FORMAT}. Check it with release {release} or a later one; a retry with this one does not help"
    )]
    Newer {
        /// The format of the file.
        format: u64,
        /// The release that wrote it.
        release: String,
    },
    /// It is whole, and has a line that this release does not know.
    #[error(
        "line {line} of the backup has something that this release ({RELEASE}) does not know ({why}). The file is \
         whole: release {release} wrote it. Check it with that release or a later one; a retry with this one does not \
         help"
    )]
    Unknown {
        /// The number of the line.
        line: u64,
        /// The part of it that is not known.
        why: String,
        /// The release that wrote it.
        release: String,
    },
    /// The file ends before its last line.
    #[error("the backup is cut off behind line {0}: it has no last line with its checksum. Take another one")]
    CutOff(u64),
    /// A line cannot be read.
    #[error("line {0} of the backup is damaged ({1}): take another one")]
    Damaged(u64, String),
    /// The checksum is another one.
    #[error("the backup is damaged: its checksum is {found}, and its last line says {told}. Take another one")]
    Checksum {
        /// The checksum of the file.
        found: String,
        /// The checksum in the last line.
        told: String,
    },
    /// The counts are other ones.
    #[error("the backup is damaged: the numbers of its lines are not those in its last line. Take another one")]
    Counts,
    /// There is something behind the last line.
    #[error("the backup is damaged: there is something behind its last line. Take another one")]
    Behind,
}

/// A backup that was verified.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// The first line of the file.
    pub head: Head,
    /// The last line of the file.
    pub end: End,
}

/// Reads a backup, and hands each line but the first and the last to `each`. They are verified only once this returns.
///
/// # Errors
/// See [`ReadError`]. Use nothing of the file then.
pub fn read(from: impl BufRead, each: impl FnMut(Entry)) -> Result<Verified, ReadError> {
    let mut unread = None;
    match (lines(from, each, &mut unread), unread) {
        (Err(error @ (ReadError::Unknown { .. } | ReadError::File(_))), _) => Err(error),
        (Err(_), Some((line, why))) => Err(ReadError::Damaged(line, why)),
        (answer, _) => answer,
    }
}

/// Reads all lines. `unread` gets the first one that is no known entry. Only the checksum tells whether that line is
/// damaged, or a later release wrote it.
fn lines(
    mut from: impl BufRead,
    mut each: impl FnMut(Entry),
    unread: &mut Option<(u64, String)>,
) -> Result<Verified, ReadError> {
    let (mut line, mut number, mut digest, mut counts) = (Vec::new(), 1, Sha256::new(), Counts::default());
    if !next(&mut from, &mut line, 0)? {
        return Err(ReadError::NoBackup);
    }
    let head = head(&line)?;
    loop {
        digest.update(&line);
        if !next(&mut from, &mut line, number)? {
            return Err(ReadError::CutOff(number));
        }
        number += 1;
        match serde_json::from_slice::<Entry>(&line) {
            Ok(Entry::Head(_)) => return Err(ReadError::Damaged(number, "it is a second head".to_owned())),
            Ok(Entry::End(end)) => {
                let found = hex::encode(digest.finalize());
                if found != end.sha256 {
                    return Err(ReadError::Checksum { found, told: end.sha256 });
                }
                if let Some((line, why)) = unread.take() {
                    return Err(ReadError::Unknown { line, why, release: head.release });
                }
                if counts != end.counts {
                    return Err(ReadError::Counts);
                }
                return match from.fill_buf()?.is_empty() {
                    true => Ok(Verified { head, end }),
                    false => Err(ReadError::Behind),
                };
            }
            Ok(entry) => {
                counts.add(&entry);
                each(entry);
            }
            Err(error) => {
                unread.get_or_insert((number, error.to_string()));
            }
        }
    }
}

/// Reads the head. Its format comes first: the other fields may be different in a later one.
fn head(line: &[u8]) -> Result<Head, ReadError> {
    let any: serde_json::Value = serde_json::from_slice(line).map_err(|_| ReadError::NoBackup)?;
    let head = any.get("head").ok_or(ReadError::NoBackup)?;
    match head.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format > u64::from(FORMAT) => {
            let release = head.get("release").and_then(serde_json::Value::as_str).unwrap_or("of an unknown number");
            Err(ReadError::Newer { format, release: release.to_owned() })
        }
        _ => Head::deserialize(head).map_err(|_| ReadError::NoBackup),
    }
}

/// Reads the line behind line `after`. Answers false at the end of the file.
fn next(from: &mut impl BufRead, line: &mut Vec<u8>, after: u64) -> Result<bool, ReadError> {
    line.clear();
    from.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
    match line.last() {
        None => Ok(false),
        Some(b'\n') => Ok(true),
        Some(_) if line.len() as u64 == LONGEST_LINE => {
            Err(ReadError::Damaged(after + 1, format!("it has more than {LONGEST_LINE} bytes")))
        }
        Some(_) => Err(ReadError::CutOff(after)),
    }
}
