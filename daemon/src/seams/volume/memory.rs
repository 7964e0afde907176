//! The node's store in memory, for the simulator and the tests.
//!
//! A [`MemoryStore`] is a handle, and clones share the state. The simulator keeps one while it crashes and restarts a
//! node: everything committed is on the simulated disk and stays. [`MemoryStore::wipe`] simulates the loss of that
//! disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::refresh::Subject;
use lockstep_proto::{LaneId, Oid, ProjectKey, ProjectName, RefKey, Seq, TxnId};
use parking_lot::{Mutex, MutexGuard};

use super::{
    BlobsUnderWay, BoundTo, Changes, CommittedRequest, Debt, DigestAt, Held, Mailbox, MoveIntent, NodeStore, Rebind,
    RefRecord, RefreshMark, Registered, RequestKey, SetDigest, ShardId, StoreError, VolumeFacts,
};
use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::eventlog::Position;

/// A store in memory. Clones are handles to the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

/// The content of a store at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot(State);

#[derive(Clone, Debug, Default)]
struct State {
    projects: BTreeMap<ProjectName, RefRecord>,
    refs: BTreeMap<ProjectKey, BTreeMap<RefKey, RefRecord>>,
    digests: BTreeMap<ProjectKey, SetDigest>,
    /// The number of refs that have the object as their value.
    values: BTreeMap<ProjectKey, BTreeMap<Oid, u64>>,
    checkpoints: BTreeMap<ShardId, Position>,
    low_water: BTreeMap<LaneId, Seq>,
    parked: BTreeMap<String, Held>,
    quarantined: BTreeMap<String, Held>,
    debts: BTreeMap<ProjectName, Debt>,
    refresh: BTreeMap<Subject, RefreshMark>,
    mail: BTreeMap<(Mailbox, u64), Bytes>,
    received: BTreeMap<String, String>,
    received_blocks: BTreeMap<(String, u64), Bytes>,
    facts: VolumeFacts,
    registered: Registered,
    bound: BoundTo,
    requests: BTreeMap<RequestKey, CommittedRequest>,
    verified: Option<String>,
    requests_gap: bool,
    blobs: BlobsUnderWay,
    intents: BTreeMap<u64, Vec<MoveIntent>>,
    bugs: InjectedBugs,
    #[cfg(test)]
    steps: Vec<Changes>,
}

impl MemoryStore {
    /// Creates an empty store with the bugs that a test injects.
    #[must_use]
    pub fn injected(bugs: InjectedBugs) -> Self {
        Self(Arc::new(Mutex::new(State { bugs, ..State::default() })))
    }

    /// Loses everything, as a new disk would.
    pub fn wipe(&self) {
        let mut state = self.state();
        *state = State { bugs: state.bugs, ..State::default() };
    }

