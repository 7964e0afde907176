//! Port: the arrival stage asks which subjects Gerrit still has to refresh.

use lockstep_proto::refresh::Subject;
use lockstep_proto::{ProjectName, RefKey};
use tokio::sync::watch;

/// Knows the subjects that Gerrit may still show as they were before a move of their refs.
pub trait DueSubjects: Send + Sync {
    /// The subjects of these refs of a project whose refresh is outstanding. Without refs, those of the whole project.
    fn due_of(&self, project: &ProjectName, keys: &[RefKey]) -> Vec<Subject>;

    /// Whether the refresh of a subject is outstanding.
    fn is_outstanding(&self, subject: &Subject) -> bool;

    /// Changes after each report of Gerrit.
    fn reports(&self) -> watch::Receiver<u64>;
}
