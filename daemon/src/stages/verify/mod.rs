//! The verify stage: compares the refs of this node, on the disk and in the version map, with the refdb, or with those
//! of peers.
//!
//! A ref that differs may be on its way. So it counts as a mismatch only if it still differs after this node, and the
//! peer, have caught up with it, twice. An error is never read as "equal": a project or a peer that cannot be compared
//! is named. A catch-up repairs a ref that is behind. Such refs are counted apart.
//!
//! Reading the refdb costs read units. A verification takes a share of the read units of one partition, and tells the
//! cost before it begins. It keeps nothing in the refdb. A comparison with a peer reads the refdb for the refs that
//! differ alone: projects with equal digests are equal.
//!
//! | file | idea |
//! |---|---|
//! | `listing` | the projects of this node, and those that only the refdb has |
//! | `project` | compares one project |
//! | `judge` | names the side that is right about a ref, and why: a pure function |
//! | `against` | compares this node with peers |
//! | `serve` | the other side of that: digests and refs for peers |
//! | `for_failover` | the verification as the step of a failover |
//! | `background` | verifies all refs and all objects again and again, and repairs them |
//! | `log` | the verification in progress, and the last ones, which outlive a restart |
//! | `results` | keeps the mismatches of all verifications |
//! | `pace` | bounds the rate of reads |

mod against;
mod background;
mod for_failover;
mod judge;
mod listing;
mod log;
mod pace;
mod project;
mod results;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use lockstep_proto::overview::Verified;
use lockstep_proto::verify::{Estimate, LastVerified, Verification, VerifyRequest};
use lockstep_proto::{NodeId, ProjectKey, SiteId};
use parking_lot::Mutex;

use crate::base::clock::Clock;
use crate::base::tasks::Tasks;
use crate::seams::peers::Peers;
use crate::seams::refdb::RefDb;
use crate::seams::volume::{NodeStore, StoreError};
use crate::stages::ports::CatchUp;
use crate::state::bound_refdb::BoundRefdb;
use crate::state::context::{NodeContext, NodeState};
use crate::state::durability::Durability;
use crate::state::materialize::Materializer;
use crate::state::site_roles::SiteRoles;
use crate::state::version_map::VersionMap;
pub use background::{Background, BackgroundSettings};
use log::Log;
use pace::Pace;
use project::{CompareError, Compared};
use serve::Serving;

/// Number of projects that are compared at the same time.
const AT_ONCE: usize = 16;

/// Compares the refs of one node with the refdb, or with those of peers. Serves its digests and refs to peers.
#[derive(Clone)]
pub struct Verifier {
    site: SiteId,
    node: NodeId,
    refdb: RefDb,
    store: Arc<dyn NodeStore>,
    versions: Arc<VersionMap>,
    bound: Arc<BoundRefdb>,
    roles: Arc<SiteRoles>,
    materializer: Materializer,
    durability: Durability,
    peers: Arc<dyn Peers>,
    catch_up: Arc<dyn CatchUp>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// The share of the read units of a partition that a verification takes if its request names none, in percent.
    share: u32,
    log: Arc<Mutex<Log>>,
    serving: Arc<Serving>,
}

impl Verifier {
    /// Creates the verifier of a node, with the results of earlier lives. Before a ref counts as a mismatch, the node
    /// catches up through `catch_up`. `share` is the configured share of a partition's read units, in percent.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(
        context: &NodeContext,
        state: &NodeState,
        catch_up: Arc<dyn CatchUp>,
        share: u32,
    ) -> Result<Self, StoreError> {
        let NodeContext { site, node, refdb, store, peers, clock, tasks, .. } = context.clone();
        let NodeState { versions, bound, roles, materializer, durability, .. } = state.clone();
        let log = Arc::new(Mutex::new(Log::load(store.as_ref())?));
        let serving = Arc::new(Serving::at_share(share));
        Ok(Self {
            site,
            node,
            refdb,
            store,
            versions,
            bound,
            roles,
            materializer,
            durability,
            peers,
            catch_up,
            clock,
            tasks,
            share,
            log,
            serving,
        })
    }

    /// Begins a verification, unless one is in progress. Answers the one that is in progress then.
    ///
    /// # Errors
    /// The version map cannot be read.
    pub async fn begin(&self, request: VerifyRequest) -> Result<Verification, StoreError> {
        if let Some(running) = self.log.lock().running() {
            return Ok(running);
        }
        let share = self.share_of(&request);
        let request = VerifyRequest { share: Some(share), ..request };
        let here = self.here(request.project.as_ref())?;
        let estimate = match request.against {
            None => self.estimate(&here, share).await?,
            Some(_) => Estimate { projects: here.len() as u64, ..Estimate::default() },
        };
        let begun = {
            let mut log = self.log.lock();
            if let Some(running) = log.running() {
                return Ok(running);
            }
            log.begin(request, estimate, self.clock.now_ms())
        };
        // A number that was given out is never given out again, not even by the next life of the node.
        self.keep();
        match &begun.request.against {
            None => self.tasks.spawn("verify", self.clone().run(begun.request.clone(), here)),
            Some(against) => {
                let against = against.clone();
                self.tasks.spawn("verify", self.clone().run_against(begun.request.clone(), against));
            }
        }
        Ok(begun)
    }

    /// The verification that is in progress, or was the last one. None if there was none.
    #[must_use]
    pub fn last(&self) -> Option<Verification> {
        self.log.lock().last.clone()
    }

    /// The last verification against the refdb that has ended, with the mismatches that are known now, for the node's
    /// digest. None if nothing was verified yet.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.log.lock().results.verified()
    }

    /// The last verification against each side: the refdb, and peers.
    #[must_use]
    pub fn each_verified(&self) -> Vec<LastVerified> {
        self.log.lock().each()
    }

    /// The share of the read units of a partition that a request takes, in percent.
    fn share_of(&self, request: &VerifyRequest) -> u32 {
        request.share.unwrap_or(self.share)
    }

    /// Has the results kept with the next durable step.
    fn keep(&self) {
        let kept = self.log.lock().to_keep();
        self.durability.stage(|changes| changes.verified = Some(kept));
        self.durability.want();
    }

    async fn run(self, request: VerifyRequest, here: BTreeSet<ProjectKey>) {
        let (each, pace, only) = (&self, &Pace::of_share(self.share_of(&request)), request.project.as_ref());
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
        self.keep();
    }

    fn note(&self, project: &ProjectKey, compared: Result<Compared, CompareError>) {
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
