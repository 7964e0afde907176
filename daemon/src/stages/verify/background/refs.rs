//! Verifies the refs of a project, and repairs those that differ.

use std::collections::BTreeSet;

use lockstep_proto::overview::Verified;
use lockstep_proto::verify::{Mismatch, Part, Right, Side};
use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey};

use super::Background;
use crate::seams::git::GitError;
use crate::stages::verify::judge::judge;
use crate::stages::verify::pace::Pace;
use crate::stages::verify::project::{CompareError, Compared};
use crate::state::materialize::MaterializeError;

impl Background {
    /// Verifies the refs of a project. `counts` says that the project is the next one of the pass in progress.
    pub(super) async fn refs_of(&self, project: &ProjectKey, pace: &Pace, counts: bool) -> Result<(), CompareError> {
        let refs = match self.is_left_out(&project.name)? {
            true => 0,
            false => self.compare_and_mend(project, pace).await?,
        };
        if counts {
            self.noting(|kept| kept.pass_mut(Part::Refs).sliced(project, refs, None));
        }
        Ok(())
    }

    /// Compares a project with the refdb, and repairs it. Returns the number of its refs. The error is not one of the
    /// project.
    async fn compare_and_mend(&self, project: &ProjectKey, pace: &Pace) -> Result<u64, CompareError> {
        let compared = match self.verifier.compare(project, pace).await {
            Ok(compared) => compared,
            Err(error @ (CompareError::RefDb(_) | CompareError::Store(_))) => return Err(error),
            // The project was deleted meanwhile, and its repository with it.
            Err(_) if self.verifier.versions.is_past(project)? => Compared::default(),
            Err(error) => {
                self.stays_open(Part::Refs, &project.name, &error.to_string(), &[]);
                return Ok(0);
            }
        };
        let mut found = compared.mismatches;
        if found.iter().any(is_behind) {
            // A catch-up that did not end in time is no finding: only a difference that outlives one counts.
            self.catch_up_or_owe(&project.name).await;
            found = self.still_differ(project, &keys_of(&found), pace).await?;
        }
        let left = match found.is_empty() {
            true => Vec::new(),
            false => self.mend(project, &keys_of(&found), pace).await?,
        };
        self.judged(&project.name, found.len() as u64, &left);
        Ok(compared.refs)
    }

    /// Notes the result of a project.
    fn judged(&self, project: &ProjectName, found: u64, left: &[Mismatch]) {
        let (now_ms, count) = (self.verifier.clock.now_ms(), left.len() as u64);
        {
            let mut log = self.verifier.log.lock();
            log.results.compared(project, count, now_ms);
            let pass = log.background.pass_mut(Part::Refs);
            // Those of a project that is open were counted before.
            let new = if pass.open.contains_key(project) { 0 } else { found };
            pass.found(new, found.saturating_sub(count));
            pass.is_clean(project);
        }
        match left.first() {
            Some(first) => {
                let why = format!("{count} refs differ, {} first: {}", first.name, first.why);
                self.stays_open(Part::Refs, project, &why, &[]);
            }
            None if found > 0 => {
                tracing::warn!(%project, found, "refs differed from the refdb after a catch-up: they are repaired");
                self.verifier.keep();
            }
            None => {}
        }
    }

    /// Repairs refs whose node has caught up along the chain: the disk gets the values of the version map. Returns
    /// those that still differ.
    async fn mend(
        &self,
        project: &ProjectKey,
        keys: &BTreeSet<RefKey>,
        pace: &Pace,
    ) -> Result<Vec<Mismatch>, CompareError> {
        if !self.of_init.contains(&project.name)
            && let Err(why) = self.show(project, keys).await
        {
            self.observer.failed("verify", &format!("{project}: the disk cannot be repaired: {why}"));
        }
        self.still_differ(project, keys, pace).await
    }

