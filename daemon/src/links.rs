//! What the stages need of each other, as traits: they do not know each other, `app` joins them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::announcement::{AnnounceRequest, EventsDoneRequest, NextEventsRequest, NextEventsResponse};
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, ProjectResponse, RefTransactionRequest,
    RefTransactionResponse, SetHeadRequest,
};
use lockstep_proto::gerrit::{HelloRequest, HelloResponse, Stray, StrayRequest};
use lockstep_proto::refresh::{DoneRequest, DoneResponse, TasksRequest, TasksResponse};
use lockstep_proto::seed::{SeedRequest, SeedResponse};
use lockstep_proto::status::{DueStatus, HeldStatus, NodeStatus};
use lockstep_proto::{
    Announcement, AnnouncementId, ProjectKey, ProjectName, RefKey, RefName, SiteId, Transaction, TxnId,
};

use crate::git::IsCommitted;

/// The commit stage needs the apply stage to know what it did not know.
#[async_trait]
pub trait CatchUp: Send + Sync {
    /// Brings these keys, and every transaction that they rest on, up to the refdb. Takes ref locks itself.
    ///
    /// # Errors
    /// The refdb is away, or something is missing: why.
    async fn keys(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<(), String>;

    /// Learns a project's state from the refdb, and applies it.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn project(&self, project: &ProjectName) -> Result<(), String>;

    /// The bytes that were committed under this id; none when its slot holds nothing, or something else.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn journal(&self, txn: &TxnId) -> Result<Option<Bytes>, String>;

    /// Takes a project to the refdb's state at once, with objects from peers.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn jump(&self, project: &ProjectName) -> Result<(), String>;

    /// Learns every project's state from the refdb: what was closed while this node had no incarnation.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn projects(&self) -> Result<(), String>;

    /// Makes the repository of a project anew that is gone, with objects from peers.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn revive(&self, project: &ProjectKey) -> Result<(), String>;

    /// Brings the objects of all that the version map says of a project from peers, and moves no ref. Without its repository
    /// one is made.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn refill(&self, project: &ProjectKey) -> Result<(), String>;

    /// Brings every project up to the refdb: after an expulsion, a lost stream, a restored volume.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn everything(&self) -> Result<(), String>;

    /// The same as `keys`, in the background, until it succeeds.
    fn later(&self, project: &ProjectKey, keys: Vec<RefKey>);
}

/// The commit stage needs the sites' registry for the barrier of a project that is taken out of service.
#[async_trait]
pub trait Barrier: Send + Sync {
    /// Waits until no open incarnation of any site can commit to the project without knowing this transaction.
    ///
    /// # Errors
    /// It did not happen in time, or the refdb is away: why.
    async fn passed(&self, txn: &TxnId) -> Result<(), String>;
}

/// The consume stage, and whoever finds a transaction in the journal, need the apply stage to take it.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Takes a transaction with its bytes. `done` is called once, when it is applied, skipped, parked or quarantined, and
    /// the next durable step makes that durable. Waits while too much is under way.
    async fn offer(&self, transaction: Arc<Transaction>, bytes: Bytes, done: Option<Done>);
}

/// The consume stage needs somebody to take the announcements that it reads. What was taken before the reader is told that
/// the record is done is durable before the checkpoint passes it.
pub trait Announcements: Send + Sync {
    /// Takes an announcement with its bytes; one that was taken before, or is this node's own, is passed by.
    fn take(&self, announcement: &Announcement, bytes: &Bytes);

    /// Keeps an announcement that only a newer release can read.
    fn keep(&self, id: &AnnouncementId, bytes: &Bytes);

    /// Records of a site's stream are gone before they were read.
    fn missed(&self, site: &SiteId);
}

/// Stream events need to know whether Gerrit shows what is applied.
pub trait Refreshed: Send + Sync {
    /// Whether no refresh of the change, or of the project where there is none, is due or in work. Called after the refs
    /// that it speaks of were seen applied.
    fn is_refreshed(&self, project: &ProjectName, change: Option<u64>) -> bool;
}

/// What the bridge API needs of stream events.
#[async_trait]
pub trait StreamEvents: Send + Sync {
    /// Takes events of this node's Gerrit; they are durable when it answers.
    async fn announce(&self, request: AnnounceRequest) -> Result<(), ApiError>;

