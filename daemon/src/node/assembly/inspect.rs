//! Collects the data that the status API shows of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::debt::{MOST_SHOWN, ProjectHealth, ProjectStatus, Repair, RepairAnswer};
use lockstep_proto::explain::{ExplainRequest, Explanation, RefAtNode, RefAtNodeRequest};
use lockstep_proto::peer::{PeerAnswer, PeerStatus, TlsStatus};
use lockstep_proto::replay::{Replay, ReplayRequest};
use lockstep_proto::resync::{Resync, ResyncRequest};
use lockstep_proto::status::{CheckpointStatus, DueStatus, HeldStatus, LaneStatus, NodeStatus};
use lockstep_proto::verify::{Verification, VerifyRequest};
use lockstep_proto::{ProjectName, ProjectPhase, RefValue, Transaction};

use super::Node;
use super::explain::{Explainer, checkpoint_status};
use super::guards::Guards;
use super::last_contact::LastContact;
use super::left_locks::LeftLocks;
use super::repairs::Repairs;
use super::stages::Stages;
use super::stream_readers;
use super::uncommitted;
use crate::base::base_paths::BasePaths;
use crate::seams::aws::Links;
use crate::seams::refdb::SiteRecord;
use crate::seams::tls::Credentials;
use crate::seams::volume::{Held, RefRecord, parked_pages};
use crate::stages::api::Inspection;
use crate::stages::api::readiness::Latches;
use crate::stages::api::turns::Turns;
use crate::stages::apply::ParkReason;
use crate::stages::handover::Told;
use crate::telemetry::status_board::StatusBoard;

/// Number of subjects with a due refresh that are listed at most.
const DUE: usize = 1_000;

/// Reads the state of a node for the status API.
pub struct Inspector {
    stages: Arc<Stages>,
    latches: Latches,
    board: Arc<StatusBoard>,
    guards: Arc<Guards>,
    locks: Option<Arc<LeftLocks>>,
    tls: Option<TlsAtNode>,
    handover: Vec<Told>,
    contact: Option<Arc<LastContact>>,
    turns: Option<Arc<Turns>>,
    links: Option<Arc<Links>>,
}

/// Mutual TLS at this node.
pub(super) struct TlsAtNode {
    pub(super) credentials: Arc<Credentials>,
    /// The address of the listener for peers.
    pub(super) listen: Option<SocketAddr>,
}

impl TlsAtNode {
    fn status(&self) -> TlsStatus {
        let material = self.credentials.current();
        TlsStatus {
            names: material.names.iter().map(ToString::to_string).collect(),
            expires: material.expires,
            trust_expires: material.trust_expires,
            listen: self.listen.map(|address| address.to_string()),
            problem: self.credentials.problem().map(|problem| problem.to_string()),
        }
    }
}

impl Inspector {
    /// An inspector of the given stages, latches, status board and hooks of one node.
    #[must_use]
    pub(super) fn new(stages: Arc<Stages>, latches: Latches, board: Arc<StatusBoard>, guards: Arc<Guards>) -> Self {
        let (locks, tls, contact, turns, links) = (None, None, None, None, None);
        Self { stages, latches, board, guards, locks, tls, handover: Vec::new(), contact, turns, links }
    }

    /// Shows mutual TLS, the receivers of notices, the time of the last contact and the turns, too.
    #[must_use]
    pub(super) fn with(
        self,
        tls: Option<TlsAtNode>,
        handover: Vec<Told>,
        contact: Arc<LastContact>,
        turns: Arc<Turns>,
    ) -> Self {
        Self { tls, handover, contact: Some(contact), turns: Some(turns), ..self }
    }

    /// Shows the locks that programs left behind in the repositories, too.
    #[must_use]
    pub(super) fn seeing(self, locks: Arc<LeftLocks>) -> Self {
        Self { locks: Some(locks), ..self }
    }

    /// Shows how AWS is reached, too.
    #[must_use]
    pub(super) fn reaching(self, links: Arc<Links>) -> Self {
        Self { links: Some(links), ..self }
    }

    /// An inspector of a running node whose hooks are not looked at.
    #[must_use]
    pub fn of(node: &Node, board: Arc<StatusBoard>) -> Self {
        let guards = Guards::new(&BasePaths::at(Path::new("")), false);
        Self::new(Arc::clone(node.stages()), node.latches().clone(), board, guards)
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
        checkpoints.into_iter().map(checkpoint_status).collect()
    }

