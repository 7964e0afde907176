//! Tests of the queue: each feeds it moves, reports and times step by step.

use lockstep_proto::Oid;
use lockstep_proto::refresh::Work;

use super::*;

mod lost;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> QueueLimits {
    QueueLimits {
        of_project: 10,
        in_all: 40,
        hold_own: 2 * SECOND,
        keep: 60 * SECOND,
        lease: 30 * SECOND,
        long_lease: 300 * SECOND,
    }
}

/// A queue and its simulated time.
struct Told {
    queue: Queue,
    start: Instant,
    seconds: u64,
}

impl Told {
    fn new() -> Self {
        let start = Instant::now();
        Self { queue: Queue::new(limits(), 100, Vec::new(), start, false), start, seconds: 0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds)
    }

    fn later(&mut self, seconds: u64) {
        self.seconds += seconds;
    }

    fn moved(&mut self, subject: &Subject, own: bool) {
        self.differs(subject, Difference::Some, own);
    }

    fn differs(&mut self, subject: &Subject, difference: Difference, own: bool) {
        self.queue.mark(subject, difference, own, self.now(), 1_000 * self.seconds);
    }

    fn take(&mut self) -> Vec<Task> {
        self.queue.take(256, self.now())
    }

    fn works(&mut self) -> Vec<Work> {
        self.take().into_iter().map(|task| task.work).collect()
    }

    fn done(&mut self, task: &Task) {
        assert!(self.queue.done(task.id, self.now()), "{task:?} was not out");
    }

    fn begin(&mut self) {
        self.queue.begin(self.now());
    }

    fn polled(&mut self) {
        self.queue.polled(self.now());
    }

    fn save(&mut self) -> (Vec<(Subject, RefreshMark)>, Vec<Subject>) {
        self.queue.save(self.now())
    }

    /// Crashes: the next queue starts from the marks that were saved last.
    fn restart(&mut self, marks: Vec<(Subject, RefreshMark)>) {
        self.queue = Queue::new(limits(), 1_000, marks, self.now(), false);
    }
}

fn project() -> ProjectName {
    "p".parse().unwrap()
}

fn change(number: u32) -> Subject {
    Subject::Change { project: project(), number }
}

fn config() -> Subject {
    Subject::ProjectConfig { project: project() }
}

fn whole() -> Subject {
    Subject::Project { project: project() }
}

fn group() -> Subject {
    Subject::Group { group: "abc".into() }
}

fn value(old: u8, new: u8) -> Difference {
    let oid = |byte: u8| (byte > 0).then_some(Oid::Sha1([byte; 20]));
    Difference::Value { old: oid(old), new: oid(new) }
}

fn group_works(pairs: &[(u8, u8)]) -> Vec<Work> {
    let work = |(old, new): &(u8, u8)| {
        let Difference::Value { old, new } = value(*old, *new) else { unreachable!() };
        Work::Group { group: "abc".into(), old, new }
    };
    pairs.iter().map(work).collect()
}

fn only(mut tasks: Vec<Task>) -> Task {
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    tasks.remove(0)
}

#[test]
fn moves_of_one_subject_are_one_task_and_it_is_handed_out_once() {
    let mut told = Told::new();
    told.moved(&change(1), false);
    told.moved(&change(1), false);
    told.moved(&change(2), false);
    let tasks = told.take();
    let works: Vec<&Work> = tasks.iter().map(|task| &task.work).collect();
    assert_eq!(works, [1, 2].map(|number| Work::Change { project: project(), number }).iter().collect::<Vec<_>>());
    assert!(tasks.iter().all(|task| !task.own && task.attempt == 1));
    assert_eq!(told.take(), []);
    assert_eq!(told.queue.figures(), Figures { due: 2, out: 2, oldest_ms: Some(0) });
    for task in &tasks {
        told.done(task);
    }
    assert_eq!(told.queue.figures(), Figures::default());
    assert!(!told.queue.done(tasks[0].id, told.now()), "a second acknowledgement matches no task");
}

#[test]
fn an_acknowledgement_does_not_take_what_moved_meanwhile() {
    let mut told = Told::new();
    told.differs(&group(), value(1, 2), false);
    let first = only(told.take());
    told.differs(&group(), value(2, 3), false);
    told.differs(&group(), value(3, 4), false);
    assert_eq!(told.take(), [], "the subject is out, and has one task at a time");
    told.done(&first);
    assert!(told.queue.is_due(&group()));
    let second = only(told.take());
    let Difference::Value { old, new } = value(2, 4) else { unreachable!() };
    assert_eq!(second.work, Work::Group { group: "abc".into(), old, new }, "the difference since the acknowledgement");
    assert!(second.id > first.id);
    told.done(&second);
    assert!(!told.queue.is_due(&group()));
    // Gerrit's caches hold the acknowledged value, so a move back to an earlier value is a change too.
    told.differs(&group(), value(4, 2), false);
    let Difference::Value { old, new } = value(4, 2) else { unreachable!() };
    assert_eq!(told.works(), [Work::Group { group: "abc".into(), old, new }]);
}

