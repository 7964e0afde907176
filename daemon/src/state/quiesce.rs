//! Quiesce: waits until the commits in progress at this node have ended, before a project loses its writability, or a
//! name its directory mark.
//!
//! Each project has a lock. A commit enters the lock, and then reads the project's phase and the marks that this node
//! remembers. A commit whose outcome is unknown stays inside until its slot is settled, because a copy of it may still
//! land. So once `closing` is applied here and the lock was empty for a moment, no commit of this node can land in the
//! project any more. The node's low-water mark then tells the other nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::ProjectName;
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// The right to be inside the lock of a project, until it is dropped.
pub type QuiesceGuard = OwnedRwLockReadGuard<()>;

type Lock = Arc<RwLock<()>>;

/// The quiesce of a node's projects. The locks of a project exist while they are in use.
#[derive(Debug, Default)]
pub struct Quiesce(Mutex<BTreeMap<ProjectName, Locks>>);

/// The locks of one project.
#[derive(Debug, Default)]
struct Locks {
    /// The lock that the next commit enters.
    current: Lock,
    /// Locks that no commit enters any more, and that some have not left.
    earlier: Vec<Lock>,
}

impl Locks {
    fn all(&self) -> Vec<Lock> {
        self.earlier.iter().chain([&self.current]).cloned().collect()
    }

    /// All locks. Later commits enter a new one.
    fn close(&mut self) -> Vec<Lock> {
        let inside = self.all();
        self.earlier.push(std::mem::take(&mut self.current));
        inside
    }
}

impl Quiesce {
    fn with<T>(&self, project: &ProjectName, ask: impl FnOnce(&mut Locks) -> T) -> T {
        let in_use = |lock: &Lock| Arc::strong_count(lock) > 1;
        let mut quiesce = self.0.lock();
        quiesce.retain(|name, locks| {
            locks.earlier.retain(in_use);
            name == project || in_use(&locks.current) || !locks.earlier.is_empty()
        });
        ask(quiesce.entry(project.clone()).or_default())
    }

    /// Enters the lock, and stays inside until the returned guard is dropped. Waits while another task waits in
    /// [`Quiesce::empty`].
    pub async fn enter(&self, project: &ProjectName) -> QuiesceGuard {
        let lock = self.with(project, |locks| Arc::clone(&locks.current));
        lock.read_owned().await
    }

    /// Waits until every commit inside the lock has left it. No commit enters meanwhile.
    pub async fn empty(&self, project: &ProjectName) {
        left(self.with(project, |locks| locks.all())).await;
    }

    /// The wait until every commit that is inside now has left. Commits that enter later are not waited for, and do not
    /// wait.
    pub fn those_inside(&self, project: &ProjectName) -> impl Future<Output = ()> + Send + use<> {
        left(self.with(project, Locks::close))
    }

    /// The wait until every commit that is inside now, in any project, has left.
    pub fn all_inside(&self) -> impl Future<Output = ()> + Send + use<> {
        left(self.0.lock().values_mut().flat_map(Locks::close).collect())
    }
}

async fn left(locks: Vec<Lock>) {
    for lock in locks {
        drop(lock.write_owned().await);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn project() -> ProjectName {
        "p".parse().unwrap()
    }

    #[tokio::test]
    async fn those_inside_are_waited_for_and_later_ones_are_not() {
        let quiesce = Quiesce::default();
        let early = quiesce.enter(&project()).await;
        let first = quiesce.those_inside(&project());
        let mut first = std::pin::pin!(first);
        assert!(first.as_mut().now_or_never().is_none());
        let late = quiesce.enter(&project()).await;
        let mut second = std::pin::pin!(quiesce.those_inside(&project()));
        drop(late);
        assert!(second.as_mut().now_or_never().is_none(), "the early one is still inside");
        drop(early);
        first.await;
        second.await;
    }

    #[tokio::test]
    async fn those_inside_of_all_projects_are_waited_for() {
        let quiesce = Quiesce::default();
        let (one, two) = (quiesce.enter(&project()).await, quiesce.enter(&"q".parse().unwrap()).await);
        let mut all = std::pin::pin!(quiesce.all_inside());
        drop(one);
        assert!(all.as_mut().now_or_never().is_none(), "one is still inside");
        let late = quiesce.enter(&project()).await;
        drop(two);
        all.await;
        drop(late);
    }

    #[tokio::test]
    async fn the_lock_is_empty_when_the_earlier_ones_have_left_too() {
        let quiesce = Quiesce::default();
        let early = quiesce.enter(&project()).await;
        drop(quiesce.those_inside(&project()));
        assert!(quiesce.empty(&project()).now_or_never().is_none());
        drop(early);
        quiesce.empty(&project()).await;
        quiesce.with(&"q".parse().unwrap(), |_| ());
        assert_eq!(quiesce.0.lock().len(), 1, "the locks of the first project are gone");
    }
}
