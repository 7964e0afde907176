//! The driver takes the steps of the failover that is in progress.
//!
//! It runs on every node. The first of them acts at once, the others when the record has stood still for a while, so
//! that the failover goes on when a driver dies. The nodes of the source come last, and act only in an abort and from
//! the promotion on. Two drivers do no harm: every action is
//! idempotent, or conditional on an epoch that the record names.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::failover::{Failover, FailoverStep};
use lockstep_proto::{NodeId, SiteId};
use tokio::time::{Instant, sleep};

use super::at_risk::at_risk;
use super::decide::{Decision, Patience, decide};
use super::ending::{end, keep_counted};
use super::own_part::OwnPart;
use super::record::{self, Stored};
use super::tools::Tools;
use super::view::View;
use crate::base::clock::Clock;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::{Nobody, Observer};
use crate::seams::refdb::{FailoverDb, RefDbError};
use crate::state::context::{NodeContext, NodeState};
use crate::state::gone_nodes::GoneNodes;
use crate::state::site_roles::SiteRoles;
use crate::state::went_back::WentBack;

/// The intervals of a driver.
#[derive(Clone, Copy, Debug)]
pub struct DriverLimits {
    /// How long the nodes of the target of a planned failover may take to compare their refs with the refdb. The
    /// source takes writes meanwhile.
    pub verify: Duration,
    /// How long the probes of the target may be red before the failover goes on without them.
    pub probe: Duration,
    /// The interval at which the record is read while no failover is in progress.
    pub idle: Duration,
    /// The interval at which the record is read during a failover.
    pub busy: Duration,
    /// How long the record must stand still before the next node acts too.
    pub turn: Duration,
    /// How long the source of a planned failover may take to end its own incarnations.
    pub settle: Duration,
    /// How long a failover waits for nodes of the target that are behind. A planned one waits three times as long
    /// while the target lacks something, and is held then.
    pub catch_up: Duration,
    /// How long the last nodes of the target may take to open their incarnations.
    pub serve: Duration,
}

impl Default for DriverLimits {
    fn default() -> Self {
        Self {
            verify: Duration::from_secs(600),
            probe: Duration::from_secs(60),
            idle: Duration::from_millis(500),
            busy: Duration::from_millis(200),
            turn: Duration::from_secs(3),
            settle: Duration::from_secs(10),
            catch_up: Duration::from_secs(10),
            serve: Duration::from_secs(10),
        }
    }
}

impl DriverLimits {
    /// How long the driver waits inside a step.
    pub(super) fn patience(&self) -> Patience {
        let Self { verify, settle, catch_up, serve, probe, .. } = *self;
        Patience { verify, settle, catch_up, serve, probe }
    }
}

/// Drives failovers on behalf of one node.
pub struct Driver {
    site: SiteId,
    node: NodeId,
    refdb: FailoverDb,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    went_back: WentBack,
    tools: Tools,
    gone: GoneNodes,
    /// Told which site takes over, for the writers of this node.
    roles: Arc<SiteRoles>,
    limits: DriverLimits,
    bugs: InjectedBugs,
}

/// The memory of a driver between two looks.
struct Seen {
    /// The revision of the record that it saw last, and since when.
    revision: u64,
    since: Instant,
    /// When the current step was first seen as begun.
    step: Option<(u64, FailoverStep, Instant)>,
    /// The part of this node in the current step.
    own: OwnPart,
}