    fn explainer(&self) -> Explainer<'_> {
        Explainer::new(&self.stages, &self.board, self.latches.closed())
    }

    /// Refuses work on the refs of a node that takes everything from the refdb anyway before it is ready.
    fn must_be_ready(&self) -> Result<(), ApiError> {
        let closed = self.latches.closed();
        if closed.is_empty() {
            return Ok(());
        }
        let waits_for = closed.join(", ");
        Err(ApiError::not_serving(format!(
            "this node is not ready, it waits for {waits_for}; nothing was begun: ask again once it is ready, \
             `lockstep status` shows how far it is"
        )))
    }

    fn site(&self) -> Option<SiteRecord> {
        self.stages.state.roles.of(&self.stages.deps.settings.site)
    }
}

#[async_trait]
impl Inspection for Inspector {
    async fn status(&self) -> NodeStatus {
        let uncommitted = uncommitted::open(&self.stages, self.board.all_uncommitted()).await;
        let settings = &self.stages.deps.settings;
        let (incarnation, lanes) = self.lanes();
        let snapshot = self.board.snapshot();
        let site = self.site();
        let (parked, quarantined) = self.stages.deps.store.held_counts().unwrap_or_default();
        let debts = &self.stages.state.debts;
        let degraded = debts.degraded();
        let evidence = self.stages.context.went_back.evidence();
        let evidence = |of_identity: bool| {
            evidence.as_ref().filter(|one| one.is_of_identity() == of_identity).map(ToString::to_string)
        };
        NodeStatus {
            site: settings.site.clone(),
            node: settings.node.clone(),
            root: settings.base_paths.as_ref().and_then(|base_paths| base_paths.root().to_str()).map(str::to_owned),
            base_paths: settings.base_paths.as_ref().map(BasePaths::sections).unwrap_or_default(),
            incarnation,
            role: site.as_ref().map_or("unknown", |site| site.role.name()).to_owned(),
            epoch: site.map_or(0, |site| site.epoch),
            ready: self.latches.closed().is_empty(),
            latches: self.latches.status(),
            origins: snapshot.origins,
            lanes,
            checkpoints: self.checkpoints(),
            streams: stream_readers::statuses(&self.stages),
            sharing: Some(self.stages.share.status()),
            capacity: self.stages.autoscaler.as_ref().and_then(|autoscaler| autoscaler.shown()),
            parked,
            quarantined,
            degraded: debts.show(),
            degraded_projects: degraded.len() as u64,
            held_elsewhere: debts.elsewhere(),
            projects: projects(&self.stages, degraded),
            events: self.stages.events.status(),
            counters: snapshot.counters,
            refresh: self.stages.refresh.as_ref().map(|refresh| refresh.status()),
            guards_off: self.guards.found().first,
            left_locks: self.locks.as_ref().map(|locks| locks.found().first).unwrap_or_default(),
            refdb_went_back: evidence(false),
            refdb_not_own: evidence(true),
            handover: self.handover.iter().map(|told| told.lock().clone()).collect(),
            tls: self.tls.as_ref().map(TlsAtNode::status),
            signing: self.stages.state.signing.status(),
            coming_back: self.stages.state.comes_back.now(),
            bootstrap: self.stages.state.bootstrap.now(),
            turns: self.turns.as_ref().map(|turns| turns.status()),
            last_contact_ms: self.contact.as_ref().and_then(|contact| contact.at_ms()),
            verified: self.stages.verifier.each_verified(),
            background: settings.background.map(|background| self.stages.verifier.in_background(&background)),
            aws: self.links.as_ref().map(|links| links.status()),
            locks: self.stages.state.operator_locks.shown(),
            uncommitted,
            last_errors: snapshot.last_errors,
        }
    }

    fn introduction(&self) -> PeerAnswer {
        let (settings, site, waits_for) = (&self.stages.deps.settings, self.site(), self.latches.closed());
        PeerAnswer {
            site: settings.site.clone(),
            node: settings.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: site.as_ref().map_or("unknown", |site| site.role.name()).to_owned(),
            epoch: site.map_or(0, |site| site.epoch),
            ready: waits_for.is_empty(),
            waits_for,
        }
    }

    async fn due(&self) -> Vec<DueStatus> {
        self.stages.refresh.as_ref().map(|refresh| refresh.list(DUE)).unwrap_or_default()
    }

    async fn peers(&self) -> Vec<PeerStatus> {
        self.stages.deps.peers.statuses().await
    }

    async fn every_project(&self) -> Result<Vec<ProjectStatus>, ApiError> {
        let degraded: BTreeMap<ProjectName, String> = self.stages.state.debts.degraded().into_iter().collect();
        let known = self.stages.state.versions.projects().map_err(ApiError::unavailable)?;
        let status = |(name, record): (ProjectName, RefRecord)| {
            let RefValue::State(state) = record.value else { return None };
            let reason = degraded.get(&name).cloned();
            let health = match reason.is_some() {
                true => Some(ProjectHealth::Degraded),
                false => health(state.phase),
            };
            let is_deleted = state.phase == ProjectPhase::Deleted && reason.is_none();
            let state = health.unwrap_or(ProjectHealth::Ok);
            (!is_deleted).then(|| ProjectStatus { project: name.to_string(), state, reason })
        };
        Ok(known.into_iter().filter_map(status).collect())
    }

