//! Collects the data that the status API shows of a node.

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::Transaction;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::status::{CheckpointStatus, DueStatus, HeldStatus, LaneStatus, NodeStatus};

use super::guards::Guards;
use super::stages::Stages;
use crate::base::base_paths::BasePaths;
use crate::seams::eventlog::Position;
use crate::seams::refdb::SiteRecord;
use crate::seams::volume::Held;
use crate::stages::api::Inspection;
use crate::stages::api::readiness::Latches;
use crate::stages::apply::ParkReason;
use crate::telemetry::status_board::StatusBoard;

/// Number of subjects with a due refresh that are listed at most.
const DUE: usize = 1_000;

/// Reads the state of a node for the status API.
pub struct Inspector {
    stages: Arc<Stages>,
    latches: Latches,
    board: Arc<StatusBoard>,
    guards: Arc<Guards>,
}

impl Inspector {
    /// An inspector of the given stages, latches, status board and hooks of one node.
    #[must_use]
    pub(super) fn new(stages: Arc<Stages>, latches: Latches, board: Arc<StatusBoard>, guards: Arc<Guards>) -> Self {
        Self { stages, latches, board, guards }
    }

    fn lanes(&self) -> (Option<lockstep_proto::Incarnation>, Vec<LaneStatus>) {
        let journal = self.stages.journal.lock().clone();
        let Some(journal) = journal else { return (None, Vec::new()) };
        let lanes = journal.id().lanes(journal.marks()).map(|(lane, marks)| LaneStatus {
            lane,
            settled: marks.settled.0,
            published: marks.published.0,
            in_flight: marks.in_flight,
        });
        (Some(journal.id().number), lanes.collect())
    }

    fn checkpoints(&self) -> Vec<CheckpointStatus> {
        let checkpoints = self.stages.deps.store.checkpoints().unwrap_or_default();
        let status = |(id, position): (crate::seams::volume::ShardId, Position)| CheckpointStatus {
            stream: id.site,
            shard: id.shard,
            position: match position {
                Position::Start => "start".to_owned(),
                Position::After(sequence) => sequence,
                Position::End => "end".to_owned(),
            },
        };
        checkpoints.into_iter().map(status).collect()
    }

    fn site(&self) -> Option<SiteRecord> {
        self.stages.roles.of(&self.stages.deps.settings.site)
    }
}

#[async_trait]
impl Inspection for Inspector {
    async fn status(&self) -> NodeStatus {
        let settings = &self.stages.deps.settings;
        let (incarnation, lanes) = self.lanes();
        let snapshot = self.board.snapshot();
        let site = self.site();
        let (parked, quarantined) = self.stages.deps.store.held_counts().unwrap_or_default();
        NodeStatus {
            site: settings.site.clone(),
            node: settings.node.clone(),
            root: settings.base_paths.as_ref().and_then(|base_paths| base_paths.root().to_str()).map(str::to_owned),
            base_paths: settings.base_paths.as_ref().map(BasePaths::sections).unwrap_or_default(),
            incarnation,
            role: site.as_ref().map_or("unknown".to_owned(), |site| format!("{:?}", site.role).to_lowercase()),
            epoch: site.map_or(0, |site| site.epoch),
            ready: self.latches.closed().is_empty(),
            latches: self.latches.status(),
            origins: snapshot.origins,
            lanes,
            checkpoints: self.checkpoints(),
            parked,
            quarantined,
            events: self.stages.events.status(),
            counters: snapshot.counters,
            refresh: self.stages.refresh.as_ref().map(|refresh| refresh.status()),
            guards_off: self.guards.found().first,
            refdb_went_back: self.stages.context.went_back.evidence().map(|evidence| evidence.to_string()),
            last_errors: snapshot.last_errors,
        }
    }

    async fn due(&self) -> Vec<DueStatus> {
        self.stages.refresh.as_ref().map(|refresh| refresh.list(DUE)).unwrap_or_default()
    }

    async fn parked(&self) -> Result<Vec<HeldStatus>, ApiError> {
        let parked = self.stages.deps.store.parked().map_err(ApiError::unavailable)?;
        let status = |(id, held): (String, Held)| {
            // Earlier releases have stored words of the reason in place of what is waited for.
            let Ok(reason) = held.reason.parse::<ParkReason>();
            HeldStatus { waits_for: reason.waits_for(), ..status(id, held) }
        };
        Ok(parked.into_iter().map(status).collect())
    }

    async fn quarantined(&self) -> Result<Vec<HeldStatus>, ApiError> {
        let quarantined = self.stages.deps.store.quarantined().map_err(ApiError::unavailable)?;
        Ok(quarantined.into_iter().map(|(id, held)| status(id, held)).collect())
    }
}

/// The status of a record that waits for nothing.
fn status(id: String, held: Held) -> HeldStatus {
    let txn = Transaction::decode(&held.bytes).map_or(id, |transaction| transaction.id.to_string());
    HeldStatus {
        txn,
        project: held.project,
        reason: held.reason,
        waits_for: Vec::new(),
        since_ms: held.since_ms,
        bytes: held.bytes.len() as u64,
    }
}
