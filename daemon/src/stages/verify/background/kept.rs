//! The progress of the verification in the background, as it is kept in the node's store. A restart goes on from there.
//! Decisions of this file are pure functions of it and of the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep_proto::verify::{MOST_FOUND, NotCompared, Part, PassStatus};
use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey};
use serde::{Deserialize, Serialize};

/// The most projects whose differences are kept. The alarm is the same for more of them.
const MOST_PROJECTS: usize = 1_000;
/// The most objects of a project that are remembered.
const MOST_OIDS: usize = 1_000;
/// The longest reason that is kept, in characters.
const REASON: usize = 400;

/// The progress of both parts. Fields may be added with a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::stages::verify) struct Kept {
    /// When the first verification in the background could have begun: the age counts from here until a pass is
    /// complete. In milliseconds since 1970.
    #[serde(default)]
    pub(super) since_ms: u64,
    #[serde(default)]
    refs: Pass,
    #[serde(default)]
    objects: Pass,
    /// Objects that are absent or damaged, and that no ref needs: garbage that git has not collected yet.
    #[serde(default)]
    pub(super) unneeded: BTreeMap<ProjectName, BTreeSet<Oid>>,
}

/// The passes of one part over all projects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pass {
    /// When the pass in progress began. None between two passes.
    began_ms: Option<u64>,
    /// The last project that it is done with.
    after: Option<ProjectName>,
    /// How far it is in a project whose objects take several slices.
    pub(super) inside: Option<Inside>,
    /// The refs, or objects, that it has verified.
    counted: u64,
    last: Option<Complete>,
    found: u64,
    repaired: u64,
    /// The projects with differences that are not repaired, or that cannot be verified.
    pub(super) open: BTreeMap<ProjectName, Open>,
}

/// How far a pass is in the objects of one project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Inside {
    pub(super) project: ProjectKey,
    pub(super) stage: Stage,
}

/// The stages of the objects of one project, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Whether the values of the refs behind this one are there.
    Values(Option<RefKey>),
    /// Whether the objects behind this one are sound.
    Objects(Option<Oid>),
    /// `git fsck`.
    Fsck,
}

/// A pass that is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Complete {
    began_ms: u64,
    ended_ms: u64,
    counted: u64,
}

/// Differences of a project that are not repaired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    why: String,
    /// The objects at fault. Empty for refs, and if the project cannot be verified.
    pub(super) objects: BTreeSet<Oid>,
}

impl Kept {
    pub(super) fn pass(&self, part: Part) -> &Pass {
        match part {
            Part::Refs => &self.refs,
            Part::Objects => &self.objects,
        }
    }

    pub(super) fn pass_mut(&mut self, part: Part) -> &mut Pass {
        match part {
            Part::Refs => &mut self.refs,
            Part::Objects => &mut self.objects,
        }
    }

    /// Whether a part has work now. A pass begins when half of the time has gone by since the one before began, and has
    /// the other half for itself. So two looks at the same ref are never further apart than the whole time.
    pub(super) fn is_due(&self, part: Part, within: Duration, now_ms: u64) -> bool {
        let pass = self.pass(part);
        let began_ms = pass.last.as_ref().map_or(self.since_ms, |last| last.began_ms);
        pass.began_ms.is_some() || now_ms >= began_ms.saturating_add(millis(within / 2))
    }

    /// The state of a part for people and metrics.
    pub(super) fn status(&self, part: Part, within: Duration, now_ms: u64) -> PassStatus {
        let pass = self.pass(part);
        let unrepaired = pass.open.iter().take(MOST_FOUND);
        let unrepaired =
            unrepaired.map(|(name, open)| NotCompared { project: name.to_string(), why: open.why.clone() });
        PassStatus {
            within_ms: millis(within),
            age_ms: now_ms.saturating_sub(pass.last.as_ref().map_or(self.since_ms, |last| last.began_ms)),
            ended_ms: pass.last.as_ref().map(|last| last.ended_ms),
            counted: pass.last.as_ref().map_or(0, |last| last.counted),
            after: pass.after.as_ref().filter(|_| pass.began_ms.is_some()).map(ToString::to_string),
            in_progress: pass.began_ms.is_some(),
            found: pass.found,
            repaired: pass.repaired,
            unrepaired_projects: pass.open.len() as u64,
            unrepaired: unrepaired.collect(),
        }
    }

