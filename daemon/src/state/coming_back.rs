//! Whether this node comes back from a time in which its site was off.
//!
//! In that time the Gerrits of the site wrote to the repositories themselves. So a ref on the disk may have a value
//! that nobody has committed, and that users were told to be safe. While the node comes back, such values stay on the
//! disk: only a ref that somebody else has moved meanwhile gives way, and its value is kept as a stray. The node takes
//! no commits but those of the seeder, which bring the values of the disk into the refdb.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep_proto::site_list::ComingBack;
use parking_lot::Mutex;

/// The state of a node that comes back, and whether its site is off. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ComesBack {
    now: Arc<Mutex<Option<ComingBack>>>,
    off: Arc<AtomicBool>,
}

impl ComesBack {
    /// Notes whether the site of the node is off. While it is, the disk belongs to Gerrit alone.
    pub fn site_is_off(&self, off: bool) {
        self.off.store(off, Ordering::SeqCst);
    }

    /// Whether the node must move no ref, because its site is off.
    #[must_use]
    pub fn forbids_moves(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }

    /// Notes that the node comes back from the time that began at this epoch.
    pub fn begin(&self, left: u64) {
        let mut now = self.now.lock();
        if now.as_ref().is_none_or(|now| now.left != left) {
            *now = Some(ComingBack { left, ..ComingBack::default() });
        }
    }

    /// Takes in what a comparison has found so far.
    pub fn note(&self, found: ComingBack) {
        let mut now = self.now.lock();
        if now.as_ref().is_some_and(|now| now.left == found.left) {
            *now = Some(found);
        }
    }

    /// Notes that the node has come back.
    pub fn end(&self) {
        *self.now.lock() = None;
    }

    /// The findings of the node so far. None if it does not come back from anywhere.
    #[must_use]
    pub fn now(&self) -> Option<ComingBack> {
        self.now.lock().clone()
    }

    /// Whether the node comes back.
    #[must_use]
    pub fn is_so(&self) -> bool {
        self.now.lock().is_some()
    }

    /// Why the node takes no commits, for writers. None if it does not come back.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let now = self.now()?;
        let count = now.differ.len() as u64 + now.more;
        let found = match now.differ.first() {
            None if now.has_compared_all() => "the comparison is about to end".to_owned(),
            None => {
                let total = now.total.map_or("?".to_owned(), |total| total.to_string());
                format!("{} of {total} projects are compared", now.compared)
            }
            Some(first) => format!(
                "{count} projects differ so far, {} first; an operator has to run `lockstep seed --again {}`",
                first.project, first.project
            ),
        };
        Some(format!(
            "Lockstep was off at this site, and this node compares its repositories with the committed state: {found}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::site_list::DifferentProject;

    use super::*;

    #[test]
    fn findings_belong_to_one_time_and_are_told() {
        let back = ComesBack::default();
        back.note(ComingBack { left: 3, ..ComingBack::default() });
        assert!(!back.is_so() && back.told().is_none());
        back.begin(3);
        assert!(back.told().unwrap().contains("0 of ? projects are compared"), "{:?}", back.told());
        let one = DifferentProject { project: "p".to_owned(), refs: Some(2), first: "refs/heads/a".to_owned() };
        let differ = vec![one];
        let found = ComingBack { left: 3, compared: 4, total: Some(4), differ, more: 1 };
        back.note(found.clone());
        back.begin(3);
        assert_eq!(back.now(), Some(found));
        assert!(back.told().unwrap().contains("2 projects differ so far, p first"), "{:?}", back.told());
        back.begin(7);
        assert!(back.now().unwrap().differ.is_empty(), "a later time");
        back.end();
        assert!(!back.is_so());
    }
}
