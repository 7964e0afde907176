//! The scenario of names that are folders at one time, and branches at another.

use lockstep::base::faults::injected_bug::InjectedBug;

use super::action::Action;
use super::faults::{Rates, Seam};
use super::scenario::{Ask, Scenario};

impl Scenario {
    /// Empties folders and creates their names, while commits below them are on their way. Only the ingredients of the
    /// bug are faults: a name is freed only while every node answers.
    pub(super) fn with_folders(&mut self, bug: InjectedBug) {
        (self.projects, self.think_ms, self.gerrit_dies, self.repeats) = (1, 800, 0, 0);
        // A node remembers a mark only if it has made a branch in the folder itself.
        self.nodes = [1; 3];
        self.asks = vec![(Ask::Folder, 30), (Ask::NameConflict, 40), (Ask::Advance, 5)];
        self.rates.retain(|seam, _| *seam == Seam::RefDb || *seam == Seam::EventLog);
        for rates in self.rates.values_mut() {
            *rates = Rates { delay_ms: 40, timeout_ms: 1_000, ..Rates::default() };
        }
        self.actions = vec![(Action::Replay, 1)];
        if bug == InjectedBug::MarksOutliveIncarnation {
            self.actions = vec![(Action::Fence, 1)];
        }
    }
}
