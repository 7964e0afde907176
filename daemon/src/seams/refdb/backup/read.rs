//! Reads a backup line by line, and verifies it: format, checksum and counts.

use std::io::{BufRead, Read};

use sha2::{Digest, Sha256};

use super::format::{Counts, End, Entry, FORMAT, Head, LONGEST_LINE};

/// Why a file is no whole backup.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    File(#[from] std::io::Error),
    /// The first line is no head of a backup.
    #[error("the file is no backup of a refdb: its first line is no head of one")]
    NoBackup,
    /// A later release has written it.
    #[error(
        "the backup has format {0}, and this release reads up to {FORMAT}: use the release that wrote it, or a later \
         one"
    )]
    Newer(u32),
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
pub fn read(mut from: impl BufRead, mut each: impl FnMut(Entry)) -> Result<Verified, ReadError> {
    let (mut line, mut number, mut digest, mut counts) = (Vec::new(), 1, Sha256::new(), Counts::default());
    if !next(&mut from, &mut line, 0)? {
        return Err(ReadError::NoBackup);
    }
    let Ok(Entry::Head(head)) = serde_json::from_slice::<Entry>(&line) else { return Err(ReadError::NoBackup) };
    if head.format > FORMAT {
        return Err(ReadError::Newer(head.format));
    }
    loop {
        digest.update(&line);
        if !next(&mut from, &mut line, number)? {
            return Err(ReadError::CutOff(number));
        }
        number += 1;
        let damaged = |why: String| ReadError::Damaged(number, why);
        match serde_json::from_slice::<Entry>(&line).map_err(|error| damaged(error.to_string()))? {
            Entry::Head(_) => return Err(damaged("it is a second head".to_owned())),
            Entry::End(end) => {
                let found = hex::encode(digest.finalize());
                if found != end.sha256 {
                    return Err(ReadError::Checksum { found, told: end.sha256 });
                }
                if counts != end.counts {
                    return Err(ReadError::Counts);
                }
                return match from.fill_buf()?.is_empty() {
                    true => Ok(Verified { head, end }),
                    false => Err(ReadError::Behind),
                };
            }
            entry => {
                counts.add(&entry);
                each(entry);
            }
        }
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
