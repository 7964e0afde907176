//! The projects to compare: those of this node, and those that only the refdb has.

use std::collections::BTreeSet;

use lockstep_proto::verify::{Mismatch, Right, Side};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue};

use super::Verifier;
use super::pace::{Pace, item_bytes, units};
use super::project::{CompareError, Compared, PAUSE, ROUNDS};
use crate::seams::refdb::{ProjectPages, RefDbError, RefItem};
use crate::seams::volume::StoreError;

impl Verifier {
    /// The projects that exist here, or the one that was asked for.
    pub(super) fn here(&self, only: Option<&ProjectName>) -> Result<BTreeSet<ProjectKey>, StoreError> {
        let all = self.versions.projects()?.into_iter();
        let all = all.filter(|(name, _)| only.is_none_or(|only| name == only));
        Ok(all.filter_map(|(name, record)| living(&name, &record.value)).collect())
    }

    /// The projects of the refdb, or the one that was asked for. Deleted ones are not among them.
    pub(super) async fn of_refdb(
        &self,
        only: Option<&ProjectName>,
        pace: &Pace,
    ) -> Result<BTreeSet<ProjectKey>, RefDbError> {
        if let Some(name) = only {
            let item = self.state(name, pace).await?;
            return Ok(item.and_then(|item| living(name, &item.value)).into_iter().collect());
        }
        let (mut all, mut pages) = (BTreeSet::new(), ProjectPages::of(self.refdb.refs.as_ref()));
        while let Some(page) = pages.next().await? {
            let bytes = page.iter().map(|(name, _)| item_bytes(&ProjectKey::of_name(name), &RefKey::State)).sum();
            pace.take(units(bytes, 0)).await;
            all.extend(page.iter().filter_map(|(name, item)| living(name, &item.value)));
        }
        Ok(all)
    }

    /// Compares a project that this node did not have when the verification began. It is a mismatch if it does not
    /// come with a catch-up.
    pub(super) async fn compare_absent(&self, project: &ProjectKey, pace: &Pace) -> Result<Compared, CompareError> {
        let mut behind = String::new();
        for _ in 0..=ROUNDS {
            let caught_up = self.catch_up.project(&project.name).await;
            behind = caught_up.err().map(|error| format!("; it could not catch up: {error}")).unwrap_or_default();
            pace.rest(PAUSE).await;
            if self.versions.project_key(&project.name)?.as_ref() == Some(project) {
                return self.compare(project, pace).await;
            }
        }
        let item = self.state(&project.name, pace).await?;
        let item = item.filter(|item| living(&project.name, &item.value).as_ref() == Some(project));
        let Some(item) = item else { return Ok(Compared { on_their_way: 1, ..Compared::default() }) };
        let txn = item.txn.as_ref().map(ToString::to_string).unwrap_or_default();
        let mismatch = Mismatch {
            project: project.to_string(),
            name: RefKey::State.to_string(),
            refdb: Some(Side { version: item.version.0, value: item.value.to_string(), txn }),
            here: None,
            disk: None,
            peer: None,
            there: None,
            disk_there: None,
            right: Right::Refdb,
            why: format!("the project exists in the refdb, and this node does not have it{behind}"),
        };
        Ok(Compared { mismatches: vec![mismatch], ..Compared::default() })
    }

    async fn state(&self, name: &ProjectName, pace: &Pace) -> Result<Option<RefItem>, RefDbError> {
        let read = self.refdb.refs.read(&ProjectKey::of_name(name), &[RefKey::State]).await?;
        pace.take(1).await;
        Ok(read.into_iter().next().flatten())
    }
}

/// The key of a project by the value of its `@state`. None if it is deleted.
pub(super) fn living(name: &ProjectName, value: &RefValue) -> Option<ProjectKey> {
    match value {
        RefValue::State(state) if state.phase != ProjectPhase::Deleted => {
            Some(ProjectKey::new(name, state.incarnation))
        }
        _ => None,
    }
}