#[test]
fn a_task_that_failed_comes_again_after_its_pause_with_all_that_moved() {
    let mut told = Told::new();
    told.differs(&group(), value(1, 2), false);
    let first = only(told.take());
    told.differs(&group(), value(2, 3), false);
    let now = told.now();
    assert_eq!(told.queue.failed(first.id, now, |failures| failures * SECOND), Some(group()));
    assert_eq!(told.take(), []);
    assert_eq!(told.queue.next(), Some(now + SECOND));
    told.later(1);
    let second = only(told.take());
    let Difference::Value { old, new } = value(1, 3) else { unreachable!() };
    assert_eq!((second.attempt, second.work.clone()), (2, Work::Group { group: "abc".into(), old, new }));
    let now = told.now();
    assert_eq!(told.queue.failed(second.id, now, |failures| failures * SECOND), Some(group()));
    assert_eq!(told.queue.next(), Some(now + 2 * SECOND));
    told.later(2);
    let third = only(told.take());
    told.done(&third);
    told.moved(&group(), false);
    assert_eq!(only(told.take()).attempt, 1, "a new task counts its attempts anew");
}

#[test]
fn own_moves_wait_and_foreign_ones_do_not() {
    let mut told = Told::new();
    told.moved(&change(1), true);
    told.later(1);
    told.moved(&change(1), true);
    assert_eq!(told.take(), []);
    told.later(1);
    let own = only(told.take());
    assert!(own.own, "the wait counts from the first move");
    told.done(&own);
    told.moved(&change(1), true);
    told.moved(&change(1), false);
    let foreign = only(told.take());
    assert!(!foreign.own);
    told.moved(&change(1), true);
    told.done(&foreign);
    assert_eq!(told.take(), []);
    told.later(2);
    assert!(only(told.take()).own);
}

#[test]
fn a_project_comes_before_its_configuration_and_that_before_the_rest() {
    let mut told = Told::new();
    told.moved(&change(1), false);
    told.differs(&config(), value(0, 1), false);
    told.differs(&whole(), Difference::Project { deleted: false, exists: true }, false);
    told.moved(&Subject::Account { account: 7 }, false);
    let tasks = told.take();
    assert!(matches!(tasks[0].work, Work::Project { exists: true, deleted: false, .. }), "{tasks:?}");
    assert_eq!(tasks[1].work, Work::Account { account: 7 });
    assert_eq!(tasks.len(), 2);
    told.done(&tasks[0]);
    let configured = only(told.take());
    assert!(matches!(configured.work, Work::ProjectConfig { .. }));
    assert_eq!(told.take(), []);
    told.done(&configured);
    assert_eq!(told.works(), [Work::Change { project: project(), number: 1 }]);
}

#[test]
fn a_configuration_that_cannot_be_read_does_not_stop_its_project_for_ever() {
    let mut told = Told::new();
    told.differs(&config(), value(0, 1), false);
    told.moved(&change(1), false);
    for _ in 0..CONFIG_TRIES {
        let task = only(told.take());
        let now = told.now();
        told.queue.failed(task.id, now, |_| SECOND);
        told.later(1);
    }
    let works = told.works();
    assert_eq!(works.len(), 2, "{works:?}");
}

#[test]
fn own_configuration_that_waits_for_gerrit_itself_stops_nobody() {
    let mut told = Told::new();
    told.differs(&config(), value(0, 1), true);
    told.moved(&change(1), false);
    assert_eq!(told.works(), [Work::Change { project: project(), number: 1 }]);
}

#[test]
fn a_deleted_project_takes_everything_of_it_along() {
    let mut told = Told::new();
    told.moved(&change(1), false);
    told.moved(&change(2), false);
    let out = told.take();
    told.moved(&change(3), false);
    told.differs(&whole(), Difference::Project { deleted: true, exists: false }, false);
    told.differs(&whole(), Difference::Project { deleted: false, exists: true }, false);
    told.moved(&change(4), false);
    assert!(out.iter().all(|task| !told.queue.done(task.id, told.now())), "tasks of the deleted project are void");
    let task = only(told.take());
    assert_eq!(task.work, Work::Project { project: project(), deleted: true, exists: true });
    told.done(&task);
    assert_eq!(told.works(), [Work::Change { project: project(), number: 4 }]);
}

