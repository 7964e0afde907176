//! Whether a copy can be made now: the checks that need neither a measurement nor a copy.

use std::path::{Path, PathBuf};

use super::job::LEAST;
use super::plan::{MOST_SOCKET_BYTES, socket};
use crate::base::base_paths::BasePaths;
use crate::node::config::Settings;
use crate::node::config::settings::CopyBy;
use crate::seams::copy::{CopyError, MemoryError, available_memory, can_reflink, fits, is_on_file_system_of};

/// A reason why no copy can be made now, with its remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyObstacle {
    #[error(
        "{0}: a socket below it has a path of {1} bytes, and {limit} is the limit; give the volume a shorter path",
        limit = MOST_SOCKET_BYTES
    )]
    LongPath(PathBuf, usize),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The setting and the available memory, in MiB.
    #[error("drill.silent.memory is {0} MiB, and {1} MiB of memory are available; free some, or lower it")]
    LittleMemory(u64, u64),
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    #[error(
        "base path {0} is not below the root: a command copies the root alone; set drill.silent.copy to \"reflink\" or \
         \"full\""
    )]
    BesideRoot(PathBuf),
    #[error(
        "base path {0} is on another file system than the root, and no reflink leads from one to the other; set \
         drill.silent.copy = \"full\""
    )]
    OtherFileSystem(PathBuf),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("{0}")]
    NoRoom(String),
}

/// Looks for everything that stands in the way of a copy of this node's volume at `to`, in the folder of the copies,
/// which is made.
///
/// # Errors
/// The first thing that stands in the way.
pub(super) fn look(settings: &Settings, folder: &Path, to: &Path) -> Result<(), CopyObstacle> {
    let silent = &settings.drill.silent;
    let length = socket(to).as_os_str().len();
    if length > MOST_SOCKET_BYTES {
        return Err(CopyObstacle::LongPath(folder.to_owned(), length));
    }
    let available = available_memory()?;
    if available < silent.memory {
        return Err(CopyObstacle::LittleMemory(silent.memory >> 20, available >> 20));
    }
    std::fs::create_dir_all(folder).map_err(|error| CopyObstacle::Io(folder.to_owned(), error))?;
    base_paths(&settings.base_paths, &silent.copy, folder)?;
    if silent.copy == CopyBy::Reflink {
        can_reflink(folder)?;
    }
    fits(folder, LEAST).map_or(Ok(()), |why| Err(CopyObstacle::NoRoom(why)))
}

/// Whether the base paths beside the root can be copied.
fn base_paths(all: &BasePaths, copy: &CopyBy, folder: &Path) -> Result<(), CopyObstacle> {
    for other in all.all().into_iter().filter(|path| *path != all.root()) {
        let is_same = is_on_file_system_of(other, folder).map_err(|error| CopyObstacle::Io(other.to_owned(), error))?;
        match copy {
            CopyBy::Command(_) => return Err(CopyObstacle::BesideRoot(other.to_owned())),
            CopyBy::Reflink if !is_same => return Err(CopyObstacle::OtherFileSystem(other.to_owned())),
            CopyBy::Reflink | CopyBy::Full => {}
        }
    }
    Ok(())
}
