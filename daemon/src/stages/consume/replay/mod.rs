//! A replay: reads streams of the event log again from a time or a position, as an operator asks.
//!
//! It has readers of its own, and touches no checkpoint: those of the consume stage go on where they are, so nothing
//! that was not read is passed, and nothing is read twice after a restart. A transaction that is applied here by its
//! versions is counted. Any other one is handed to the apply stage, which applies, parks or skips it as always. Stream
//! events are counted and not taken, because listeners must not get them twice. Records that cannot be read, or have
//! no good signature, are passed over: the first reading has judged them.
//!
//! One replay runs at a time at a node. Its reads take turns with those of the consume stage: one per shard and poll
//! interval. It ends at the end that each shard has when it gets there. Nothing of the request is durable.
//!
//! | file | content |
//! |---|---|
//! | `job` | reads the shards one by one |
//! | `judge` | decides whether a record is handed over |

mod job;
mod judge;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::replay::{Replay, ReplayFrom, ReplayRequest};
use lockstep_proto::{NodeId, SiteId};

use super::ConsumeLimits;
use crate::base::clock::Clock;
use crate::base::tasks::Tasks;
use crate::seams::blob::long_form::LongForms;
use crate::seams::eventlog::EventLog;
use crate::seams::volume::NodeStore;
use crate::stages::ports::Sink;
use crate::state::bound_refdb::BoundRefdb;
use crate::state::coming_back::ComesBack;
use crate::state::context::{NodeContext, NodeState};
use crate::state::operator_run::{Begun, OperatorRun, RunReport};
use crate::state::signing::Signing;
use crate::state::site_roles::SiteRoles;
use crate::state::version_map::VersionMap;
use crate::state::went_back::WentBack;

/// Replays streams at one node. Clones share the replay that is in progress.
#[derive(Clone)]
pub struct Replayer {
    node: NodeId,
    eventlog: Arc<dyn EventLog>,
    store: Arc<dyn NodeStore>,
    sink: Arc<dyn Sink>,
    versions: Arc<VersionMap>,
    long_forms: LongForms,
    signing: Arc<Signing>,
    bound: Arc<BoundRefdb>,
    roles: Arc<SiteRoles>,
    went_back: WentBack,
    comes_back: ComesBack,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    limits: ConsumeLimits,
    run: OperatorRun<Replay>,
}

impl Replayer {
    /// The replayer of a node, which hands transactions to `sink`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, sink: Arc<dyn Sink>, limits: ConsumeLimits) -> Self {
        let NodeContext { node, eventlog, store, long_forms, went_back, clock, tasks, .. } = context.clone();
        let NodeState { versions, signing, bound, roles, comes_back, .. } = state.clone();
        Self {
            node,
            eventlog,
            store,
            sink,
            versions,
            long_forms,
            signing,
            bound,
            roles,
            went_back,
            comes_back,
            clock,
            tasks,
            limits,
            run: OperatorRun::default(),
        }
    }

    /// Begins a replay, or answers the same one if it is in progress. `actor` is the authenticated identity of the
    /// operator.
    ///
    /// # Errors
    /// The request makes no sense, another replay is in progress, or the event log does not answer. Nothing was begun.
    pub async fn begin(&self, actor: &str, request: ReplayRequest) -> Result<Replay, ApiError> {
        if let Some(running) = self.run.joined(&request)? {
            return Ok(running);
        }
        self.check(&request)?;
        let streams = self.streams(&request)?;
        let notes = self.notes(&request, &streams).await;
        let start = self.store.facts().map_err(ApiError::unavailable)?.starts;
        let report = |number| Replay {
            number,
            node: self.node.clone(),
            start,
            request: request.clone(),
            by: actor.to_owned(),
            began_ms: self.clock.now_ms(),
            ended_ms: None,
            shards: Vec::new(),
            notes,
        };
        let begun = match self.run.begin(&request, report)? {
            Begun::New(begun) => begun,
            Begun::Joined(running) => return Ok(running),
        };
        let ReplayRequest { from, shard, dry_run, reason, .. } = &request;
        tracing::warn!(actor, reason, ?from, ?streams, shard, dry_run, "an operator begins a replay");
        self.tasks.spawn("replay", self.clone().read_all(request, streams));
        Ok(begun)
    }

    /// The replay that is in progress, or was the last one since the start of the node.
    #[must_use]
    pub fn last(&self) -> Option<Replay> {
        self.run.last()
    }

    /// Refuses a request that makes no sense.
    fn check(&self, request: &ReplayRequest) -> Result<(), ApiError> {
        if self.went_back.is_known() || self.comes_back.forbids_moves() {
            let message = "this node applies nothing now: the refdb is older than the node or is not its own, or the \
                           site is off; `lockstep status` says which, end that first";
            return Err(ApiError::new(RefusalCode::NotServing, false, message));
        }
        match &request.from {
            ReplayFrom::Time(at_ms) if *at_ms > self.clock.now_ms() => Err(ApiError::invalid(format!(
                "from is the time {at_ms} ms since 1970, which is to come; give an earlier one"
            ))),
            ReplayFrom::After(_) if request.shard.is_none() || request.stream.is_none() => Err(ApiError::invalid(
                "from is a position, which is one of a single shard: give stream and shard, too, as `lockstep explain` \
                 lists them",
            )),
            ReplayFrom::Time(_) | ReplayFrom::After(_) | ReplayFrom::Oldest => Ok(()),
        }
    }

    /// The sites whose streams are read.
    fn streams(&self, request: &ReplayRequest) -> Result<BTreeSet<SiteId>, ApiError> {
        let listed = self.roles.listed();
        match &request.stream {
            None => Ok(listed),
            Some(site) if listed.contains(site) => Ok(BTreeSet::from([site.clone()])),
            Some(site) => {
                let all = listed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                Err(ApiError::invalid(format!("stream {site}: the list of sites has no such site; it has {all}")))
            }
        }
    }

    /// Statements about streams that do not keep everything since the time that was asked for.
    async fn notes(&self, request: &ReplayRequest, streams: &BTreeSet<SiteId>) -> Vec<String> {
        let ReplayFrom::Time(from_ms) = request.from else { return Vec::new() };
        let mut notes = Vec::new();
        for site in streams {
            let kept = match self.eventlog.retention(site).await {
                Ok(Some(kept)) => kept,
                Ok(None) => continue,
                Err(why) => {
                    notes.push(format!("how long the stream of site {site} keeps records is not known: {why}"));
                    continue;
                }
            };
            let kept_ms = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
            let oldest_ms = self.clock.now_ms().saturating_sub(kept_ms);
            if from_ms < oldest_ms {
                notes.push(format!(
                    "the stream of site {site} keeps records for {} hours: older ones are gone, and it is read from \
                     its oldest one; `lockstep resync` takes the refdb's state instead",
                    kept.as_secs() / 3_600
                ));
            }
        }
        notes
    }
}

impl RunReport for Replay {
    type Request = ReplayRequest;
    const KIND: &'static str = "replay";

    fn number(&self) -> u64 {
        self.number
    }

    fn by(&self) -> &str {
        &self.by
    }

    fn has_ended(&self) -> bool {
        self.ended_ms.is_some()
    }

    fn is_asked_for(&self, request: &ReplayRequest) -> bool {
        self.request.asks_for_the_same(request)
    }
}
