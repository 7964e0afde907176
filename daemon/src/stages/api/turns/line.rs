//! The line of batches that wait for their turn: fair between classes, and between the callers of a class. It knows
//! neither clocks nor tasks.
//!
//! Classes take turns by their weights (smooth weighted round robin), and the callers of a class take turns one by one.
//! A batch of a project that has its share of the running ones is passed over until one of them ends, and so is one of
//! an agent while agents have theirs. In a full line the caller with the most batches gives way to one that has fewer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use lockstep_proto::ProjectName;

use super::caller::{Caller, Class};

/// The bounds of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The most batches that run.
    pub(super) running: usize,
    /// The most of them on one project.
    pub(super) of_project: usize,
    /// The most of them of agents.
    pub(super) of_agents: usize,
    /// The most batches of one caller that wait.
    pub(super) of_caller: usize,
    /// The most batches of one class that wait.
    pub(super) of_class: usize,
}

/// The place of a batch in the line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    number: u64,
    pub(super) caller: Caller,
}

/// Why a batch may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Its caller has enough of them in the line.
    Caller,
    /// The line of its class is full, and nobody in it has more batches than its caller.
    Class,
}

/// The fate of a batch that comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It runs without waiting.
    Runs,
    /// It waits. The other ticket, if there is one, gave way and waits no longer.
    Waits(Ticket, Option<Ticket>),
    /// It may not even wait.
    Refused(Full),
}

struct Waiting {
    number: u64,
    project: ProjectName,
}

/// The batches of one caller, in the order in which they came.
struct Queue {
    name: Arc<str>,
    waiting: VecDeque<Waiting>,
}

#[derive(Default)]
struct ClassLine {
    weight: i64,
    /// Grows by the weight whenever another class has its turn.
    credit: i64,
    /// The callers that wait, the one whose turn is next first.
    callers: VecDeque<Queue>,
}

impl ClassLine {
    fn len(&self) -> usize {
        self.callers.iter().map(|queue| queue.waiting.len()).sum()
    }

    fn of_caller(&self, name: &str) -> usize {
        self.callers.iter().find(|queue| *queue.name == *name).map_or(0, |queue| queue.waiting.len())
    }

    fn push(&mut self, name: &Arc<str>, waiting: Waiting) {
        match self.callers.iter_mut().find(|queue| queue.name == *name) {
            Some(queue) => queue.waiting.push_back(waiting),
            None => self.callers.push_back(Queue { name: Arc::clone(name), waiting: [waiting].into() }),
        }
    }

    /// Removes the first batch that may run. Its caller goes to the end of the line.
    fn take(&mut self, may_run: impl Fn(&ProjectName) -> bool) -> Option<(Arc<str>, Waiting)> {
        let first = |queue: &Queue| queue.waiting.iter().position(|one| may_run(&one.project));
        let (at, first) =
            self.callers.iter().enumerate().find_map(|(at, queue)| first(queue).map(|first| (at, first)))?;
        let mut queue = self.callers.remove(at)?;
        let taken = queue.waiting.remove(first);
        let name = Arc::clone(&queue.name);
        if !queue.waiting.is_empty() {
            self.callers.push_back(queue);
        }
        taken.map(|taken| (name, taken))
    }

    fn remove(&mut self, name: &str, number: u64) -> bool {
        let Some(at) = self.callers.iter().position(|queue| *queue.name == *name) else { return false };
        let waiting = &mut self.callers[at].waiting;
        let before = waiting.len();
        waiting.retain(|one| one.number != number);
        let is_removed = waiting.len() < before;
        if waiting.is_empty() {
            let _ = self.callers.remove(at);
        }
        is_removed
    }

    /// The last batch of the caller with the most, if that has more than `than` of them.
    fn last_of_the_longest(&self, than: usize) -> Option<(Arc<str>, u64)> {
        let longest = self.callers.iter().max_by_key(|queue| queue.waiting.len())?;
        let last = longest.waiting.back().filter(|_| longest.waiting.len() > than)?;
        Some((Arc::clone(&longest.name), last.number))
    }
}

/// The batches that run and those that wait.
pub(super) struct Line {
    bounds: Bounds,
    classes: [ClassLine; Class::ALL.len()],
    running: usize,
    /// How many of them are of agents.
    agents: usize,
    /// How many batches run on each project with at least one.
    of_project: HashMap<ProjectName, usize>,
    next: u64,
}

impl Line {
    /// An empty line. `weights` are those of [`Class::ALL`], in their order.
    pub(super) fn new(bounds: Bounds, weights: [u32; Class::ALL.len()]) -> Self {
        let classes = weights.map(|weight| ClassLine { weight: i64::from(weight.max(1)), ..ClassLine::default() });
        Self { bounds, classes, running: 0, agents: 0, of_project: HashMap::new(), next: 0 }
    }