    async fn parked(&self) -> Result<Vec<HeldStatus>, ApiError> {
        let status = |(id, held): (String, Held)| {
            // Earlier releases have stored words of the reason in place of the thing that is waited for.
            let Ok(reason) = held.reason.parse::<ParkReason>();
            HeldStatus { waits_for: reason.waits_for(), ..status(id, held) }
        };
        let mut parked = Vec::new();
        for page in parked_pages(self.stages.deps.store.as_ref()) {
            parked.extend(page.map_err(ApiError::unavailable)?.into_iter().map(status));
        }
        Ok(parked)
    }

    async fn quarantined(&self) -> Result<Vec<HeldStatus>, ApiError> {
        let quarantined = self.stages.deps.store.quarantined().map_err(ApiError::unavailable)?;
        Ok(quarantined.into_iter().map(|(id, held)| status(id, held)).collect())
    }

    async fn repair(&self, repair: Repair) -> Result<RepairAnswer, ApiError> {
        Repairs::new(&self.stages).end(repair).await
    }

    async fn begin_resync(&self, actor: &str, request: ResyncRequest) -> Result<Resync, ApiError> {
        self.must_be_ready()?;
        self.stages.resyncer.begin(actor, request).await
    }

    fn resync(&self) -> Option<Resync> {
        self.stages.resyncer.last()
    }

    async fn begin_replay(&self, actor: &str, request: ReplayRequest) -> Result<Replay, ApiError> {
        self.must_be_ready()?;
        self.stages.replayer.begin(actor, request).await
    }

    fn replay(&self) -> Option<Replay> {
        self.stages.replayer.last()
    }

    async fn verify(&self, request: VerifyRequest) -> Result<Verification, ApiError> {
        self.stages.verifier.begin(request).await.map_err(ApiError::unavailable)
    }

    async fn verification(&self) -> Option<Verification> {
        self.stages.verifier.last()
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ApiError> {
        self.explainer().explain(&request).await
    }

    async fn ref_here(&self, request: RefAtNodeRequest) -> Result<RefAtNode, ApiError> {
        self.explainer().here(&request).await
    }
}

/// The projects that are not in order, at most [`MOST_SHOWN`]: the degraded ones first.
fn projects(stages: &Stages, degraded: Vec<(ProjectName, String)>) -> Vec<ProjectStatus> {
    let named: BTreeSet<ProjectName> = degraded.iter().map(|(name, _)| name.clone()).collect();
    let degraded = degraded.into_iter().map(|(name, reason)| ProjectStatus {
        project: name.to_string(),
        state: ProjectHealth::Degraded,
        reason: Some(reason),
    });
    let known = stages.state.versions.projects().unwrap_or_default();
    let others = known.into_iter().filter(|(name, _)| !named.contains(name)).filter_map(|(name, record)| {
        let RefValue::State(state) = record.value else { return None };
        let state = health(state.phase)?;
        Some(ProjectStatus { project: name.to_string(), state, reason: None })
    });
    degraded.chain(others).take(MOST_SHOWN).collect()
}

/// The projects that are not in order, one line each, for `/readyz?verbose`.
pub(super) fn lines(stages: &Stages) -> Vec<String> {
    let line = |one: ProjectStatus| {
        let reason = one.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("project {} is {}{reason}", one.project, one.state.as_str())
    };
    projects(stages, stages.state.debts.degraded()).into_iter().map(line).collect()
}

/// The state of a project that is not degraded. None if it is in order or deleted. A project is read-only from the
/// beginning of its seed until it is opened, and at no other time.
fn health(phase: ProjectPhase) -> Option<ProjectHealth> {
    match phase {
        ProjectPhase::ReadOnly => Some(ProjectHealth::Seeding),
        ProjectPhase::Closing => Some(ProjectHealth::ReadOnly),
        ProjectPhase::Active | ProjectPhase::Deleted => None,
    }
}

/// The status of a record that waits for nothing.
fn status(id: String, held: Held) -> HeldStatus {
    let txn = Transaction::outlined(&held.bytes).map_or_else(|_| id.clone(), |transaction| transaction.id.to_string());
    HeldStatus {
        entry: id,
        txn,
        project: held.project,
        reason: held.reason,
        waits_for: Vec::new(),
        since_ms: held.since_ms,
        bytes: held.bytes.len() as u64,
    }
}
