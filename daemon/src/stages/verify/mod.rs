//! The verify stage: compares the refs of this node, on the disk and in the version map, with the refdb.
//!
//! A ref that differs may be on its way. So it counts as a mismatch only if it still differs after this node has caught
//! up with it, twice. An error is never read as "equal": a project that cannot be compared is named. A catch-up repairs
//! a ref that is behind. Such refs are counted apart.
//!
//! Reading the refdb costs read units. A verification takes a share of the read units of one partition, and tells the
//! cost before it begins. It keeps nothing in the refdb.
//!
//! | file | idea |
//! |---|---|
//! | `listing` | the projects of this node, and those that only the refdb has |
//! | `project` | compares one project |
//! | `judge` | names the side that is right about a ref, and why: a pure function |
//! | `for_failover` | the verification as the step of a failover |
//! | `results` | keeps the mismatches of all verifications since the start of the process |
//! | `pace` | bounds the rate of reads |

mod for_failover;
mod judge;
mod listing;
mod pace;
mod project;
mod results;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use lockstep_proto::ProjectKey;
use lockstep_proto::overview::Verified;
use lockstep_proto::verify::{Estimate, MOST_FOUND, NotCompared, Verification, VerifyRequest};
use parking_lot::Mutex;

use crate::base::clock::Clock;
use crate::base::tasks::Tasks;
use crate::seams::refdb::RefDb;
use crate::seams::volume::StoreError;
use crate::stages::ports::CatchUp;
use crate::state::context::{NodeContext, NodeState};
use crate::state::materialize::Materializer;
use crate::state::version_map::VersionMap;
use pace::Pace;
use project::{Compared, Failure};
use results::Results;

/// Number of projects that are compared at the same time.
const AT_ONCE: usize = 16;

/// Compares the refs of one node with the refdb.
#[derive(Clone)]
pub struct Verifier {
    refdb: RefDb,
    versions: Arc<VersionMap>,
    materializer: Materializer,
    catch_up: Arc<dyn CatchUp>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    log: Arc<Mutex<Log>>,
}

/// The verifications since the start of the process.
#[derive(Default)]
struct Log {
    /// The verification that is in progress, or was the last one.
    last: Option<Verification>,
    results: Results,
}

