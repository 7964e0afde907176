//! Writes to standard output. If its reader closes it (`| head`), the command ends without an error message.

use std::io::{ErrorKind, Write};

use super::CliError;

/// Writes a text and flushes standard output.
pub(crate) fn put(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::NobodyReads,
        _ => CliError::Failed(format!("cannot write to standard output: {error}")),
    })
}
