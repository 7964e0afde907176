//! Port: the status API reads the state of the node, and hands on repairs, resyncs and replays.

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::debt::{ProjectStatus, Repair, RepairAnswer};
use lockstep_proto::explain::{ExplainRequest, Explanation, RefAtNode, RefAtNodeRequest};
use lockstep_proto::peer::{PeerAnswer, PeerStatus};
use lockstep_proto::replay::{Replay, ReplayRequest};
use lockstep_proto::resync::{Resync, ResyncRequest};
use lockstep_proto::status::{DueStatus, HeldStatus, NodeStatus};
use lockstep_proto::verify::{Verification, VerifyRequest};

/// The parts of the node's state that the status API shows.
#[async_trait]
pub trait Inspection: Send + Sync {
    /// The whole status of the node.
    async fn status(&self) -> NodeStatus;

    /// The node in few words, for peers: its name, its role and its health. It reads no store.
    fn introduction(&self) -> PeerAnswer;

    /// The subjects that Gerrit has to refresh, oldest first, at most one page of them.
    async fn due(&self) -> Vec<DueStatus>;

    /// The peers of this node, as each answers now.
    async fn peers(&self) -> Vec<PeerStatus>;

    /// Every project that this node knows and that is not deleted, by name, with its state here.
    async fn every_project(&self) -> Result<Vec<ProjectStatus>, ApiError>;

    /// The parked transactions of this node, with their reasons.
    async fn parked(&self) -> Result<Vec<HeldStatus>, ApiError>;

    /// The quarantined records of this node, with their reasons.
    async fn quarantined(&self) -> Result<Vec<HeldStatus>, ApiError>;

    /// Ends a debt as an operator asks, if that is possible now. An [`ApiError`] means that nothing was tried.
    async fn repair(&self, repair: Repair) -> Result<RepairAnswer, ApiError>;

    /// Begins to bring refs and objects of this node to the refdb's state, or answers the same resync if it is in
    /// progress. `actor` is the authenticated identity of the operator. An [`ApiError`] means that nothing was begun.
    async fn begin_resync(&self, actor: &str, request: ResyncRequest) -> Result<Resync, ApiError>;

    /// The resync that is in progress, or was the last one since the start of the node.
    fn resync(&self) -> Option<Resync>;

    /// Begins to read streams again, or answers the same replay if it is in progress. `actor` is the authenticated
    /// identity of the operator. An [`ApiError`] means that nothing was begun.
    async fn begin_replay(&self, actor: &str, request: ReplayRequest) -> Result<Replay, ApiError>;

    /// The replay that is in progress, or was the last one since the start of the node.
    fn replay(&self) -> Option<Replay>;

    /// Begins to compare the refs of this node with the refdb or with peers. Answers the verification that is in
    /// progress, if there is one.
    async fn verify(&self, request: VerifyRequest) -> Result<Verification, ApiError>;

    /// The verification that is in progress, or was the last one.
    async fn verification(&self) -> Option<Verification>;

    /// One ref through every stage at every site. An [`ApiError`] says that the refdb has no such ref, or that it, or
    /// the node's own store, does not answer.
    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ApiError>;

    /// The part of this node in an explanation. It asks nobody else.
    async fn ref_here(&self, request: RefAtNodeRequest) -> Result<RefAtNode, ApiError>;
}
