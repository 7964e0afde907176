//! Verifies the objects of a project, slice by slice, and replaces those that are missing or damaged.
//!
//! The values of all refs are there, each object can be read and has the content of its id, and everything to which it
//! points is there: so everything that a ref needs is there and intact. No walk along the history is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_proto::verify::Part;
use lockstep_proto::{Oid, ProjectKey, RefKey};
use tokio::time::Instant;

use super::kept::Stage;
use super::{Background, TRIES};
use crate::seams::git::{GitError, ObjectSlice};
use crate::stages::ports::CatchUpError;
use crate::stages::verify::pace::Pace;
use crate::stages::verify::project::{CompareError, PAUSE};

/// The refs of a slice.
const REFS: usize = 1_000;
/// The most objects of a slice.
const OBJECTS: usize = 2_000;
/// The time after which a slice of objects ends early.
const SLICE: Duration = Duration::from_millis(200);

/// Stands for a project while its objects are replaced.
pub(super) const REPAIRS: &str = "the repair of objects is in progress, or was cut off";

/// The result of one slice.
struct Sliced {
    objects: u64,
    /// Objects that are missing or damaged, as far as one look tells.
    suspects: Vec<Oid>,
    /// The findings of `git fsck`.
    fsck: Option<String>,
    /// Where the next slice begins. None ends the project.
    next: Option<Stage>,
}

impl Background {
    /// Verifies the next slice of a project's objects. `failures` counts how often this slice has failed.
    pub(super) async fn objects_of(
        &self,
        project: &ProjectKey,
        pace: &Pace,
        failures: &mut u32,
    ) -> Result<(), CompareError> {
        let stage = self.noting(|kept| kept.pass(Part::Objects).stage_of(project));
        let is_first = stage == Stage::Values(None);
        let done = |next| self.noting(|kept| kept.pass_mut(Part::Objects).sliced(project, 0, next));
        if self.verifier.versions.is_past(project)? || self.leaves_objects(&project.name)? {
            done(None);
            return Ok(());
        }
        let sliced = match self.check(project, stage).await {
            Ok(sliced) => sliced,
            Err(error @ (CompareError::Store(_) | CompareError::RefDb(_))) => return Err(error),
            Err(error) if *failures + 1 < TRIES => {
                *failures += 1;
                return Err(error);
            }
            Err(error) => {
                *failures = 0;
                self.stays_open(Part::Objects, &project.name, &error.to_string(), &[]);
                done(None);
                return Ok(());
            }
        };
        *failures = 0;
        let (objects, next) = self.take(project, is_first, sliced, pace).await;
        self.noting(|kept| kept.pass_mut(Part::Objects).sliced(project, objects, next));
        Ok(())
    }

    /// Verifies a project again that could not be verified. Its slices rest as those of a pass do.
    pub(super) async fn objects_again(&self, project: &ProjectKey, pace: &Pace) -> Result<(), CompareError> {
        let mut next = Some(Stage::Values(None));
        while let Some(stage) = next.take() {
            let (began, waited, is_first) = (Instant::now(), pace.waited(), stage == Stage::Values(None));
            let sliced = match self.check(project, stage).await {
                Ok(sliced) => sliced,
                Err(error @ (CompareError::Store(_) | CompareError::RefDb(_))) => return Err(error),
                Err(error) => {
                    self.stays_open(Part::Objects, &project.name, &error.to_string(), &[]);
                    return Ok(());
                }
            };
            (_, next) = self.take(project, is_first, sliced, pace).await;
            let busy = began.elapsed().saturating_sub(pace.waited() - waited);
            pace.rest(self.settings.pause_after(busy)).await;
        }
        Ok(())
    }

    /// Takes the result of a slice, and repairs what it has found. Returns the number of its objects, and the next
    /// stage.
    async fn take(&self, project: &ProjectKey, is_first: bool, sliced: Sliced, pace: &Pace) -> (u64, Option<Stage>) {
        let Sliced { objects, suspects, fsck, next } = sliced;
        if is_first {
            self.noting(|kept| kept.pass_mut(Part::Objects).is_verifiable(&project.name));
            self.forget_sound(project).await;
        }
        if !suspects.is_empty() {
            // One look proves little: git may have replaced its packs meanwhile.
            pace.rest(PAUSE).await;
            self.mend_objects(project, suspects).await;
        }
        if let Some(found) = fsck {
            self.mend_as_fsck_says(project, &found, pace).await;
        }
        (objects, next)
    }

