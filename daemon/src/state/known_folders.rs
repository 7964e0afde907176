//! The directory marks that the running incarnation has set in the refdb. Its later creations in the same folders set
//! no mark again, so they touch one item, and creations in one folder do not wait for each other.
//!
//! A remembered mark is a claim: no ref of this very name can come into being, although nobody looks at its item. So
//! the claim has to end before such a ref is created. A name is forgotten when its mark is loosened, and all names are
//! forgotten when a new incarnation begins, because nobody asks a node without an open incarnation
//! (`docs/adr/0027-a-name-that-once-was-a-folder.md`). To forget a name is always safe: the next creation below it
//! marks it again.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{ProjectKey, RefName};
use parking_lot::Mutex;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};

/// The most names that are remembered. All are forgotten when there would be more.
const MOST: usize = 100_000;

/// The remembered marks of one node.
#[derive(Debug)]
pub struct KnownFolders {
    known: Mutex<Known>,
    /// The marks of the last incarnation, for an injected bug. Empty without it.
    of_last: Mutex<Names>,
    bugs: InjectedBugs,
}

type Names = BTreeMap<ProjectKey, BTreeSet<RefName>>;

#[derive(Debug, Default)]
struct Known {
    /// The number of times that something was forgotten.
    forgotten: u64,
    names: Names,
    count: usize,
}

/// A moment at which a commit began to rely on the remembered marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(u64);

impl KnownFolders {
    /// Starts without a directory mark.
    #[must_use]
    pub fn new(bugs: InjectedBugs) -> Self {
        Self { known: Mutex::default(), of_last: Mutex::default(), bugs }
    }

    /// Forgets everything, because a new incarnation begins.
    pub fn begin(&self) {
        let mut known = self.known.lock();
        known.clear();
        if self.bugs.has(InjectedBug::MarksOutliveIncarnation) {
            known.names = self.of_last.lock().clone();
        }
    }

    /// Forgets everything, because the running incarnation ends.
    pub fn end(&self) {
        let mut known = self.known.lock();
        if self.bugs.has(InjectedBug::MarksOutliveIncarnation) {
            self.of_last.lock().clone_from(&known.names);
        }
        known.clear();
    }

    /// The present moment. Called before the first look at the marks, by a commit inside the project's quiesce.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.known.lock().forgotten)
    }

    /// Whether the running incarnation has marked the name.
    #[must_use]
    pub fn contains(&self, project: &ProjectKey, name: &RefName) -> bool {
        self.known.lock().names.get(project).is_some_and(|names| names.contains(name))
    }

    /// Remembers that a commit has marked these names. It does nothing if anything was forgotten since the commit
    /// began: the mark may be one that was loosened meanwhile.
    pub fn remember(&self, since: Moment, project: &ProjectKey, names: &[RefName]) {
        let mut known = self.known.lock();
        if known.forgotten != since.0 || names.is_empty() {
            return;
        }
        if known.count + names.len() > MOST {
            known.clear();
        }
        let of_project = known.names.entry(project.clone()).or_default();
        let before = of_project.len();
        of_project.extend(names.iter().cloned());
        let added = of_project.len() - before;
        known.count += added;
    }

    /// Forgets the mark of a name. Commits that began before may still rely on it.
    pub fn forget(&self, project: &ProjectKey, name: &RefName) {
        let mut known = self.known.lock();
        known.forgotten += 1;
        let Some(names) = known.names.get_mut(project) else { return };
        if names.remove(name) {
            known.count -= 1;
        }
    }
}

impl Known {
    fn clear(&mut self) {
        *self = Self { forgotten: self.forgotten + 1, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> ProjectKey {
        "p#1".parse().unwrap()
    }

    fn name(text: &str) -> RefName {
        format!("refs/heads/{text}").parse().unwrap()
    }

    fn folders() -> KnownFolders {
        KnownFolders::new(InjectedBugs::default())
    }

    #[test]
    fn a_mark_is_remembered_for_its_project_until_it_is_forgotten() {
        let folders = folders();
        folders.remember(folders.now(), &project(), &[name("a"), name("b")]);
        assert!(folders.contains(&project(), &name("a")) && !folders.contains(&project(), &name("c")));
        assert!(!folders.contains(&"p#2".parse().unwrap(), &name("a")));
        folders.forget(&project(), &name("a"));
        assert!(!folders.contains(&project(), &name("a")) && folders.contains(&project(), &name("b")));
        folders.begin();
        assert!(!folders.contains(&project(), &name("b")));
    }

    #[test]
    fn a_commit_that_began_before_something_was_forgotten_is_not_remembered() {
        let folders = folders();
        let (early, of_ended) = (folders.now(), folders.now());
        folders.forget(&project(), &name("a"));
        folders.remember(early, &project(), &[name("a")]);
        assert!(!folders.contains(&project(), &name("a")), "its mark may be the loosened one");
        folders.begin();
        folders.remember(of_ended, &project(), &[name("a")]);
        assert!(!folders.contains(&project(), &name("a")), "a commit of an ended incarnation");
    }

    #[test]
    fn the_memory_is_bounded() {
        let folders = folders();
        for at in 0..=MOST {
            folders.remember(folders.now(), &project(), &[name(&at.to_string())]);
        }
        assert_eq!(folders.known.lock().count, 1);
        assert!(folders.contains(&project(), &name(&MOST.to_string())));
    }
}
