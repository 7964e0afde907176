//! Drills: the steps of a failover on a canary, while the real sites go on.
//!
//! The driver, the decisions, the fencing and the records are those of a failover. Only the refdb that they work on is
//! another one: that of a canary. It has two sites, two nodes and some slots, in one document of the real refdb, and
//! each of its changes is one conditional write there. No real role, incarnation, slot or ref is touched, but
//! for those of the probes of a node that takes writes.
//!
//! A drill proves that the steps work and how long they take. It does not prove that the real nodes of the target
//! react: the preflight looks at them.
//!
//! | file | idea |
//! |---|---|
//! | `world` | the state of a canary |
//! | `canary` | that state as a refdb |
//! | `members` | the two nodes of a canary: one commits and is stopped, the other applies and takes over |
//! | `judge` | the verdict: a pure function |

mod canary;
mod judge;
mod members;
#[cfg(test)]
pub(super) mod tests;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::drill::{DrillBegun, DrillReport, DrillRequest, Drills};
use lockstep_proto::failover::{Failover, PlanRequest};
use lockstep_proto::{NodeId, TxnId};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::driver::{Driver, DriverLimits};
use super::history;
use super::plan::begun;
use super::record;
use super::tools::Tools;
use crate::base::clock::{Clock, Entropy};
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::refdb::{Document, RefDb, RefDbError};
use crate::stages::ports::{FencingOver, Probes};
use crate::state::context::NodeContext;
use crate::state::went_back::WentBack;
use canary::Canary;
use judge::{Seen, judge};
use members::{Source, Target, TargetPart};
use world::{DrillRecord, World};

/// How long a drill may take.
const LONGEST: Duration = Duration::from_secs(60);
/// The time without a write after which the node of a drill counts as killed, in milliseconds. No safety rests on it:
/// a drill that is replaced while it lives ends, because the document has another number.
const KILLED_MS: u64 = 60_000;
/// How long the source of a canary commits before the failover begins, so that there is something to lose.
const WARM_UP: Duration = Duration::from_millis(500);
/// The pause between two looks at the failover of the canary.
const LOOK: Duration = Duration::from_millis(100);

/// Drives drills on behalf of one node.
pub struct DrillStage {
    node: NodeId,
    refdb: RefDb,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
    tasks: Tasks,
    went_back: WentBack,
    fencing: FencingOver,
    probes: Arc<dyn Probes>,
}

/// Why a drill did not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Another drill is in progress.
    #[error("drill {} is in progress at {}; wait for its end", .0.number, .0.by)]
    Running(DrillBegun),
    /// The refdb did not answer. The drill may have been written, and counts as killed then.
    #[error("the refdb does not answer: {0}")]
    RefDb(#[from] RefDbError),
}

/// Why a drill was ended before its failover.
#[derive(Debug, thiserror::Error)]
enum CutShort {
    #[error("not ended within {0:?}")]
    Late(Duration),
    #[error("the name of a canary's node is no name")]
    NoName,
    #[error(transparent)]
    RefDb(#[from] RefDbError),
}

/// The times of the driver of a canary.
fn limits() -> DriverLimits {
    let second = Duration::from_secs(1);
    DriverLimits {
        verify: 5 * second,
        probe: 5 * second,
        idle: LOOK,
        busy: LOOK,
        turn: second,
        settle: 5 * second,
        catch_up: 2 * second,
        serve: 5 * second,
    }
}

impl DrillStage {
    /// Creates the stage of a node. `probes` are run at the end of a drill if this node takes writes.
    #[must_use]
    pub fn new(context: &NodeContext, fencing: FencingOver, probes: Arc<dyn Probes>) -> Self {
        let NodeContext { node, refdb, clock, entropy, observer, tasks, went_back, .. } = context.clone();
        Self { node, refdb, clock, entropy, observer, tasks, went_back, fencing, probes }
    }

