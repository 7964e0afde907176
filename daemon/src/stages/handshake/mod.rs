//! The hello stage: whether a Gerrit may start here.
//!
//! Before it serves, a Gerrit says who it is. Three things are looked at, in this order, and nothing is merged silently:
//! - **Folders.** It keeps each project's repository where this sidecar does.
//! - **Identity.** All sites are born from the first one: one server id, the same All-Projects and All-Users. The first
//!   Gerrit that is accepted says which, for ever. Each node has an instance id of its own.
//! - **What `init` wrote.** `init` and schema upgrades write into All-Projects and All-Users behind the bridge's back. Nobody
//!   else writes there while Gerrit is not serving, so each difference between the disk and the version map is theirs: what
//!   goes on from what was committed is committed, what was lost is restored, and what contradicts it is kept as a stray
//!   and said. A site that was initialised apart is refused.
//!
//! | file | idea |
//! |---|---|
//! | `folders` | where it keeps its repositories, held against the configuration |
//! | `identity` | who this Gerrit is, held against the refdb |
//! | `compare` | how the disk differs from the version map |
//! | `init_writes` | what becomes of each difference |
//! | `stray` | what had to give way: listed, adopted, discarded |

mod compare;
mod folders;
mod identity;
mod init_writes;
mod stray;

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::bridge::{ApiError, ProjectResponse, RefusalCode};
use lockstep_proto::gerrit::{HelloRequest, HelloResponse, Stray, StrayRequest};
use lockstep_proto::{NodeId, ProjectName};

use crate::base::base_paths::Roots;
use crate::base::clock::Entropy;
use crate::seams::refdb::RefDb;
use crate::stages::ports::{CatchUp, Handshake, Transactions};
use crate::state::materialize::Materializer;

/// What keeps the node from being ready; nothing when it is.
pub type NotReady = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The door of one node.
pub struct HandshakeStage {
    /// This node.
    pub node: NodeId,
    /// The refdb.
    pub refdb: Arc<dyn RefDb>,
    /// The repositories and the version map.
    pub materializer: Materializer,
    /// The commit stage.
    pub transactions: Arc<dyn Transactions>,
    /// The apply stage.
    pub catch_up: Arc<dyn CatchUp>,
    /// For request ids.
    pub entropy: Arc<dyn Entropy>,
    /// Below which folders the repositories lie; none where they are on no disk.
    pub roots: Option<Roots>,
    /// Whether this node hands out what a bridge must look at (`gerrit.refresh = "bridge"`).
    pub takes_a_bridge: bool,
    /// Whether this node has joined and caught up.
    pub not_ready: NotReady,
    /// One Gerrit after the other: a hello that was cut short, and its retry, do not settle the same differences at once.
    pub turn: tokio::sync::Mutex<()>,
}

/// Why a Gerrit was not let in.
#[derive(Debug)]
enum Denied {
    /// It must not start: for the administrator.
    Refused(String),
    /// It is not known yet: ask again.
    NotNow(String),
}

impl Denied {
    fn not_now(why: impl std::fmt::Display) -> Self {
        Self::NotNow(why.to_string())
    }
}

/// Why a Gerrit with the bridge may not start beside a sidecar that has nothing for it.
const NOBODY_REFRESHES: &str = "the sidecar's setting gerrit.refresh is not \"bridge\", so this Gerrit would never hear of what \
     other sites do. Write refresh = \"bridge\" below [gerrit] in its lockstep.toml, start the sidecar anew, then Gerrit; \
     where Gerrit has served like this before, run its offline `reindex` in between";

fn unavailable(why: impl std::fmt::Display) -> ApiError {
    ApiError { code: RefusalCode::Unavailable, message: why.to_string(), retry: true }
}

impl HandshakeStage {
    async fn admit(&self, gerrit: &HelloRequest) -> Result<(), Denied> {
        if !self.takes_a_bridge {
            return Err(Denied::Refused(NOBODY_REFRESHES.to_owned()));
        }
        if let Some(why) = self.roots.as_ref().and_then(|ours| folders::mismatch(gerrit, ours)) {
            return Err(Denied::Refused(why));
        }
        let closed = (self.not_ready)();
        if !closed.is_empty() {
            return Err(Denied::NotNow(format!("this sidecar is starting and not ready yet ({})", closed.join(", "))));
        }
        let _turn = self.turn.lock().await;
        let from = self.identify(gerrit).await?;
        self.resolve_init_writes(gerrit).await?;
        self.enroll(gerrit, from.as_ref()).await
    }
}

#[async_trait]
impl Handshake for HandshakeStage {
    async fn hello(&self, gerrit: HelloRequest) -> Result<HelloResponse, ApiError> {
        let (instance, version) = (&gerrit.instance_id, &gerrit.gerrit_version);
        match self.admit(&gerrit).await {
            Ok(()) => {
                tracing::info!(instance, version, bridge = gerrit.bridge_version, "a Gerrit starts");
                Ok(HelloResponse { accepted: true, reason: None })
            }
            Err(Denied::Refused(reason)) => {
                tracing::error!(instance, version, reason, "a Gerrit must not start");
                Ok(HelloResponse { accepted: false, reason: Some(reason) })
            }
            Err(Denied::NotNow(why)) => Err(unavailable(why)),
        }
    }

    async fn strays(&self, project: &ProjectName) -> Result<Vec<Stray>, ApiError> {
        self.materializer.strays(project).await.map_err(unavailable)
    }

    async fn end_stray(&self, project: &ProjectName, request: StrayRequest) -> Result<ProjectResponse, ApiError> {
        self.end(project, request).await
    }
}
