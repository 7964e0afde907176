//! The locks of operators and bridges, as this node read them last, and how far it obeys them.
//!
//! The node refuses batches that a lock keeps out as soon as it has read the lock. It obeys a revision of the list when
//! no batch that entered before is on its way any more. Its heartbeat tells that revision, and a lock is held when
//! every node that can commit obeys it. The commit point does not rely on this: a commit under a lock carries the
//! token, and the write itself demands that the lock is held.
//!
//! Expiry needs no wall clock. A node notes when it first saw a lock with its number of renewals. It ends the lock
//! after it has watched the same number for the whole time to live.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_proto::locks::{Lock, LockStatus, LockTarget, Locks};
use lockstep_proto::{ProjectName, RefKey, SiteId};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The locks that a node knows.
#[derive(Debug, Default)]
pub struct OperatorLocks(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Whether the earlier incarnations of this node are poisoned.
    begun: bool,
    /// The revision of the list. 0 before it was read, and while nobody has ever acquired a lock.
    revision: u64,
    locks: Vec<Lock>,
    /// Revisions for which batches that entered before are still on their way, each with the revision that was known
    /// before it. The node may have skipped some between the two, and obeys none of those yet either.
    waiting: BTreeMap<u64, u64>,
    /// Per token, the number of renewals, and when this node saw it first.
    watched: BTreeMap<String, (u64, Instant)>,
}

impl OperatorLocks {
    /// Takes in the list, as it was just read. Returns the things that are locked now and were not before. The node
    /// obeys this revision when [`OperatorLocks::obeys`] was told so. An older list changes nothing.
    pub fn note(&self, revision: u64, list: &Locks, now: Instant) -> Vec<LockTarget> {
        let mut known = self.0.lock();
        if revision <= known.revision {
            return Vec::new();
        }
        let is_new = |lock: &&Lock| !known.locks.iter().any(|one| one.token == lock.token);
        let new: Vec<LockTarget> = list.locks.iter().filter(is_new).map(|lock| lock.target.clone()).collect();
        let before = std::mem::take(&mut known.watched);
        let since = |lock: &Lock| match before.get(&lock.token) {
            Some((renewals, since)) if *renewals == lock.renewals => *since,
            Some(_) | None => now,
        };
        known.watched = list.locks.iter().map(|lock| (lock.token.clone(), (lock.renewals, since(lock)))).collect();
        known.locks.clone_from(&list.locks);
        let before = std::mem::replace(&mut known.revision, revision);
        if !new.is_empty() {
            known.waiting.insert(revision, before);
        }
        new
    }

    /// Watches each lock anew, because nobody could renew it until now.
    pub fn watch_anew(&self, now: Instant) {
        self.0.lock().watched.values_mut().for_each(|(_, since)| *since = now);
    }

    /// Takes in that the earlier incarnations of this node are poisoned: nothing that an earlier life of the node sent
    /// can land any more. The node obeys no lock before.
    pub fn begin(&self) {
        self.0.lock().begun = true;
    }

    /// Takes in that every batch that entered before this revision was noted has ended.
    pub fn obeys(&self, revision: u64) {
        self.0.lock().waiting.remove(&revision);
    }

    /// The revision of the list that this node obeys.
    #[must_use]
    pub fn obeyed(&self) -> u64 {
        let known = self.0.lock();
        let obeyed = known.waiting.first_key_value().map_or(known.revision, |(_, before)| *before);
        if known.begun { obeyed } else { 0 }
    }

    /// All locks, as everybody may see them.
    #[must_use]
    pub fn shown(&self) -> Vec<LockStatus> {
        self.0.lock().locks.iter().map(Lock::shown).collect()
    }

    /// The lock with this token, if it covers commits to this project at this site.
    #[must_use]
    pub fn with_token(&self, token: &str, site: &SiteId, project: &ProjectName) -> Option<Lock> {
        let known = self.0.lock();
        let covers =
            |lock: &&Lock| lock.target.project.as_ref() == Some(project) || lock.target.site.as_ref() == Some(site);
        known.locks.iter().filter(|lock| lock.token == token).find(covers).cloned()
    }

    /// The lock that keeps a commit out of this ref or pseudo-ref, unless it carries the token of that lock.
    #[must_use]
    pub fn in_the_way(&self, site: &SiteId, project: &ProjectName, key: &RefKey, token: Option<&str>) -> Option<Lock> {
        let known = self.0.lock();
        let covers = |target: &LockTarget| match (&target.project, &target.name, &target.site) {
            (Some(locked), None, _) => locked == project,
            (Some(locked), Some(name), _) => locked == project && key.as_ref_name() == Some(name),
            (None, _, locked) => locked.as_ref() == Some(site),
        };
        known.locks.iter().find(|lock| covers(&lock.target) && token != Some(lock.token.as_str())).cloned()
    }

    /// The locks that this node has watched for their whole time to live without a renewal.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Vec<Lock> {
        let known = self.0.lock();
        let is_over = |lock: &&Lock| match (lock.ttl_ms, known.watched.get(&lock.token)) {
            (Some(ttl), Some((_, since))) => now.saturating_duration_since(*since) >= Duration::from_millis(ttl),
            _ => false,
        };
        known.locks.iter().filter(is_over).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use lockstep_proto::locks::LockKind;

