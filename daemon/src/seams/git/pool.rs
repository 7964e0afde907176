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

/// The idle handles, the least recently used one first.
#[derive(Default)]
struct Handles {
    idle: VecDeque<Idle>,
    /// How often handles were forgotten. One that was in use meanwhile is not kept either.
    forgotten: u64,
}

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
    handles: Mutex<Handles>,
    capacity: usize,
}

impl Pool {
    pub(super) fn new(capacity: usize) -> Self {
        Self { handles: Mutex::default(), capacity }
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
            let (taken, forgotten) = self.take(project, identity, packs);
            let repository = match taken {
                Some(repository) => repository,
                None => open(layout, project, &path)?,
            };
            match job(&repository, (left > 0).then_some(packs)) {
                Err(GitError::Missing { .. } | GitError::Damaged { .. } | GitError::Failed { .. })
                    if left > 0 && packs.are_replaced(&path) =>
                {
                    self.forget(project);
                }
                // The handle may still read a pack that was put away since. It would find the damaged copy for ever.
                Err(error @ GitError::Damaged { .. }) => {
                    self.forget(project);
                    return Err(error);
                }
                result => {
                    self.put(Idle { project: project.clone(), identity, packs, repository }, forgotten);
                    return result;
                }
            }
        }
    }

    /// Drops the handles of a project: those that are idle now, and those in use once their call ends.
    pub(super) fn forget(&self, project: &ProjectName) {
        let mut handles = self.lock();
        handles.forgotten += 1;
        handles.idle.retain(|idle| idle.project != *project);
    }

    /// Takes an idle handle, if there is one, and the number of times that handles were forgotten by now.
    fn take(&self, project: &ProjectName, identity: Identity, packs: Packs) -> (Option<Repository>, u64) {
        let mut handles = self.lock();
        let forgotten = handles.forgotten;
        handles.idle.retain(|idle| idle.project != *project || idle.packs == packs);
        let at = handles.idle.iter().rposition(|idle| idle.project == *project && idle.identity == identity);
        let taken = at.and_then(|at| handles.idle.remove(at));
        (taken.map(|idle| idle.repository), forgotten)
    }

    /// Keeps a handle, unless handles were forgotten since it was taken.
    fn put(&self, handle: Idle, forgotten: u64) {
        let mut handles = self.lock();
        if handles.forgotten != forgotten {
            return;
        }
        handles.idle.push_back(handle);
        if handles.idle.len() > self.capacity {
            handles.idle.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::base_paths::BasePaths;

    /// Such a handle would read a pack that was put away meanwhile for as long as it is kept.
    #[test]
    fn a_handle_that_was_in_use_while_it_was_forgotten_or_has_met_damage_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(&BasePaths::at(folder.path())).unwrap();
        let project: ProjectName = "p".parse().unwrap();
        drop(Repository::init_bare(folder.path().join("p.git")).unwrap());
        let pool = Pool::new(4);
        let idle = || pool.lock().idle.len();
        pool.with(&layout, &project, |_, _| Ok(())).unwrap();
        assert_eq!(idle(), 1);
        let forget = |_: &Repository, _: Option<Packs>| -> Result<(), GitError> {
            pool.forget(&project);
            Ok(())
        };
        pool.with(&layout, &project, forget).unwrap();
        assert_eq!(idle(), 0, "it was forgotten while it was in use");
        pool.with(&layout, &project, |_, _| Ok(())).unwrap();
        assert_eq!(idle(), 1);
        let object: lockstep_proto::Oid = "1".repeat(40).parse().unwrap();
        let damaged = |_: &Repository, _: Option<Packs>| -> Result<(), GitError> {
            Err(GitError::Damaged { project: project.clone(), object, why: "cut off".into() })
        };
        assert!(pool.with(&layout, &project, damaged).is_err());
        assert_eq!(idle(), 0, "it has met damage");
    }
}
