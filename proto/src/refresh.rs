//! Bodies of the refresh API (JSON): what a Gerrit's index and caches must look at again.
//!
//! A [`Subject`] is what Gerrit keeps one document or one cache entry of. However often its refs move, there is one task of
//! it at a time: tasks are coalesced by subject, and say what was there when the last one was acknowledged and what is now.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{ProjectName, RefName};
use crate::oid::Oid;

/// What can be out of date in a Gerrit. The order of the subjects of one project is the order in which they are refreshed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// That a project is there, or not.
    Project {
        /// The project.
        project: ProjectName,
    },
    /// A project's configuration and access rights: `refs/meta/config`.
    ProjectConfig {
        /// The project.
        project: ProjectName,
    },
    /// Every change of a project.
    Changes {
        /// The project.
        project: ProjectName,
    },
    /// A change.
    Change {
        /// Its project.
        project: ProjectName,
        /// Its number.
        number: u32,
    },
    /// A branch, on which the mergeability of its open changes rests.
    Branch {
        /// The project.
        project: ProjectName,
        /// The branch.
        #[serde(rename = "ref")]
        name: RefName,
    },
    /// An account.
    Account {
        /// Its number.
        account: u32,
    },
    /// A group of Gerrit's own.
    Group {
        /// Its UUID.
        group: String,
    },
    /// The names of all groups.
    GroupNames,
    /// What accounts log in with.
    ExternalIds,
}

impl Subject {
    /// The project that the subject is of; none of what all projects share.
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

/// What there is to do about a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// A project was created, deleted, or both.
    Project {
        /// The project.
        #[schema(value_type = String)]
        project: ProjectName,
        /// A project of this name was deleted: nothing that is known of it holds any more.
        deleted: bool,
        /// A project of this name is there now.
        exists: bool,
    },
    /// `refs/meta/config` has moved.
    ProjectConfig {
        /// The project.
        #[schema(value_type = String)]
        project: ProjectName,
        /// What it was when it was acknowledged last.
        #[schema(value_type = Option<String>)]
        old: Option<Oid>,
        /// What it is.
        #[schema(value_type = Option<String>)]
        new: Option<Oid>,
    },
    /// So many changes have moved that all of the project are looked at.
    Changes {
        /// The project.
        #[schema(value_type = String)]
        project: ProjectName,
    },
    /// A ref of a change has moved.
    Change {
        /// The project.
        #[schema(value_type = String)]
        project: ProjectName,
        /// The change's number.
        number: u32,
    },
    /// A branch has moved.
    Branch {
        /// The project.
        #[schema(value_type = String)]
        project: ProjectName,
        /// The branch.
        #[serde(rename = "ref")]
        #[schema(value_type = String)]
        name: RefName,
    },
    /// An account has changed.
    Account {
        /// The account's number.
        account: u32,
    },
    /// A group has changed.
    Group {
        /// Its UUID.
        group: String,
        /// What its ref was when it was acknowledged last.
        #[schema(value_type = Option<String>)]
        old: Option<Oid>,
        /// What it is.
        #[schema(value_type = Option<String>)]
        new: Option<Oid>,
    },
    /// Groups got other names.
    GroupNames {
        /// What the ref was when it was acknowledged last.
        #[schema(value_type = Option<String>)]
        old: Option<Oid>,
        /// What it is.
        #[schema(value_type = Option<String>)]
        new: Option<Oid>,
    },
    /// Accounts got other external ids.
    ExternalIds {
        /// What the ref was when it was acknowledged last.
        #[schema(value_type = Option<String>)]
        old: Option<Oid>,
        /// What it is.
        #[schema(value_type = Option<String>)]
        new: Option<Oid>,
    },
}

/// One task of refreshing a Gerrit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// What it is acknowledged by.
    pub id: u64,
    /// This node's own commits alone made it: Gerrit has probably done it already.
    pub own: bool,
    /// Which try it is; 1 the first time.
    pub attempt: u32,
    /// What there is to do.
    #[serde(flatten)]
    pub work: Work,
}

/// Asks for tasks, and waits for some when there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TasksRequest {
    /// Chosen at random by each Gerrit process, 1 to 128 bytes. A new one supersedes the one before it: what is not
    /// acknowledged is handed out again.
    pub session: String,
    /// Most tasks in the answer, 1 to 256.
    pub most: u32,
    /// How long to wait for the first task, in milliseconds, 0 to 30,000.
    pub wait_ms: u64,
}

/// Tasks that are due: none when there were none in time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TasksResponse {
    /// What there is to do, in this order.
    pub tasks: Vec<Task>,
}

/// Reports what became of tasks: at most 256 together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DoneRequest {
    /// As in [`TasksRequest`].
    pub session: String,
    /// Tasks that were done.
    #[serde(default)]
    pub done: Vec<u64>,
    /// Tasks that were not done, and come again.
    #[serde(default)]
    pub failed: Vec<FailedTask>,
}

/// A task that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailedTask {
    /// The task.
    pub id: u64,
    /// Why, for people.
    pub why: String,
}

/// The report was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoneResponse {}
