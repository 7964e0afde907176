//! Faults: one seeded plan for every call of every node to every seam.
//!
//! A `Link` stands between a node and a seam. Each call asks the plan for its [`Fate`]. A remote call is a
//! message: once sent it lives on in a task of its own, so that it may land after its sender died. What can
//! happen to it is what happens to a request in a real network; the worst is [`Fate::Late`]: the sender hears
//! "unknown", and the call takes effect long after.
//!
//! A paused node (SIGSTOP, a long collection of garbage) hangs at its next seam call, in and out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_proto::NodeId;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::dice::Dice;
use super::trace::Trace;

/// What a node calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seam {
    /// The refdb.
    RefDb,
    /// The event logs.
    EventLog,
    /// The blob store.
    Blobs,
    /// Other nodes' repositories.
    Peers,
    /// The volume's repositories.
    Repositories,
    /// The node's own store.
    Store,
    /// Its Gerrit.
    Gerrit,
}

/// What a call does, for the faults that fit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It changes nothing.
    Read,
    /// It changes something.
    Write,
    /// A commit: the only call with conflicts.
    Commit,
}

/// How often what happens, in permille of the calls, and how long it takes, in virtual milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// The call does nothing and says so.
    pub fail_before: u64,
    /// The request is lost: nothing happens, the caller hears "unknown".
    pub lose_request: u64,
    /// The answer is lost: it took effect, the caller hears "unknown".
    pub lose_answer: u64,
    /// The caller hears "unknown", and it takes effect later.
    pub late: u64,
    /// The call arrives twice; the second answer is heard.
    pub duplicate: u64,
    /// Another transaction was under way.
    pub conflict: u64,
    /// Several records of one call change places.
    pub reorder: u64,
    /// Longest way there, and back.
    pub delay_ms: u64,
    /// How long a caller waits for an answer that does not come.
    pub timeout_ms: u64,
    /// How late the latest late copy is.
    pub late_ms: u64,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, and so does its answer.
    Deliver,
    /// See [`Rates::fail_before`].
    FailBefore,
    /// See [`Rates::lose_request`].
    LoseRequest,
    /// See [`Rates::lose_answer`].
    LoseAnswer,
    /// See [`Rates::late`]: this many milliseconds after the caller gave up.
    Late(u64),
    /// See [`Rates::duplicate`].
    Duplicate,
    /// See [`Rates::conflict`].
    Conflict,
}

/// Which way of a link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Requests do not arrive.
    Requests,
    /// Requests arrive, answers do not.
    Answers,
}

/// An error type that can say what the network does.
pub trait NetworkError: Send + 'static {
    /// The call had no effect.
    fn not_now() -> Self;
    /// The call may have taken effect, or may yet.
    fn unknown() -> Self;
}

/// The plan of all faults of one run.
#[derive(Debug)]
pub struct Faults {
    trace: Arc<Trace>,
    dice: Dice,
    state: Mutex<State>,
    resumed: Notify,
}

#[derive(Debug)]
struct State {
    on: bool,
    rates: BTreeMap<Seam, Rates>,
    cuts: BTreeMap<(NodeId, Seam), Cut>,
    barred: BTreeMap<NodeId, &'static str>,
    paused: BTreeSet<NodeId>,
    injected: u64,
}

impl Faults {
    /// A plan with these rates; switched off until [`Faults::switch`].
    #[must_use]
    pub fn new(seed: u64, trace: Arc<Trace>, rates: BTreeMap<Seam, Rates>) -> Arc<Self> {
        let (cuts, barred, paused) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let state = State { on: false, rates, cuts, barred, paused, injected: 0 };
        Arc::new(Self { trace, dice: Dice::new(seed, "faults"), state: Mutex::new(state), resumed: Notify::new() })
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

    /// Cuts a node's link, or mends it.
    pub fn cut(&self, node: &NodeId, seam: Seam, cut: Option<Cut>) {
        let mut state = self.state();
        match cut {
            Some(cut) => state.cuts.insert((node.clone(), seam), cut),
            None => state.cuts.remove(&(node.clone(), seam)),
        };
        state.injected += 1;
    }

    /// From now on, calls of a node that begin like this fail before they take effect; none to end it.
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

    /// Whether a node's link is cut, either way.
    #[must_use]
    pub fn is_cut(&self, node: &NodeId, seam: Seam) -> bool {
        self.state().cuts.contains_key(&(node.clone(), seam))
    }

    /// Pauses a node, or lets it go on.
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

    /// Switches every fault off, mends every link, lets every node go on. Late copies still land.
    pub fn heal(&self) {
        let mut state = self.state();
        state.on = false;
        state.cuts.clear();
        state.paused.clear();
        self.resumed.notify_waiters();
    }

    /// How many faults there were.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    /// Writes a line into the trace.
    pub fn note(&self, node: &NodeId, what: &str) {
        self.trace.note(node.as_str(), what);
    }

    /// The dice, for faults that only one seam has.
    #[must_use]
    pub fn dice(&self) -> &Dice {
        &self.dice
    }

    /// The seam's rates; all zero when the faults are off.
    #[must_use]
    pub fn rates(&self, seam: Seam) -> Rates {
        let state = self.state();
        if state.on { state.rates.get(&seam).copied().unwrap_or_default() } else { Rates::default() }
    }

    /// What becomes of a node's next call.
    #[must_use]
    pub fn fate(&self, node: &NodeId, seam: Seam, kind: Kind) -> Fate {
        let cut = self.state().cuts.get(&(node.clone(), seam)).copied();
        let fate = match cut {
            Some(Cut::Requests) => Fate::LoseRequest,
            Some(Cut::Answers) => Fate::LoseAnswer,
            None => self.throw(&self.rates(seam), kind),
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
