//! The ledger: every fact that a client was told. The oracle looks for each of them at every site.

use std::io::{BufWriter, Write};
use std::path::Path;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::load::ledger::Ended;
use serde::{Deserialize, Serialize};

/// A fact about a project or an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A patch set of a change.
    PatchSet {
        /// The project.
        project: String,
        /// The number of the change.
        change: u32,
        /// Its commit.
        commit: String,
    },
    /// A message on a change, with a text that no other message has: that of a vote or of a comment.
    Message {
        /// The project.
        project: String,
        /// The number of the change.
        change: u32,
        /// The text.
        text: String,
    },
    /// A draft of a comment, with a text that no other draft has.
    Draft {
        /// The number of the change.
        change: u32,
        /// The text.
        text: String,
    },
    /// The removal of the draft with this text.
    DraftRemoved {
        /// The text.
        text: String,
    },
    /// A change that was submitted.
    Merged {
        /// The project.
        project: String,
        /// The number of the change.
        change: u32,
    },
    /// A branch or a tag that was pushed.
    Ref {
        /// The project.
        project: String,
        /// The name of the ref.
        name: String,
        /// Its value.
        value: String,
    },
    /// The status text of an account.
    Status {
        /// The text, which no other account ever has.
        text: String,
    },
}

impl Fact {
    /// The mark of the event that tells of it.
    pub fn mark(&self) -> Option<String> {
        match self {
            Self::PatchSet { commit, .. } => Some(format!("patch set {commit}")),
            Self::Merged { change, .. } => Some(format!("merged {change}")),
            Self::Message { text, .. } => Some(format!("message {text}")),
            _ => None,
        }
    }
}

/// A fact, and whether the client knows that it is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The number of the site that was asked.
    pub site: usize,
    /// The answer.
    pub ended: Ended,
    /// The fact.
    pub fact: Fact,
}

/// Writes a ledger, one line of JSON per fact.
pub fn write(path: &Path, told: &[Told]) -> Fallible<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    for one in told {
        serde_json::to_writer(&mut out, one)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
