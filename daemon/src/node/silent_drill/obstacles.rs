//! Whether a copy can be made now: the checks that need neither a measurement nor a copy.

use std::path::Path;

use super::job::LEAST;
use super::plan::{MOST_SOCKET_BYTES, socket};
use crate::base::base_paths::BasePaths;
use crate::node::config::Settings;
use crate::node::config::settings::CopyBy;
use crate::seams::copy::{available_memory, can_reflink, fits, is_on_file_system_of};

/// Looks for everything that stands in the way of a copy of this node's volume at `to`, in the folder of the copies,
/// which is made.
///
/// # Errors
/// The text says what stands in the way, and what to do about it.
pub(super) fn look(settings: &Settings, folder: &Path, to: &Path) -> Result<(), String> {
    let silent = &settings.drill.silent;
    let length = socket(to).as_os_str().len();
    if length > MOST_SOCKET_BYTES {
        return Err(format!(
            "{}: a socket below it has a path of {length} bytes, and {MOST_SOCKET_BYTES} is the limit; give the volume \
             a shorter path",
            folder.display()
        ));
    }
    let available = available_memory()?;
    if available < silent.memory {
        return Err(format!(
            "drill.silent.memory is {} MiB, and {} MiB of memory are available; free some, or lower it",
            silent.memory >> 20,
            available >> 20
        ));
    }
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    base_paths(&settings.base_paths, &silent.copy, folder)?;
    if silent.copy == CopyBy::Reflink {
        can_reflink(folder).map_err(|error| error.to_string())?;
    }
    fits(folder, LEAST).map_or(Ok(()), Err)
}

/// Whether the base paths beside the root can be copied.
fn base_paths(all: &BasePaths, copy: &CopyBy, folder: &Path) -> Result<(), String> {
    for other in all.all().into_iter().filter(|path| *path != all.root()) {
        let is_same = is_on_file_system_of(other, folder).map_err(|error| format!("{}: {error}", other.display()))?;
        let other = other.display();
        match copy {
            CopyBy::Command(_) => {
                return Err(format!(
                    "base path {other} is not below the root: a command copies the root alone; set drill.silent.copy \
                     to \"reflink\" or \"full\""
                ));
            }
            CopyBy::Reflink if !is_same => {
                return Err(format!(
                    "base path {other} is on another file system than the root, and no reflink leads from one to the \
                     other; set drill.silent.copy = \"full\""
                ));
            }
            CopyBy::Reflink | CopyBy::Full => {}
        }
    }
    Ok(())
}