    /// The trend, and the drill that is in progress.
    ///
    /// # Errors
    /// The refdb does not answer.
    pub(super) async fn all(&self) -> Result<Drills, RefDbError> {
        let past: Drills = history::read_document(&self.refdb, Document::DrillHistory).await?;
        let stored =
            canary::DRILL.read(self.refdb.documents.as_ref()).await?.filter(|(_, record)| record.world.is_some());
        Ok(Drills { running: stored.map(|(_, record)| record.begun).filter(|begun| self.is_alive(begun)), ..past })
    }

    fn is_alive(&self, begun: &DrillBegun) -> bool {
        self.clock.now_ms().saturating_sub(begun.at_ms) < KILLED_MS
    }

    /// Begins a drill and drives it in the background. A drill whose node was killed is noted as red and replaced.
    /// `takes_writes`: this node takes writes, so its own probes are run too.
    ///
    /// # Errors
    /// Another drill is in progress, or the refdb does not answer.
    pub async fn begin(
        self: &Arc<Self>,
        actor: &str,
        request: DrillRequest,
        takes_writes: bool,
    ) -> Result<DrillBegun, BeginError> {
        let stored = canary::DRILL.read(self.refdb.documents.as_ref()).await?;
        let (before, last) = stored.map_or((0, None), |(revision, record)| (revision, Some(record)));
        if let Some(running) = last.as_ref().filter(|last| last.world.is_some()) {
            if self.is_alive(&running.begun) {
                return Err(BeginError::Running(running.begun.clone()));
            }
            self.note_killed(running).await?;
        }
        let now_ms = self.clock.now_ms();
        let number = last.map_or(1, |last| last.begun.number + 1);
        let begun = DrillBegun { number, by: self.node.clone(), at_ms: now_ms };
        let world = Some(World::new(&request.from, &request.to));
        let record =
            DrillRecord { begun: begun.clone(), request, actor: actor.to_owned(), requested_ms: now_ms, world };
        if !canary::DRILL.replace(self.refdb.documents.as_ref(), before, &record).await? {
            let other =
                canary::DRILL.read(self.refdb.documents.as_ref()).await?.filter(|(_, record)| record.world.is_some());
            return Err(match other {
                Some((_, other)) => BeginError::Running(other.begun),
                None => RefDbError::NotNow("another drill has begun at the same time".to_owned()).into(),
            });
        }
        self.tasks.spawn("drill", Arc::clone(self).run(record, takes_writes));
        Ok(begun)
    }

    async fn run(self: Arc<Self>, record: DrillRecord, takes_writes: bool) {
        let canary = Canary::new(&self.refdb, &self.clock, record.begun.number);
        let [acknowledged, applied] = [(); 2].map(|()| Arc::new(Mutex::new(BTreeSet::<TxnId>::new())));
        let cut_short = timeout(LONGEST, self.drive(&canary, &record, &acknowledged, &applied, takes_writes)).await;
        let cut_short = cut_short.map_or_else(|_| Some(CutShort::Late(LONGEST)), Result::err);
        let world = canary.world().await.ok().map(|(_, world)| world);
        let failover = record::read(&canary.refdb()).await.ok().flatten().map(|stored| stored.failover);
        let (acknowledged, applied) = (acknowledged.lock().clone(), applied.lock().clone());
        let seen = Seen {
            record: &record,
            world: world.as_ref(),
            failover: failover.as_ref(),
            acknowledged: &acknowledged,
            applied: &applied,
            cut_short: cut_short.map(|why| why.to_string()),
        };
        let report = judge(&seen);
        // If the refdb does not answer now, the next drill finds this one as killed.
        if let Err(error) = self.note(report).await {
            self.observer.failed("drill", &error);
        } else if let Err(error) = canary.end().await {
            self.observer.failed("drill", &error);
        }
    }

