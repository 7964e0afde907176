//! Projects and their open changes, as far as the generator knows them: a change is open once its creation was
//! acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use lockstep_proto::ProjectName;
use parking_lot::Mutex;

use crate::Fallible;

/// A change.
#[derive(Debug)]
pub struct Change {
    /// The number, unique over all projects.
    pub number: u32,
    /// The site at which its author works.
    pub home: u32,
    patch_sets: AtomicU32,
}

impl Change {
    /// A change with its first patch set.
    #[must_use]
    pub fn new(number: u32, home: u32) -> Self {
        Self { number, home, patch_sets: AtomicU32::new(1) }
    }

    /// Takes the number of the next patch set. Numbers of refused ones are not used again.
    pub fn next_patch_set(&self) -> u32 {
        self.patch_sets.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The name of a ref of this change: a patch set, or `meta`.
    #[must_use]
    pub fn name(&self, last: impl std::fmt::Display) -> String {
        format!("refs/changes/{:02}/{}/{last}", self.number % 100, self.number)
    }
}

/// A project.
#[derive(Debug)]
pub struct Project {
    pub name: ProjectName,
    open: Mutex<Vec<Arc<Change>>>,
}

/// Every project of a run.
#[derive(Debug)]
pub struct World {
    projects: Vec<Project>,
    users: Project,
    next_change: AtomicU32,
    next_request: AtomicU64,
    run: String,
}

impl World {
    /// The world of a run. `run` is a part of every name, so that runs on one estate do not meet.
    ///
    /// # Errors
    /// `run` cannot be a part of a project's name.
    pub fn new(run: &str, projects: u32) -> Fallible<Self> {
        let project =
            |name: String| -> Fallible<Project> { Ok(Project { name: name.parse()?, open: Mutex::default() }) };
        let all = (0..projects).map(|rank| project(format!("load-{run}/p{rank:04}"))).collect::<Fallible<_>>()?;
        let users = project(format!("load-{run}/users"))?;
        let (next_change, next_request) = (AtomicU32::new(1), AtomicU64::new(1));
        Ok(Self { projects: all, users, next_change, next_request, run: run.to_owned() })
    }

    /// The names of all projects. The last one stands for All-Users.
    pub fn names(&self) -> impl Iterator<Item = &ProjectName> {
        self.projects.iter().chain([&self.users]).map(|project| &project.name)
    }

    /// The project of a rank.
    #[must_use]
    pub fn project(&self, rank: u32) -> &Project {
        &self.projects[rank as usize % self.projects.len()]
    }

    /// The project that stands for All-Users.
    #[must_use]
    pub fn users(&self) -> &Project {
        &self.users
    }

    /// The number of projects, without that of the users.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.projects.len()).unwrap_or(u32::MAX)
    }

    /// A new change number.
    pub fn next_change(&self) -> u32 {
        self.next_change.fetch_add(1, Ordering::Relaxed)
    }

    /// A new request id.
    pub fn next_request(&self) -> String {
        format!("load-{}-{}", self.run, self.next_request.fetch_add(1, Ordering::Relaxed))
    }
}

impl Project {
    /// Picks an open change. None if there is none.
    #[must_use]
    pub fn pick(&self, pick: u64) -> Option<Arc<Change>> {
        let open = self.open.lock();
        let at = usize::try_from(pick % (open.len().max(1) as u64)).unwrap_or(0);
        open.get(at).cloned()
    }

    /// Picks different open changes, at most `count`.
    #[must_use]
    pub fn pick_many(&self, pick: u64, count: u32) -> Vec<Arc<Change>> {
        let open = self.open.lock();
        let from = usize::try_from(pick % (open.len().max(1) as u64)).unwrap_or(0);
        open.iter().cycle().skip(from).take(open.len().min(count as usize)).cloned().collect()
    }

    /// Adds changes whose creation was acknowledged.
    pub fn opened(&self, changes: impl IntoIterator<Item = Arc<Change>>) {
        self.open.lock().extend(changes);
    }

    /// Removes changes whose submit was acknowledged.
    pub fn closed(&self, changes: &[Arc<Change>]) {
        self.open.lock().retain(|open| !changes.iter().any(|closed| closed.number == open.number));
    }
}
