//! Requests that make no sense at this node. Nothing is begun for them.

use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::resync::{ResyncRequest, ResyncScope};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue};

use super::Resyncer;
use crate::base::ref_names::{RefClass, classify};

impl Resyncer {
    /// Refuses a request that makes no sense.
    pub(super) async fn check(&self, request: &ResyncRequest) -> Result<(), ApiError> {
        if self.went_back.is_known() {
            let message = "the refdb is older than this node, or is not the one of its volume: its values must not be \
                           taken; `lockstep status` says more, and a retry does not help before that is ended";
            return Err(ApiError::new(RefusalCode::NotServing, false, message));
        }
        if self.comes_back.forbids_moves() || self.comes_back.is_so() {
            let message = "the site of this node is off, or the node comes back from that time: the values on its disk \
                           are its users' work; end that first, see `lockstep status`";
            return Err(ApiError::new(RefusalCode::NotServing, true, message));
        }
        let ResyncScope::Project { project, key } = &request.scope else { return Ok(()) };
        if let Some(key) = key {
            is_replicated(key)?;
        }
        let known = self.known(project).await?;
        match key {
            Some(key) => self.is_there(&known, key).await,
            None => Ok(()),
        }
    }

    /// The project, if the refdb has it and it is open.
    async fn known(&self, project: &ProjectName) -> Result<ProjectKey, ApiError> {
        let refused = |retry: bool, message: String| Err(ApiError::new(RefusalCode::Project, retry, message));
        let any = ProjectKey::of_name(project);
        let read = self.refdb.refs.read(&any, &[RefKey::State]).await.map_err(ApiError::unavailable)?;
        let Some(RefValue::State(state)) = read.into_iter().flatten().next().map(|item| item.value) else {
            return refused(false, format!("the refdb has no project {project}; check the name"));
        };
        match state.phase {
            ProjectPhase::Active => Ok(ProjectKey::new(project, state.incarnation)),
            ProjectPhase::ReadOnly => {
                refused(true, format!("project {project} is being seeded; ask again once it is open"))
            }
            ProjectPhase::Closing | ProjectPhase::Deleted => {
                refused(false, format!("project {project} was deleted, or is being deleted; there is nothing to take"))
            }
        }
    }

    /// Refuses a ref that the refdb does not have.
    async fn is_there(&self, project: &ProjectKey, key: &RefKey) -> Result<(), ApiError> {
        let read = self.refdb.refs.read(project, std::slice::from_ref(key)).await.map_err(ApiError::unavailable)?;
        let is_there = read.into_iter().flatten().any(|item| item.txn.is_some());
        match is_there {
            true => Ok(()),
            false => Err(ApiError::invalid(format!(
                "the refdb has no ref {key} of {project}; check the name, or leave the ref out: a resync of the whole \
                 project takes refs from the disk that the refdb does not have, and keeps their values as strays"
            ))),
        }
    }
}

/// Refuses a ref that no refdb can have.
fn is_replicated(key: &RefKey) -> Result<(), ApiError> {
    let name = match key {
        RefKey::Ref(name) => name,
        RefKey::Head => return Ok(()),
        RefKey::State => {
            return Err(ApiError::invalid("@state is the state of the whole project: leave the ref out"));
        }
    };
    match classify(name) {
        Ok(RefClass::Structured | RefClass::Mutable) => Ok(()),
        Ok(RefClass::Local) => Err(ApiError::invalid(format!(
            "ref {name} is not replicated: each site computes it for itself, so there is nothing to take"
        ))),
        Err(why) => Err(ApiError::invalid(format!("ref {name} is not replicated: it {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_that_no_refdb_has_is_refused_by_its_name() {
        for (key, part) in [
            ("@state", "leave the ref out"),
            ("refs/cache-automerge/00/1", "computes it for itself"),
            ("refs/lockstep/keep/a", "is not replicated: it lies in refs/lockstep/"),
        ] {
            let refused = is_replicated(&key.parse().unwrap()).unwrap_err();
            assert!(refused.message.contains(part) && !refused.retry, "{}", refused.message);
        }
        for key in ["refs/heads/main", "@HEAD", "refs/changes/01/1/meta"] {
            assert_eq!(is_replicated(&key.parse().unwrap()), Ok(()));
        }
    }
}
