//! Writes to standard output. If its reader closes it (`| head`), the command ends without an error message.

use std::io::{ErrorKind, Write};

/// Why a text was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutError {
    /// The reader has gone away.
    #[error("standard output is closed")]
    NobodyReads,
    /// The operating system refuses the write.
    #[error("cannot write to standard output: {0}")]
    Failed(std::io::Error),
}

/// Writes all of a text.
pub(crate) fn put(text: &str) -> Result<(), OutError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => OutError::NobodyReads,
        _ => OutError::Failed(error),
    })
}
