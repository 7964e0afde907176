//! New files with keys, certificates and tokens.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::CliError;

/// Writes a new file. An existing one is never replaced: it may be the only copy of a key.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", path.display()));
    let mut file = create(path, mode)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Creates a new file. An existing one is never replaced.
pub(super) fn create(path: &Path, mode: u32) -> Result<File, CliError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => CliError::Failed(format!("{}: {error}", path.display())),
    };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)
}

/// Refuses a path that exists.
pub(super) fn absent(path: &Path) -> Result<(), CliError> {
    match path.exists() {
        true => Err(exists(path)),
        false => Ok(()),
    }
}

fn exists(path: &Path) -> CliError {
    CliError::Usage(format!("{} exists and is not replaced; name another path", path.display()))
}