    /// Those of the refs that differ now.
    async fn still_differ(
        &self,
        project: &ProjectKey,
        keys: &BTreeSet<RefKey>,
        pace: &Pace,
    ) -> Result<Vec<Mismatch>, CompareError> {
        let looks = self.verifier.look_again(project, keys, pace).await?;
        Ok(looks.values().filter_map(|look| judge(project, look, None)).collect())
    }

    /// Brings a project up to date. If that fails, the project is a debt.
    async fn catch_up_or_owe(&self, project: &ProjectName) {
        if let Err(why) = self.verifier.catch_up.bring_up_to_date(project).await {
            self.observer.failed("verify", &format!("{project} cannot be brought up to date: {why}"));
            self.debts.failed(project, why.failure(), None);
        }
    }

    /// Sets refs on the disk to the version map's values. A value that gives way is kept. Missing objects are fetched.
    async fn show(&self, project: &ProjectKey, keys: &BTreeSet<RefKey>) -> Result<(), MaterializeError> {
        let keys: Vec<RefKey> = keys.iter().cloned().collect();
        let materializer = &self.verifier.materializer;
        match materializer.make_some_known(project, &keys).await {
            Err(MaterializeError::Git(GitError::Missing { oids, .. })) => {
                self.replace_for(project, &oids).await;
                materializer.make_some_known(project, &keys).await
            }
            Err(MaterializeError::Git(GitError::Damaged { object, .. })) => {
                self.replace_for(project, &[object]).await;
                materializer.make_some_known(project, &keys).await
            }
            end => end,
        }
    }

    /// Replaces objects that a ref needs.
    async fn replace_for(&self, project: &ProjectKey, oids: &[Oid]) {
        if let Err(why) = self.verifier.catch_up.replace_objects(project, oids).await {
            self.observer.failed("verify", &format!("{project}: objects are missing or damaged: {why}"));
        }
    }

    /// Ends a pass over the refs: looks for projects that only the refdb has, and compares this node with its peers.
    pub(super) async fn end_refs(&self, here: &BTreeSet<ProjectKey>, pace: &Pace) -> Result<(), CompareError> {
        // The refdb's list is read last: a project that was created or deleted meanwhile is then known here too.
        let of_refdb = self.verifier.of_refdb(None, pace).await?;
        let names = of_refdb.iter().chain(here).map(|project| project.name.clone());
        let exist: BTreeSet<ProjectName> = names.collect();
        {
            let mut log = self.verifier.log.lock();
            log.results.exist(&exist, None);
            log.background.exist(&exist);
        }
        for project in of_refdb.difference(here) {
            self.absent(project, pace).await?;
        }
        for project in self.verifier.differs_from_peers(self.verifier.share).await {
            if self.verifier.versions.project_key(&project.name)?.as_ref() == Some(&project) {
                self.refs_of(&project, pace, false).await?;
            }
        }
        let at_ms = self.verifier.clock.now_ms();
        let mut log = self.verifier.log.lock();
        let whole = log.background.pass(Part::Refs).open.is_empty();
        let mismatches = log.results.verified().map_or(0, |verified| verified.mismatches);
        log.results.ended(Verified { at_ms, projects: exist.len() as u64, whole, mismatches });
        Ok(())
    }

    /// Verifies a project that this node did not have when the pass began.
    async fn absent(&self, project: &ProjectKey, pace: &Pace) -> Result<(), CompareError> {
        let compared = self.verifier.compare_absent(project, pace).await?;
        let found = compared.mismatches.len() as u64;
        if found > 0 {
            self.catch_up_or_owe(&project.name).await;
        }
        let is_here = self.verifier.versions.project_key(&project.name)?.as_ref() == Some(project);
        self.judged(&project.name, found, if is_here { &[] } else { &compared.mismatches });
        Ok(())
    }
}

fn keys_of(found: &[Mismatch]) -> BTreeSet<RefKey> {
    found.iter().filter_map(|one| one.name.parse().ok()).collect()
}

/// Whether the node has an earlier version than the refdb.
fn is_behind(one: &Mismatch) -> bool {
    let version = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.version);
    one.right == Right::Refdb && version(&one.refdb) > version(&one.here)
}
