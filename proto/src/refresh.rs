//! Bodies of the refresh API (JSON): the subjects that a Gerrit's index and caches must look at again.
//!
//! A [`Subject`] is a thing for which Gerrit keeps one document or one cache entry. There is one task per subject at a
//! time, however often its refs move. A task states the values at the last acknowledgement and the values now.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{ProjectName, RefName};
use crate::oid::Oid;

/// A thing that can be out of date in a Gerrit. The order of the variants is the order in which the subjects of one
/// project are refreshed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// The existence of a project.
    Project {
        /// The name, whether or not a project has it now.
        project: ProjectName,
    },
    /// A project's configuration and access rights: `refs/meta/config`.
    ProjectConfig {
        /// The project whose configuration moved.
        project: ProjectName,
    },
    /// Every change of a project.
    Changes {
        /// The project with all its changes.
        project: ProjectName,
    },
    /// One change: its document in the index, and its caches.
    Change {
        /// The project of the change.
        project: ProjectName,
        /// The number of the change.
        number: u32,
    },
    /// A branch. The mergeability of its open changes depends on it.
    Branch {
        /// The project that has the branch.
        project: ProjectName,
        /// The full name of the branch.
        #[serde(rename = "ref")]
        name: RefName,
    },
    /// One account: its document in the index, and its cache entry.
    Account {
        /// The number of the account.
        account: u32,
    },
    /// One group that Gerrit itself keeps.
    Group {
        /// The UUID of the group.
        group: String,
    },
    /// The names of all groups.
    GroupNames,
    /// The external ids: the identities with which accounts log in.
    ExternalIds,
}

impl Subject {
    /// The project of the subject. None for a subject that all projects share.
    #[must_use]
    pub fn project(&self) -> Option<&ProjectName> {
        match self {
            Self::Project { project }
            | Self::ProjectConfig { project }
            | Self::Changes { project }
            | Self::Change { project, .. }
            | Self::Branch { project, .. } => Some(project),
            Self::Account { .. } | Self::Group { .. } | Self::GroupNames | Self::ExternalIds => None,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Project { project } => write!(out, "project {project}"),
            Self::ProjectConfig { project } => write!(out, "configuration of project {project}"),
            Self::Changes { project } => write!(out, "all changes of project {project}"),
            Self::Change { project, number } => write!(out, "change {project}~{number}"),
            Self::Branch { project, name } => write!(out, "{name} of project {project}"),
            Self::Account { account } => write!(out, "account {account}"),
            Self::Group { group } => write!(out, "group {group}"),
            Self::GroupNames => write!(out, "names of groups"),
            Self::ExternalIds => write!(out, "external ids"),
        }
    }
}

/// The work that a task asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// A project was created, deleted, or both.
    Project {
        /// The name, whether or not a project has it now.
        #[schema(value_type = String)]
        project: ProjectName,
        /// Whether a project of this name was deleted. If so, everything that Gerrit knows of it is out of date.
        deleted: bool,
        /// Whether a project of this name exists now.
        exists: bool,
    },
    /// `refs/meta/config` of a project has moved, so its access rights may differ.
    ProjectConfig {
        /// The project whose configuration moved.
        #[schema(value_type = String)]
        project: ProjectName,
        /// The value at the last acknowledgement.
        #[schema(value_type = Option<String>)]
        old: Option<Oid>,
        /// The latest applied value. None if the ref does not exist.
        #[schema(value_type = Option<String>)]
        new: Option<Oid>,
    },
    /// So many changes have moved that every change of the project must be looked at.
    Changes {
        /// The project with all its changes.
        #[schema(value_type = String)]
        project: ProjectName,
    },
    /// A ref of a change has moved.
    Change {
        /// The project that has the change.
        #[schema(value_type = String)]
        project: ProjectName,
        /// The number of the change.
        number: u32,
    },
    /// A branch has moved.
    Branch {
        /// The project that has the branch.
        #[schema(value_type = String)]
        project: ProjectName,
        /// The full name of the branch.
        #[serde(rename = "ref")]
        #[schema(value_type = String)]
        name: RefName,
    },
    /// An account has changed.
    Account {
        /// The number of the account.
        account: u32,
    },
    /// A group has changed.
    Group {
        /// The UUID of the group.
        group: String,
        /// The value of the group's ref at the last acknowledgement.
        #[schema(value_type = Option<String>)]
        old: Option<Oid>,
        /// The value of the group's ref now.
        #[schema(value_type = Option<String>)]
        new: Option<Oid>,
    },
    /// The names of groups have changed.
    GroupNames {
        /// The value of `refs/meta/group-names` at the last acknowledgement.
        #[schema(value_type = Option<String>)]
        old: Option<Oid>,
        /// The value of that ref now.
        #[schema(value_type = Option<String>)]
        new: Option<Oid>,
    },
    /// The external ids of accounts have changed.
    ExternalIds {
        /// The value of `refs/meta/external-ids` at the last acknowledgement.
        #[schema(value_type = Option<String>)]
        old: Option<Oid>,
        /// The value of that ref now.
        #[schema(value_type = Option<String>)]
        new: Option<Oid>,
    },
}

/// A task for a Gerrit: refresh one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// The id with which the task is acknowledged.
    pub id: u64,
    /// Whether only commits of this node caused the task. If so, Gerrit has probably done the work already.
    pub own: bool,
    /// The number of this try, counted from 1.
    pub attempt: u32,
    /// The work to do.
    #[serde(flatten)]
    pub work: Work,
}

/// A request for tasks. It waits if there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TasksRequest {
    /// A random id of the Gerrit process, 1 to 128 bytes. A new session supersedes the one before it: unacknowledged
    /// tasks are handed out again.
    pub session: String,
    /// The most tasks to return, 1 to 256.
    pub most: u32,
    /// How long to wait for the first task, in milliseconds, 0 to 30,000.
    pub wait_ms: u64,
    /// How long this Gerrit may keep an index update in memory before it writes it to its disk (the longest
    /// `index.*.commitWithin`), in milliseconds, at most one day. If it is missing, the sidecar's setting
    /// `gerrit.commit_within` applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_within_ms: Option<u64>,
}

/// The tasks that are due. The list is empty if none became due within the wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TasksResponse {
    /// The tasks, in the order in which they must be done.
    pub tasks: Vec<Task>,
}

/// Reports how tasks ended: at most 256 in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DoneRequest {
    /// The session that fetched the tasks.
    pub session: String,
    /// The ids of tasks that were done.
    #[serde(default)]
    pub done: Vec<u64>,
    /// The tasks that failed. They are handed out again.
    #[serde(default)]
    pub failed: Vec<FailedTask>,
}

/// A task that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailedTask {
    /// The id of the task.
    pub id: u64,
    /// The reason, for people to read. It is cut off after 512 bytes.
    pub why: String,
}

/// An empty answer: the report was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoneResponse {}
