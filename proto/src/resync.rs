//! Bodies of the call that brings refs and objects of a node again to the refdb's state (JSON).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, ProjectName};
use crate::value::RefKey;

/// The most projects that are listed as not whole. All are counted.
pub const MOST_NOT_WHOLE: usize = 100;

/// The part of a node that a resync brings to the refdb's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResyncScope {
    /// One ref of a project, or the whole project.
    Project {
        /// The name of the project.
        #[schema(value_type = String)]
        project: ProjectName,
        /// The ref, or `@HEAD`. None: every ref, `HEAD`, and the state of the project.
        #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        key: Option<RefKey>,
    },
    /// Every project of the node. The answer also names the other nodes of its site, which are asked one by one.
    Site,
    /// Every project of the node.
    All,
}

/// The request that begins a resync, or joins the same one that is in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResyncRequest {
    /// The part of the node.
    pub scope: ResyncScope,
    /// The site, the node or the peer of `[peers]` that sends the objects. None: every peer, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The reason, for the audit trail.
    pub reason: String,
}

impl ResyncRequest {
    /// Whether another request asks for the same. Its reason may differ.
    #[must_use]
    pub fn asks_for_the_same(&self, other: &Self) -> bool {
        self.scope == other.scope && self.from == other.from
    }
}

/// The resync that is in progress at a node, or was the last one since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resync {
    /// The number of resyncs since the start of the node. Each has its own number.
    pub number: u64,
    /// The node that brings its refs and objects up to the refdb's state.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The start of the node in which it began. A later start knows nothing of it.
    pub start: u64,
    /// The request that began it.
    pub request: ResyncRequest,
    /// The authenticated identity of the operator.
    pub by: String,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// When it ended. None while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// The number of projects that it is about. Zero while they are listed.
    pub projects: u64,
    /// Projects that were brought to the refdb's state, or failed.
    pub done: u64,
    /// The project in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// Projects whose objects were not complete, and came from peers.
    pub refetched: u64,
    /// Garbled files of objects that were taken away, and whose objects came from peers.
    pub garbled: u64,
    /// Refs on the disk, `HEAD` included, that were set to their committed values.
    pub refs_set: u64,
    /// Strays that the projects have more than before: values on the disk that gave way and were never committed.
    pub strays: u64,
    /// Projects that are not whole.
    pub failures: u64,
    /// The first of them, at most [`MOST_NOT_WHOLE`].
    pub failed: Vec<NotWhole>,
    /// The other nodes of the site, if the request was about the site. Ask each of them for its own part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub ask_too: Vec<NodeId>,
}

/// A project that a resync could not bring to the refdb's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotWhole {
    /// The name of the project.
    pub project: String,
    /// The reason, as text for people.
    pub why: String,
    /// Whether the same request may succeed later, without a repair.
    pub retry: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_ref_is_about_the_whole_project_and_an_unknown_field_is_refused() {
        let read = |text: &str| serde_json::from_str::<ResyncRequest>(text);
        let whole = read(r#"{"scope":{"project":{"project":"p"}},"reason":"r"}"#).unwrap();
        let project = "p".parse().unwrap();
        assert_eq!(whole.scope, ResyncScope::Project { project, key: None });
        assert!(whole.asks_for_the_same(&ResyncRequest { reason: "other".into(), ..whole.clone() }));
        let one = read(r#"{"scope":{"project":{"project":"p","ref":"refs/heads/a"}},"reason":"r"}"#).unwrap();
        assert!(!whole.asks_for_the_same(&one));
        assert_eq!(read(r#"{"scope":"site","reason":"r"}"#).unwrap().scope, ResyncScope::Site);
        assert!(read(r#"{"scope":"all","reason":"r","frm":"b"}"#).is_err());
        assert!(read(r#"{"scope":"all"}"#).is_err(), "an operator gives a reason");
    }
}
