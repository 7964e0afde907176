//! Faults: one seeded plan for every call of every node to every seam.
//!
//! A `Link` is between a node and a seam. Each call asks the plan for its [`Fate`]. A remote call is a message in a
//! task of its own, so it may land after its sender died. The plan does to it what a real network may do to a request.
//! The worst is [`Fate::Late`]: the sender gets "unknown", and the call takes effect long after.
//!
//! A paused node (SIGSTOP, a long garbage collection) hangs at its next seam call, on the way out and on the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_proto::failover::{Failover, FailoverStep};
use lockstep_proto::{NodeId, ProjectName, SiteId};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use super::dice::Dice;
use super::trace::Trace;

/// The target of a node's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seam {
    /// The refdb, which all nodes share.
    RefDb,
    /// The streams of all sites.
    EventLog,
    /// The blob store, which all nodes share.
    Blobs,
    /// The repositories of the other nodes, as a source of objects.
    Peers,
    /// The repositories on the node's own volume.
    Repositories,
    /// The node's own store.
    Store,
    /// The Gerrit beside the node: its refresh tasks and stream events.
    Gerrit,
}

/// The kind of a call. It decides which faults are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The call changes nothing.
    Read,
    /// The call changes something.
    Write,
    /// A commit: the only call that can meet a conflict.
    Commit,
}

/// The rate of each fault, in permille of the calls, and the times, in virtual milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// The call has no effect, and the caller is told so.
    pub fail_before: u64,
    /// The request is lost: the call has no effect, and the caller gets "unknown".
    pub lose_request: u64,
    /// The answer is lost: the call took effect, and the caller gets "unknown".
    pub lose_answer: u64,
    /// The caller gets "unknown", and the call takes effect later.
    pub late: u64,
    /// The call arrives twice. The caller gets the second answer.
    pub duplicate: u64,
    /// The caller is told that another transaction was in progress.
    pub conflict: u64,
    /// Records of one call change places.
    pub reorder: u64,
    /// A read gives a few records, although there are more.
    pub few: u64,
    /// A collection removes only some of its slots, and the caller is told that it failed.
    pub part: u64,
    /// The longest delay of a request, and of an answer.
    pub delay_ms: u64,
    /// The time for which a caller waits for an answer that does not come.
    pub timeout_ms: u64,
    /// The longest delay of a late copy.
    pub late_ms: u64,
}

/// The fate of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The call arrives, and so does its answer.
    Deliver,
    /// The call fails without an effect ([`Rates::fail_before`]).
    FailBefore,
    /// The request does not arrive ([`Rates::lose_request`]).
    LoseRequest,
    /// The call takes effect, and its answer does not arrive ([`Rates::lose_answer`]).
    LoseAnswer,
    /// See [`Rates::late`]. The call lands this many milliseconds after the caller gave up.
    Late(u64),
    /// The call takes effect twice ([`Rates::duplicate`]).
    Duplicate,
    /// The commit meets another one in progress ([`Rates::conflict`]).
    Conflict,
}

/// A part of a service that throttles every node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Throttle {
    /// The partition of a project in the refdb.
    Partition(ProjectName),
    /// The shard that has a project's records, in a site's stream.
    Shard(SiteId, ProjectName),
}

/// The direction of a link that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Requests do not arrive.
    Requests,
    /// Requests arrive, answers do not.
    Answers,
}

/// An error type that can express the failures of a network.
pub trait NetworkError: Send + 'static {
    /// The error for a call that had no effect.
    fn not_now() -> Self;
    /// The error for a call that may have taken effect, or may yet.
    fn unknown() -> Self;
}

/// The plan of all faults of one run.
#[derive(Debug)]
pub struct Faults {
    trace: Arc<Trace>,
    dice: Dice,
    state: Mutex<State>,
    resumed: Notify,
    driver: watch::Sender<Option<Driven>>,
}

/// A step of a failover, and the node that has begun it.
#[derive(Clone, Debug)]
pub struct Driven {
    /// The number of the failover.
    pub number: u64,
    /// The step.
    pub step: FailoverStep,
    /// The node, which drives until another one begins a step.
    pub node: NodeId,
}

#[derive(Debug)]
struct State {
    on: bool,
    rates: BTreeMap<Seam, Rates>,
    calls: BTreeMap<&'static str, Rates>,
    cuts: BTreeMap<(NodeId, Seam), Cut>,
    barred: BTreeMap<NodeId, &'static str>,
    paused: BTreeSet<NodeId>,
    throttled: BTreeSet<Throttle>,
    injected: u64,
}