impl Driver {
    /// Creates the driver of a node.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, tools: Tools, limits: DriverLimits) -> Self {
        let NodeContext { site, node, refdb, clock, observer, went_back, bugs, .. } = context.clone();
        let (refdb, gone, roles) = (refdb.for_failover(), state.gone.clone(), Arc::clone(&state.roles));
        Self { site, node, refdb, clock, observer, went_back, tools, gone, roles, limits, bugs }
    }

    /// A driver of a drill, at a node of the canary in `refdb`. Nobody is told of its progress.
    pub(super) fn of_canary(
        (site, node): (SiteId, NodeId),
        refdb: FailoverDb,
        clock: Arc<dyn Clock>,
        went_back: WentBack,
        tools: Tools,
        limits: DriverLimits,
    ) -> Self {
        let (observer, gone, bugs) = (Arc::new(Nobody), GoneNodes::default(), InjectedBugs::default());
        Self { site, node, refdb, clock, observer, went_back, tools, gone, roles: Arc::default(), limits, bugs }
    }

    /// Drives until the task is aborted.
    pub async fn run(self) {
        let mut seen = Seen { revision: 0, since: Instant::now(), step: None, own: OwnPart::default() };
        loop {
            let pause = match self.look(&mut seen).await {
                Ok(pause) => pause,
                Err(error) => {
                    self.observer.failed("failover", &error);
                    self.limits.idle
                }
            };
            sleep(pause).await;
        }
    }

    /// Looks at the record once, and acts if it is this node's turn. Answers the pause until the next look.
    async fn look(&self, seen: &mut Seen) -> Result<Duration, RefDbError> {
        let Some(stored) = self.in_progress().await? else { return Ok(self.limits.idle) };
        let failover = &stored.failover;
        seen.note(&stored);
        if failover.to == self.site && failover.has_begun(FailoverStep::CatchUp) {
            self.tools.hurry.iter().for_each(|one| one.notify_one());
        }
        if failover.from == self.site && !source_drives(failover) {
            return Ok(self.limits.busy);
        }
        let view = View::read(&self.refdb, self.gone.all()).await?;
        if failover.to == self.site && self.takes_part(&stored, &view, &mut seen.own).await? {
            return Ok(Duration::ZERO);
        }
        let turn = turn(&view, failover, &self.node);
        let is_due = seen.since.elapsed() >= self.limits.turn * turn;
        let has_acted = is_due && self.act(&stored, &view, seen.waited()).await?;
        Ok(if has_acted { Duration::ZERO } else { self.limits.busy })
    }

    async fn in_progress(&self) -> Result<Option<Stored>, RefDbError> {
        if self.went_back.is_known() {
            return Ok(None);
        }
        let stored = record::read(&self.refdb).await?.filter(|stored| stored.failover.is_in_progress());
        self.roles.note_takeover(stored.as_ref().map(|stored| takes_over(&stored.failover)));
        Ok(stored)
    }

    /// Does the part of this node in the current step, if it has one, and notes the result in the record. Answers
    /// whether the record was replaced.
    async fn takes_part(&self, stored: &Stored, view: &View, own: &mut OwnPart) -> Result<bool, RefDbError> {
        let mut next = stored.failover.clone();
        let takes_writes = view.nodes.iter().any(|one| one.node == self.node && view.takes_writes(one));
        match own.take(&self.tools, (&self.node, takes_writes), &mut next, self.clock.now_ms()).await {
            Ok(true) => record::replace(&self.refdb, stored.revision, &next).await,
            Ok(false) => Ok(false),
            Err(error) => {
                let why = error.to_string();
                if own.is_news(&why) {
                    self.observer.failed("failover", &why);
                }
                Ok(false)
            }
        }
    }

    fn decide(&self, failover: &Failover, view: &View, waited: Duration) -> Decision {
        let settles = failover.current().is_some_and(|step| step.step == FailoverStep::Settle);
        match decide(failover, view, waited, &self.limits.patience()) {
            Decision::Wait(_) | Decision::Fence(_) if settles && self.bugs.has(InjectedBug::PromotedUnsettled) => {
                Decision::Next("not settled".to_owned())
            }
            decision => decision,
        }
    }

    /// Takes one action. Answers whether there was one, so that the next one can follow at once.
    async fn act(&self, stored: &Stored, view: &View, waited: Duration) -> Result<bool, RefDbError> {
        let mut next = stored.failover.clone();
        match self.decide(&stored.failover, view, waited) {
            Decision::Wait(why) => {
                tracing::debug!(failover = next.number, why, "the failover waits");
                return Ok(false);
            }
            Decision::ChangeRole(site, role) => {
                tracing::warn!(failover = next.number, site = %site.site, ?role, "changing the role of a site");
                self.refdb.sites.change_role(&site, role).await?;
                return Ok(true);
            }
            Decision::Fence(incarnations) => {
                for one in incarnations {
                    tracing::warn!(failover = next.number, incarnation = %one, "freezing and poisoning an incarnation");
                    self.tools.fencing.fence(&next.from, &one).await?;
                }
                return Ok(true);
            }
            Decision::Begin => {
                // The target went on applying during the pause.
                if follows_catch_up(&next) {
                    next.lacked = Some(at_risk(&self.refdb, view, &next.from, &next.to).await);
                }
                begin(&mut next, self.clock.now_ms());
            }
            Decision::Hold => next.paused = true,
            Decision::Next(note) => {
                if next.current().is_some_and(|step| step.step == FailoverStep::Settle) {
                    next.behind = Some(view.most_behind(&next.to, &next.from));
                }
                self.count_after_catch_up(&mut next, view).await;
                if next.current().is_some_and(|step| step.step == FailoverStep::Probe) {
                    keep_counted(&mut next, view);
                }
                complete(&mut next, self.clock.now_ms(), &self.node, note);
            }
            Decision::Held(why) => {
                tracing::warn!(failover = next.number, why, "the failover holds itself: resume or abort it");
                self.count_after_catch_up(&mut next, view).await;
                (next.paused, next.held) = (true, Some(why.clone()));
                complete(&mut next, self.clock.now_ms(), &self.node, format!("HELD: {why}"));
            }
            Decision::Unserved(note) => {
                next.unserved = true;
                complete(&mut next, self.clock.now_ms(), &self.node, note);
            }
            Decision::End(outcome) => end(&mut next, self.clock.now_ms(), outcome),
        }
        if record::replace(&self.refdb, stored.revision, &next).await? {
            tracing::info!(failover = next.number, state = describe(&next), "the failover moves on");
            if let Some(end) = &next.end {
                self.observer.failover_ended(next.number, &end.outcome);
            }
        }
        Ok(true)
    }

    /// Counts the transactions that the target lacks, if the catch-up ends now, in time or held.
    async fn count_after_catch_up(&self, next: &mut Failover, view: &View) {
        if next.current().is_some_and(|step| step.step == FailoverStep::CatchUp) {
            next.lacked = Some(at_risk(&self.refdb, view, &next.from, &next.to).await);
        }
    }
}

