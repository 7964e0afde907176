//! Why a standby on a copy is red. The report of the drill has the text.

use std::path::PathBuf;

use lockstep_proto::bridge::{ApiError, Outcome};
use lockstep_proto::{NameError, ProjectName};

use super::super::{NoProgramPath, StartError, VolumeError};
use crate::node::silent_drill::words::SayError;
use crate::seams::eventlog::EventLogError;
use crate::seams::git::GitError;
use crate::seams::probe::ProbeError;
use crate::seams::volume::StoreError;
use crate::seams::volume::lock::LockError;
use crate::stages::api::server::BindError;
use crate::stages::ports::ComparisonError;
use crate::telemetry::TelemetryError;

/// Why a standby on a copy could not be brought up, promoted, probed or compared.
#[derive(Debug, thiserror::Error)]
pub enum SilentError {
    /// The first line of standard input is no plan.
    #[error("the plan cannot be read: {0}")]
    Plan(std::io::Error),
    /// The memory of the child cannot be bounded.
    #[error("drill.silent.memory: {0}")]
    Memory(std::io::Error),
    /// A word of the child did not reach its parent.
    #[error(transparent)]
    Say(#[from] SayError),
    /// No key can be made to sign with.
    #[error("the machine gives no randomness for a key")]
    NoRandomness,
    /// A file in the copy cannot be written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The rebuild of a refdb has failed, for this reason.
    #[error("no refdb can be made from the version map of the copy: {0}")]
    NoRefDb(String),
    /// The standby has fenced itself.
    #[error("the standby on the copy has stopped; its log is in the log of this sidecar")]
    Fenced,
    /// The standby did not come so far in time.
    #[error("not in time: {0}")]
    Late(&'static str),
    /// The standby has refused a request of the drill.
    #[error("{}", .0.message)]
    Refused(ApiError),
    /// The failover on the copy holds itself, for this reason.
    #[error("the failover on the copy holds: {0}")]
    Held(String),
    /// No node of the promoted copy took writes: the note of the step.
    #[error("the promoted copy took no writes: {0}")]
    Unserved(String),
    /// The step `probe` of the failover was not green: its note.
    #[error("the commit path of the promoted copy is red: {0}")]
    RedCommitPath(String),
    /// The project that is pushed to was not created: its outcome, and the refusal.
    #[error("project {0} of the promoted copy is {1:?}: {2}")]
    NoProject(ProjectName, Outcome, String),
    /// Every name for such a project is taken. They begin with this.
    #[error("every name that begins with {0} is taken")]
    NoName(&'static str),
    /// A push or a fetch by git was never green: the last reasons.
    #[error("the probes of the promoted copy are red: {0}")]
    RedProbes(String),
    /// The program of the Gerrit cannot be started.
    #[error("drill.silent.gerrit_command {0}: {1}")]
    NoGerrit(PathBuf, std::io::Error),
    /// The program of the Gerrit has ended in this way, before this page answered.
    #[error("drill.silent.gerrit_command {0} has ended ({1}) before {2} answered")]
    GerritEnded(PathBuf, String, String),
    /// The operating system refuses an operation.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A value cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The name of a ref is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The log of the child cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The path of this program is not known.
    #[error(transparent)]
    NoProgramPath(#[from] NoProgramPath),
    /// The copy of the volume cannot be used.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The copy of the volume is locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store in the copy has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event log in memory has failed.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    /// The node on the copy does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The socket in the copy cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A repository in the copy cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The page of the Gerrit cannot be asked.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The refs of the copy cannot be compared.
    #[error(transparent)]
    Comparison(#[from] ComparisonError),
}
