//! Refreshes that a Gerrit acknowledged and lost, because it died before they were on its disk.

use super::*;

/// Moves the group from one value to the next, and has Gerrit acknowledge each move.
fn acknowledged_moves(told: &mut Told, values: &[u8]) {
    for pair in values.windows(2) {
        told.differs(&group(), value(pair[0], pair[1]), false);
        let task = only(told.take());
        assert_eq!(vec![task.work.clone()], group_works(&[(pair[0], pair[1])]), "a living Gerrit is told what is new");
        told.done(&task);
    }
}

#[test]
fn another_gerrit_is_told_all_moves_that_the_first_one_may_have_lost() {
    let mut told = Told::new();
    acknowledged_moves(&mut told, &[1, 2, 3]);
    told.begin();
    assert_eq!(told.works(), group_works(&[(1, 3)]), "both moves may be lost");

    let mut told = Told::new();
    acknowledged_moves(&mut told, &[1, 2, 3]);
    told.differs(&group(), value(3, 4), true);
    told.begin();
    told.later(2);
    assert_eq!(told.works(), group_works(&[(1, 4)]), "a move that waits for Gerrit itself has lost moves before it");

    let mut told = Told::new();
    acknowledged_moves(&mut told, &[1, 2, 1]);
    told.begin();
    assert_eq!(told.works(), group_works(&[(2, 1)]), "a pair of equal values would say nothing");
}

#[test]
fn another_gerrit_is_not_told_moves_that_are_on_the_disk() {
    let mut told = Told::new();
    acknowledged_moves(&mut told, &[1, 2]);
    for values in [[2, 3], [3, 4], [4, 5]] {
        told.later(40);
        acknowledged_moves(&mut told, &values);
    }
    told.begin();
    assert_eq!(told.works(), group_works(&[(2, 5)]), "the first move was acknowledged two minutes ago");
}

#[test]
fn a_restart_of_the_node_remembers_what_gerrit_may_have_lost() {
    let mut told = Told::new();
    acknowledged_moves(&mut told, &[1, 2, 3]);
    let (marks, _) = told.save();
    told.restart(marks);
    told.differs(&group(), value(3, 4), false);
    told.begin();
    assert_eq!(told.works(), group_works(&[(1, 4)]));
}

#[test]
fn a_subject_is_kept_as_long_as_gerrit_says() {
    let mut told = Told::new();
    told.queue.keep_for(600 * SECOND);
    told.moved(&change(1), false);
    let task = only(told.take());
    told.done(&task);
    told.later(599);
    told.polled();
    told.begin();
    let again = only(told.take());
    told.done(&again);
    told.later(600);
    told.polled();
    told.begin();
    assert_eq!(told.take(), []);
}
