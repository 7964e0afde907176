//! The repositories on the node's volume: packs, checks and stores objects, and moves refs.
//!
//! Every implementation keeps this contract (`tests/src/contract`):
//! - Objects come before refs: [`Repositories::move_refs`] refuses a new value whose object is absent.
//! - [`Repositories::move_refs`] moves all refs or none, deletions first, and compares each old value.
//! - Nothing is durable until [`Repositories::sync`] has returned. Then everything that was moved or ingested before
//!   the call is durable. A power cut may lose any combination of the rest.
//! - [`Repositories::ingest`] admits only checked objects to a repository: caps, hashes, format, connectivity.
//!   [`GitError::Missing`] names objects that the packs build on and that are absent (park the transaction and fetch
//!   them). [`GitError::Bad`] and [`GitError::Flawed`] mean that the content itself is wrong (quarantine it).
//! - Everything that [`Repositories::pack`] has packed is taken by [`Repositories::ingest`]: both use the same parser
//!   and the same limits. An object that git cannot walk is [`GitError::Flawed`] at the origin.
//! - An object whose bytes are not those of its id is [`GitError::Damaged`], never absent, and no read of it hangs. A
//!   pack that has it replaces a damaged loose copy.
//! - The sidecar is the only writer of refs. Other programs may pack refs and collect garbage at any time.
//!
//! | file | content |
//! |---|---|
//! | `local` | the repositories of a local volume: libgit2 for objects, git for refs |
//! | `model` | simulated repositories, without git or disk |
//! | `layout`, `misplaced` | the folders of the volume; repositories in the wrong one |
//! | `kept_refs` | the names of the refs that hold kept values |
//! | `base_path_stamp` | recognises a base path that was changed or restored |
//! | `create` | creates and deletes repositories |
//! | `pack`, `packfile`, `walk`, `trees` | pack the objects that other sites lack |
//! | `ingest`, `scan`, `index_pack`, `early_end` | check objects from outside, and add them |
//! | `parse` | parses objects exactly as far as git walks them, at origin and receivers alike |
//! | `judge` | the server's own rules for objects, before the commit |
//! | `upload_pack` | answers a fetch of git |
//! | `odb`, `loose` | the one way to objects; loose ones are read here, packed ones by libgit2 |
//! | `objects`, `pool`, `ancestry` | queries: presence of objects, open repositories, fast-forwards |
//! | `sound`, `object_ids` | checks objects that are there, slice by slice; all ids of a repository in order |
//! | `writer`, `update_ref`, `child` | move refs through long-lived git processes |
//! | `first_refs` | creates the refs of a project that arrives |
//! | `symbolic_refs` | symbolic refs that are in the place of a committed ref |
//! | `fitness` | tells whether Lockstep can take a repository |
//! | `ref_files` | reads refs from the disk |
//! | `watched` | reads refs that other programs write, for shadow mode |
//! | `intent`, `stale_locks`, `repair` | locks of the sidecar's own, locks of a killed git, repair at start-up |
//! | `mend`, `seen_damage` | damage in the objects of one repository, while the sidecar runs; damage that was met |
//! | `salvage`, `files` | puts a damaged pack away, and keeps its intact objects; the names of files |
//! | `foreign_lock` | locks of other programs: their age, and words for people |
//! | `left_locks` | looks for locks that programs left behind |
//! | `settings` | limits and paths |
//! | `settings_seen` | the settings of a repository as git sees them there |
//! | `small_file` | a small file that is read and replaced as a whole |

mod ancestry;
mod base_path_stamp;
mod child;
mod create;
mod early_end;
mod files;
mod first_refs;
pub mod fitness;
mod foreign_lock;
mod index_pack;
mod ingest;
mod intent;
mod judge;
mod kept_refs;
mod layout;
pub mod left_locks;
mod local;
mod loose;
mod mend;
mod misplaced;
pub mod model;
mod object_ids;
mod objects;
mod odb;
mod pack;
mod packfile;
mod parse;
mod pool;
mod ref_files;
mod repair;
mod salvage;
mod scan;
mod seen_damage;
mod settings;
pub mod settings_seen;
mod small_file;
mod sound;
mod stale_locks;
mod symbolic_refs;
mod trees;
mod update_ref;
mod upload_pack;
mod walk;
pub mod watched;
mod writer;

