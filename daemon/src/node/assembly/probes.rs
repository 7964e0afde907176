//! The probes of a node: its own commit path, and those of `[probes]`.
//!
//! The commit path is probed by a write of the record of the open incarnation as it is. It is always sent, and the
//! refdb takes it only if the incarnation is open. So it shows that a commit would be taken, and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use lockstep_proto::failover::{COMMIT_PROBE, ProbeResult};
use tokio::time::timeout;

use super::Front;
use super::stages::Stages;
use crate::seams::probe::Probe;
use crate::seams::refdb::{IncarnationState, MarkAnswer, RefDbError};
use crate::stages::ports::Probes;

/// The probes outside of the node, and their pace.
#[derive(Clone)]
pub struct ProbeSet {
    /// The probes of `[probes]`.
    pub probes: Vec<Arc<dyn Probe>>,
    /// The bound of one probe of the commit path.
    pub timeout: Duration,
    /// The pause between two rounds.
    pub interval: Duration,
}

impl Default for ProbeSet {
    fn default() -> Self {
        Self { probes: Vec::new(), timeout: Duration::from_secs(5), interval: Duration::from_millis(200) }
    }
}

/// Why the refdb would take no commit of this node.
#[derive(Debug, thiserror::Error)]
enum NoCommit {
    #[error("this node takes no commits")]
    Closed,
    #[error("the incarnation of this node is {0:?}")]
    NotOpen(IncarnationState),
    #[error("the refdb does not answer: {0}")]
    RefDb(RefDbError),
    #[error("the refdb does not answer within {0:?}")]
    Late(Duration),
}

/// Runs the probes of this node.
pub(super) struct NodeProbes {
    pub(super) stages: Arc<Stages>,
    pub(super) front: Arc<Front>,
}

impl NodeProbes {
    /// Whether the refdb would take a commit of this node.
    async fn commit(&self) -> Result<(), NoCommit> {
        let journal = self.stages.journal.lock().clone();
        let journal = journal.filter(|_| self.front.takes_writes());
        let journal = journal.ok_or(NoCommit::Closed)?;
        let (site, limit) = (&self.stages.deps.settings.site, self.stages.deps.probes.timeout);
        let call = self.stages.deps.refdb.incarnations.touch(site, journal.id());
        match timeout(limit, call).await {
            Ok(Ok(MarkAnswer::Written)) => Ok(()),
            Ok(Ok(MarkAnswer::NotOpen(state))) => Err(NoCommit::NotOpen(state)),
            Ok(Err(error)) => Err(NoCommit::RefDb(error)),
            Err(_) => Err(NoCommit::Late(limit)),
        }
    }
}

#[async_trait]
impl Probes for NodeProbes {
    async fn round(&self) -> Vec<ProbeResult> {
        let commit = async {
            let red = self.commit().await.err().map(|why| why.to_string());
            vec![ProbeResult { probe: COMMIT_PROBE.to_owned(), red }]
        };
        let others = join_all(self.stages.deps.probes.probes.iter().map(|probe| probe.run()));
        let (commit, others) = tokio::join!(commit, others);
        commit.into_iter().chain(others.into_iter().flatten()).collect()
    }

    async fn look(&self) -> Vec<ProbeResult> {
        if self.front.takes_writes() {
            return Vec::new();
        }
        let all = join_all(self.stages.deps.probes.probes.iter().map(|probe| probe.look()));
        all.await.into_iter().flatten().collect()
    }

    fn interval(&self) -> Duration {
        self.stages.deps.probes.interval
    }
}