#[test]
fn many_changes_become_one_task_and_what_moves_behind_it_is_its_own() {
    let mut told = Told::new();
    for number in 1..=500 {
        told.moved(&change(number), false);
    }
    assert!(told.queue.total <= limits().of_project + 1, "{}", told.queue.total);
    assert!(told.queue.is_due(&change(499)) && told.queue.is_due(&change(77_777)), "the task covers all changes");
    let all = only(told.take());
    assert_eq!(all.work, Work::Changes { project: project() });
    told.moved(&change(3), false);
    assert_eq!(told.works(), [Work::Change { project: project(), number: 3 }], "Gerrit may have passed change 3");
    told.done(&all);
    assert!(told.queue.is_due(&change(3)) && !told.queue.is_due(&change(4)));
}

#[test]
fn marks_that_were_acknowledged_lately_are_coalesced_and_not_due() {
    let mut told = Told::new();
    for number in 1..=100 {
        told.moved(&change(number), false);
        let task = only(told.take());
        told.done(&task);
    }
    assert!(told.queue.total <= limits().of_project + 1, "{}", told.queue.total);
    assert_eq!(told.queue.figures().due, 0);
    told.begin();
    assert!(told.works().contains(&Work::Changes { project: project() }), "a new Gerrit may have lost them");
}

#[test]
fn the_largest_projects_are_put_together_when_all_are_too_many() {
    let mut told = Told::new();
    let of = |project: u32, number: u32| Subject::Change { project: format!("p{project}").parse().unwrap(), number };
    for project in 0..9 {
        for number in 1..=9 {
            told.moved(&of(project, number), false);
            assert!(told.queue.total <= limits().in_all + 1, "{}", told.queue.total);
        }
    }
    for account in 0..200 {
        told.moved(&Subject::Account { account }, false);
    }
    assert!(told.queue.total <= 200 + 9, "changes are collapsed, accounts are not: {}", told.queue.total);
    for project in 0..9 {
        assert!((1..=9).all(|number| told.queue.is_due(&of(project, number))), "p{project}");
    }
}

#[test]
fn another_gerrit_gets_what_the_first_one_did_not_finish_or_may_have_lost() {
    let mut told = Told::new();
    for number in 1..=4 {
        told.moved(&change(number), false);
    }
    let tasks = told.take();
    told.done(&tasks[0]);
    let now = told.now();
    told.queue.failed(tasks[1].id, now, |_| 60 * SECOND);
    told.moved(&change(3), false);
    told.begin();
    let again = told.take();
    assert_eq!(again.len(), 4, "{again:?}");
    assert!(!told.queue.done(tasks[2].id, told.now()), "an acknowledgement of the first session does not count");
    for task in &again {
        told.done(task);
    }
    told.later(61);
    told.begin();
    let lost = told.take();
    assert_eq!(lost.len(), 4, "no call has proved that Gerrit lived long enough: {lost:?}");
    for task in &lost {
        told.done(task);
    }
    told.later(59);
    told.polled();
    told.later(61);
    told.begin();
    assert_eq!(told.take().len(), 4, "its last call came too early to prove anything");
    let now = told.now();
    assert!((1..=4).all(|number| told.queue.is_due(&change(number))) && told.queue.next() > Some(now));
    told.begin();
    for task in told.take() {
        told.done(&task);
    }
    told.later(60);
    told.polled();
    told.begin();
    assert_eq!(told.take(), [], "Gerrit lived long enough to write them to disk");
}

#[test]
fn a_task_whose_answer_was_lost_comes_again() {
    let mut told = Told::new();
    told.moved(&change(1), false);
    let lost = only(told.take());
    told.later(29);
    assert_eq!(told.take(), []);
    told.later(1);
    let again = only(told.take());
    assert_eq!((again.attempt, again.id), (2, lost.id));
    told.done(&again);
    assert_eq!(told.take(), []);
}

#[test]
fn a_restart_goes_on_where_the_store_is() {
    let mut told = Told::new();
    told.moved(&change(1), true);
    told.moved(&change(2), false);
    told.differs(&group(), value(1, 2), false);
    let (marks, gone) = told.save();
    assert_eq!((marks.len(), gone.len()), (3, 0));
    assert_eq!(told.save(), (Vec::new(), Vec::new()), "nothing has changed");
    told.restart(marks);
    let tasks = told.take();
    assert_eq!(tasks.len(), 3, "{tasks:?}");
    told.done(&tasks[0]);
    let (marks, _) = told.save();
    let [(subject, mark)] = &marks[..] else { panic!("{marks:?}") };
    assert!(mark.acknowledged && *subject == change(1));
    told.moved(&change(1), false);
    let (marks, _) = told.save();
    assert!(!marks[0].1.acknowledged && marks[0].1.generation > 1_000, "{marks:?}");
}