    /// Returns a copy of the present content.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.state().clone())
    }

    /// Replaces the content by that of a snapshot.
    pub fn restore(&self, snapshot: &Snapshot) {
        *self.state() = snapshot.0.clone();
    }

    /// Returns the committed steps in their order.
    #[cfg(test)]
    #[must_use]
    pub fn steps(&self) -> Vec<Changes> {
        self.state().steps.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    fn apply(&mut self, changes: Changes) {
        if let Some(rebind) = &changes.rebind {
            self.forget_refdb(rebind);
        }
        self.remove(&changes);
        for (project, key, record) in changes.refs {
            self.put(project, key, record);
        }
        self.checkpoints.extend(changes.checkpoints);
        self.low_water.extend(changes.low_water);
        self.parked.extend(changes.park);
        self.quarantined.extend(changes.quarantine);
        self.debts.extend(changes.owe);
        self.refresh.extend(changes.refresh);
        self.mail.extend(changes.post.into_iter().map(|(mailbox, number, bytes)| ((mailbox, number), bytes)));
        self.received.extend(changes.received);
        for (block, bits) in changes.received_blocks {
            match bits {
                Some(bits) => drop(self.received_blocks.insert(block, bits)),
                None => drop(self.received_blocks.remove(&block)),
            }
        }
        if let Some(bound) = changes.bound {
            self.bound = bound;
        }
        if let Some(facts) = changes.facts {
            self.facts = facts;
        }
        if let Some(registered) = changes.registered {
            self.registered = self.registered.and(&registered);
        }
        self.requests.extend(changes.requests);
        self.verified = changes.verified.or(self.verified.take());
        self.requests_gap = changes.requests_gap.unwrap_or(self.requests_gap);
    }

    /// Removes everything that speaks of the refdb that the volume belonged to.
    fn forget_refdb(&mut self, rebind: &Rebind) {
        self.projects.retain(|name, _| rebind.keep.contains(name));
        (self.refs, self.values, self.digests, self.verified) = Default::default();
        (self.low_water, self.debts, self.requests) = Default::default();
        self.registered = Registered::default();
        self.intents.clear();
        self.blobs.clear();
        let held = std::mem::take(&mut self.parked).into_iter().chain(std::mem::take(&mut self.quarantined));
        self.quarantined = held.map(|(id, held)| (id, held.of_other_refdb())).collect();
    }

    fn remove(&mut self, changes: &Changes) {
        for project in &changes.forget_projects {
            self.refs.remove(project);
            self.values.remove(project);
            self.digests.remove(project);
        }
        self.checkpoints.retain(|shard, _| !changes.forget_shards.contains(shard));
        self.low_water.retain(|lane, _| !changes.forget_lanes.contains(lane));
        self.parked.retain(|id, _| !changes.unpark.contains(id));
        self.quarantined.retain(|id, _| !changes.unquarantine.contains(id));
        self.debts.retain(|project, _| !changes.repaid.contains(project));
        for subject in &changes.refreshed {
            self.refresh.remove(subject);
        }
        for key in &changes.forget_requests {
            self.requests.remove(key);
        }
        for at in &changes.unpost {
            self.mail.remove(at);
        }
        for origin in &changes.forget_received {
            self.received.remove(origin);
            self.received_blocks.retain(|(of, _), _| of != origin);
        }
    }

    fn put(&mut self, project: ProjectKey, key: RefKey, record: RefRecord) {
        if key == RefKey::State {
            self.projects.insert(project.name, record);
            return;
        }
        let values = self.values.entry(project.clone()).or_default();
        if let Some(oid) = record.value.oid() {
            *values.entry(oid).or_default() += 1;
        }
        let refs = self.refs.entry(project.clone()).or_default();
        self.digests.entry(project).or_default().replace(&key, refs.get(&key), &record, self.bugs);
        let before = refs.insert(key, record);
        if let Some(Entry::Occupied(mut count)) = before.and_then(|it| it.value.oid()).map(|oid| values.entry(oid)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[async_trait]
impl NodeStore for MemoryStore {
    fn reference(&self, project: &ProjectKey, key: &RefKey) -> Result<Option<RefRecord>, StoreError> {
        let state = self.state();
        let found = match key {
            RefKey::State => state.projects.get(&project.name),
            RefKey::Head | RefKey::Ref(_) => state.refs.get(project).and_then(|refs| refs.get(key)),
        };
        Ok(found.cloned())
    }

    fn references(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<(RefKey, RefRecord)>, StoreError> {
        let state = self.state();
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind =
            state.refs.get(project).into_iter().flat_map(|refs| refs.range::<RefKey, _>((begin, Bound::Unbounded)));
        Ok(behind.take(limit).map(|(key, record)| (key.clone(), record.clone())).collect())
    }

    fn digest(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<DigestAt, StoreError> {
        let state = self.state();
        let refs = state.refs.get(project);
        let entries = keys.iter().map(|key| refs.and_then(|refs| refs.get(key)).cloned()).collect();
        Ok(DigestAt { digest: Some(state.digests.get(project).copied().unwrap_or_default()), entries })
    }

    async fn build_digests(&self, _limit: usize) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn projects(&self) -> Result<Vec<(ProjectName, RefRecord)>, StoreError> {
        Ok(self.state().projects.iter().map(|(name, record)| (name.clone(), record.clone())).collect())
    }

    fn is_value(&self, project: &ProjectKey, oid: &Oid) -> Result<bool, StoreError> {
        Ok(self.state().values.get(project).is_some_and(|values| values.contains_key(oid)))
    }

    fn checkpoints(&self) -> Result<BTreeMap<ShardId, Position>, StoreError> {
        Ok(self.state().checkpoints.clone())
    }

    fn low_water(&self) -> Result<BTreeMap<LaneId, Seq>, StoreError> {
        Ok(self.state().low_water.clone())
    }

    fn parked(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, Held)>, StoreError> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        let behind = state.parked.range::<str, _>((begin, Bound::Unbounded)).take(limit);
        Ok(behind.map(|(id, held)| (id.clone(), held.clone())).collect())
    }

    fn held_counts(&self) -> Result<(u64, u64), StoreError> {
        let state = self.state();
        Ok((state.parked.len() as u64, state.quarantined.len() as u64))
    }

    fn quarantined(&self) -> Result<BTreeMap<String, Held>, StoreError> {
        Ok(self.state().quarantined.clone())
    }

    fn debts(&self) -> Result<BTreeMap<ProjectName, Debt>, StoreError> {
        Ok(self.state().debts.clone())
    }

    fn refresh_marks(&self) -> Result<Vec<(Subject, RefreshMark)>, StoreError> {
        Ok(self.state().refresh.iter().map(|(subject, mark)| (subject.clone(), mark.clone())).collect())
    }

    fn mail(&self, mailbox: Mailbox, after: Option<u64>, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let state = self.state();
        let begin = after.map_or(Bound::Included((mailbox, 0)), |after| Bound::Excluded((mailbox, after)));
        let behind = state.mail.range((begin, Bound::Included((mailbox, u64::MAX))));
        Ok(behind.take(limit).map(|((_, number), bytes)| (*number, bytes.clone())).collect())
    }

    fn letter(&self, mailbox: Mailbox, number: u64) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state().mail.get(&(mailbox, number)).cloned())
    }

    fn received(&self) -> Result<BTreeMap<String, String>, StoreError> {
        Ok(self.state().received.clone())
    }

    fn received_blocks(&self) -> Result<BTreeMap<(String, u64), Bytes>, StoreError> {
        Ok(self.state().received_blocks.clone())
    }

    fn facts(&self) -> Result<VolumeFacts, StoreError> {
        Ok(self.state().facts.clone())
    }

    fn bound(&self) -> Result<BoundTo, StoreError> {
        Ok(self.state().bound.clone())
    }

    fn registered(&self) -> Result<Registered, StoreError> {
        Ok(self.state().registered.clone())
    }

    fn verified(&self) -> Result<Option<String>, StoreError> {
        Ok(self.state().verified.clone())
    }

    fn requests_gap(&self) -> Result<bool, StoreError> {
        Ok(self.state().requests_gap)
    }

    fn request(&self, key: &RequestKey) -> Result<Option<CommittedRequest>, StoreError> {
        Ok(self.state().requests.get(key).cloned())
    }

    fn requests(
        &self,
        after: Option<&RequestKey>,
        limit: usize,
    ) -> Result<Vec<(RequestKey, CommittedRequest)>, StoreError> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        let behind = state.requests.range::<RequestKey, _>((begin, Bound::Unbounded));
        Ok(behind.take(limit).map(|(key, request)| (key.clone(), request.clone())).collect())
    }

    fn record_intents(&self, moves: &[MoveIntent]) -> Result<u64, StoreError> {
        let intents = &mut self.state().intents;
        let number = intents.last_key_value().map_or(1, |(last, _)| last + 1);
        intents.insert(number, moves.to_vec());
        Ok(number)
    }

    fn intents(&self) -> Result<Vec<MoveIntent>, StoreError> {
        Ok(self.state().intents.values().flatten().cloned().collect())
    }

    fn end_intents(&self, until: u64) -> Result<(), StoreError> {
        // The last record stays, because the next number follows from it.
        let intents = &mut self.state().intents;
        let last = intents.last_key_value().map_or(0, |(last, _)| *last);
        intents.retain(|number, _| *number > until || *number == last);
        Ok(())
    }

    fn note_blob(&self, key: &str, txn: Option<&TxnId>) -> Result<(), StoreError> {
        self.state().blobs.insert(key.to_owned(), txn.cloned());
        Ok(())
    }

    fn end_blob(&self, key: &str) -> Result<(), StoreError> {
        self.state().blobs.remove(key);
        Ok(())
    }

    fn blobs_under_way(&self) -> Result<BlobsUnderWay, StoreError> {
        Ok(self.state().blobs.clone())
    }

    fn forget_blobs(&self) -> Result<(), StoreError> {
        self.state().blobs.clear();
        Ok(())
    }

    async fn commit(&self, changes: Changes) -> Result<(), StoreError> {
        let mut state = self.state();
        #[cfg(test)]
        state.steps.push(changes.clone());
        state.apply(changes);
        Ok(())
    }
}