pub use local::LocalRepositories;
pub use scan::PackLimits;
pub use settings::{FsckObjects, OnCreate, PrepareError, Settings};
pub use update_ref::REFLOG_MESSAGE;
pub use upload_pack::{FetchStep, UploadPack};

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::{Oid, ProjectName, RefName};

pub use fitness::Fitness;

use crate::seams::blob::Payload;

/// The move of one ref in a local repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefMove {
    /// The name of the ref.
    pub name: RefName,
    /// The current value; `None` if the ref does not exist.
    pub old: Option<Oid>,
    /// The new value; `None` deletes the ref.
    pub new: Option<Oid>,
    /// The message for the ref's reflog, if it has one; empty for [`REFLOG_MESSAGE`].
    pub message: String,
}

/// Objects that were packed for other sites.
#[derive(Clone, Debug)]
pub struct Packed {
    /// A self-contained (not thin) git pack of version 2; `None` when the other sites need no new object.
    pub payload: Option<Payload>,
    /// The committed objects that the pack builds on. The pack is complete together with their closures. Sorted, no
    /// duplicates.
    pub bases: Vec<Oid>,
}

/// Counts of the damage that a start-up repair found and repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Removed stale lock files of the sidecar.
    pub locks: u64,
    /// Removed temporary packs and objects.
    pub temporaries: u64,
    /// Removed empty or garbled refs. Their transactions are replayed.
    pub refs: u64,
    /// Removed empty or garbled loose objects, and renamed garbled packs. Their transactions are replayed.
    pub objects: u64,
}

/// A slice of a repository's objects, in the order of their ids.
#[derive(Clone, Copy, Debug)]
pub struct ObjectSlice {
    /// The slice begins behind this id. `None` begins at the first object.
    pub after: Option<Oid>,
    /// The most objects of the slice.
    pub most: usize,
    /// The slice ends early after this time, but not before its first object.
    pub time: Duration,
}

/// The result of the check of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceChecked {
    /// The number of objects that were checked.
    pub objects: u64,
    /// The last object that was checked. `None` when the slice was the last one of the repository.
    pub next: Option<Oid>,
    /// Objects that cannot be read, or have another content than their ids say, and absent objects to which an object
    /// of the slice points. Sorted, no duplicates.
    pub unsound: Vec<Oid>,
}

/// Tells whether an object is the value of a ref in the version map, so that every site has it or will have it. It is
/// called while a repository is read, and must return at once.
pub type IsCommitted = Arc<dyn Fn(&Oid) -> bool + Send + Sync>;

/// The relation between the old and the new value of a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The old value is an ancestor of the new one, or equal to it.
    FastForward,
    /// The old value is no ancestor of the new one, or one of them is not a commit.
    Diverged,
}

/// Compares the numbers that two small blobs hold; `None` unless both hold one. See [`Repositories::counter`].
///
/// # Errors
/// An object is absent or unreadable.
pub async fn compare_counters(
    repositories: &dyn Repositories,
    project: &ProjectName,
    one: Oid,
    other: Oid,
) -> Result<Option<Ordering>, GitError> {
    let (one, other) = (repositories.counter(project, one).await?, repositories.counter(project, other).await?);
    Ok(one.zip(other).map(|(one, other)| one.cmp(&other)))
}

/// An object that cannot be replicated, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("object {object}: {why}")]
pub struct Flaw {
    /// The id of the object.
    pub object: Oid,
    /// git's message id where there is one, and the reason.
    pub why: String,
}

/// The judge of a batch's objects by the rules of `fsck`, before it came to the sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Judged {
    /// Nobody: the sidecar asks git, if the server's configuration says so.
    #[default]
    No,
    /// git's receive-pack or Gerrit's checker. A site may be set to judge again.
    ByServer,
    /// Nobody, and nobody shall: an existing history is taken as it is.
    TakenAsItIs,
}

