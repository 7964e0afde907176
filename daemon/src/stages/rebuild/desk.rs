//! Takes the requests of operators and peers. One rebuild runs at a time, and goes on when the caller hangs up.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use lockstep_proto::SiteId;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::rebuild::{Rebuild, RebuildPhase, RebuildRequest, VersionsPage, VersionsRequest};
use parking_lot::Mutex;

use super::error::RebuildError;
use super::job::Job;
use super::moving::MoveJob;
use super::pages::{TakesCommits, VersionPages};
use crate::seams::refdb::Tables;
use crate::stages::ports::{Fencing, Rebuilds};
use crate::state::bound_refdb::BoundRefdb;
use crate::state::context::{NodeContext, NodeState};
use crate::state::gone_nodes::GoneNodes;
use crate::state::site_roles::SiteRoles;

/// The stage of one node.
pub struct RebuildDesk {
    context: NodeContext,
    sites: BTreeSet<SiteId>,
    tables: Arc<dyn Tables>,
    pages: Arc<VersionPages>,
    fencing: Arc<dyn Fencing>,
    bound: Arc<BoundRefdb>,
    roles: Arc<SiteRoles>,
    gone: GoneNodes,
    /// The last request, and its report.
    last: Mutex<Option<(RebuildRequest, Arc<Mutex<Rebuild>>)>>,
}

impl RebuildDesk {
    /// The stage of a node. `sites` are those of its configuration, `fencing` ends incarnations of any node, and
    /// `commits` tells whether this node takes commits now.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        tables: Arc<dyn Tables>,
        sites: BTreeSet<SiteId>,
        fencing: Arc<dyn Fencing>,
        commits: TakesCommits,
    ) -> Self {
        let pages = Arc::new(VersionPages::new(context, state, commits));
        let (bound, roles, gone) = (Arc::clone(&state.bound), Arc::clone(&state.roles), state.gone.clone());
        Self { context: context.clone(), sites, tables, pages, fencing, bound, roles, gone, last: Mutex::default() }
    }

    fn move_job(&self, request: RebuildRequest, report: Arc<Mutex<Rebuild>>) -> MoveJob {
        let context = &self.context;
        MoveJob {
            site: context.site.clone(),
            node: context.node.clone(),
            refdb: context.refdb.clone(),
            went_back: context.went_back.clone(),
            bound: Arc::clone(&self.bound),
            roles: Arc::clone(&self.roles),
            gone: self.gone.clone(),
            tables: Arc::clone(&self.tables),
            fencing: Arc::clone(&self.fencing),
            entropy: Arc::clone(&context.entropy),
            bugs: context.bugs,
            request,
            report,
        }
    }

    fn job(&self, request: RebuildRequest, report: Arc<Mutex<Rebuild>>) -> Job {
        let context = &self.context;
        Job {
            site: context.site.clone(),
            node: context.node.clone(),
            sites: self.sites.clone(),
            refdb: context.refdb.clone(),
            went_back: context.went_back.clone(),
            tables: Arc::clone(&self.tables),
            peers: Arc::clone(&context.peers),
            pages: Arc::clone(&self.pages),
            entropy: Arc::clone(&context.entropy),
            bugs: context.bugs,
            request,
            report,
        }
    }
}

impl Rebuilds for RebuildDesk {
    fn versions(&self, request: &VersionsRequest) -> Result<VersionsPage, ApiError> {
        let failed = |error| ApiError::unavailable(format!("the version map cannot be read: {error}"));
        self.pages.page(request).map_err(failed)
    }

    fn begin(&self, actor: &str, request: RebuildRequest) -> Result<Rebuild, ApiError> {
        let mut last = self.last.lock();
        if let Some((asked, report)) = last.as_ref() {
            let running = report.lock().clone();
            // An abort ends the run that it meets, at this node or at another one.
            if is_running(&running) && !request.moves.as_ref().is_some_and(|moves| moves.abort) {
                if *asked == request {
                    return Ok(running);
                }
                let into = running.into;
                let message =
                    format!("a rebuild into {into} with other options is in progress at this node; wait for its end");
                return Err(ApiError::new(RefusalCode::Stale, true, message));
            }
        }
        // With --lost, this line is the record of the operator's word.
        let RebuildRequest { into, from_sites, dry_run, take_over, lost, moves } = &request;
        tracing::warn!(
            actor,
            into,
            ?from_sites,
            dry_run,
            take_over,
            lost,
            ?moves,
            "an operator rebuilds or moves the refdb"
        );
        let report = Arc::new(Mutex::new(Rebuild::begun(&request)));
        let begun = report.lock().clone();
        *last = Some((request.clone(), Arc::clone(&report)));
        let running: BoxFuture<'static, Result<(), RebuildError>> = match request.moves.is_some() {
            true => {
                let job = self.move_job(request, Arc::clone(&report));
                async move { job.run().await }.boxed()
            }
            false => {
                let job = self.job(request, Arc::clone(&report));
                async move { job.run().await }.boxed()
            }
        };
        self.context.tasks.spawn("rebuild", async move {
            let end = running.await;
            let mut report = report.lock();
            match end {
                Ok(()) => report.phase = RebuildPhase::Done,
                Err(error) => {
                    tracing::warn!(%error, into = report.into, "the rebuild did not end with a new refdb");
                    let refused = error.is_refusal();
                    report.phase = if refused { RebuildPhase::Refused } else { RebuildPhase::Failed };
                    report.why = Some(error.to_string());
                }
            }
        });
        Ok(begun)
    }

    fn rebuild(&self) -> Option<Rebuild> {
        self.last.lock().as_ref().map(|(_, report)| report.lock().clone())
    }
}

fn is_running(rebuild: &Rebuild) -> bool {
    rebuild.phase == RebuildPhase::Running
}