impl Faults {
    /// A plan with these rates of seams and of single calls. It is off until [`Faults::switch`].
    #[must_use]
    pub fn new(
        seed: u64,
        trace: Arc<Trace>,
        rates: BTreeMap<Seam, Rates>,
        calls: BTreeMap<&'static str, Rates>,
    ) -> Arc<Self> {
        let (cuts, barred, paused, throttled) = Default::default();
        let state = State { on: false, rates, calls, cuts, barred, paused, throttled, injected: 0 };
        let (dice, state, driver) = (Dice::new(seed, "faults"), Mutex::new(state), watch::Sender::new(None));
        Arc::new(Self { trace, dice, state, resumed: Notify::new(), driver })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Switches random faults on or off.
    pub fn switch(&self, on: bool) {
        self.state().on = on;
    }

    /// Whether random faults are on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.state().on
    }

    /// Cuts a node's link to a seam, or mends it.
    pub fn cut(&self, node: &NodeId, seam: Seam, cut: Option<Cut>) {
        let mut state = self.state();
        match cut {
            Some(cut) => state.cuts.insert((node.clone(), seam), cut),
            None => state.cuts.remove(&(node.clone(), seam)),
        };
        state.injected += 1;
    }

    /// Lets a node's calls that begin with this text fail before they take effect. `None` ends it.
    pub fn bar(&self, node: &NodeId, calls: Option<&'static str>) {
        let mut state = self.state();
        match calls {
            Some(calls) => state.barred.insert(node.clone(), calls),
            None => state.barred.remove(node),
        };
    }

    /// Whether a call is barred.
    #[must_use]
    pub fn is_barred(&self, node: &NodeId, call: &str) -> bool {
        self.state().barred.get(node).is_some_and(|calls| call.starts_with(calls))
    }

    /// Lets a part of a service throttle every node, or ends that. It refuses calls before they take effect.
    pub fn throttle(&self, what: &Throttle, on: bool) {
        let mut state = self.state();
        match on {
            true => state.throttled.insert(what.clone()),
            false => state.throttled.remove(what),
        };
        state.injected += u64::from(on);
    }

    /// Whether this part of a service throttles.
    #[must_use]
    pub fn is_throttled(&self, what: &Throttle) -> bool {
        self.state().throttled.contains(what)
    }

    /// Whether a call of the refdb goes to a partition that throttles. The text of the call names its project.
    #[must_use]
    pub fn is_in_throttled_partition(&self, seam: Seam, call: &str) -> bool {
        let of_project = |throttle: &Throttle| match throttle {
            Throttle::Partition(project) => call.contains(&format!(" {project}#")),
            Throttle::Shard(..) => false,
        };
        seam == Seam::RefDb && self.state().throttled.iter().any(of_project)
    }

    /// Whether a node's link to a seam is cut, in either direction.
    #[must_use]
    pub fn is_cut(&self, node: &NodeId, seam: Seam) -> bool {
        self.state().cuts.contains_key(&(node.clone(), seam))
    }

    /// Pauses a node, or resumes it.
    pub fn pause(&self, node: &NodeId, paused: bool) {
        let mut state = self.state();
        if paused {
            state.paused.insert(node.clone());
            state.injected += 1;
        } else {
            state.paused.remove(node);
            self.resumed.notify_waiters();
        }
    }

    /// Whether the node is paused.
    #[must_use]
    pub fn is_paused(&self, node: &NodeId) -> bool {
        self.state().paused.contains(node)
    }

    /// Ends all faults: switches random faults off, mends every link and resumes every node. Late copies still land.
    pub fn heal(&self) {
        let mut state = self.state();
        state.on = false;
        state.cuts.clear();
        state.paused.clear();
        state.throttled.clear();
        self.resumed.notify_waiters();
    }

    /// A node has written this record of a failover. If it has begun a step, it is the driver. Other writers note the
    /// results of their own part in a step, or abort.
    pub fn wrote(&self, node: &NodeId, failover: &Failover) {
        let begun = failover.current().filter(|step| step.began_ms.is_some()).map(|step| step.step);
        let Some(step) = begun.filter(|_| failover.is_in_progress() && !failover.aborting) else { return };
        let has_parts = match step {
            FailoverStep::Verify => !failover.verified.is_empty(),
            FailoverStep::Probe => !failover.probed.is_empty(),
            _ => false,
        };
        let is_known = |one: &Driven| (one.number, one.step) == (failover.number, step);
        if has_parts || self.driver.borrow().as_ref().is_some_and(is_known) {
            return;
        }
        self.note(node, &format!("DRIVES {:?} {}", failover.kind, step.name()));
        self.driver.send_replace(Some(Driven { number: failover.number, step, node: node.clone() }));
    }

