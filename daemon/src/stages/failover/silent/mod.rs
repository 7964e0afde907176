//! Silent drills: this node's standby on a copy of its volume, with a refdb of its own.
//!
//! The stage decides when a drill may begin and when it gives way, counts what the copy lacked, and keeps the trend.
//! Copy and standby come from a port: they are files and processes. The real standby has no part in it, and goes on.

#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::failover::Role;
use lockstep_proto::silent::{SilentBegun, SilentDrills, SilentFigures, SilentReport};
use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::history;
use super::view::View;
use crate::base::backoff::Backoff;
use crate::base::clock::{Clock, Entropy};
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::refdb::{Document, RefDb, RefDbError};
use crate::stages::ports::{CopyMade, Doing, StandbyCopies};
use crate::state::context::NodeContext;
use crate::state::site_roles::SiteRoles;

/// How often a report is written again before it is kept in memory alone.
const TRIES: u32 = 6;
/// How long one of these writes may take.
const WRITE: Duration = Duration::from_secs(5);
/// The most reports that are kept in memory because the refdb did not take them.
const MOST_UNWRITTEN: usize = 10;

/// Drives silent drills of one node.
pub(super) struct SilentStage {
    pub(super) site: SiteId,
    pub(super) node: NodeId,
    refdb: RefDb,
    pub(super) clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
    tasks: Tasks,
    pub(super) roles: Arc<SiteRoles>,
    pub(super) copies: Option<Arc<dyn StandbyCopies>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<SilentBegun>,
    /// Reports that the refdb did not take, newest first.
    unwritten: Vec<SilentReport>,
}

/// The place of the one drill of this node. It is free again when this is dropped: the caller may hang up before the
/// drill begins.
pub(super) struct Claim {
    stage: Arc<SilentStage>,
    pub(super) begun: SilentBegun,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.stage.state.lock().running = None;
    }
}

/// A drill that has been asked for.
pub(super) struct Asked {
    pub(super) claim: Claim,
    pub(super) actor: String,
    pub(super) reason: String,
    pub(super) from: SiteId,
}

impl SilentStage {
    pub(super) fn new(context: &NodeContext, roles: &Arc<SiteRoles>, copies: Option<Arc<dyn StandbyCopies>>) -> Self {
        let NodeContext { site, node, refdb, clock, entropy, observer, tasks, .. } = context.clone();
        let (roles, state) = (Arc::clone(roles), Mutex::default());
        Self { site, node, refdb, clock, entropy, observer, tasks, roles, copies, state }
    }

    /// The trend, and the drill that is in progress at this node.
    pub(super) async fn all(&self) -> Result<SilentDrills, RefDbError> {
        // A drill notes its report before it is over. In this order, a reader sees the one or the other.
        let running = self.state.lock().running.clone();
        let mut drills: SilentDrills = history::read_document(&self.refdb, Document::SilentDrills).await?;
        self.state.lock().unwritten.iter().rev().for_each(|report| drills.put(report.clone()));
        drills.running = running;
        Ok(drills)
    }

    /// Takes the place of the one drill of this node.
    ///
    /// # Errors
    /// The drill that has it.
    pub(super) fn claim(self: &Arc<Self>) -> Result<Claim, SilentBegun> {
        let (node, at_ms) = (self.node.clone(), self.clock.now_ms());
        let mut state = self.state.lock();
        if let Some(running) = &state.running {
            return Err(running.clone());
        }
        let begun = SilentBegun { id: self.new_id(), node, at_ms, doing: String::new() };
        state.running = Some(begun.clone());
        drop(state);
        Ok(Claim { stage: Arc::clone(self), begun })
    }

    pub(super) fn new_id(&self) -> String {
        format!("{:016x}", self.entropy.next())
    }

    pub(super) fn begin(self: &Arc<Self>, asked: Asked) {
        self.tasks.spawn("silent-drill", Arc::clone(self).run(asked));
    }

    async fn run(self: Arc<Self>, asked: Asked) {
        let mut report = tokio::select! {
            biased;
            why = self.gives_way() => SilentReport { red: vec![why], ..self.empty(&asked) },
            report = self.drill(&asked) => report,
        };
        self.doing()("removing the copy".to_owned());
        if let Some(copies) = &self.copies
            && let Err(why) = copies.remove().await
        {
            report.red.push(format!("the copy is not removed: {why}"));
        }
        self.note(report).await;
        // Only now another drill may begin.
        drop(asked);
    }

