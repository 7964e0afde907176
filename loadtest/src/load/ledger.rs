//! The ledger: every request that a client made, with the answer that it got. The oracle compares it with the sites.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Fallible;
use crate::load::model::Class;

/// The answer that a client got in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Committed: acknowledged to the client.
    Committed,
    /// It did not happen, and never will.
    Refused,
    /// It may have happened.
    Unknown,
}

/// The move of one ref. `None` stands for absence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The full name of the ref.
    pub name: String,
    /// The required value.
    pub old: Option<String>,
    /// The new value.
    pub new: Option<String>,
}

/// One request: a batch that is committed whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The request id.
    pub request: String,
    /// The class of the operation. None for the preparation of the run.
    pub class: Option<Class>,
    /// The number of the site that was asked.
    pub site: usize,
    /// The project.
    pub project: String,
    /// Whether it went through `git push`.
    pub git: bool,
    /// When the request was sent first, in microseconds after the start. Negative before it.
    pub began_us: i64,
    /// When the answer came, in microseconds after the start.
    pub ended_us: i64,
    /// The answer.
    pub ended: Ended,
    /// The transaction, if the answer named one.
    pub txn: Option<String>,
    /// The reason of a refusal, or of the doubt.
    pub why: Option<String>,
    /// The refs.
    pub moves: Vec<Move>,
}

/// Writes a ledger, one line of JSON per request.
pub fn write(path: &Path, entries: &[Entry]) -> Fallible<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    for entry in entries {
        serde_json::to_writer(&mut out, entry)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Reads a ledger.
///
/// # Errors
/// The file cannot be read, or a line is none of a ledger; the line's number is named.
pub fn read(path: &Path) -> Fallible<Vec<Entry>> {
    let mut entries = Vec::new();
    for (number, line) in BufReader::new(std::fs::File::open(path)?).lines().enumerate() {
        let entry = serde_json::from_str(&line?);
        entries.push(entry.map_err(|error| format!("{} line {}: {error}", path.display(), number + 1))?);
    }
    Ok(entries)
}