    /// Events of other nodes; waits for one as long as the request says.
    async fn next(&self, request: NextEventsRequest) -> Result<NextEventsResponse, ApiError>;

    /// Events that were heard.
    async fn done(&self, request: EventsDoneRequest) -> Result<(), ApiError>;
}

/// Called once when a transaction needs its reader no longer.
pub type Done = Box<dyn FnOnce() + Send + Sync>;

/// What the bridge API needs of the commit stage. Work goes on when the caller drops the future.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// Commits a batch and moves its refs. A malformed batch is an [`ApiError`]; every other end is a verdict.
    async fn submit(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError>;

    /// Creates a project.
    async fn create_project(
        &self,
        project: &ProjectName,
        request: CreateProjectRequest,
    ) -> Result<ProjectResponse, ApiError>;

    /// Points `HEAD` elsewhere.
    async fn set_head(&self, project: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError>;

    /// Deletes a project.
    async fn delete_project(
        &self,
        project: &ProjectName,
        request: DeleteProjectRequest,
    ) -> Result<ProjectResponse, ApiError>;

    /// What became of a request, without a new try: committed, when what it committed can be seen here; else unknown.
    async fn look_up(
        &self,
        project: &ProjectName,
        request: &RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError>;

    /// What became of a transaction: answered by the slot that its id names.
    async fn outcome(&self, txn: &TxnId) -> Result<ProjectResponse, ApiError>;
}

/// What the bridge API needs of the refresh stage.
#[async_trait]
pub trait Refreshes: Send + Sync {
    /// Hands out tasks; waits for the first one as long as the request says.
    ///
    /// # Errors
    /// The session is superseded.
    async fn tasks(&self, request: TasksRequest) -> Result<TasksResponse, ApiError>;

    /// Takes a report of tasks. Those that nobody knows are passed over: they come again.
    ///
    /// # Errors
    /// The session is superseded.
    fn done(&self, request: &DoneRequest) -> Result<DoneResponse, ApiError>;
}

/// What the bridge API needs for a Gerrit that starts.
#[async_trait]
pub trait Doorkeeper: Send + Sync {
    /// Whether this Gerrit may start here. What cannot be told yet is an [`ApiError`]; ask again.
    async fn hello(&self, gerrit: HelloRequest) -> Result<HelloResponse, ApiError>;

    /// The strays of a project.
    async fn strays(&self, project: &ProjectName) -> Result<Vec<Stray>, ApiError>;

    /// Adopts or discards a stray.
    async fn end_stray(&self, project: &ProjectName, request: StrayRequest) -> Result<ProjectResponse, ApiError>;
}

/// The seed stage needs the commit stage for projects that nobody else may commit to.
#[async_trait]
pub trait Seedbed: Send + Sync {
    /// Creates a project that takes the seeder's refs alone.
    async fn begin(&self, project: &ProjectName, request: CreateProjectRequest) -> Result<ProjectResponse, ApiError>;

    /// Commits refs of such a project. `behind` tells of objects, beside the values of refs, that are committed.
    async fn commit(
        &self,
        project: &ProjectKey,
        request: RefTransactionRequest,
        behind: &IsCommitted,
    ) -> Result<RefTransactionResponse, ApiError>;

    /// Opens it to everybody, with this `HEAD`.
    async fn open(&self, project: &ProjectKey, head: RefName, request_id: String) -> Result<ProjectResponse, ApiError>;
}

/// What the bridge API needs for seeding.
#[async_trait]
pub trait Seeding: Send + Sync {
    /// Begins the seed of a project, or goes on with it, and answers how far it is. The work goes on when the caller drops
    /// the future.
    async fn seed(&self, project: &ProjectName, request: SeedRequest) -> Result<SeedResponse, ApiError>;
}

/// What the status API needs of the node.
#[async_trait]
pub trait Inspection: Send + Sync {
    /// The whole status.
    async fn status(&self) -> NodeStatus;

    /// What Gerrit has to look at, the oldest first; not more than a page of it.
    async fn due(&self) -> Vec<DueStatus>;

    /// What is parked.
    async fn parked(&self) -> Result<Vec<HeldStatus>, ApiError>;

    /// What is quarantined.
    async fn quarantined(&self) -> Result<Vec<HeldStatus>, ApiError>;
}
