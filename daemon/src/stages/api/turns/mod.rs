//! The order of batches when more of them come than this node works on: people before programs, and nobody twice while
//! another one waits. So a storm of one user slows that user.
//!
//! A batch waits for its turn for a bounded time. One that cannot wait, or waits too long, is refused with 429 and the
//! time after which to come again; nothing was changed.
//!
//! | file | idea |
//! |---|---|
//! | `caller` | the sender of a batch |
//! | `line` | the batches that run and wait, without a clock |
//! | `pace` | how fast batches end |

mod caller;
mod line;
mod pace;

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::ProjectName;
use lockstep_proto::status::{CallerClass, ClassTurns, MOST_SHED, ShedCaller, ShedReason, TurnsStatus};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use caller::{Caller, caller};
pub use caller::{UserPattern, UserPatternError};
use line::{Bounds, Entered, Full, Line, Ticket};
use pace::Pace;

use super::error::Failure;
use crate::base::clock::Clock;
use crate::telemetry::metrics::TurnMetrics;

/// The settings of turns: `[turns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnLimits {
    /// The most batches that commit at the same time.
    pub running: NonZeroUsize,
    /// The most of them on one project.
    pub per_project: NonZeroUsize,
    /// The most of them of agents. The others wait, although there is room, so that they slow nobody else.
    pub agents_running: NonZeroUsize,
    /// The most batches of one user that wait.
    pub waiting_per_user: usize,
    /// The most batches of one class that wait.
    pub waiting_per_class: usize,
    /// How long a batch waits for its turn.
    pub patience: Duration,
    /// The turns of people for each turn of an agent, while both wait.
    pub people_weight: u32,
    /// The users that are programs: the class of agents.
    pub agents: Vec<UserPattern>,
}

/// The turns of one sidecar.
pub struct Turns {
    limits: TurnLimits,
    clock: Arc<dyn Clock>,
    metrics: TurnMetrics,
    state: Mutex<State>,
}

struct State {
    line: Line,
    pace: Pace,
    /// Tells those that wait that they run, or why they do not.
    waiting: HashMap<Ticket, oneshot::Sender<Option<Full>>>,
    refused: HashMap<CallerClass, u64>,
    /// The callers that were refused last, the latest one first.
    shed: VecDeque<ShedCaller>,
}

/// The turn of a batch. It ends when this is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    project: ProjectName,
    class: CallerClass,
    began: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        state.pace.held(self.began.elapsed());
        state.leave(&self.project, self.class);
    }
}

/// A place in the line. If it is dropped while it waits, it is given up.
struct Place<'a> {
    turns: &'a Turns,
    ticket: Ticket,
    project: &'a ProjectName,
    /// Gets `None` when the turn comes, or why it does not. Sent while the state is locked.
    told: oneshot::Receiver<Option<Full>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        state.waiting.remove(&self.ticket);
        // Not in the line any more: the turn has come, or the place went to another caller. A message that was received
        // already is not there any more.
        if !state.line.give_up(&self.ticket) && matches!(self.told.try_recv(), Ok(None)) {
            state.leave(self.project, self.ticket.caller.class);
        }
    }
}

impl State {
    /// A batch of this class on a project has ended. Tells those that run now.
    fn leave(&mut self, project: &ProjectName, class: CallerClass) {
        for ticket in self.line.leave(project, class) {
            if let Some(tell) = self.waiting.remove(&ticket) {
                // A caller that hangs up at this moment finds that it runs, and gives the turn back.
                let _ = tell.send(None);
            }
        }
    }
}

impl Turns {
    /// Turns within these limits.
    #[must_use]
    pub fn new(limits: TurnLimits, clock: Arc<dyn Clock>, metrics: TurnMetrics) -> Arc<Self> {
        let bounds = Bounds {
            running: limits.running.get(),
            of_project: limits.per_project.get(),
            of_agents: limits.agents_running.get(),
            of_caller: limits.waiting_per_user,
            of_class: limits.waiting_per_class,
        };
        let state = State {
            line: Line::new(bounds, [limits.people_weight, 1]),
            pace: Pace::default(),
            waiting: HashMap::new(),
            refused: HashMap::new(),
            shed: VecDeque::new(),
        };
        Arc::new(Self { limits, clock, metrics, state: Mutex::new(state) })
    }