/// Why an operation on a repository failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// The project has no repository on this volume.
    #[error("there is no repository of project {0} on this volume")]
    NoRepository(ProjectName),
    /// Objects that the operation needs are absent.
    #[error("{project}: objects are missing: {oids:?}")]
    Missing {
        /// The project whose objects are missing.
        project: ProjectName,
        /// At least one of the absent objects.
        oids: Vec<Oid>,
    },
    /// An object is here, and its bytes are not those of its id: a file that is cut off, or a disk that has changed it.
    #[error(
        "{project}: object {object} is damaged: {why}; the verification in the background fetches it from a peer, and \
         `lockstep resync` does so now; a retry helps afterwards"
    )]
    Damaged {
        /// The project whose object is damaged.
        project: ProjectName,
        /// The id of the object.
        object: Oid,
        /// The damage, as git or this process found it.
        why: String,
    },
    /// Git cannot walk an object, or the rules of this server refuse it; a retry does not help.
    #[error("{project}: {flaw}")]
    Flawed {
        /// The project that the object was for.
        project: ProjectName,
        /// The object and its flaw.
        flaw: Flaw,
    },
    /// The content itself is wrong; a retry does not help.
    #[error("{project}: bad content: {why}")]
    Bad {
        /// The project that the content was for.
        project: ProjectName,
        /// A description of the defect.
        why: String,
    },
    /// A ref did not have the expected old value. No ref was moved.
    #[error("{project}: {name} is {actual:?}, not {expected:?}")]
    RefMoved {
        /// The project whose refs should have moved.
        project: ProjectName,
        /// The ref that has another value.
        name: RefName,
        /// The value that the move expected; `None` for an absent ref.
        expected: Option<Oid>,
        /// The value on disk; `None` for an absent ref.
        actual: Option<Oid>,
    },
    /// The disk, git or the volume failed. It is unknown how much of the operation took effect.
    #[error("{project}: {op} failed: {why}")]
    Failed {
        /// The project, or `(all)` for an operation on the whole volume.
        project: String,
        /// The attempted operation, as words for people.
        op: &'static str,
        /// The complete chain of causes.
        why: String,
    },
}

/// The repositories of one volume. The contract is in the module's documentation.
#[async_trait]
pub trait Repositories: Send + Sync {
    /// Returns whether the project has a repository.
    async fn exists(&self, project: &ProjectName) -> Result<bool, GitError>;

    /// Creates a bare repository in a temporary folder and renames it into place. An existing repository is not an
    /// error.
    async fn create(&self, project: &ProjectName, head: &RefName) -> Result<(), GitError>;

    /// Renames the repository into `.lockstep/trash` and removes it there. An absent repository is not an error.
    async fn delete(&self, project: &ProjectName) -> Result<(), GitError>;

    /// Points `HEAD` to a branch. The branch need not exist.
    async fn set_head(&self, project: &ProjectName, target: &RefName) -> Result<(), GitError>;

    /// Returns the branch to which `HEAD` points; `None` when it is detached.
    async fn head(&self, project: &ProjectName) -> Result<Option<RefName>, GitError>;

    /// Returns the value of a ref on disk; `None` when the ref does not exist. A symbolic ref has the value of its
    /// target. A garbled ref is an error.
    async fn read_ref(&self, project: &ProjectName, name: &RefName) -> Result<Option<Oid>, GitError>;

    /// Makes those of the refs direct that are symbolic, with the values that they show. One that shows none is
    /// deleted. Nobody replicates symbolic refs, and none may stand in the way of a committed ref: one whose name
    /// excludes one of the names is deleted, too. Returns how many there were.
    async fn make_direct(&self, _project: &ProjectName, _names: &[RefName]) -> Result<usize, GitError> {
        Ok(0)
    }

    /// Tells whether Lockstep can take the repository, and which of its refs are left out.
    async fn fitness(&self, _project: &ProjectName) -> Result<Fitness, GitError> {
        Ok(Fitness::default())
    }

    /// Returns every replicated ref on disk, in the order of the names. A symbolic ref is none.
    async fn list_refs(&self, project: &ProjectName) -> Result<Vec<(RefName, Oid)>, GitError>;

