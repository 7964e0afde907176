//! Ends the differences of a project that takes commits already: something wrote to its repository without Lockstep,
//! while its site was off, or past the hooks.
//!
//! Each command names the committed value that the node knows, so a ref that another site has moved meanwhile is never
//! overwritten. Its value on the disk gives way, and is kept as a stray.

use lockstep_proto::bridge::SetHeadRequest;
use lockstep_proto::{ProjectKey, ProjectName, RefName};

use super::job::{Failure, Run, committed};
use crate::seams::refdb::Role;
use crate::seams::volume::VolumeFacts;

impl Run {
    /// Commits the values of the disk: new refs, moves of any kind, deletions, and `HEAD`.
    pub(super) async fn commit_differences(&self, key: &ProjectKey, head: &RefName) -> Result<(), Failure> {
        refuse_restoring(&self.seeder.store.facts()?, &self.project)?;
        refuse_mending(&self.seeder.store.facts()?, &self.project)?;
        self.refuse_unless_active()?;
        self.fill(key, head).await?;
        if self.seeder.materializer.head_differs(key).await? {
            let request = SetHeadRequest { request_id: self.request_id(), head: head.clone(), lock: None };
            let answer = self.patiently(|| self.seeder.commits.point_head(&self.project, request.clone())).await?;
            committed(&answer)?;
        }
        Ok(())
    }

    /// Writes the committed values. The values of the disk are kept as strays.
    pub(super) async fn set_aside(&self, key: &ProjectKey) -> Result<(), Failure> {
        refuse_restoring(&self.seeder.store.facts()?, &self.project)?;
        Ok(self.seeder.materializer.make_known(key).await?)
    }

    /// Refuses a site that commits nothing, at once: no retry would help.
    fn refuse_unless_active(&self) -> Result<(), Failure> {
        let role = self.seeder.roles.of(&self.seeder.site).map(|own| own.role);
        match role.filter(|role| *role != Role::Active) {
            None => Ok(()),
            Some(role) => Err(format!(
                "the role of this site is {}, so it commits nothing; make it active, or keep the values of the disk as \
                 strays with `lockstep seed --set-aside {}`",
                role.name(),
                self.project
            )
            .into()),
        }
    }
}

/// Refuses a repository that is being restored: it lacks refs that nobody has deleted.
fn refuse_restoring(facts: &VolumeFacts, name: &ProjectName) -> Result<(), Failure> {
    match facts.restoring.contains(name) {
        true => {
            Err(format!("the repository of {name} is being restored from a peer; seed again when that is done").into())
        }
        false => Ok(()),
    }
}

/// Refuses a repository of which a resync takes garbled files away, or was cut off after that: files of refs may be
/// among them, and nobody has deleted these refs.
fn refuse_mending(facts: &VolumeFacts, name: &ProjectName) -> Result<(), Failure> {
    match facts.mending.contains(name) {
        true => Err(format!(
            "a resync has taken garbled files of {name} away and has not ended, so refs may be missing that nobody has \
             deleted; run `lockstep resync {name} --reason TEXT` while Gerrit runs, then seed again"
        )
        .into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_that_a_restoration_or_a_resync_has_yet_to_set_are_not_taken_for_deleted() {
        let name = |text: &str| -> ProjectName { text.parse().unwrap() };
        let facts =
            VolumeFacts { restoring: [name("r")].into(), mending: [name("m")].into(), ..VolumeFacts::default() };
        let refused =
            |text: &str| (refuse_restoring(&facts, &name(text)).is_err(), refuse_mending(&facts, &name(text)).is_err());
        assert_eq!(["r", "m", "p"].map(refused), [(true, false), (false, true), (false, false)]);
    }
}