#[test]
fn a_mark_that_moves_while_its_task_is_out_is_stored_whole() {
    let mut told = Told::new();
    told.differs(&group(), value(1, 2), false);
    let task = only(told.take());
    told.differs(&group(), value(2, 3), false);
    let (marks, _) = told.save();
    assert_eq!(marks[0].1.difference, value(1, 3), "a crash now forgets that the task was out");
    told.done(&task);
    let (marks, _) = told.save();
    assert_eq!(marks[0].1.difference, value(1, 3), "Gerrit may lose the first move, although it acknowledged it");
    assert_eq!(told.works(), group_works(&[(2, 3)]));
}

#[test]
fn an_acknowledged_mark_leaves_the_store_in_time_and_an_unstored_mark_is_not_removed() {
    let mut told = Told::new();
    told.moved(&change(1), false);
    let task = only(told.take());
    told.done(&task);
    let (marks, gone) = told.save();
    assert_eq!((marks.len(), gone.len()), (1, 0));
    told.later(60);
    assert_eq!(told.save(), (Vec::new(), Vec::new()), "no call has proved that it is on Gerrit's disk");
    told.polled();
    assert_eq!(told.save(), (Vec::new(), vec![change(1)]));
    for number in 1..=500 {
        told.moved(&change(number), false);
    }
    let (marks, gone) = told.save();
    assert!(marks.len() <= 11 && gone.is_empty(), "{marks:?} {gone:?}");
    told.differs(&whole(), Difference::Project { deleted: true, exists: false }, false);
    told.moved(&change(2), false);
    let (marks, gone) = told.save();
    let stored: Vec<&Subject> = marks.iter().map(|(subject, _)| subject).collect();
    assert_eq!(stored, [&whole(), &change(2)]);
    assert!(gone.contains(&Subject::Changes { project: project() }), "{gone:?}");
}

#[test]
fn a_deletion_that_is_told_again_is_followed_by_all_changes_of_the_successor() {
    let mut told = Told::new();
    told.differs(&whole(), Difference::Project { deleted: true, exists: true }, false);
    let project_task = only(told.take());
    told.done(&project_task);
    told.moved(&change(1), false);
    let indexed = only(told.take());
    told.done(&indexed);
    told.begin();
    let again = only(told.take());
    assert!(matches!(again.work, Work::Project { deleted: true, exists: true, .. }), "{again:?}");
    told.done(&again);
    assert!(told.works().contains(&Work::Changes { project: project() }));
}

#[test]
fn a_deletion_that_waits_for_gerrit_itself_is_told_before_the_changes_of_the_successor() {
    let mut told = Told::new();
    told.differs(&whole(), Difference::Project { deleted: true, exists: false }, false);
    let deletion = only(told.take());
    told.done(&deletion);
    told.differs(&whole(), Difference::Project { deleted: false, exists: true }, true);
    told.moved(&change(1), false);
    assert_eq!(told.works(), []);
    told.later(2);
    let again = only(told.take());
    assert_eq!(again.work, Work::Project { project: project(), deleted: true, exists: true });
    told.done(&again);
    assert_eq!(told.works(), [Work::Change { project: project(), number: 1 }]);
}

#[test]
fn a_scan_of_all_changes_that_began_before_a_move_does_not_acknowledge_it() {
    let mut told = Told::new();
    for number in 1..=500 {
        told.moved(&change(number), false);
    }
    let before = only(told.take());
    told.begin();
    told.moved(&change(3), false);
    let again = only(told.take());
    assert_eq!(again.work, Work::Changes { project: project() });
    assert!(!told.queue.done(before.id, told.now()), "the pass over all changes began before the move");
    assert!(told.queue.is_due(&change(3)));
    told.done(&again);
    assert!(!told.queue.is_due(&change(3)));
}

#[test]
fn a_deletion_that_was_acknowledged_while_the_successor_was_made_is_told_again_to_a_gerrit_that_lost_it() {
    let mut told = Told::new();
    told.differs(&whole(), Difference::Project { deleted: true, exists: false }, false);
    let deletion = only(told.take());
    told.differs(&whole(), Difference::Project { deleted: false, exists: true }, false);
    told.done(&deletion);
    let successor = only(told.take());
    told.done(&successor);
    told.begin();
    let again = only(told.take());
    assert_eq!(again.work, Work::Project { project: project(), deleted: true, exists: true });
}
