//! Which life of which node worked in a base path last. What the node remembers lies below the root, and a base path may be a
//! file system of its own: mounted from somewhere else, or restored to another day.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::GitError;
use super::layout::{Layout, failed};

/// Whether every base path has the word `before`; each has the word `now` afterwards. Blocks.
pub(super) fn renew(layout: &Layout, before: &str, now: &str) -> Result<bool, GitError> {
    let mut continues = true;
    for own in layout.owns().iter().filter(|own| own.root != layout.roots().root()) {
        continues &= replace(&own.stamp(), before, now).map_err(|error| failed("(all)", "stamp the volume", error))?;
    }
    Ok(continues)
}

fn replace(path: &Path, before: &str, now: &str) -> std::io::Result<bool> {
    let found = match std::fs::read_to_string(path) {
        Ok(text) => text == before,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(now.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)?;
    Ok(found)
}
