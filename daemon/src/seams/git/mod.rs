//! Repositories on the node's volume: packing, checking and storing objects, and moving refs.
//!
//! The contract that every implementation keeps (`tests/contract`):
//! - Objects before refs: [`Repositories::move_refs`] refuses a new value whose object is not there.
//! - [`Repositories::move_refs`] moves all refs or none, deletions first, and compares each old value.
//! - Nothing is durable until [`Repositories::sync`] has returned; everything that was moved or ingested before
//!   its call is durable then. A power cut may lose the rest, in any combination.
//! - [`Repositories::ingest`] lets nothing join a repository that was not checked: caps, hashes, format,
//!   connectivity. [`GitError::Missing`] names objects that it builds on and that are not there (park and
//!   fetch); [`GitError::Bad`] is content that is wrong in itself (quarantine).
//! - The sidecar is the only writer of refs; other programs may pack refs and collect garbage at any time.

mod child;
mod create;
mod fsck;
mod ingest;
mod intent;
mod layout;
mod local;
mod misplaced;
pub mod model;
mod note;
mod objects;
mod pack;
mod packfile;
mod pool;
mod quarantine;
mod ref_files;
mod relation;
mod repair;
mod scan;
mod stale;
mod stamp;
mod trees;
mod update_ref;
mod walk;
mod writer;

pub use create::OnCreate;
pub use local::{LocalRepositories, Settings};
pub use scan::PackLimits;

use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::{Oid, ProjectName, RefName};

use crate::seams::blob::Payload;

/// One ref's move in a local repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefMove {
    /// The ref.
    pub name: RefName,
    /// What it is now; none when it is not there.
    pub old: Option<Oid>,
    /// What it shall be; none deletes it.
    pub new: Option<Oid>,
}

/// Objects, packed for other sites.
#[derive(Clone, Debug)]
pub struct Packed {
    /// A git pack, version 2, not thin; none when nothing new is needed.
    pub payload: Option<Payload>,
    /// Committed objects that it builds on: with their closure the pack is complete. Sorted, no duplicates.
    pub bases: Vec<Oid>,
}

/// What a start-up repair found and mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Stale lock files of our own that were removed.
    pub locks: u64,
    /// Temporary packs and objects that were removed.
    pub temporaries: u64,
    /// Zero-length or garbled refs that were removed (their transactions are replayed).
    pub refs: u64,
    /// Empty or garbled objects that were removed (likewise).
    pub objects: u64,
}

/// Tells whether an object is the value of a ref that was committed: a base that every site has or will have. It is asked
/// while a repository is read, and answers at once.
pub type IsCommitted = Arc<dyn Fn(&Oid) -> bool + Send + Sync>;

/// How two values of a ref relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The new value contains the old one.
    FastForward,
    /// It does not, or they are no commits.
    Diverged,
}

/// How the numbers of two small blobs compare, when both are numbers: see [`Repositories::counter`].
///
/// # Errors
/// One of the objects is not there, or cannot be read.
pub async fn compare_counters(
    repositories: &dyn Repositories,
    project: &ProjectName,
    one: Oid,
    other: Oid,
) -> Result<Option<Ordering>, GitError> {
    let (one, other) = (repositories.counter(project, one).await?, repositories.counter(project, other).await?);
    Ok(one.zip(other).map(|(one, other)| one.cmp(&other)))
}

/// Why a repository did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// There is no such repository.
    #[error("there is no repository of project {0} on this volume")]
    NoRepository(ProjectName),
    /// Objects that are needed are not there.
    #[error("{project}: objects are missing: {oids:?}")]
    Missing {
        /// The project.
        project: ProjectName,
        /// At least one of them.
        oids: Vec<Oid>,
    },
    /// The content is wrong in itself.
    #[error("{project}: bad content: {why}")]
    Bad {
        /// The project.
        project: ProjectName,
        /// What is wrong.
        why: String,
    },
    /// A ref was not what `old` said; nothing was moved.
    #[error("{project}: {name} is {actual:?}, not {expected:?}")]
    RefMoved {
        /// The project.
        project: ProjectName,
        /// The ref.
        name: RefName,
        /// What the move expected.
        expected: Option<Oid>,
        /// What is there.
        actual: Option<Oid>,
    },
    /// The disk, git itself or the volume failed; what it did is not known.
    #[error("{project}: {op} failed: {why}")]
    Failed {
        /// The project.
        project: String,
        /// What was tried.
        op: &'static str,
        /// The whole chain of causes.
        why: String,
    },
}

/// The repositories of one volume. The module's own documentation is the contract.
#[async_trait]
pub trait Repositories: Send + Sync {
    /// Whether the project has a repository.
    async fn exists(&self, project: &ProjectName) -> Result<bool, GitError>;

    /// Makes a bare repository aside and renames it in; one that is there already is no error.
    async fn create(&self, project: &ProjectName, head: &RefName) -> Result<(), GitError>;

