//! Copies of a node's volume, for a silent drill: files, repositories that change meanwhile, and the folder in which
//! the copies are.
//!
//! The contract of a copied repository, whatever is written into the original meanwhile: each ref has a value that it
//! had at some moment of the copy, and its objects are there. The repository may be behind, and it is never broken.
//! Refs are copied before objects, loose refs before packed ones, and loose objects before packs, because git writes in
//! the other order. A copy has nothing that calls out: no hooks, no remotes, and of the configuration only the format.
//!
//! All functions but those of `leash` block.
//!
//! | file | content |
//! |---|---|
//! | `file` | one file, as a reflink or in full |
//! | `repository` | a bare repository that changes meanwhile |
//! | `site` | the folder of a Gerrit: configuration, chosen libraries, index |
//! | `space`, `memory` | whether a copy fits, and whether there is memory for a process on it |
//! | `folder` | the folder of the copies, and its removal |
//! | `leash` | a program that ends with the process that started it |

mod file;
mod folder;
pub mod leash;
mod memory;
mod repository;
mod site;
mod space;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use file::can_reflink;
pub use folder::{copies, is_on_file_system_of, remove};
pub use memory::{MemoryError, available_memory};
pub use repository::copy_repository;
pub use site::{Overrides, SITE_PARTS, copy_site};
pub use space::{Need, fits, measure};

/// How the content of files is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a reference to the same blocks (`FICLONE`): at once, and without space.
    Reflink,
    /// Byte by byte, with the space of the original.
    Full,
}

/// Why a copy was not made. The part that was copied before stays, until the folder is removed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file system makes no reflinks.
    #[error(
        "{path}: its file system makes no reflinks ({why}); set drill.silent.copy to \"full\" or \"command\" (a retry \
         does not help)"
    )]
    NoReflink {
        /// The file that should have been copied.
        path: PathBuf,
        /// The answer of the operating system.
        why: std::io::Error,
    },
    /// The operating system refused an operation.
    #[error("{path}: it cannot be copied: {why}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The answer of the operating system.
        why: std::io::Error,
    },
    /// A folder never stood still for long enough.
    #[error("{path}: it changed {rounds} times while it was copied; try again when it has less to do")]
    Restless {
        /// The folder that kept changing.
        path: PathBuf,
        /// How often it was tried.
        rounds: usize,
    },
    /// The copy was given up by its owner.
    #[error("the copy was given up")]
    Stopped,
}

impl CopyError {
    fn io(path: &Path, why: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), why }
    }
}

/// Tells a copy on another thread to stop. Clones share the signal.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks the copy to stop at its next file.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), CopyError> {
        if self.0.load(Ordering::SeqCst) { Err(CopyError::Stopped) } else { Ok(()) }
    }
}

/// The files and bytes that were copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The number of copied files.
    pub files: u64,
    /// The bytes of these files.
    pub bytes: u64,
}

impl Copied {
    /// Counts a file. `None`: it was gone.
    fn count(&mut self, bytes: Option<u64>) {
        self.files += u64::from(bytes.is_some());
        self.bytes += bytes.unwrap_or(0);
    }

    /// Adds the counts of another copy.
    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}