    /// The step that is driven, and its changes.
    #[must_use]
    pub fn driver(&self) -> watch::Receiver<Option<Driven>> {
        self.driver.subscribe()
    }

    /// The number of faults so far.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    /// The virtual time in milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.trace.now_ms()
    }

    /// Writes a line into the trace.
    pub fn note(&self, node: &NodeId, what: &str) {
        self.trace.note(node.as_str(), what);
    }

    /// The dice for faults that only one seam has.
    #[must_use]
    pub fn dice(&self) -> &Dice {
        &self.dice
    }

    /// The rates of a seam. All are zero while faults are off.
    #[must_use]
    pub fn rates(&self, seam: Seam) -> Rates {
        let state = self.state();
        if state.on { state.rates.get(&seam).copied().unwrap_or_default() } else { Rates::default() }
    }

    /// The rates of a remote call, whose text begins with its kind.
    #[must_use]
    pub fn rates_of(&self, seam: Seam, call: &str) -> Rates {
        let of_kind = {
            let state = self.state();
            let word = call.split(' ').next().unwrap_or_default();
            state.calls.get(word).copied().filter(|_| state.on)
        };
        of_kind.unwrap_or_else(|| self.rates(seam))
    }

    /// Decides the fate of a node's next call.
    #[must_use]
    pub fn fate(&self, node: &NodeId, seam: Seam, kind: Kind, call: &str) -> Fate {
        let cut = self.state().cuts.get(&(node.clone(), seam)).copied();
        let fate = match cut {
            Some(Cut::Requests) => Fate::LoseRequest,
            Some(Cut::Answers) => Fate::LoseAnswer,
            None => self.throw(&self.rates_of(seam, call), kind),
        };
        if fate != Fate::Deliver {
            self.state().injected += 1;
        }
        fate
    }

    fn throw(&self, rates: &Rates, kind: Kind) -> Fate {
        let writes = |permille| if kind == Kind::Read { 0 } else { permille };
        let commits = |permille| if kind == Kind::Commit { permille } else { 0 };
        let faults = [
            (Fate::FailBefore, rates.fail_before),
            (Fate::LoseRequest, rates.lose_request),
            (Fate::LoseAnswer, rates.lose_answer),
            (Fate::Late(self.dice.between(1, rates.late_ms.max(1))), writes(rates.late)),
            (Fate::Duplicate, writes(rates.duplicate)),
            (Fate::Conflict, commits(rates.conflict)),
        ];
        let any: u64 = faults.iter().map(|(_, permille)| permille).sum();
        if self.dice.chance(any) { self.dice.weighted(&faults).unwrap_or(Fate::Deliver) } else { Fate::Deliver }
    }

    /// Waits while the node is paused.
    pub async fn gate(&self, node: &NodeId) {
        loop {
            let resumed = self.resumed.notified();
            if !self.is_paused(node) {
                return;
            }
            resumed.await;
        }
    }
}

/// The rates of the general scenario.
#[must_use]
pub fn general_rates() -> BTreeMap<Seam, Rates> {
    let remote = Rates {
        fail_before: 20,
        lose_request: 15,
        lose_answer: 15,
        late: 15,
        duplicate: 20,
        conflict: 20,
        reorder: 200,
        few: 200,
        part: 100,
        delay_ms: 40,
        timeout_ms: 1_000,
        late_ms: 6_000,
    };
    let disk = Rates { fail_before: 2, lose_answer: 2, delay_ms: 4, ..Rates::default() };
    let gerrit = Rates { fail_before: 30, lose_request: 20, lose_answer: 20, ..Rates::default() };
    let store = Rates { delay_ms: 4, ..Rates::default() };
    BTreeMap::from([
        (Seam::RefDb, remote),
        (Seam::EventLog, remote),
        (Seam::Blobs, remote),
        (Seam::Peers, remote),
        (Seam::Repositories, disk),
        (Seam::Store, store),
        (Seam::Gerrit, gerrit),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kind_of_call_has_faults_of_its_own_while_faults_are_on() {
        let lost = Rates { lose_request: 1_000, ..Rates::default() };
        let faults = Faults::new(1, Arc::new(Trace::start()), BTreeMap::new(), [("flip", lost)].into());
        let node: NodeId = "a-0".parse().unwrap();
        let fate = |call| faults.fate(&node, Seam::RefDb, Kind::Write, call);
        assert_eq!(fate("flip refs"), Fate::Deliver);
        faults.switch(true);
        assert_eq!([fate("flip refs"), fate("flipped refs")], [Fate::LoseRequest, Fate::Deliver]);
        faults.heal();
        assert_eq!(fate("flip refs"), Fate::Deliver);
    }
}
