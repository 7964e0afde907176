//! The child tells its parent how far it is: words on its standard output, one line of JSON each.

use std::io::Write;

use lockstep_proto::silent::SilentStep;
use serde::{Deserialize, Serialize};

/// The name of the file with the refs that the child has found, in the folder of the copy.
pub(in crate::node) const FOUND: &str = "refs.json";

/// A word of the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::node) enum Word {
    /// The present step, as text for people.
    Doing(String),
    /// A step was completed.
    Step(SilentStep),
    /// The standby takes writes.
    TakesWrites,
    /// Every probe is green.
    Green,
    /// A reason why the drill is red.
    Red(String),
    /// The child is done: [`FOUND`] has the refs.
    End,
}

/// Why a word was not said.
#[derive(Debug, thiserror::Error)]
pub enum SayError {
    /// The word cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The parent does not read any more.
    #[error("nobody listens: {0}")]
    Nobody(std::io::Error),
}

/// Says a word.
///
/// # Errors
/// The parent does not listen any more.
pub(in crate::node) fn say(word: &Word) -> Result<(), SayError> {
    let mut line = serde_json::to_string(word)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(SayError::Nobody)
}