    use super::*;

    fn lock(id: u64, target: LockTarget, ttl_ms: Option<u64>) -> Lock {
        Lock {
            token: format!("{id}-aa"),
            held: true,
            id,
            kind: LockKind::Lock,
            target,
            owner: "o".to_owned(),
            reason: "r".to_owned(),
            request_id: id.to_string(),
            by: "uid 0".to_owned(),
            since_ms: 1,
            renewals: 0,
            ttl_ms,
            until: None,
        }
    }

    fn project(name: &str) -> ProjectName {
        name.parse().unwrap()
    }

    fn list(locks: &[Lock]) -> Locks {
        Locks { locks: locks.to_vec() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_obeys_a_revision_when_those_before_it_have_ended_too() {
        let (locks, now) = (OperatorLocks::default(), Instant::now());
        let one = lock(1, LockTarget::project(project("p")), None);
        let two = lock(2, LockTarget::project(project("q")), None);
        assert_eq!(locks.note(1, &list(from_ref(&one)), now), from_ref(&one.target));
        assert_eq!(locks.note(2, &list(&[one.clone(), two.clone()]), now), from_ref(&two.target));
        assert_eq!(locks.obeyed(), 0);
        locks.obeys(2);
        assert_eq!(locks.obeyed(), 0, "a push from before the first lock is still on its way");
        locks.obeys(1);
        assert_eq!(locks.obeyed(), 0, "an earlier incarnation may not be poisoned yet");
        locks.begin();
        assert_eq!(locks.obeyed(), 2);
        assert!(locks.note(3, &list(&[two]), now).is_empty());
        assert_eq!(locks.obeyed(), 3, "a release waits for nobody");
        assert!(locks.note(1, &list(&[one]), now).is_empty());
        assert_eq!(locks.shown().len(), 1, "an older list changes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_skipped_revisions_obeys_none_of_them_before_the_batches_have_ended() {
        let (locks, now) = (OperatorLocks::default(), Instant::now());
        locks.begin();
        locks.note(4, &list(&[]), now);
        assert_eq!(locks.obeyed(), 4);
        let both = [lock(5, LockTarget::project(project("p")), None), lock(6, LockTarget::project(project("q")), None)];
        assert_eq!(locks.note(6, &list(&both), now).len(), 2);
        assert_eq!(locks.obeyed(), 4, "a push from before lock 5 is still on its way");
        locks.obeys(6);
        assert_eq!(locks.obeyed(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_expires_after_it_was_watched_for_its_whole_time() {
        let (locks, start) = (OperatorLocks::default(), Instant::now());
        let mortal = lock(1, LockTarget::project(project("p")), Some(10_000));
        let other = lock(2, LockTarget::project(project("q")), None);
        let after = |ms| start + Duration::from_millis(ms);
        locks.note(2, &list(&[mortal.clone(), other.clone()]), start);
        assert!(locks.expired(after(9_999)).is_empty());
        assert_eq!(locks.expired(after(10_000)), from_ref(&mortal));
        locks.note(3, &list(&[Lock { renewals: 1, ..mortal.clone() }, other.clone()]), after(9_000));
        assert!(locks.expired(after(18_999)).is_empty(), "it was renewed");
        locks.note(4, &list(&[Lock { renewals: 1, ..mortal }, other]), after(15_000));
        assert_eq!(locks.expired(after(19_000)).len(), 1, "a change of another lock renews nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_stands_in_the_way_of_what_it_covers_and_not_of_its_holder() {
        let (locks, a, b): (_, SiteId, SiteId) = (OperatorLocks::default(), "a".parse().unwrap(), "b".parse().unwrap());
        let main: RefKey = "refs/heads/main".parse().unwrap();
        let name = main.as_ref_name().cloned().unwrap();
        let all = [
            lock(1, LockTarget::project(project("p")), None),
            lock(2, LockTarget::of_ref(project("q"), name), None),
            lock(3, LockTarget::site(b.clone()), None),
        ];
        locks.note(3, &list(&all), Instant::now());
        let met =
            |site, of: &str, key: &RefKey, token| locks.in_the_way(site, &project(of), key, token).map(|lock| lock.id);
        assert_eq!(met(&a, "p", &main, None), Some(1));
        assert_eq!(met(&a, "p", &RefKey::State, None), Some(1), "nobody deletes it either");
        assert_eq!(met(&a, "p", &main, Some("1-aa")), None);
        assert_eq!(met(&a, "p", &main, Some("2-aa")), Some(1));
        assert_eq!((met(&a, "q", &main, None), met(&a, "q", &RefKey::Head, None)), (Some(2), None));
        assert_eq!((met(&a, "r", &main, None), met(&b, "r", &main, None)), (None, Some(3)));
        assert!(locks.with_token("1-aa", &a, &project("p")).is_some());
        assert!(
            locks.with_token("1-aa", &a, &project("q")).is_none() && locks.with_token("", &a, &project("p")).is_none()
        );
        assert!(locks.with_token("3-aa", &b, &project("r")).is_some());
    }
}