    /// Waits until the site is no standby any more: its machines are for users then.
    async fn gives_way(&self) -> String {
        self.roles.wait(&self.site, |site| site.role != Role::Standby).await;
        let role = self.roles.of(&self.site).map_or("removed", |site| site.role.name());
        format!("site {} became {role} meanwhile, and the drill gave way", self.site)
    }

    fn doing(self: &Arc<Self>) -> Doing {
        let stage = Arc::clone(self);
        Arc::new(move |doing| {
            if let Some(running) = &mut stage.state.lock().running {
                running.doing = doing;
            }
        })
    }

    async fn drill(self: &Arc<Self>, asked: &Asked) -> SilentReport {
        let mut report = self.empty(asked);
        let Some(copies) = &self.copies else {
            report.red.push("this node has no volume that could be copied".to_owned());
            return report;
        };
        let mut copy = match copies.make(self.doing()).await {
            Ok(copy) => copy,
            Err(why) => {
                report.red.push(why.to_string());
                return report;
            }
        };
        let made = copy.made().clone();
        report.notes.extend(made.notes.clone());
        // The slots are read after the copy was made. So those that were settled meanwhile count as lacking.
        let lacked = match View::read(&self.refdb.for_failover(), std::collections::BTreeSet::default()).await {
            Ok(view) => Some(lacked(&view, &self.site, &made)),
            Err(error) => {
                report.notes.push(format!("the loss is not known: the refdb does not answer: {error}"));
                None
            }
        };
        let up = copy.bring_up(&asked.from, self.doing()).await;
        report.red.extend(up.red);
        report.figures = SilentFigures {
            copy: made.way.to_owned(),
            copy_ms: Some(made.took_ms),
            bytes: made.bytes,
            took_writes_ms: up.took_writes_ms,
            green_ms: up.green_ms,
            lacked,
            projects: up.projects,
            refs: up.refs,
            steps: up.steps,
        };
        report
    }

    /// A report without any figures.
    fn empty(&self, asked: &Asked) -> SilentReport {
        let Asked { claim: Claim { begun, .. }, actor, reason, .. } = asked;
        SilentReport {
            id: begun.id.clone(),
            site: self.site.clone(),
            node: self.node.clone(),
            at_ms: begun.at_ms,
            actor: actor.clone(),
            reason: reason.clone(),
            red: Vec::new(),
            notes: Vec::new(),
            figures: SilentFigures::default(),
        }
    }

    /// Notes a report in the trend, and tells it to the observer. If the refdb does not take it, it is kept in memory
    /// and written with the next one.
    pub(super) async fn note(&self, report: SilentReport) {
        let report = report.bounded();
        self.observer.silent_drill_ended(&report.id, &report.red);
        let all = {
            let unwritten = &mut self.state.lock().unwritten;
            unwritten.insert(0, report);
            unwritten.truncate(MOST_UNWRITTEN);
            unwritten.clone()
        };
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(100), WRITE);
        for _ in 0..TRIES {
            let put = |drills: &mut SilentDrills| all.iter().rev().for_each(|one| drills.put(one.clone()));
            match timeout(WRITE, history::change(&self.refdb, Document::SilentDrills, put)).await {
                Ok(Ok(())) => return self.state.lock().unwritten.clear(),
                Ok(Err(error)) => self.observer.failed("drill", &error),
                Err(_) => self.observer.failed("drill", &"the refdb does not take the report of a silent drill"),
            }
            backoff.wait().await;
        }
    }
}

/// The settled transactions of other sites that a copy lacks, those that it holds as quarantined included.
fn lacked(view: &View, site: &SiteId, made: &CopyMade) -> u64 {
    let others = view.sites.iter().chain(&view.removed).filter(|other| other.site != *site);
    let ends = others.flat_map(|other| view.ends(&other.site));
    let behind = ends.map(|(lane, end)| end.0.saturating_sub(made.applied.get(&lane).map_or(0, |seq| seq.0)));
    behind.sum::<u64>() + made.held
}