    /// Waits for the turn of a batch, at most half of its deadline.
    ///
    /// # Errors
    /// There is no place in the line, or the turn did not come in time. Nothing was changed.
    pub(super) async fn take(
        self: &Arc<Self>,
        project: &ProjectName,
        actor: Option<&str>,
        deadline: Duration,
    ) -> Result<Turn, Failure> {
        let caller = caller(actor, project, &self.limits.agents);
        let class = caller.class;
        let turn = || Turn { turns: Arc::clone(self), project: project.clone(), class, began: Instant::now() };
        let (ticket, told) = {
            let mut state = self.state.lock();
            match state.line.enter(&caller, project) {
                Entered::Runs => return Ok(turn()),
                Entered::Refused(full) => return Err(self.refuse(&mut state, &caller, project, reason(full))),
                Entered::Waits(ticket, gives_way) => {
                    if let Some(other) = gives_way.and_then(|other| state.waiting.remove(&other)) {
                        // The other one may have hung up meanwhile.
                        let _ = other.send(Some(Full::Class));
                    }
                    let (tell, told) = oneshot::channel();
                    state.waiting.insert(ticket.clone(), tell);
                    (ticket, told)
                }
            }
        };
        let mut place = Place { turns: self, ticket, project, told };
        let why = match timeout(self.limits.patience.min(deadline / 2), &mut place.told).await {
            Ok(Ok(None)) => return Ok(turn()),
            Ok(Ok(Some(full))) => reason(full),
            // It may have come just now: then the place gives it back.
            Ok(Err(_)) | Err(_) => ShedReason::Late,
        };
        drop(place);
        Err(self.refuse(&mut self.state.lock(), &caller, project, why))
    }

    /// The batches that run and wait, and the users who were refused.
    #[must_use]
    pub fn status(&self) -> TurnsStatus {
        let state = self.state.lock();
        let class = |class: CallerClass| ClassTurns {
            class,
            waiting: state.line.waiting(class) as u64,
            refused: state.refused.get(&class).copied().unwrap_or_default(),
        };
        TurnsStatus {
            running: state.line.running() as u64,
            most_running: self.limits.running.get() as u64,
            classes: CallerClass::ALL.map(class).to_vec(),
            shed: state.shed.iter().cloned().collect(),
        }
    }

    /// Sets the gauges to the present numbers.
    pub fn look(&self) {
        let state = self.state.lock();
        self.metrics.running(state.line.running() as u64);
        for class in CallerClass::ALL {
            self.metrics.waiting(class, state.line.waiting(class) as u64);
        }
    }

    fn refuse(&self, state: &mut State, caller: &Caller, project: &ProjectName, why: ShedReason) -> Failure {
        let (class, line) = (caller.class, &state.line);
        let waiting = line.waiting(class);
        let running = self.limits.running;
        // Agents have their share of all turns, up to their own bound.
        let most = match class {
            CallerClass::People => running,
            CallerClass::Agents => running.min(self.limits.agents_running),
        };
        let share = line.share(class).min(most.get() as f64 / running.get() as f64);
        let seconds = state.pace.seconds(waiting, share, running);
        *state.refused.entry(class).or_default() += 1;
        self.metrics.refused(class, why);
        note(&mut state.shed, caller, project, why, self.clock.now_ms());
        let name = &caller.name;
        let because = match why {
            ShedReason::User => format!("{} changes of {name} wait here already", self.limits.waiting_per_user),
            ShedReason::Class => format!("{waiting} changes of {} wait here", class.name()),
            ShedReason::Late => format!("the turn of {name} did not come in time"),
        };
        Failure::busy(format!("{because}; nothing was changed; try again in {seconds} seconds"), seconds)
    }
}

fn reason(full: Full) -> ShedReason {
    match full {
        Full::Caller => ShedReason::User,
        Full::Class => ShedReason::Class,
    }
}

/// Counts a refusal for its caller, which comes to the front.
fn note(shed: &mut VecDeque<ShedCaller>, caller: &Caller, project: &ProjectName, why: ShedReason, at_ms: u64) {
    let at = shed.iter().position(|one| one.class == caller.class && *one.user == *caller.name);
    let before = at.and_then(|at| shed.remove(at)).map_or(0, |one| one.count);
    shed.push_front(ShedCaller {
        user: caller.name.to_string(),
        class: caller.class,
        project: project.to_string(),
        why,
        count: before + 1,
        at_ms,
    });
    shed.truncate(MOST_SHED);
}

#[cfg(test)]
mod tests;