    /// Looks at one slice.
    async fn check(&self, project: &ProjectKey, stage: Stage) -> Result<Sliced, CompareError> {
        let repositories = &self.verifier.materializer.repositories;
        let sliced = |objects, suspects, next| Sliced { objects, suspects, fsck: None, next };
        match stage {
            Stage::Values(after) => {
                let page = self.verifier.versions.page(project, after.as_ref(), REFS)?;
                let values: Vec<Oid> = page.iter().filter_map(|(_, record)| record.value.oid()).collect();
                let missing = match repositories.missing(&project.name, &values).await {
                    // One of them may be damaged.
                    Err(GitError::Failed { .. } | GitError::Damaged { .. }) => {
                        repositories.unsound(&project.name, &values).await?
                    }
                    missing => missing?,
                };
                // Objects that no ref needed may be values of refs since.
                self.noting(|kept| kept.are_needed(&project.name, &missing));
                let last: Option<RefKey> = page.last().map(|(key, _)| key.clone()).filter(|_| page.len() >= REFS);
                let next = last.map_or(Stage::Objects(None), |last| Stage::Values(Some(last)));
                Ok(sliced(0, missing, Some(next)))
            }
            Stage::Objects(after) => {
                let slice = ObjectSlice { after, most: OBJECTS, time: SLICE };
                let checked = repositories.check_objects(&project.name, slice).await?;
                let end = self.settings.fsck.then_some(Stage::Fsck);
                let next = checked.next.map(|next| Stage::Objects(Some(next))).or(end);
                Ok(sliced(checked.objects, checked.unsound, next))
            }
            Stage::Fsck => {
                let fsck = repositories.fsck(&project.name).await?;
                Ok(Sliced { fsck, ..sliced(0, Vec::new(), None) })
            }
        }
    }

    /// Replaces those of the objects that are still missing or damaged, together with those that are open. Peers send
    /// everything that the refs need. So an object that is unsound even then is needed by no ref.
    pub(super) async fn mend_objects(&self, project: &ProjectKey, suspects: Vec<Oid>) {
        let name = &project.name;
        let open = self.noting(|kept| kept.pass(Part::Objects).open.get(name).cloned());
        let open = open.map(|open| open.objects).unwrap_or_default();
        let known = self.noting(|kept| kept.unneeded.get(name).cloned()).unwrap_or_default();
        let suspects: BTreeSet<Oid> = suspects.into_iter().filter(|oid| !known.contains(oid)).collect();
        let suspects: Vec<Oid> = suspects.union(&open).copied().collect();
        let unsound = match self.unsound(project, &suspects).await {
            Ok(unsound) => unsound,
            Err(why) => return self.stays_open(Part::Objects, name, &why.to_string(), &suspects),
        };
        if unsound.is_empty() {
            return self.noting(|kept| kept.pass_mut(Part::Objects).is_clean(name));
        }
        // A crash between the renaming of a file and the end of the ingestion does not forget the project.
        self.noting(|kept| kept.pass_mut(Part::Objects).stays_open(name, REPAIRS, &unsound));
        self.verifier.keep();
        self.verifier.durability.wait_durable().await;
        let new = unsound.iter().filter(|oid| !open.contains(oid)).count() as u64;
        match self.replace(project, &unsound).await {
            Ok(left) => {
                let (repaired, unneeded) = ((unsound.len() - left.len()) as u64, left.len() as u64);
                tracing::warn!(%project, repaired, unneeded, "objects were missing or damaged: peers have sent them");
                self.noting(|kept| {
                    kept.no_ref_needs(name, left);
                    let pass = kept.pass_mut(Part::Objects);
                    pass.found(new.saturating_sub(unneeded), repaired);
                    pass.is_clean(name);
                });
                self.verifier.keep();
            }
            Err(why) => {
                self.noting(|kept| kept.pass_mut(Part::Objects).found(new, 0));
                let count = unsound.len();
                let why = format!("{count} objects are missing or damaged, {:?} first: {why}", unsound.first());
                self.stays_open(Part::Objects, name, &why, &unsound);
            }
        }
    }