    /// Renames the repository out of the way (`.lockstep/trash`) and removes it; one that is not there is no error.
    async fn delete(&self, project: &ProjectName) -> Result<(), GitError>;

    /// Points `HEAD` to a branch, which need not exist.
    async fn set_head(&self, project: &ProjectName, target: &RefName) -> Result<(), GitError>;

    /// What `HEAD` points to.
    async fn head(&self, project: &ProjectName) -> Result<Option<RefName>, GitError>;

    /// What a ref is on disk; none when it is not there. A garbled ref is an error.
    async fn read_ref(&self, project: &ProjectName, name: &RefName) -> Result<Option<Oid>, GitError>;

    /// Every replicated ref on disk, in the order of their names.
    async fn list_refs(&self, project: &ProjectName) -> Result<Vec<(RefName, Oid)>, GitError>;

    /// Which of the objects are not there.
    async fn missing(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Oid>, GitError>;

    /// How a ref's new value relates to its old one. Costs in proportion to the commits between them.
    async fn relation(&self, project: &ProjectName, old: Oid, new: Oid) -> Result<Relation, GitError>;

    /// The same for several pairs of old and new values, in one go where that is cheaper.
    async fn relations(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<Relation>, GitError> {
        let mut relations = Vec::with_capacity(pairs.len());
        for (old, new) in pairs {
            relations.push(self.relation(project, *old, *new).await?);
        }
        Ok(relations)
    }

    /// Whether two commits have a commit in common behind them; what is no commit has none in common with any.
    async fn share_history(&self, project: &ProjectName, one: Oid, other: Oid) -> Result<bool, GitError>;

    /// The number that a small blob holds in decimal digits, as a sequence of Gerrit and its schema's version do; none when
    /// the object is anything else.
    async fn counter(&self, project: &ProjectName, oid: Oid) -> Result<Option<u64>, GitError>;

    /// The commits that are reachable from `tips` (tags are followed), sorted: at most about `most` of them, the latest.
    async fn commits_behind(&self, project: &ProjectName, tips: &[Oid], most: usize) -> Result<Vec<Oid>, GitError>;

    /// Commits on the way to `tip`, the oldest first, such that about `every` first parents lie between two of them; none on
    /// a way that is shorter, nor to what is no commit.
    async fn steps_to(&self, project: &ProjectName, tip: Oid, every: usize) -> Result<Vec<Oid>, GitError>;

    /// Packs what `wants` need beyond committed values. `is_committed` tells whether an object is the value of
    /// a ref (the caller's version map); `hints` are committed values to look at first (the refs' old values).
    /// Costs in proportion to what is new. Missing objects are [`GitError::Missing`].
    async fn pack(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        hints: &[Oid],
        is_committed: &IsCommitted,
    ) -> Result<Packed, GitError>;

    /// Checks packs and lets their objects join the repository, all or none a pack. `wants` are the values that
    /// must be complete afterwards, given that `bases` are.
    async fn ingest(
        &self,
        project: &ProjectName,
        packs: &[Payload],
        wants: &[Oid],
        bases: &[Oid],
    ) -> Result<(), GitError>;

    /// Moves refs, all or none. `keep` are values that stop being reachable and must stay fetchable until
    /// [`Repositories::release`] with the same label.
    async fn move_refs(&self, project: &ProjectName, moves: &[RefMove], keep: &[(String, Oid)])
    -> Result<(), GitError>;

    /// The labels of all kept values, in their order.
    async fn kept(&self, project: &ProjectName) -> Result<Vec<String>, GitError>;

    /// Lets go of kept values by their labels; unknown ones are no error.
    async fn release(&self, project: &ProjectName, labels: &[String]) -> Result<(), GitError>;

    /// Makes everything on the volume durable that was done before the call (`syncfs`).
    async fn sync(&self) -> Result<(), GitError>;

    /// Refuses a volume on which a repository lies where its project does not belong, or which is without a folder that may
    /// hold the repository of one of these projects.
    async fn check_folders(&self, _living: &[ProjectName]) -> Result<(), GitError> {
        Ok(())
    }

    /// Mends what a crash left: our own stale locks, temporary packs, zero-length refs; after an unclean boot
    /// also empty or garbled objects.
    async fn repair(&self, unclean_boot: bool) -> Result<RepairReport, GitError>;

    /// Of these projects, those in a folder of the volume that has not the word which [`Repositories::stamp`] left there last:
    /// another file system, or one of another time, than what the node remembers. The folder in which it remembers has no
    /// word.
    async fn unrecognized(&self, _word: &str, _projects: &[ProjectName]) -> Result<Vec<ProjectName>, GitError> {
        Ok(Vec::new())
    }

    /// Leaves a word in every folder of the volume, durably.
    async fn stamp(&self, _word: &str) -> Result<(), GitError> {
        Ok(())
    }

    /// A folder on the volume for large packs that arrive.
    fn spill(&self) -> PathBuf;
}
