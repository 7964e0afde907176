//! Port: the events stage asks whether Gerrit shows the applied refs.

use lockstep_proto::ProjectName;

/// Knows whether Gerrit's index and caches are up to date with the applied refs.
pub trait Refreshed: Send + Sync {
    /// Whether no refresh of the change is due or in progress; without a change, no refresh of the project. Call it
    /// after the refs of the event were seen applied.
    fn is_refreshed(&self, project: &ProjectName, change: Option<u64>) -> bool;
}