    /// Replaces damaged objects that operations of this node have met. One that is open waits for its next try. One
    /// that no ref needed was absent then, and has come back since.
    pub(super) async fn mend_met(&self, pace: &Pace) -> Result<(), CompareError> {
        let repositories = &self.verifier.materializer.repositories;
        let mut seen = repositories.take_damage();
        if seen.is_empty() {
            return Ok(());
        }
        // Operations that go on meet other objects of the same damage. One fetch brings all of them.
        pace.rest(PAUSE).await;
        for (name, met) in repositories.take_damage() {
            seen.entry(name).or_default().extend(met);
        }
        for (name, met) in seen {
            let Some(project) = self.verifier.versions.project_key(&name)? else { continue };
            if self.leaves_objects(&name)? {
                continue;
            }
            let met = Vec::from_iter(met);
            let new: Vec<Oid> = self.noting(|kept| {
                kept.are_needed(&name, &met);
                let open = kept.pass(Part::Objects).open.get(&name).map(|open| &open.objects);
                met.into_iter().filter(|oid| open.is_none_or(|open| !open.contains(oid))).collect()
            });
            if !new.is_empty() {
                self.mend_objects(&project, new).await;
            }
        }
        Ok(())
    }

    /// Forgets those of the objects that no ref needed which are sound by now: a ref may need them since.
    async fn forget_sound(&self, project: &ProjectKey) {
        let known = self.noting(|kept| kept.unneeded.get(&project.name).cloned()).unwrap_or_default();
        if let Ok(unsound) = self.unsound(project, &Vec::from_iter(known)).await {
            self.noting(|kept| kept.still_unneeded(&project.name, &unsound));
        }
    }

    /// Replaces objects. Returns those that are absent even then: no ref needs them.
    async fn replace(&self, project: &ProjectKey, unsound: &[Oid]) -> Result<Vec<Oid>, CatchUpError> {
        self.verifier.catch_up.replace_objects(project, unsound).await?;
        let left = self.unsound(project, unsound).await?;
        let absent = self.verifier.materializer.repositories.missing(&project.name, &left).await?;
        match left.iter().find(|oid| !absent.contains(oid)) {
            None => Ok(absent),
            Some(oid) => Err(GitError::Failed {
                project: project.to_string(),
                op: "replace objects",
                why: format!("{oid} cannot be read, and the checksum of its file is right: look at the disk"),
            }
            .into()),
        }
    }

    async fn unsound(&self, project: &ProjectKey, oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        self.verifier.materializer.repositories.unsound(&project.name, oids).await
    }

    /// Verifies the objects of a project again, because `git fsck` has found damage: it may be newer than their slices.
    /// Fetches all of them if that does not mend it.
    async fn mend_as_fsck_says(&self, project: &ProjectKey, found: &str, pace: &Pace) {
        let (repositories, name) = (&self.verifier.materializer.repositories, &project.name);
        if self.mend_all(project, pace).await.is_ok() && matches!(repositories.fsck(name).await, Ok(None)) {
            return;
        }
        let replaced = self.verifier.catch_up.replace_objects(project, &[]).await;
        let left = match replaced {
            Ok(()) => repositories.fsck(name).await.unwrap_or_else(|error| Some(error.to_string())),
            Err(why) => Some(format!("{found}; {why}")),
        };
        let repaired = u64::from(left.is_none());
        self.noting(|kept| kept.pass_mut(Part::Objects).found(1, repaired));
        match left {
            Some(left) => self.stays_open(Part::Objects, name, &format!("git fsck: {left}"), &[]),
            None => self.verifier.keep(),
        }
    }

    /// Verifies all objects of a project, and mends those that are unsound.
    async fn mend_all(&self, project: &ProjectKey, pace: &Pace) -> Result<(), CompareError> {
        let mut next = Some(Stage::Objects(None));
        while let Some(stage @ Stage::Objects(_)) = next.take() {
            let began = Instant::now();
            let sliced = self.check(project, stage).await?;
            if !sliced.suspects.is_empty() {
                self.mend_objects(project, sliced.suspects).await;
            }
            pace.rest(self.settings.pause_after(began.elapsed())).await;
            next = sliced.next;
        }
        Ok(())
    }
}
