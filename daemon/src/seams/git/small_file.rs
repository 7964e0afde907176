//! A small file of the sidecar, read as a whole and replaced as a whole.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Reads the content of a file; `None` when it does not exist.
pub(super) fn read(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the content of a file. After a crash the file has either the old or the new content.
pub(super) fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}
