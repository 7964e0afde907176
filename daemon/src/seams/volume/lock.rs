//! The volume's lock: at most one sidecar per volume.
//!
//! The lock is an `flock` on `<root>/.lockstep/lock`. Every child process inherits the open file on purpose: a git that
//! outlives a killed sidecar still holds the lock, so the next sidecar waits for the orphan instead of racing it. The
//! kernel releases the lock when the last of these processes ends. Nothing needs to be cleaned up.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use tokio::time::{Instant, sleep};

/// The sidecar's own folder on a volume, below the root.
pub const FOLDER: &str = ".lockstep";

/// The interval at which a held lock is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The held lock. It is released when it is dropped and every child process started meanwhile has ended.
#[derive(Debug)]
pub struct VolumeLock {
    path: PathBuf,
    _file: File,
}

/// Why the volume's lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error(
        "{path}: another sidecar, or a git that it started, still holds this volume after {waited:?}; stop that \
         process (`fuser {path}` names it) or give this node a volume of its own, then start again"
    )]
    Held {
        /// The path of the lock file.
        path: PathBuf,
        /// How long this process waited for the lock.
        waited: Duration,
    },
    /// The lock file cannot be used.
    #[error("{path}: the volume's lock cannot be taken: {why}; make the folder writable for this user and start again")]
    Failed {
        /// The path of the lock file.
        path: PathBuf,
        /// The answer of the operating system.
        why: io::Error,
    },
}

impl VolumeLock {
    /// Takes the lock of the volume at `root`, and waits for it for at most `wait`.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process holds the lock until the end of the wait, [`LockError::Failed`] when
    /// the lock file cannot be used.
    pub async fn take(root: &Path, wait: Duration) -> Result<Self, LockError> {
        let path = root.join(FOLDER).join("lock");
        let failed = |why: io::Error| LockError::Failed { path: path.clone(), why };
        let file = open(&path).map_err(failed)?;
        let end = Instant::now() + wait;
        let mut is_told = false;
        while !try_lock(&file).map_err(failed)? {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(path = %path.display(), ?wait, "another process holds this volume; waiting for it");
            }
            if Instant::now() >= end {
                return Err(LockError::Held { path, waited: wait });
            }
            sleep(RETRY.min(end - Instant::now())).await;
        }
        Ok(Self { path, _file: file })
    }

    /// Returns the path of the lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens the lock file in such a way that children inherit it.
fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    fcntl_setfd(&file, FdFlags::empty())?;
    Ok(file)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns the id of the machine's current boot. A different id than at the last start means that the machine was
/// booted since, and that unsynced changes may be lost.
///
/// # Errors
/// The kernel does not provide the id.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
