//! In-process locks on refs. A task that moves refs holds their locks, for a local commit and for another node's
//! transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::{ProjectName, RefKey};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

type Key = (ProjectName, RefKey);
type Held = Arc<tokio::sync::Mutex<()>>;

/// The locks of one node. A lock exists while a task holds it or waits for it.
#[derive(Debug, Default)]
pub struct RefLocks(Arc<Mutex<BTreeMap<Key, Held>>>);

/// Held locks. Dropping the guard releases them.
#[derive(Debug)]
pub struct RefGuard {
    versions: Arc<Mutex<BTreeMap<Key, Held>>>,
    held: Vec<(Key, Option<OwnedMutexGuard<()>>)>,
}

impl RefLocks {
    /// Takes the locks of all keys in key order, so that two batches never deadlock.
    pub async fn lock(&self, project: &ProjectName, keys: impl IntoIterator<Item = RefKey>) -> RefGuard {
        let mut keys: Vec<RefKey> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut guard = RefGuard { versions: Arc::clone(&self.0), held: Vec::with_capacity(keys.len()) };
        for key in keys {
            let key = (project.clone(), key);
            let lock = {
                let mut versions = self.0.lock();
                Arc::clone(versions.entry(key.clone()).or_default())
            };
            guard.held.push((key, None));
            let held = lock.lock_owned().await;
            if let Some(last) = guard.held.last_mut() {
                last.1 = Some(held);
            }
        }
        guard
    }

    /// Number of locks that a task holds or waits for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether no task holds or waits for a lock.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for RefGuard {
    fn drop(&mut self) {
        let mut versions = self.versions.lock();
        for (key, guard) in self.held.drain(..) {
            drop(guard);
            // The map's own reference is the last one: no task holds the lock or waits for it.
            if versions.get(&key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
                versions.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn excludes_and_cleans_up() {
        let locks = Arc::new(RefLocks::default());
        let project: ProjectName = "p".parse().unwrap();
        let keys = || ["refs/heads/b", "refs/heads/a"].map(|name| name.parse::<RefKey>().unwrap());
        let held = locks.lock(&project, keys()).await;
        assert_eq!(locks.len(), 2);
        let second = tokio::spawn({
            let (locks, project) = (Arc::clone(&locks), project.clone());
            async move { locks.lock(&project, keys()).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(held);
        drop(second.await.unwrap());
        assert!(locks.is_empty());
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_leaves_nothing() {
        let locks = RefLocks::default();
        let project: ProjectName = "p".parse().unwrap();
        let key: RefKey = "refs/heads/a".parse().unwrap();
        let held = locks.lock(&project, [key.clone()]).await;
        let waiting = locks.lock(&project, [key]);
        assert!(futures::future::FutureExt::now_or_never(waiting).is_none());
        drop(held);
        assert!(locks.is_empty());
    }
}
