//! The volume's lock: one sidecar on one volume.
//!
//! The lock is an `flock` on `<root>/.lockstep/lock`, and the open file is inherited by every child process on
//! purpose: a git that outlives a killed sidecar still holds it, so that the next sidecar waits for the orphan
//! instead of racing it. The kernel lets go of the lock when the last of them is gone; nothing is left to clean up.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use tokio::time::{Instant, sleep};

/// The sidecar's own folder on a volume, below the repositories' root.
pub const FOLDER: &str = ".lockstep";

/// How often a taken lock is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The lock, held until it is dropped and every child process that was started meanwhile is gone.
#[derive(Debug)]
pub struct VolumeLock {
    path: PathBuf,
    _file: File,
}

/// Why the volume is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it.
    #[error(
        "{path}: another sidecar, or a git that it started, still holds this volume after {waited:?}; stop that \
         process (`fuser {path}` names it) or give this node a volume of its own, then start again"
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// How long it was tried.
        waited: Duration,
    },
    /// The file cannot be used.
    #[error("{path}: the volume's lock cannot be taken: {why}; make the folder writable for this user and start again")]
    Failed {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        why: io::Error,
    },
}

impl VolumeLock {
    /// Takes the lock of the volume at `root`, and waits for it no longer than `wait`.
    ///
    /// # Errors
    /// [`LockError::Held`] when somebody holds it all the time, [`LockError::Failed`] when the file cannot be used.
    pub async fn take(root: &Path, wait: Duration) -> Result<Self, LockError> {
        let path = root.join(FOLDER).join("lock");
        let failed = |why: io::Error| LockError::Failed { path: path.clone(), why };
        let file = open(&path).map_err(failed)?;
        let end = Instant::now() + wait;
        let mut is_told = false;
        while !try_lock(&file).map_err(failed)? {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(path = %path.display(), ?wait, "somebody else holds this volume; waiting for it");
            }
            if Instant::now() >= end {
                return Err(LockError::Held { path, waited: wait });
            }
            sleep(RETRY.min(end - Instant::now())).await;
        }
        Ok(Self { path, _file: file })
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens the lock file so that children inherit it.
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

/// The id of the machine's current boot: another one than at the last start means that the machine was booted
/// since, and that what was not synced may be lost.
///
/// # Errors
/// The kernel does not tell.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
