//! Taking writability away from a project: who applies `closing` waits until the commits inside have ended.
//!
//! A commit looks at the project's phase inside the gate. So once `closing` is applied here and the gate was empty for a
//! moment, nothing of this node can land in the project any more; the node's low-water mark then tells the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::ProjectName;
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// The quiesce of a node's projects. A gate exists while it is used.
#[derive(Debug, Default)]
pub struct Quiesce(Mutex<BTreeMap<ProjectName, Arc<RwLock<()>>>>);

impl Quiesce {
    fn gate(&self, project: &ProjectName) -> Arc<RwLock<()>> {
        let mut quiesce = self.0.lock();
        quiesce.retain(|name, gate| name == project || Arc::strong_count(gate) > 1);
        Arc::clone(quiesce.entry(project.clone()).or_default())
    }

    /// Goes in, for as long as the answer lives.
    pub async fn enter(&self, project: &ProjectName) -> OwnedRwLockReadGuard<()> {
        self.gate(project).read_owned().await
    }

    /// Waits until everybody who is inside has left.
    pub async fn empty(&self, project: &ProjectName) {
        drop(self.gate(project).write_owned().await);
    }
}
