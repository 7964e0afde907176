//! Quiesce: before a project loses its writability, wait until the commits in progress at this node have ended.
//!
//! Each project has a lock. A commit enters the lock, and then reads the project's phase. A commit whose outcome is
//! unknown stays inside until its slot is settled, because a copy of it may still land. So once `closing` is applied
//! here and the lock was empty for a moment, no commit of this node can land in the project any more. The node's
//! low-water mark then tells the other nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::ProjectName;
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// The right to be inside the lock of a project, until it is dropped.
pub type Gate = OwnedRwLockReadGuard<()>;

/// The quiesce of a node's projects, with one lock per project. A lock exists while it is in use.
#[derive(Debug, Default)]
pub struct Quiesce(Mutex<BTreeMap<ProjectName, Arc<RwLock<()>>>>);

impl Quiesce {
    fn lock(&self, project: &ProjectName) -> Arc<RwLock<()>> {
        let mut quiesce = self.0.lock();
        quiesce.retain(|name, lock| name == project || Arc::strong_count(lock) > 1);
        Arc::clone(quiesce.entry(project.clone()).or_default())
    }

    /// Enters the lock, and stays inside until the returned guard is dropped. Waits while another task waits in
    /// [`Quiesce::empty`].
    pub async fn enter(&self, project: &ProjectName) -> Gate {
        self.lock(project).read_owned().await
    }

    /// Waits until every commit inside the lock has left it.
    pub async fn empty(&self, project: &ProjectName) {
        drop(self.lock(project).write_owned().await);
    }
}
