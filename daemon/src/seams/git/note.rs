//! A small file of our own: read as a whole, replaced as a whole.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// What a file says; none when it is not there.
pub(super) fn read(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces what it says. After a crash it says the one or the other.
pub(super) fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}
