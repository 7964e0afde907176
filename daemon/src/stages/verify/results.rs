//! Keeps the findings of comparisons with the refdb. A later verification hides no earlier finding: the mismatches of a
//! project go only when that project is compared again, or exists no more.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::ProjectName;
use lockstep_proto::overview::Verified;
use serde::{Deserialize, Serialize};

/// The most projects with mismatches that are kept by name beyond a restart.
const MOST_NAMED: usize = 1_000;

/// The findings of all comparisons. Bounded by the number of projects.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// The number of refs that differ, of the projects that have some.
    differ: BTreeMap<ProjectName, u64>,
    /// When the last mismatch was found, in milliseconds since 1970.
    found_ms: u64,
    /// The number of refs that differed in projects that are not known by name any more. A verification of all projects
    /// replaces it.
    unnamed: u64,
    /// The last verification of all projects that has ended, or else the last one of a part.
    last: Option<Verified>,
}

/// The findings as they are stored. Bounded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    differ: BTreeMap<ProjectName, u64>,
    found_ms: u64,
    unnamed: u64,
    last: Option<Verified>,
}

impl Results {
    /// The findings of an earlier life of the node.
    pub(super) fn from_kept(kept: Kept) -> Self {
        let Kept { differ, found_ms, unnamed, last } = kept;
        Self { differ, found_ms, unnamed, last }
    }

    /// The findings for the store.
    pub(super) fn to_keep(&self) -> Kept {
        let differ = self.differ.iter().take(MOST_NAMED).map(|(name, count)| (name.clone(), *count)).collect();
        let more: u64 = self.differ.values().skip(MOST_NAMED).sum();
        Kept { differ, found_ms: self.found_ms, unnamed: self.unnamed + more, last: self.last.clone() }
    }

    /// Notes refs of a project that are wrong here. Earlier findings stay.
    pub(super) fn at_least(&mut self, project: &ProjectName, wrong: u64, now_ms: u64) {
        if wrong > self.differ.get(project).copied().unwrap_or_default() {
            self.differ.insert(project.clone(), wrong);
            self.found_ms = now_ms;
        }
    }

    /// Notes a project that was compared.
    pub(super) fn compared(&mut self, project: &ProjectName, mismatches: u64, now_ms: u64) {
        match mismatches {
            0 => _ = self.differ.remove(project),
            _ => {
                self.differ.insert(project.clone(), mismatches);
                self.found_ms = now_ms;
            }
        }
    }

    /// Notes a verification that has ended. It does not replace one of all projects, unless it was one itself.
    pub(super) fn ended(&mut self, ended: Verified) {
        if ended.whole {
            self.unnamed = 0;
        }
        if ended.whole || !self.last.as_ref().is_some_and(|last| last.whole) {
            self.last = Some(ended);
        }
    }

    /// Forgets the projects that exist neither here nor in the refdb: all that are not in `exist`, or only the one that
    /// was asked for.
    pub(super) fn exist(&mut self, exist: &BTreeSet<ProjectName>, only: Option<&ProjectName>) {
        self.differ.retain(|name, _| exist.contains(name) || only.is_some_and(|only| only != name));
    }

    /// The result for the node's digest: the last verification, with the mismatches that are known now. None if no
    /// verification has ended or found something.
    pub(super) fn verified(&self) -> Option<Verified> {
        let mismatches = self.differ.values().sum::<u64>() + self.unnamed;
        let found = || Verified { at_ms: self.found_ms, projects: 0, whole: false, mismatches };
        let last = self.last.clone().or_else(|| (mismatches > 0).then(found))?;
        Some(Verified { mismatches, ..last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ProjectName {
        text.parse().unwrap()
    }

    fn ended(at_ms: u64, whole: bool) -> Verified {
        Verified { at_ms, projects: 1, whole, mismatches: 0 }
    }

    fn known(results: &Results) -> u64 {
        results.verified().unwrap().mismatches
    }

    #[test]
    fn a_mismatch_is_known_until_its_own_project_is_compared_again() {
        let mut results = Results::default();
        assert_eq!(results.verified(), None, "not verified yet");
        results.compared(&name("p"), 3, 5);
        assert_eq!(known(&results), 3, "while the first verification is in progress");
        results.ended(Verified { mismatches: 3, ..ended(6, true) });
        results.compared(&name("q"), 0, 7);
        results.ended(ended(7, false));
        assert_eq!(results.verified(), Some(Verified { mismatches: 3, ..ended(6, true) }), "another project is equal");
        results.exist(&[name("p"), name("q")].into(), None);
        assert_eq!(known(&results), 3);
        results.compared(&name("p"), 0, 8);
        assert_eq!(known(&results), 0);
    }

    #[test]
    fn findings_are_kept_within_bounds_and_none_is_lost() {
        let mut results = Results::default();
        for number in 0..MOST_NAMED + 5 {
            results.compared(&name(&format!("p{number:05}")), 2, 5);
        }
        let mut again = Results::from_kept(results.to_keep());
        assert_eq!(known(&again), known(&results));
        assert_eq!(again.differ.len(), MOST_NAMED);
        again.compared(&name("p00000"), 0, 6);
        assert_eq!(known(&again), known(&results) - 2);
        again.exist(&BTreeSet::new(), None);
        assert_eq!(known(&again), 10, "they are not known by name");
        again.ended(ended(7, true));
        assert_eq!(known(&again), 0);
    }

    #[test]
    fn a_project_that_exists_no_more_has_no_mismatches() {
        let mut results = Results::default();
        results.compared(&name("p"), 3, 5);
        results.compared(&name("q"), 4, 5);
        results.exist(&BTreeSet::new(), Some(&name("p")));
        assert_eq!(known(&results), 4, "only p was looked for");
        results.exist(&BTreeSet::new(), None);
        assert_eq!(results.verified(), None);
    }
}
