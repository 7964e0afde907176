//! Port: the failover stage has a copy of this node's volume made, and a standby brought up on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::silent::SilentStep;
use lockstep_proto::{LaneId, ProjectName, Seq, SiteId};

use crate::seams::copy::CopyError;
use crate::seams::volume::StoreError;

/// Takes the present step, for people. Must return at once.
pub type Doing = Arc<dyn Fn(String) + Send + Sync>;

/// Why a copy cannot be made, or cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum StandbyCopyError {
    /// The program of `drill.silent.command` has failed: its path, the action, and the reason.
    #[error("drill.silent.command {0} ({1}): {2}")]
    Command(PathBuf, &'static str, String),
    /// This program has made the copy, and must remove it, but the settings name another one.
    #[error(
        "{0} has made the copy, and drill.silent.command does not name it any more: name it again, or remove the copy \
         by hand"
    )]
    Foreign(String),
    /// A file or folder of the copy cannot be made or removed.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// The volume cannot be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The folder of the Gerrit cannot be copied.
    #[error("drill.silent.gerrit_site: {0}")]
    Gerrit(CopyError),
    /// The version map, or its copy, cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy does not fit beside the volume, for this reason.
    #[error("{0}")]
    NoRoom(String),
    /// The node has not met a refdb since its volume was made.
    #[error("the volume belongs to no refdb yet: wait until this node is ready")]
    NoRefDb,
    /// The version map names this project, and the volume lacks its repository.
    #[error("project {0} has no repository on this volume; see `lockstep status`")]
    NoRepository(ProjectName),
    /// The thread that works on the copy has ended early.
    #[error(transparent)]
    Thread(#[from] tokio::task::JoinError),
}

/// Makes copies of this node's volume. One at a time.
#[async_trait]
pub trait StandbyCopies: Send + Sync {
    /// Why no copy can be made at present: too little memory or space, or the wrong file system. `None` if one can.
    /// Changes nothing that lasts.
    async fn obstacle(&self) -> Option<String>;

    /// Makes a copy, after it has removed the leftovers of an earlier one. When the future is dropped, the copy is
    /// given up.
    ///
    /// # Errors
    /// It cannot be made. A part of it may be there until it is removed.
    async fn make(&self, doing: Doing) -> Result<Box<dyn StandbyCopy>, StandbyCopyError>;

    /// Removes all copies.
    ///
    /// # Errors
    /// Something is left.
    async fn remove(&self) -> Result<(), StandbyCopyError>;
}

/// A copy of this node's volume.
#[async_trait]
pub trait StandbyCopy: Send + Sync {
    /// The state of the volume when it was copied.
    fn made(&self) -> &CopyMade;

    /// Brings the standby up on the copy with a refdb of its own, promotes it over `from`, probes it, and compares its
    /// refs with the version map as of the copy. When the future is dropped, all processes on the copy are killed.
    async fn bring_up(&mut self, from: &SiteId, doing: Doing) -> BroughtUp;
}

/// The state of a volume when it was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyMade {
    /// How it was copied: `reflink`, `full` or `command`.
    pub way: &'static str,
    /// The time that this took, in milliseconds.
    pub took_ms: u64,
    /// The bytes of its files. `None` if they were not counted.
    pub bytes: Option<u64>,
    /// Per lane: every slot below it is applied in the copy.
    pub applied: BTreeMap<LaneId, Seq>,
    /// Committed transactions that the copy holds as quarantined.
    pub held: u64,
    /// Facts for the report.
    pub notes: Vec<String>,
}

/// How far a standby came on a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BroughtUp {
    /// Why it is red. Empty if it is green.
    pub red: Vec<String>,
    /// From the copy being made until the standby took writes, in milliseconds.
    pub took_writes_ms: Option<u64>,
    /// From the copy being made until every probe was green, in milliseconds.
    pub green_ms: Option<u64>,
    /// The projects whose refs were compared.
    pub projects: u64,
    /// The refs that were compared.
    pub refs: u64,
    /// The steps that were completed.
    pub steps: Vec<SilentStep>,
}