impl Seen {
    fn note(&mut self, stored: &Stored) {
        let now = Instant::now();
        if self.revision != stored.revision {
            (self.revision, self.since) = (stored.revision, now);
        }
        let begun = stored.failover.current().filter(|step| step.began_ms.is_some());
        let step = begun.map(|step| (stored.failover.number, step.step));
        if self.step.map(|(number, step, _)| (number, step)) != step {
            self.step = step.map(|(number, step)| (number, step, now));
        }
    }

    /// The time since the current step was first seen as begun.
    fn waited(&self) -> Duration {
        self.step.map_or(Duration::ZERO, |(_, _, since)| since.elapsed())
    }
}

/// The site that takes writes at the end.
fn takes_over(failover: &Failover) -> SiteId {
    if failover.aborting { failover.from.clone() } else { failover.to.clone() }
}

/// Whether the nodes of the source may drive too: nobody else may be left.
fn source_drives(failover: &Failover) -> bool {
    failover.aborting || failover.has_begun(FailoverStep::Promote)
}

/// The place of a node among those that may drive: the living nodes of the target by name, then those of other sites,
/// then those of the source.
fn turn(view: &View, failover: &Failover, node: &NodeId) -> u32 {
    let rank = |site: &SiteId| match () {
        () if *site == failover.to => 0,
        () if *site != failover.from => 1,
        () => 2,
    };
    let living = view.sites.iter().flat_map(|site| view.living(&site.site));
    let mut living: Vec<_> = living.map(|one| (rank(&one.site), &one.node)).collect();
    living.sort();
    let place = living.into_iter().position(|(_, one)| one == node);
    place.map_or(u32::MAX, |place| u32::try_from(place).unwrap_or(u32::MAX)).min(8)
}

fn begin(failover: &mut Failover, now_ms: u64) {
    if let Some(step) = current(failover) {
        step.began_ms = Some(now_ms);
    }
}

/// Completes the current step, and begins the next one if nothing holds it.
fn complete(failover: &mut Failover, now_ms: u64, by: &NodeId, note: String) {
    if let Some(step) = current(failover) {
        (step.ended_ms, step.by, step.note) = (Some(now_ms), Some(by.clone()), note);
    }
    let is_held = failover.current().is_some_and(|next| failover.pause_before.contains(&next.step));
    if !failover.paused && !is_held {
        begin(failover, now_ms);
    }
}

/// Whether the last step that is complete is the catch-up.
fn follows_catch_up(failover: &Failover) -> bool {
    let last = failover.steps.iter().take_while(|step| step.ended_ms.is_some()).last();
    last.is_some_and(|step| step.step == FailoverStep::CatchUp)
}

fn current(failover: &mut Failover) -> Option<&mut lockstep_proto::failover::StepRecord> {
    failover.steps.iter_mut().find(|step| step.ended_ms.is_none())
}

/// The state of a failover in one line.
fn describe(failover: &Failover) -> String {
    match (&failover.end, failover.current()) {
        (Some(end), _) => format!("{:?}", end.outcome),
        (None, Some(step)) if failover.paused => format!("paused before {}", step.step.name()),
        (None, Some(step)) => step.step.name().to_owned(),
        (None, None) => "complete".to_owned(),
    }
}
