//! Limits and paths of the repositories on disk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::ProjectName;
use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};

use super::scan::PackLimits;

/// Settings that an operator may tune.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path of the git program, or its name in `PATH`.
    pub git: PathBuf,
    /// Limits of packs that are checked in memory. A pack that exceeds them is checked by git.
    pub inline: PackLimits,
    /// Limits of all packs. A pack that exceeds them is bad content.
    pub spilled: PackLimits,
    /// Largest pack that is created in memory, in bytes.
    pub memory_pack_bytes: u64,
    /// Address space of a git that checks foreign packs, in bytes, in addition to the indexes that it maps.
    pub child_memory: u64,
    /// Processor time of a git that checks foreign packs, in seconds.
    pub child_seconds: u64,
    /// Most long-lived git processes that move refs, one per busy repository. An idle one takes 0.3 MB of memory that
    /// no other process shares, and some open files; starting one takes as much processor time as many transactions.
    pub writers: usize,
    /// How long such a process lives while it is idle.
    pub writer_idle: Duration,
    /// Most idle repository handles.
    pub handles: usize,
    /// Which batches are held against the rules of git's `fsck`.
    pub fsck_objects: FsckObjects,
    /// Prepares a new repository, for example by installing hooks.
    pub on_create: Option<OnCreate>,
}

/// Which batches are held against the rules of git's `fsck`, beside the checks of their server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsckObjects {
    /// Those that nobody has checked, in repositories whose git configuration asks for it.
    #[default]
    AsConfigured,
    /// All but the import of an existing history.
    Always,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            git: on_path("git"),
            inline: PackLimits::INLINE,
            spilled: PackLimits::SPILLED,
            memory_pack_bytes: 1 << 20,
            child_memory: 768 << 20,
            child_seconds: 1800,
            writers: writers(getrlimit(Resource::Nofile).current),
            writer_idle: Duration::from_secs(60),
            handles: 64,
            fsck_objects: FsckObjects::default(),
            on_create: None,
        }
    }
}

/// Most long-lived git processes, if the sidecar may open enough files.
const WRITERS: usize = 256;
/// Most long-lived git processes if it may open few files.
const WRITERS_OF_FEW_FILES: usize = 64;
/// The open files of the sidecar for each of them: three pipes, the process itself, and the record of its locks.
const FILES_OF_A_WRITER: u64 = 5;

/// Most long-lived git processes for a limit of open files. Together they take at most a quarter of it, but for the few
/// that are always allowed.
fn writers(open_files: Option<u64>) -> usize {
    let room = open_files.map_or(u64::MAX, |files| files / 4 / FILES_OF_A_WRITER);
    usize::try_from(room).unwrap_or(WRITERS).clamp(WRITERS_OF_FEW_FILES, WRITERS)
}

/// The path of a program, looked up once. The standard library starts a program that is given by its name and with a
/// `PATH` of its own by a fork, which copies the page tables of the whole sidecar; one that is given by its path it
/// starts without. A name that is not found stays as it is, and starting it gives the error.
fn on_path(name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| access(path, Access::EXEC_OK).is_ok());
    found.unwrap_or_else(|| name.into())
}

/// A callback that prepares a new repository before it becomes visible, for example by installing the hooks of a plain
/// git server.
#[derive(Clone)]
pub struct OnCreate(pub(super) Arc<Prepare>);

/// Why a repository could not be prepared.
pub type PrepareError = Box<dyn std::error::Error + Send + Sync>;

type Prepare = dyn Fn(&Path, &ProjectName) -> Result<(), PrepareError> + Send + Sync;

impl OnCreate {
    /// Wraps a callback. It gets the path of the repository, which is still in a temporary folder or existed before,
    /// and the project.
    pub fn new(prepare: impl Fn(&Path, &ProjectName) -> Result<(), PrepareError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(prepare))
    }
}

impl fmt::Debug for OnCreate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("OnCreate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_given_by_its_path_and_an_unknown_one_by_its_name() {
        let git = on_path("git");
        assert!(git.is_absolute() && git.ends_with("git"), "{git:?}");
        assert_eq!(on_path("no-such-program"), PathBuf::from("no-such-program"));
    }

    #[test]
    fn long_lived_git_processes_take_a_quarter_of_the_open_files_at_most() {
        let counts = [1_024, 2_000, 4_096, 5_120, 1 << 20].map(|files| writers(Some(files)));
        assert_eq!(counts, [64, 100, 204, 256, 256]);
        assert_eq!(writers(None), 256);
    }
}