    /// A batch comes. Nothing that could run waits before or after this.
    pub(super) fn enter(&mut self, caller: &Caller, project: &ProjectName) -> Entered {
        let ticket = Ticket { number: self.next, caller: caller.clone() };
        self.next += 1;
        let waiting = Waiting { number: ticket.number, project: project.clone() };
        self.class(caller.class).push(&caller.name, waiting);
        if !self.start().is_empty() {
            return Entered::Runs;
        }
        match self.make_room(caller) {
            Ok(gives_way) => Entered::Waits(ticket, gives_way),
            Err(full) => {
                self.class(caller.class).remove(&caller.name, ticket.number);
                Entered::Refused(full)
            }
        }
    }

    /// A batch of this class on a project has ended. Returns those that run now.
    pub(super) fn leave(&mut self, project: &ProjectName, class: Class) -> Vec<Ticket> {
        self.running = self.running.saturating_sub(1);
        if class == Class::Agents {
            self.agents = self.agents.saturating_sub(1);
        }
        if let Some(count) = self.of_project.get_mut(project) {
            *count -= 1;
            if *count == 0 {
                self.of_project.remove(project);
            }
        }
        self.start()
    }

    /// A batch does not wait any longer. Returns false if it did not wait.
    pub(super) fn give_up(&mut self, ticket: &Ticket) -> bool {
        self.class(ticket.caller.class).remove(&ticket.caller.name, ticket.number)
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn waiting(&self, class: Class) -> usize {
        self.classes[class as usize].len()
    }

    /// The share of the turns that a class has while all that wait now do: above 0, at most 1.
    pub(super) fn share(&self, class: Class) -> f64 {
        let all = Class::ALL.iter().filter(|one| **one == class || self.waiting(**one) > 0);
        let all: i64 = all.map(|one| self.classes[*one as usize].weight).sum();
        self.classes[class as usize].weight as f64 / all as f64
    }

    fn class(&mut self, class: Class) -> &mut ClassLine {
        &mut self.classes[class as usize]
    }

    /// Holds the bounds after a batch of this caller was added at the end. Returns the ticket that gives way.
    fn make_room(&mut self, caller: &Caller) -> Result<Option<Ticket>, Full> {
        let Bounds { of_caller, of_class, .. } = self.bounds;
        let line = self.class(caller.class);
        let own = line.of_caller(&caller.name);
        if own > of_caller {
            return Err(Full::Caller);
        }
        if line.len() <= of_class {
            return Ok(None);
        }
        let (name, number) = line.last_of_the_longest(own).ok_or(Full::Class)?;
        line.remove(&name, number);
        Ok(Some(Ticket { number, caller: Caller { class: caller.class, name } }))
    }

    /// Lets run what may.
    fn start(&mut self) -> Vec<Ticket> {
        let mut started = Vec::new();
        while self.running < self.bounds.running {
            let Some(ticket) = self.start_one() else { break };
            started.push(ticket);
        }
        started
    }

    fn start_one(&mut self) -> Option<Ticket> {
        let Self { bounds, classes, of_project, .. } = self;
        let may_run = |project: &ProjectName| of_project.get(project).is_none_or(|count| *count < bounds.of_project);
        let can =
            |line: &ClassLine| line.callers.iter().flat_map(|queue| &queue.waiting).any(|one| may_run(&one.project));
        let has_room = |class: Class| class != Class::Agents || self.agents < bounds.of_agents;
        let able = Class::ALL.into_iter().filter(|class| has_room(*class) && can(&classes[*class as usize]));
        let able: Vec<Class> = able.collect();
        let all: i64 = able.iter().map(|class| classes[*class as usize].weight).sum();
        for class in &able {
            let line = &mut classes[*class as usize];
            line.credit += line.weight;
        }
        let class = able.into_iter().max_by_key(|class| classes[*class as usize].credit)?;
        let line = &mut classes[class as usize];
        line.credit -= all;
        let (name, Waiting { number, project }) = line.take(may_run)?;
        self.running += 1;
        self.agents += usize::from(class == Class::Agents);
        *self.of_project.entry(project).or_default() += 1;
        Some(Ticket { number, caller: Caller { class, name } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { running: 2, of_project: 1, of_agents: 2, of_caller: 3, of_class: 5 };

    fn line(bounds: Bounds) -> Line {
        Line::new(bounds, [4, 1])
    }

    fn project(name: &str) -> ProjectName {
        name.parse().unwrap()
    }

    fn person(name: &str) -> Caller {
        Caller { class: Class::People, name: name.into() }
    }

    fn agent(name: &str) -> Caller {
        Caller { class: Class::Agents, name: name.into() }
    }

    /// Lets one batch end after the other, each on its own project: first one of this class on "p". Returns the names
    /// of the callers in the order in which their batches ran.
    fn order(line: &mut Line, class: Class, at: &HashMap<u64, ProjectName>) -> Vec<String> {
        let (mut order, mut running) = (Vec::new(), vec![(project("p"), class)]);
        while let Some((project, class)) = running.pop() {
            for ticket in line.leave(&project, class) {
                running.insert(0, (at[&ticket.number].clone(), ticket.caller.class));
                order.push(ticket.caller.name.to_string());
            }
        }
        order
    }

    #[test]
    fn callers_take_turns_however_many_batches_each_has() {
        let mut line = line(Bounds { running: 1, of_caller: 9, of_class: 99, ..BOUNDS });
        assert_eq!(line.enter(&person("busy"), &project("p")), Entered::Runs);
        let mut at = HashMap::new();
        for (n, name) in ["busy", "busy", "busy", "one", "busy", "two"].into_iter().enumerate() {
            let project = project(&format!("p{n}"));
            let Entered::Waits(ticket, None) = line.enter(&person(name), &project) else { panic!("{name} waits") };
            at.insert(ticket.number, project);
        }
        let order = order(&mut line, Class::People, &at);
        assert_eq!(order, ["busy", "one", "two", "busy", "busy", "busy"]);
        assert_eq!((line.running(), line.waiting(Class::People)), (0, 0));
    }

    #[test]
    fn classes_take_turns_by_their_weights_and_a_class_alone_has_all() {
        let mut line = line(Bounds { running: 1, of_caller: 99, of_class: 99, ..BOUNDS });
        assert_eq!(line.enter(&agent("bot"), &project("p")), Entered::Runs);
        let mut at = HashMap::new();
        for n in 0..20 {
            let project = project(&format!("p{n}"));
            let caller = if n < 10 { agent("bot") } else { person("alice") };
            let Entered::Waits(ticket, None) = line.enter(&caller, &project) else { panic!("{n} waits") };
            at.insert(ticket.number, project);
        }
        assert!((line.share(Class::Agents) - 0.2).abs() < 1e-9 && (line.share(Class::People) - 0.8).abs() < 1e-9);
        let order = order(&mut line, Class::Agents, &at);
        let people = |turns: &[String]| turns.iter().filter(|name| *name == "alice").count();
        assert_eq!((people(&order[..5]), people(&order[..10])), (4, 8), "{order:?}");
        assert_eq!(people(&order), 10);
        assert!((line.share(Class::Agents) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_busy_project_is_passed_over_until_one_of_its_batches_ends() {
        let mut line = line(BOUNDS);
        assert_eq!(line.enter(&person("a"), &project("hot")), Entered::Runs);
        let Entered::Waits(first, None) = line.enter(&person("a"), &project("hot")) else { panic!("it waits") };
        assert_eq!(line.enter(&person("a"), &project("cold")), Entered::Runs, "another project may");
        assert_eq!(line.leave(&project("cold"), Class::People), []);
        assert_eq!(line.leave(&project("hot"), Class::People), [first]);
    }

    #[test]
    fn agents_wait_at_their_bound_while_people_run_beside_them() {
        let mut line = line(Bounds { running: 4, of_agents: 1, of_class: 99, ..BOUNDS });
        assert_eq!(line.enter(&agent("bot"), &project("p1")), Entered::Runs);
        let Entered::Waits(second, None) = line.enter(&agent("ci"), &project("p2")) else { panic!("it waits") };
        for name in ["p3", "p4"] {
            assert_eq!(line.enter(&person("alice"), &project(name)), Entered::Runs);
        }
        assert_eq!(line.leave(&project("p3"), Class::People), [], "the turn of a person is none of an agent");
        assert_eq!((line.running(), line.waiting(Class::Agents)), (2, 1));
        assert_eq!(line.leave(&project("p1"), Class::Agents), [second]);
        assert_eq!((line.running(), line.waiting(Class::Agents)), (2, 0));
    }

    #[test]
    fn a_caller_has_a_bound_and_the_longest_gives_way_in_a_full_line() {
        let mut line = line(Bounds { running: 1, ..BOUNDS });
        assert_eq!(line.enter(&person("a"), &project("p")), Entered::Runs);
        let mut last_of_a = None;
        for _ in 0..3 {
            let Entered::Waits(ticket, None) = line.enter(&person("a"), &project("p")) else { panic!("it waits") };
            last_of_a = Some(ticket);
        }
        assert_eq!(line.enter(&person("a"), &project("q")), Entered::Refused(Full::Caller));
        for name in ["b", "c"] {
            assert!(matches!(line.enter(&person(name), &project("p")), Entered::Waits(_, None)));
        }
        let Entered::Waits(_, gave_way) = line.enter(&person("d"), &project("p")) else { panic!("d waits") };
        assert_eq!(gave_way, last_of_a, "a has the most, and loses its last one");
        assert!(matches!(line.enter(&person("e"), &project("p")), Entered::Waits(_, Some(_))));
        assert_eq!(line.enter(&person("f"), &project("p")), Entered::Refused(Full::Class), "everybody has one");
        assert_eq!(line.waiting(Class::People), 5);
        assert!(matches!(line.enter(&agent("bot"), &project("p")), Entered::Waits(_, None)), "another class has room");
    }

    #[test]
    fn a_batch_that_is_given_up_is_forgotten() {
        let mut line = line(Bounds { running: 1, ..BOUNDS });
        assert_eq!(line.enter(&person("a"), &project("p")), Entered::Runs);
        let Entered::Waits(ticket, None) = line.enter(&person("b"), &project("p")) else { panic!("b waits") };
        assert!(line.give_up(&ticket));
        assert!(!line.give_up(&ticket));
        assert_eq!(line.leave(&project("p"), Class::People), []);
        assert_eq!(line.enter(&person("b"), &project("p")), Entered::Runs);
    }
}
