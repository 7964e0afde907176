//! Standard output, whose reader may go away at any time (`| head`): then the command ends, without a word.

use std::io::{ErrorKind, Write};

use super::CliError;

/// Writes all of a text.
pub(crate) fn put(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::NobodyReads,
        _ => CliError::Failed(format!("standard output: {error}")),
    })
}
