//! A pool of open repositories: opening one costs more than most calls do.
//!
//! A handle is used by one call at a time, because a `git2::Repository` may move between threads but cannot be shared.
//! At most `capacity` idle handles are kept. The least recently used one is dropped first.

use std::collections::VecDeque;
use std::path::Path;
use std::time::SystemTime;

use git2::Repository;
use lockstep_proto::ProjectName;
use parking_lot::{Mutex, MutexGuard};

use super::GitError;
use super::layout::{Identity, Layout, failed};

struct Idle {
    project: ProjectName,
    identity: Identity,
    packs: Packs,
    repository: Repository,
}

/// The state of the packs when a handle was taken, used to recognise that a handle's view of them is stale.
///
/// libgit2 trusts an index over several packs (`multi-pack-index`) as long as that file is unchanged. Programs other
/// than git, such as Gerrit's garbage collection, remove packs and leave that index in place. Objects that are in the
/// repository then seem absent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Packs {
    /// There is no such index: libgit2 rescans the packs by itself.
    Alone,
    /// There is such an index; the value is the modification time of the packs' folder.
    Indexed(Option<SystemTime>),
}

impl Packs {
    /// Returns whether there was such an index and the packs changed since. Without the index, libgit2 rescans by
    /// itself.
    pub(super) fn are_replaced(self, git_dir: &Path) -> bool {
        self != Self::Alone && self != Self::of(git_dir)
    }

    fn of(path: &Path) -> Self {
        let packs = path.join("objects/pack");
        if !packs.join("multi-pack-index").exists() {
            return Self::Alone;
        }
        Self::Indexed(packs.metadata().and_then(|folder| folder.modified()).ok())
    }
}

/// How often a job is tried while other programs change the packs.
const TRIES: u32 = 3;

/// The idle handles of a volume.
pub(super) struct Pool {
    idle: Mutex<VecDeque<Idle>>,
    capacity: usize,
}

impl Pool {
    pub(super) fn new(capacity: usize) -> Self {
        Self { idle: Mutex::new(VecDeque::new()), capacity }
    }

    /// Runs `job` with a handle of the project's repository. Runs it again with a new handle when it failed or missed
    /// objects while the packs changed. `job` also gets the state of the packs, against which it checks the absence of
    /// an object; `None` on the last try, when absence is believed. Blocks.
    pub(super) fn with<T>(
        &self,
        layout: &Layout,
        project: &ProjectName,
        job: impl Fn(&Repository, Option<Packs>) -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        let (path, identity) = layout.locate(project)?;
        let mut left = TRIES;
        loop {
            left -= 1;
            let packs = Packs::of(&path);
            let repository = match self.take(project, identity, packs) {
                Some(repository) => repository,
                None => open(layout, project, &path)?,
            };
            match job(&repository, (left > 0).then_some(packs)) {
                Err(GitError::Missing { .. } | GitError::Damaged { .. } | GitError::Failed { .. })
                    if left > 0 && packs.are_replaced(&path) =>
                {
                    self.forget(project);
                }
                result => {
                    self.put(Idle { project: project.clone(), identity, packs, repository });
                    return result;
                }
            }
        }
    }

    /// Drops the handles of a project.
    pub(super) fn forget(&self, project: &ProjectName) {
        self.lock().retain(|idle| idle.project != *project);
    }

    fn take(&self, project: &ProjectName, identity: Identity, packs: Packs) -> Option<Repository> {
        let mut idle = self.lock();
        idle.retain(|idle| idle.project != *project || idle.packs == packs);
        let at = idle.iter().rposition(|idle| idle.project == *project && idle.identity == identity)?;
        idle.remove(at).map(|idle| idle.repository)
    }

    fn put(&self, handle: Idle) {
        let mut idle = self.lock();
        idle.push_back(handle);
        if idle.len() > self.capacity {
            idle.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock()
    }
}

fn open(layout: &Layout, project: &ProjectName, path: &Path) -> Result<Repository, GitError> {
    const OP: &str = "open the repository";
    check_format(project, path)?;
    check_alternates(layout, project, path)?;
    Repository::open_bare(path).map_err(|error| failed(project, OP, error))
}

/// Refuses storage formats that lose refs in a power cut or that this program does not read.
fn check_format(project: &ProjectName, path: &Path) -> Result<(), GitError> {
    const OP: &str = "open the repository";
    let config = git2::Config::open(&path.join("config")).map_err(|error| failed(project, OP, error))?;
    let value = |key| config.get_string(key).map(|text| text.to_ascii_lowercase()).unwrap_or_default();
    if value("extensions.refstorage") == "reftable" {
        let why = "its refs are stored as reftable, which git does not make durable (a power cut can lose all refs); \
                   migrate it with `git refs migrate --ref-format=files`, then retry";
        return Err(failed(project, OP, why));
    }
    if value("extensions.objectformat") == "sha256" {
        return Err(failed(project, OP, "its object format is sha256, but only sha1 is supported; a retry fails too"));
    }
    Ok(())
}

/// Refuses alternates outside the volume: they are neither replicated nor synced, and may belong to anybody.
fn check_alternates(layout: &Layout, project: &ProjectName, path: &Path) -> Result<(), GitError> {
    let objects = path.join("objects");
    let Ok(text) = std::fs::read_to_string(objects.join("info/alternates")) else { return Ok(()) };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        layout.confine_to_volume(project, &objects.join(line))?;
    }
    Ok(())
}