    /// Runs the canary until its failover has ended or holds itself.
    async fn drive(
        &self,
        canary: &Canary,
        record: &DrillRecord,
        acknowledged: &Arc<Mutex<BTreeSet<TxnId>>>,
        applied: &Arc<Mutex<BTreeSet<TxnId>>>,
        takes_writes: bool,
    ) -> Result<(), CutShort> {
        let (entropy, fencing) = (Arc::clone(&self.entropy), (self.fencing)(canary.refdb()));
        let source = Source {
            canary: canary.clone(),
            entropy: Arc::clone(&entropy),
            fencing: Arc::clone(&fencing),
            acknowledged: Arc::clone(acknowledged),
        };
        let target = Target { canary: canary.clone(), applied: Arc::clone(applied) };
        let part = Arc::new(TargetPart {
            canary: canary.clone(),
            to: record.request.to.clone(),
            fail_in: record.request.fail_in,
            attempt: entropy.next(),
            applied: Arc::clone(applied),
            of_node: takes_writes.then(|| Arc::clone(&self.probes)),
        });
        let tools = Tools { fencing, comparison: Arc::clone(&part) as _, probes: part, hurry: Vec::new() };
        let node = world::target_node().ok_or(CutShort::NoName)?;
        let went_back = self.went_back.clone();
        let place = (record.request.to.clone(), node);
        let driver = Driver::of_canary(place, canary.refdb(), Arc::clone(&self.clock), went_back, tools, limits());
        tokio::select! {
            biased;
            ended = self.follow(canary, record) => ended,
            () = source.run() => Ok(()),
            () = target.run() => Ok(()),
            () = driver.run() => Ok(()),
        }
    }

    /// Begins the failover of the canary, and waits until it has ended or holds itself.
    async fn follow(&self, canary: &Canary, record: &DrillRecord) -> Result<(), CutShort> {
        sleep(WARM_UP).await;
        let (failover, refdb) = (self.failover(record), canary.refdb());
        loop {
            let seen = match record::read(&refdb).await {
                // If the answer is lost, the next look tells whether it was written.
                Ok(None) => record::replace(&refdb, 0, &failover).await.map(|_| ()),
                Ok(Some(stored)) if !stored.failover.is_in_progress() || stored.failover.held.is_some() => {
                    return Ok(());
                }
                Ok(Some(_)) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error @ RefDbError::Broken(_)) = seen {
                return Err(error.into());
            }
            sleep(LOOK).await;
        }
    }

    /// The failover of the canary.
    fn failover(&self, record: &DrillRecord) -> Failover {
        let DrillRequest { kind, from, to, reason, .. } = record.request.clone();
        Failover {
            actor: record.actor.clone(),
            reason,
            requested_ms: self.clock.now_ms(),
            ..begun(1, &PlanRequest::new(kind, from, to), (1, 1))
        }
    }

    /// Notes a drill whose node was killed, unless it has noted its report before.
    async fn note_killed(&self, killed: &DrillRecord) -> Result<(), RefDbError> {
        let past: Drills = history::read_document(&self.refdb, Document::DrillHistory).await?;
        if past.past.iter().any(|one| one.number == killed.begun.number) {
            return Ok(());
        }
        let why = format!("{} has not driven it to its end: it was killed or cut off", killed.begun.by);
        self.note(judge(&unseen(killed, why))).await
    }

    /// Notes a report in the trend, and tells it to the observer. A red one counts as a failure.
    pub(super) async fn note(&self, report: DrillReport) -> Result<(), RefDbError> {
        self.observer.drill_ended(report.number, &report.red);
        history::change(&self.refdb, Document::DrillHistory, |drills: &mut Drills| drills.put(report.clone())).await
    }
}

/// A drill of which nothing was seen.
fn unseen(record: &DrillRecord, why: String) -> Seen<'_> {
    static NONE: BTreeSet<TxnId> = BTreeSet::new();
    Seen { record, world: None, failover: None, acknowledged: &NONE, applied: &NONE, cut_short: Some(why) }
}