    /// Notes unsound objects that no ref needs.
    pub(super) fn no_ref_needs(&mut self, project: &ProjectName, oids: impl IntoIterator<Item = Oid>) {
        if self.unneeded.len() < MOST_PROJECTS || self.unneeded.contains_key(project) {
            let known = self.unneeded.entry(project.clone()).or_default();
            let room = MOST_OIDS.saturating_sub(known.len());
            known.extend(oids.into_iter().take(room));
        }
    }

    /// Keeps only these of the unsound objects that no ref needs.
    pub(super) fn still_unneeded(&mut self, project: &ProjectName, unsound: &[Oid]) {
        if let Some(known) = self.unneeded.get_mut(project) {
            known.retain(|oid| unsound.contains(oid));
        }
    }

    /// Forgets that no ref needed these objects: they are needed now.
    pub(super) fn are_needed(&mut self, project: &ProjectName, oids: &[Oid]) {
        if let Some(known) = self.unneeded.get_mut(project) {
            known.retain(|oid| !oids.contains(oid));
        }
    }

    /// Forgets the projects that exist no more.
    pub(super) fn exist(&mut self, exist: &BTreeSet<ProjectName>) {
        for part in Part::ALL {
            self.pass_mut(part).open.retain(|name, _| exist.contains(name));
        }
        self.unneeded.retain(|name, _| exist.contains(name));
    }
}

impl Pass {
    /// Begins a pass, unless one is in progress. Returns whether it did.
    pub(super) fn begin(&mut self, now_ms: u64) -> bool {
        let begins = self.began_ms.is_none();
        if begins {
            (self.began_ms, self.after, self.inside, self.counted) = (Some(now_ms), None, None, 0);
        }
        begins
    }

    /// The project to go on with. None if the pass is done with all of them.
    pub(super) fn next(&self, projects: &BTreeSet<ProjectKey>) -> Option<ProjectKey> {
        let inside = self.inside.as_ref().map(|inside| &inside.project).filter(|one| projects.contains(one));
        let behind = || projects.iter().find(|one| self.after.as_ref().is_none_or(|after| one.name > *after));
        inside.or_else(behind).cloned()
    }

    /// Where the pass is in a project.
    pub(super) fn stage_of(&self, project: &ProjectKey) -> Stage {
        let inside = self.inside.as_ref().filter(|inside| inside.project == *project);
        inside.map_or(Stage::Values(None), |inside| inside.stage.clone())
    }

    /// Notes a slice of a project. The next one begins at `stage`; none ends the project.
    pub(super) fn sliced(&mut self, project: &ProjectKey, counted: u64, stage: Option<Stage>) {
        self.counted += counted;
        if stage.is_none() {
            self.after = Some(project.name.clone());
        }
        self.inside = stage.map(|stage| Inside { project: project.clone(), stage });
    }

    /// Ends the pass, which is complete.
    pub(super) fn end(&mut self, now_ms: u64) {
        if let Some(began_ms) = self.began_ms.take() {
            self.last = Some(Complete { began_ms, ended_ms: now_ms, counted: self.counted });
        }
    }

    /// Notes differences that outlived a catch-up, and how many of them were repaired.
    pub(super) fn found(&mut self, found: u64, repaired: u64) {
        self.found += found;
        self.repaired += repaired;
    }

    /// Notes that a project has differences that are not repaired, or cannot be verified.
    pub(super) fn stays_open(&mut self, project: &ProjectName, why: &str, objects: &[Oid]) {
        if self.open.len() < MOST_PROJECTS || self.open.contains_key(project) {
            let why = why.chars().take(REASON).collect();
            let objects = objects.iter().copied().take(MOST_OIDS).collect();
            self.open.insert(project.clone(), Open { why, objects });
        }
    }

    /// Notes that a project can be verified. Objects at fault stay open.
    pub(super) fn is_verifiable(&mut self, project: &ProjectName) {
        if self.open.get(project).is_some_and(|open| open.objects.is_empty()) {
            self.open.remove(project);
        }
    }

