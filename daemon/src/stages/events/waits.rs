//! The need of the first event of each ordering key, kept so that a look costs in proportion to changes and not to
//! waiting events.
//!
//! An event is *due* for a check when it arrives, when its awaited ref moves, or when its predecessor leaves the inbox.
//! An event that is checked and may not be delivered waits for a version or for Gerrit's index. A move comes with a
//! notification. A refresh of Gerrit's index does not, so events that wait for one are checked in turn. Some of the
//! events that wait for a move are checked in turn too, so that nothing depends on notifications.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lockstep_proto::{ProjectName, RefKey};

/// The thing that an event waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A move of the ref, or of the project's state.
    Move(ProjectName, RefKey),
    /// Gerrit's index and caches.
    Refresh,
}

/// Events that are due or wait, by their numbers in the inbox.
#[derive(Debug, Default)]
pub(super) struct Waits {
    due: BTreeSet<u64>,
    needs: BTreeMap<u64, Need>,
    moves: BTreeMap<(ProjectName, RefKey), BTreeSet<u64>>,
    moves_in_turn: Rotation,
    refreshes_in_turn: Rotation,
}

/// Events that are checked in turn.
#[derive(Debug, Default)]
struct Rotation {
    all: BTreeSet<u64>,
    last: u64,
}

impl Rotation {
    /// The next events, at most `most`, none of them twice.
    fn next(&mut self, most: usize) -> Vec<u64> {
        let behind = self.all.range((Bound::Excluded(self.last), Bound::Unbounded));
        let next: Vec<u64> = behind.chain(self.all.range(..=self.last)).take(most).copied().collect();
        self.last = next.last().copied().unwrap_or_default();
        next
    }
}

impl Waits {
    /// Makes an event due.
    pub(super) fn look_at(&mut self, number: u64) {
        self.leave(number);
        self.due.insert(number);
    }

    /// Takes the oldest event that is due.
    pub(super) fn take_due(&mut self) -> Option<u64> {
        self.due.pop_first()
    }

    /// Notes that an event was checked and waits for `need`.
    pub(super) fn wait(&mut self, number: u64, need: Need) {
        self.leave(number);
        match &need {
            Need::Move(project, key) => {
                for key in [key.clone(), RefKey::State] {
                    self.moves.entry((project.clone(), key)).or_default().insert(number);
                }
                self.moves_in_turn.all.insert(number);
            }
            Need::Refresh => drop(self.refreshes_in_turn.all.insert(number)),
        }
        self.needs.insert(number, need);
    }

    /// Forgets an event that has left the inbox.
    pub(super) fn remove(&mut self, number: u64) {
        self.leave(number);
        self.due.remove(&number);
    }

    /// Makes the events due that wait for a ref that has moved.
    pub(super) fn moved(&mut self, project: ProjectName, key: RefKey) {
        for number in self.moves.remove(&(project, key)).into_iter().flatten() {
            self.look_at(number);
        }
    }

    /// Makes all events due that wait for a move, because notifications of moves were lost.
    pub(super) fn anything_moved(&mut self) {
        for number in self.moves_in_turn.all.clone() {
            self.look_at(number);
        }
    }

    /// Makes the next `most` events due that wait for a move, although no notification came.
    pub(super) fn look_in_turn(&mut self, most: usize) {
        for number in self.moves_in_turn.next(most) {
            self.look_at(number);
        }
    }

    /// The next `most` events that wait for Gerrit's index and caches.
    pub(super) fn refreshes_in_turn(&mut self, most: usize) -> Vec<u64> {
        self.refreshes_in_turn.next(most)
    }

    /// Removes an event from the indexes of waiting events.
    fn leave(&mut self, number: u64) {
        match self.needs.remove(&number) {
            Some(Need::Move(project, key)) => {
                for key in [key, RefKey::State] {
                    let at = (project.clone(), key);
                    if let Some(others) = self.moves.get_mut(&at) {
                        others.remove(&number);
                        if others.is_empty() {
                            self.moves.remove(&at);
                        }
                    }
                }
                self.moves_in_turn.all.remove(&number);
            }
            Some(Need::Refresh) => drop(self.refreshes_in_turn.all.remove(&number)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(key: &str) -> Need {
        Need::Move("p".parse().unwrap(), key.parse().unwrap())
    }

    fn due(waits: &mut Waits) -> Vec<u64> {
        std::iter::from_fn(|| waits.take_due()).collect()
    }

    #[test]
    fn a_move_makes_due_what_waits_for_it_and_nothing_else() {
        let mut waits = Waits::default();
        for (number, key) in [(1, "refs/heads/a"), (2, "refs/heads/b"), (3, "refs/heads/a"), (4, "refs/heads/a")] {
            waits.wait(number, need(key));
        }
        waits.remove(4);
        waits.moved("p".parse().unwrap(), "refs/heads/a".parse().unwrap());
        waits.moved("q".parse().unwrap(), "refs/heads/b".parse().unwrap());
        assert_eq!(due(&mut waits), [1, 3]);
        waits.wait(1, Need::Refresh);
        waits.moved("p".parse().unwrap(), RefKey::State);
        assert_eq!(due(&mut waits), [2]);
        assert!(waits.moves.is_empty() && waits.moves_in_turn.all.is_empty(), "{waits:?}");
        assert_eq!(waits.refreshes_in_turn(9), [1]);
    }

    #[test]
    fn in_turn_each_is_asked_about_once_a_round() {
        let mut waits = Waits::default();
        (0..5).for_each(|number| waits.wait(number, Need::Refresh));
        let rounds: Vec<Vec<u64>> = (0..5).map(|_| waits.refreshes_in_turn(2)).collect();
        let mut all: Vec<u64> = rounds.concat();
        all.sort_unstable();
        assert_eq!(all, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!(waits.refreshes_in_turn(9).len(), 5);
        (5..8).for_each(|number| waits.wait(number, need("refs/heads/a")));
        waits.look_in_turn(2);
        assert_eq!(due(&mut waits).len(), 2);
        waits.anything_moved();
        assert_eq!(due(&mut waits).len(), 1);
    }
}
