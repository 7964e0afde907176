//! How stream events learn whether Gerrit shows what is applied.

use lockstep_proto::ProjectName;

/// Stream events need to know whether Gerrit shows what is applied.
pub trait Refreshed: Send + Sync {
    /// Whether no refresh of the change, or of the project where there is none, is due or in work. Called after the refs
    /// that it speaks of were seen applied.
    fn is_refreshed(&self, project: &ProjectName, change: Option<u64>) -> bool;
}