    /// Notes that a project has no differences.
    pub(super) fn is_clean(&mut self, project: &ProjectName) {
        self.open.remove(project);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn projects() -> BTreeSet<ProjectKey> {
        ["a#1", "b#1", "c#2"].map(|name| name.parse().unwrap()).into()
    }

    fn again(kept: &Kept) -> Kept {
        serde_json::from_str(&serde_json::to_string(kept).unwrap()).unwrap()
    }

    #[test]
    fn a_restart_goes_on_behind_the_last_project_and_inside_of_one() {
        let mut kept = Kept::default();
        assert!(kept.pass_mut(Part::Objects).begin(5));
        let [a, b, c]: [ProjectKey; 3] = Vec::from_iter(projects()).try_into().unwrap();
        let at = Stage::Objects(Some(Oid::Sha1([7; 20])));
        kept.pass_mut(Part::Objects).sliced(&a, 3, None);
        kept.pass_mut(Part::Objects).sliced(&b, 4, Some(at.clone()));
        let mut kept = again(&kept);
        let pass = kept.pass_mut(Part::Objects);
        assert!(!pass.begin(9), "the pass is in progress");
        assert_eq!((pass.next(&projects()), pass.stage_of(&b)), (Some(b.clone()), at));
        pass.sliced(&b, 4, None);
        assert_eq!((pass.next(&projects()), pass.stage_of(&c)), (Some(c.clone()), Stage::Values(None)));
        pass.sliced(&c, 0, None);
        assert_eq!(pass.next(&projects()), None);
        pass.end(20);
        let status = kept.status(Part::Objects, DAY, 25);
        assert_eq!((status.age_ms, status.ended_ms, status.counted, status.in_progress), (20, Some(20), 11, false));
        assert_eq!(kept.status(Part::Refs, DAY, 25).ended_ms, None);
    }

    #[test]
    fn a_project_that_was_created_anew_begins_at_its_beginning() {
        let mut pass = Pass::default();
        pass.begin(1);
        let old: ProjectKey = "c#1".parse().unwrap();
        pass.sliced(&old, 1, Some(Stage::Fsck));
        let next = pass.next(&["c#2".parse().unwrap()].into()).unwrap();
        assert_eq!(pass.stage_of(&next), Stage::Values(None));
    }

    /// Two looks at a ref are a day apart at most: a pass begins after half a day, and has half a day.
    #[test]
    fn a_pass_begins_when_half_of_the_time_has_gone_by() {
        let (half, mut kept) = (43_200_000, Kept { since_ms: 1_000, ..Kept::default() });
        assert!(!kept.is_due(Part::Refs, DAY, 1_000 + half - 1) && kept.is_due(Part::Refs, DAY, 1_000 + half));
        kept.pass_mut(Part::Refs).begin(2_000 + half);
        assert!(kept.is_due(Part::Refs, DAY, 2_000 + half), "it goes on");
        kept.pass_mut(Part::Refs).end(2_000 + 2 * half);
        assert_eq!(kept.status(Part::Refs, DAY, 2_000 + 2 * half).age_ms, half);
        assert!(!kept.is_due(Part::Refs, DAY, 1_999 + 2 * half) && kept.is_due(Part::Refs, DAY, 2_000 + 2 * half));
    }

    #[test]
    fn findings_are_kept_within_bounds() {
        let (mut kept, oid) = (Kept::default(), Oid::Sha1([7; 20]));
        let name = |number: usize| -> ProjectName { format!("p{number}").parse().unwrap() };
        for number in 0..2 * MOST_PROJECTS {
            kept.pass_mut(Part::Refs).stays_open(&name(number), &"x".repeat(9_999), &[oid]);
            kept.no_ref_needs(&name(number), [oid]);
        }
        let status = kept.status(Part::Refs, DAY, 0);
        assert_eq!((status.unrepaired_projects, status.unrepaired.len()), (MOST_PROJECTS as u64, MOST_FOUND));
        assert_eq!((status.unrepaired[0].why.len(), kept.unneeded.len()), (REASON, MOST_PROJECTS));
        kept.exist(&[name(1)].into());
        kept.pass_mut(Part::Refs).is_clean(&name(1));
        assert_eq!((kept.status(Part::Refs, DAY, 0).unrepaired_projects, kept.unneeded.len()), (0, 1));
    }
}