    /// Returns those of the objects that the repository does not have.
    async fn missing(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Oid>, GitError>;

    /// Checks a slice of the objects: each can be read, has the content that its id says, and every object to which it
    /// points is there. All slices together prove by induction that whatever a present object needs is present and
    /// intact. An object that no ref needs is checked, too. An object of 64 MiB or more that is in a pack is not read.
    async fn check_objects(&self, _project: &ProjectName, _slice: ObjectSlice) -> Result<SliceChecked, GitError> {
        Ok(SliceChecked::default())
    }

    /// Returns those of the objects that are absent or cannot be read.
    async fn unsound(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
        self.missing(project, oids).await
    }

    /// Renames the files with damaged copies of these objects, so that git reads them no more and takes new copies:
    /// loose objects, and packs whose checksum is wrong. Nothing is deleted. Returns the number of renamed files. The
    /// intact objects of such a pack are in a new pack afterwards, but for those of 64 MiB or more.
    async fn set_aside(&self, _project: &ProjectName, _oids: &[Oid]) -> Result<u64, GitError> {
        Ok(0)
    }

    /// Runs `git fsck` within the limits of a git that checks packs. Returns the beginning of its output if it finds
    /// that something which a ref needs is absent or damaged. The rules for the content of objects do not count.
    async fn fsck(&self, _project: &ProjectName) -> Result<Option<String>, GitError> {
        Ok(None)
    }

    /// Relates a ref's new value to its old one. The cost is proportional to the number of commits between them.
    async fn relation(&self, project: &ProjectName, old: Oid, new: Oid) -> Result<Relation, GitError>;

    /// Relates several pairs of old and new values, in one pass where that is cheaper.
    async fn relations(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<Relation>, GitError> {
        let mut relations = Vec::with_capacity(pairs.len());
        for (old, new) in pairs {
            relations.push(self.relation(project, *old, *new).await?);
        }
        Ok(relations)
    }

    /// Returns whether two commits have a common ancestor. An object that is not a commit shares history with none.
    async fn share_history(&self, project: &ProjectName, one: Oid, other: Oid) -> Result<bool, GitError>;

    /// Tells of several pairs whether they share history, in one pass where that is cheaper.
    async fn share_histories(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<bool>, GitError>;

    /// Returns the number that a small blob holds in decimal digits, as Gerrit's sequences and its schema version do.
    /// `None` for any other object.
    async fn counter(&self, project: &ProjectName, oid: Oid) -> Result<Option<u64>, GitError>;

    /// Returns the numbers of several objects, in one pass where that is cheaper.
    async fn counters(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Option<u64>>, GitError>;

    /// Returns about `most` of the newest commits that are reachable from `tips`, sorted by id. Tags are followed.
    async fn commits_behind(&self, project: &ProjectName, tips: &[Oid], most: usize) -> Result<Vec<Oid>, GitError>;

    /// Returns every `every`-th commit along the first parents from the beginning of history to `tip`, oldest first and
    /// without `tip` itself. Empty when that history is shorter than `every`, or when `tip` is not a commit.
    async fn steps_to(&self, project: &ProjectName, tip: Oid, every: usize) -> Result<Vec<Oid>, GitError>;

    /// Packs every object that `wants` need beyond committed values. `is_committed` tells whether an object is the
    /// value of a ref in the caller's version map. `hints` are committed values to look at first: the refs' old values.
    /// The cost is proportional to the number of new objects. Absent objects are [`GitError::Missing`].
    async fn pack(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        hints: &[Oid],
        is_committed: &IsCommitted,
    ) -> Result<Packed, GitError>;

    /// Starts git's own `upload-pack` for one step of a fetch, in version 2 of git's protocol. It is read-only, shows
    /// replicated refs alone, and is killed when the value is dropped.
    async fn upload_pack(&self, project: &ProjectName, _step: FetchStep) -> Result<UploadPack, GitError> {
        Err(layout::failed(project, upload_pack::OP, "these repositories are not read by git"))
    }

    /// Packs objects as [`Repositories::pack`] does, for one peer. The peer judges the pack when it takes it, so it is
    /// not rehearsed here.
    async fn pack_for_peer(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        haves: &[Oid],
        is_known: &IsCommitted,
    ) -> Result<Packed, GitError> {
        self.pack(project, wants, haves, is_known).await
    }

    /// Packs these objects alone, for a peer that has lost them and has everything to which they point. An
    /// implementation may pack that too.
    async fn pack_alone(&self, project: &ProjectName, oids: &[Oid]) -> Result<Packed, GitError> {
        let nothing: IsCommitted = Arc::new(|_| false);
        self.pack_for_peer(project, oids, &[], &nothing).await
    }

    /// Judges a pack that was made here by the rules of this server (git's `receive.fsckObjects` and `receive.fsck.*`).
    /// [`GitError::Flawed`] names the first object that breaks one. A repository without rules takes everything.
    async fn judge(&self, _project: &ProjectName, _pack: &Payload, _judged: Judged) -> Result<(), GitError> {
        Ok(())
    }

    /// Checks packs and adds their objects to the repository, all or none per pack. Afterwards `wants` must be
    /// complete, on the assumption that `bases` are.
    async fn ingest(
        &self,
        project: &ProjectName,
        packs: &[Payload],
        wants: &[Oid],
        bases: &[Oid],
    ) -> Result<(), GitError>;

    /// Moves refs, all or none. `keep` are labelled values that stop being reachable. They stay fetchable until
    /// [`Repositories::release`] is called with their label.
    async fn move_refs(&self, project: &ProjectName, moves: &[RefMove], keep: &[(String, Oid)])
    -> Result<(), GitError>;

    /// Returns the labels of all kept values, sorted.
    async fn kept(&self, project: &ProjectName) -> Result<Vec<String>, GitError>;

    /// Releases kept values by label. Unknown labels are not an error.
    async fn release(&self, project: &ProjectName, labels: &[String]) -> Result<(), GitError>;

    /// Makes durable everything that was done on the volume before the call (`syncfs`).
    async fn sync(&self) -> Result<(), GitError>;

    /// Refuses a volume on which a repository lies outside the folder of its project, or from which a former base path
    /// is missing that may hold the repository of one of these projects.
    async fn check_folders(&self, _living: &[ProjectName]) -> Result<(), GitError> {
        Ok(())
    }

    /// Repairs the traces of a crash: stale locks of the sidecar, temporary packs and empty refs; after an unclean boot
    /// also empty or garbled objects.
    async fn repair(&self, unclean_boot: bool) -> Result<RepairReport, GitError>;

    /// Returns the number of garbled files: of objects (empty, or of another content than their name or checksum says)
    /// and of loose refs. Takes them away if `away` says so: their objects and refs are missing then. Reads every
    /// object of the repository.
    async fn garbled(&self, project: &ProjectName, away: bool) -> Result<u64, GitError>;

    /// Returns whether every object that these values need is present. The cost is proportional to their history. The
    /// contents of objects without links are not read: [`Repositories::garbled`] finds those that are damaged.
    async fn is_complete(&self, project: &ProjectName, values: &[Oid]) -> Result<bool, GitError>;

    /// Returns those of the projects whose base path does not carry `word`, the stamp that the last
    /// [`Repositories::stamp`] wrote. Such a base path is another file system than the node remembers, or was restored
    /// to another time. The root itself has no stamp, because the node's own records lie there.
    async fn unrecognized(&self, _word: &str, _projects: &[ProjectName]) -> Result<Vec<ProjectName>, GitError> {
        Ok(Vec::new())
    }

    /// Writes a stamp into every base path, durably.
    async fn stamp(&self, _word: &str) -> Result<(), GitError> {
        Ok(())
    }

    /// Takes the damaged objects that operations have met since the last call, as far as their number is bounded.
    fn take_damage(&self) -> BTreeMap<ProjectName, BTreeSet<Oid>> {
        BTreeMap::new()
    }

    /// Returns the folder on the volume for large incoming packs.
    fn spill(&self) -> PathBuf;
}