impl Verifier {
    /// Creates the verifier of a node. Before a ref counts as a mismatch, the node catches up through `catch_up`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, catch_up: Arc<dyn CatchUp>) -> Self {
        let NodeContext { refdb, clock, tasks, .. } = context.clone();
        let NodeState { versions, materializer, .. } = state.clone();
        Self { refdb, versions, materializer, catch_up, clock, tasks, log: Arc::default() }
    }

    /// Begins a verification, unless one is in progress. Answers the one that is in progress then.
    ///
    /// # Errors
    /// The version map cannot be read.
    pub async fn begin(&self, request: VerifyRequest) -> Result<Verification, StoreError> {
        if let Some(running) = self.log.lock().running() {
            return Ok(running);
        }
        let here = self.here(request.project.as_ref())?;
        let estimate = self.estimate(&here, request.share).await?;
        let mut log = self.log.lock();
        if let Some(running) = log.running() {
            return Ok(running);
        }
        let begun = Verification {
            number: log.last.as_ref().map_or(0, |one| one.number) + 1,
            request,
            estimate,
            began_ms: self.clock.now_ms(),
            ended_ms: None,
            projects: 0,
            refs: 0,
            on_their_way: 0,
            repaired: 0,
            mismatches: 0,
            found: Vec::new(),
            failures: 0,
            failed: Vec::new(),
        };
        log.last = Some(begun.clone());
        self.tasks.spawn("verify", self.clone().run(begun.request.clone(), here));
        Ok(begun)
    }

    /// The verification that is in progress, or was the last one. None if there was none.
    #[must_use]
    pub fn last(&self) -> Option<Verification> {
        self.log.lock().last.clone()
    }

    /// The last verification that has ended, with the mismatches that are known now, for the node's digest. None if
    /// nothing was verified since the start of the process.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.log.lock().results.verified()
    }

    async fn run(self, request: VerifyRequest, here: BTreeSet<ProjectKey>) {
        let (each, pace, only) = (&self, &Pace::of_share(request.share), request.project.as_ref());
        let compared = futures::stream::iter(here.clone())
            .map(|project| async move { (each.compare(&project, pace).await, project) })
            .buffer_unordered(AT_ONCE);
        compared.for_each(async |(compared, project)| self.note(&project, compared)).await;
        // The refdb's list is read last: a project that was created or deleted meanwhile is then known here too.
        match self.of_refdb(only, pace).await {
            Ok(of_refdb) => {
                let exist = of_refdb.iter().chain(&here).map(|project| project.name.clone()).collect();
                self.log.lock().results.exist(&exist, only);
                let absent: Vec<ProjectKey> = of_refdb.difference(&here).cloned().collect();
                let compared = futures::stream::iter(absent)
                    .map(|project| async move { (each.compare_absent(&project, pace).await, project) })
                    .buffer_unordered(AT_ONCE);
                compared.for_each(async |(compared, project)| self.note(&project, compared)).await;
            }
            Err(error) => self.log.lock().failed("(projects that only the refdb has)".to_owned(), &error.into()),
        }
        self.log.lock().end(self.clock.now_ms());
    }

    fn note(&self, project: &ProjectKey, compared: Result<Compared, Failure>) {
        let mut log = self.log.lock();
        match compared {
            Ok(compared) => log.compared(project, compared, self.clock.now_ms()),
            // The project was deleted meanwhile, and its repository with it: there is nothing to compare.
            Err(_) if matches!(self.versions.is_past(project), Ok(true)) => {
                log.compared(project, Compared::default(), self.clock.now_ms());
            }
            Err(failure) => log.failed(project.to_string(), &failure),
        }
    }

    /// The cost of the projects of this node. Those that only the refdb has are not known yet.
    async fn estimate(&self, projects: &BTreeSet<ProjectKey>, share: u32) -> Result<Estimate, StoreError> {
        let (mut refs, mut read_units) = (0, 0);
        for project in projects {
            let (mut count, mut bytes) = (0, 0);
            self.versions.visit(project, |key, _| {
                count += 1;
                bytes += pace::item_bytes(project, &key);
            })?;
            refs += count;
            read_units += pace::units(bytes, count);
            tokio::task::yield_now().await;
        }
        let seconds = read_units as f64 / Pace::rate(share);
        Ok(Estimate { projects: projects.len() as u64, refs, read_units, seconds })
    }
}

impl Log {
    fn running(&self) -> Option<Verification> {
        self.last.clone().filter(|one| one.ended_ms.is_none())
    }

    fn compared(&mut self, project: &ProjectKey, compared: Compared, now_ms: u64) {
        let mismatches = compared.mismatches.len() as u64;
        self.results.compared(&project.name, mismatches, now_ms);
        let Some(last) = &mut self.last else { return };
        last.projects += 1;
        last.refs += compared.refs;
        last.on_their_way += compared.on_their_way;
        last.repaired += compared.repaired;
        last.mismatches += mismatches;
        let room = MOST_FOUND.saturating_sub(last.found.len());
        last.found.extend(compared.mismatches.into_iter().take(room));
    }

    fn failed(&mut self, project: String, failure: &Failure) {
        let Some(last) = &mut self.last else { return };
        last.failures += 1;
        if last.failed.len() < MOST_FOUND {
            last.failed.push(NotCompared { project, why: failure.to_string() });
        }
    }

    fn end(&mut self, at_ms: u64) {
        let Some(last) = &mut self.last else { return };
        last.ended_ms = Some(at_ms);
        let whole = last.request.project.is_none() && last.failures == 0;
        let (projects, mismatches) = (last.projects, last.mismatches);
        self.results.ended(Verified { at_ms, projects, whole, mismatches });
    }
}
