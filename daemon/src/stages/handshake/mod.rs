//! The handshake stage: decides whether a Gerrit may start at this node.
//!
//! Before a Gerrit serves, its bridge tells the sidecar which Gerrit this is. The sidecar checks three things in this
//! order, and never merges anything silently:
//! - **Folders.** Gerrit keeps the repository of each project where this sidecar does.
//! - **Identity.** Each further site is a copy of the first one: all have the same server id, All-Projects and
//!   All-Users. The first Gerrit that is accepted sets these values for ever. Each node has an instance id of its own.
//! - **Writes of `init`.** `init` and schema upgrades write into All-Projects and All-Users behind the bridge's back.
//!   Nobody else writes there while Gerrit is not serving, so each difference between the disk and the version map
//!   comes from them. A value that is ahead of the committed one is committed. A lost value is restored. A value that
//!   contradicts the committed one is kept as a stray and reported. A site that was initialised apart is refused.
//!
//! | file | idea |
//! |---|---|
//! | `folders` | compares the folders of Gerrit with those of the sidecar |
//! | `identity` | checks the identity of the Gerrit against the refdb |
//! | `compare` | classifies the differences between the disk and the version map |
//! | `init_writes` | commits, restores, keeps or refuses each difference |
//! | `stray` | adopts or discards a stray |

mod compare;
mod folders;
mod identity;
mod init_writes;
mod stray;

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::bridge::{ApiError, ProjectResponse};
use lockstep_proto::doctor::GerritSeen;
use lockstep_proto::gerrit::{HandshakeRequest, HandshakeResponse, Stray, StrayRequest};
use lockstep_proto::{NodeId, ProjectName};
use parking_lot::Mutex;

use crate::base::base_paths::BasePaths;
use crate::base::clock::{Clock, Entropy};
use crate::seams::refdb::RefDb;
use crate::stages::ports::{CatchUp, Handshake, Transactions};
use crate::state::context::{NodeContext, NodeState};
use crate::state::materialize::Materializer;

/// The preconditions that keep the node from being ready; empty when it is ready.
pub type NotReady = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Settings of the handshake stage.
#[derive(Clone, Debug)]
pub struct HandshakeSettings {
    /// The folders that hold the repositories; none when the repositories are on no disk.
    pub base_paths: Option<BasePaths>,
    /// Whether this node hands out refresh tasks to a bridge (`gerrit.refresh = "bridge"`).
    pub takes_a_bridge: bool,
}

/// The handshake stage of one node.
pub struct HandshakeStage {
    /// The name of this node.
    node: NodeId,
    /// The refdb, which records the installation and its instance ids.
    refdb: RefDb,
    /// The repositories and the version map.
    materializer: Materializer,
    /// The commit stage, which commits the writes of `init` and adopted strays.
    transactions: Arc<dyn Transactions>,
    /// The apply stage, which fetches a project that this node does not know yet.
    catch_up: Arc<dyn CatchUp>,
    /// Randomness for request ids.
    entropy: Arc<dyn Entropy>,
    /// The settings of the stage.
    settings: HandshakeSettings,
    /// Tells whether this node has joined and caught up.
    not_ready: NotReady,
    /// Serialises handshakes: one that was cut short and its retry must not resolve the same differences at once.
    turn: tokio::sync::Mutex<()>,
    /// The time of an accepted handshake.
    clock: Arc<dyn Clock>,
    /// The Gerrit that was accepted last.
    seen: Mutex<Option<GerritSeen>>,
}

/// The reason why a Gerrit was denied.
#[derive(Debug)]
enum Denied {
    /// Gerrit must not start. The text is for the administrator.
    Refused(String),
    /// The sidecar cannot decide yet. The bridge asks again.
    NotNow(String),
}

impl Denied {
    fn not_now(why: impl std::fmt::Display) -> Self {
        Self::NotNow(why.to_string())
    }
}

/// The reason to deny a Gerrit with the bridge when the sidecar has no refresh tasks for it.
const NOBODY_REFRESHES: &str = "the sidecar's setting gerrit.refresh is not \"bridge\", so this Gerrit would not learn \
     of changes at other sites. Set refresh = \"bridge\" in section [gerrit] of lockstep.toml, and restart the \
     sidecar. If this Gerrit has served with the old setting, run its offline `reindex`. Then start Gerrit";

impl HandshakeStage {
    /// Creates the stage of one node.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        transactions: Arc<dyn Transactions>,
        catch_up: Arc<dyn CatchUp>,
        not_ready: NotReady,
        settings: HandshakeSettings,
    ) -> Self {
        let NodeContext { node, refdb, entropy, clock, .. } = context.clone();
        let (materializer, turn, seen) = (state.materializer.clone(), Default::default(), Mutex::default());
        Self { node, refdb, materializer, transactions, catch_up, entropy, settings, not_ready, turn, clock, seen }
    }

    /// The Gerrit that was accepted last. None if none was since the start of this process.
    #[must_use]
    pub fn seen(&self) -> Option<GerritSeen> {
        self.seen.lock().clone()
    }

    fn note(&self, gerrit: &HandshakeRequest) {
        *self.seen.lock() = Some(GerritSeen {
            version: gerrit.gerrit_version.clone(),
            bridge: gerrit.bridge_version.clone(),
            instance_id: gerrit.instance_id.clone(),
            at_ms: self.clock.now_ms(),
        });
    }

    async fn admit(&self, gerrit: &HandshakeRequest) -> Result<(), Denied> {
        if !self.settings.takes_a_bridge {
            return Err(Denied::Refused(NOBODY_REFRESHES.to_owned()));
        }
        if let Some(why) = self.settings.base_paths.as_ref().and_then(|ours| folders::mismatch(gerrit, ours)) {
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
    async fn admit(&self, gerrit: HandshakeRequest) -> Result<HandshakeResponse, ApiError> {
        let (instance, version) = (&gerrit.instance_id, &gerrit.gerrit_version);
        match self.admit(&gerrit).await {
            Ok(()) => {
                self.note(&gerrit);
                tracing::info!(instance, version, bridge = gerrit.bridge_version, "handshake accepted: Gerrit starts");
                Ok(HandshakeResponse { accepted: true, reason: None })
            }
            Err(Denied::Refused(reason)) => {
                tracing::error!(instance, version, reason, "handshake denied: Gerrit must not start");
                Ok(HandshakeResponse { accepted: false, reason: Some(reason) })
            }
            Err(Denied::NotNow(why)) => Err(ApiError::unavailable(why)),
        }
    }

    async fn strays(&self, project: &ProjectName) -> Result<Vec<Stray>, ApiError> {
        self.materializer.strays(project).await.map_err(ApiError::unavailable)
    }

    async fn end_stray(&self, project: &ProjectName, request: StrayRequest) -> Result<ProjectResponse, ApiError> {
        self.end(project, request).await
    }
}
