//! A node comes back from a time in which its site was off: it compares its disk with the committed state, again and
//! again, until no ref differs. Then it notes durably that its volume has come back, and takes commits again.
//!
//! The committed state is the one of the version map. It is the refdb's, or an earlier one: a commit names the version
//! that it builds on, so it is refused where the map is behind. A value of the disk beyond it was written while
//! the site was off. An operator decides what becomes of that (`stages/seed`), project by project.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::site_list::{ComingBack, DifferentProject, MOST_DIFFERENT};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase};
use tokio::time::sleep;

use super::stages::Stages;
use crate::seams::volume::StoreError;
use crate::stages::api::readiness::Latch;
use crate::state::materialize::MaterializeError;

/// The pause between two looks at the projects that differ.
const LOOK: Duration = Duration::from_secs(2);

/// The comparison of a node that comes back.
pub(super) struct ComeBack {
    pub(super) stages: Arc<Stages>,
    pub(super) latch: Latch,
}

impl ComeBack {
    /// Compares until no ref differs.
    pub(super) async fn run(self) {
        loop {
            match self.compare_all().await {
                Ok(differ) if differ.is_empty() => match self.end().await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(why) => self.stages.deps.observer.failed("come-back", &why),
                },
                Ok(differ) => self.until_equal(differ).await,
                Err(why) => self.stages.deps.observer.failed("come-back", &why),
            }
            sleep(LOOK).await;
        }
    }

    /// Compares every project, and returns those that differ.
    async fn compare_all(&self) -> Result<BTreeSet<ProjectName>, StoreError> {
        let Some(ComingBack { left, .. }) = self.stages.state.comes_back.now() else { return Ok(BTreeSet::new()) };
        let names: Vec<ProjectName> = self.stages.state.versions.projects()?.into_keys().collect();
        let total = Some(names.len() as u64);
        let (mut differ, mut found) = (BTreeSet::new(), ComingBack { left, total, ..ComingBack::default() });
        for name in names {
            if let Some(one) = self.compare(&name).await {
                differ.insert(name);
                put(&mut found, one);
            }
            found.compared += 1;
            self.stages.state.comes_back.note(found.clone());
        }
        if !differ.is_empty() {
            tracing::warn!(
                projects = differ.len(),
                first = %differ.iter().next().map_or("", |name| name.as_str()),
                "refs were written while the site was off; `lockstep status` shows them and what to do"
            );
        }
        Ok(differ)
    }

    /// Looks at the projects that differ, until none of them does.
    async fn until_equal(&self, mut differ: BTreeSet<ProjectName>) {
        while !differ.is_empty() {
            sleep(LOOK).await;
            let Some(before) = self.stages.state.comes_back.now() else { return };
            let mut found = ComingBack { differ: Vec::new(), more: 0, ..before };
            for name in std::mem::take(&mut differ) {
                if let Some(one) = self.compare(&name).await {
                    differ.insert(name);
                    put(&mut found, one);
                }
            }
            self.stages.state.comes_back.note(found);
        }
    }

    /// Compares one project. None if no ref differs. A project that cannot be compared differs.
    async fn compare(&self, name: &ProjectName) -> Option<DifferentProject> {
        let different = |refs, first| Some(DifferentProject { project: name.to_string(), refs, first });
        match self.differing(name).await {
            Ok((0, _)) => None,
            Ok((refs, first)) => different(Some(refs), first),
            Err(why) => different(None, why.to_string()),
        }
    }

    /// The number of refs that differ, `HEAD` included, and the name of the first one. The refs of a project that is
    /// being seeded are still to be committed. A repository that is not there is restored from a peer, and nothing that
    /// it had is lost with the node's commits.
    async fn differing(&self, name: &ProjectName) -> Result<(u64, String), MaterializeError> {
        let state = &self.stages.state;
        let is_active = state.versions.project(name)?.is_some_and(|state| state.phase == ProjectPhase::Active);
        let key: Option<ProjectKey> = state.versions.project_key(name)?;
        let Some(key) = key.filter(|_| is_active) else { return Ok((0, String::new())) };
        if !state.materializer.repositories.exists(name).await? {
            return Ok((0, String::new()));
        }
        let (differ, _) = state.materializer.differing_for_sure(&key).await?;
        let head = state.materializer.head_differs(&key).await?.then(|| "HEAD".to_owned());
        let first = differ.keys().next().map(ToString::to_string).or_else(|| head.clone());
        Ok((differ.len() as u64 + u64::from(head.is_some()), first.unwrap_or_default()))
    }

    /// Notes durably that the volume has come back. False if a repository is being restored: its refs are not there.
    async fn end(&self) -> Result<bool, MaterializeError> {
        let state = &self.stages.state;
        let Some(ComingBack { left, .. }) = state.comes_back.now() else { return Ok(true) };
        state.durability.wait_durable().await;
        if !self.stages.deps.store.facts()?.restoring.is_empty() {
            return Ok(false);
        }
        state.durability.change_facts(|facts| facts.came_back = left)?;
        state.durability.wait_durable().await;
        state.comes_back.end();
        self.latch.open();
        let strays = self.with_strays().await?;
        tracing::warn!(
            left,
            with_strays = strays.len(),
            first = ?strays.iter().take(MOST_DIFFERENT).map(ProjectName::as_str).collect::<Vec<_>>(),
            "no ref differs any more: the node has come back, and takes commits if its site is active"
        );
        Ok(true)
    }

    /// The projects that have strays.
    async fn with_strays(&self) -> Result<Vec<ProjectName>, MaterializeError> {
        let (mut found, state) = (Vec::new(), &self.stages.state);
        for name in state.versions.projects()?.into_keys() {
            let is_there = state.materializer.repositories.exists(&name).await?;
            if is_there && !state.materializer.strays(&name).await?.is_empty() {
                found.push(name);
            }
        }
        Ok(found)
    }
}

/// Adds a project that differs. Only the first ones are kept by name.
fn put(found: &mut ComingBack, one: DifferentProject) {
    match found.differ.len() < MOST_DIFFERENT {
        true => found.differ.push(one),
        false => found.more += 1,
    }
}
