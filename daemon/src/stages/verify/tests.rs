//! Tests of whole verifications, with a refdb in memory and a catch-up that brings nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::digests::{DigestsPage, DigestsRequest, RefsAnswer, RefsRequest};
use lockstep_proto::peer::{PeerAnswer, PeerStatus};
use lockstep_proto::rebuild::{VersionsEntry, VersionsHead, VersionsPage, VersionsRequest};
use lockstep_proto::verify::DEFAULT_SHARE;
use lockstep_proto::{
    Command, Oid, ProjectName, ProjectState, RefKey, RefName, RefValue, Slot, Transaction, TxnId, Version,
};

use super::*;
use crate::seams::blob::Payload;
use crate::seams::git::model::ModelRepositories;
use crate::seams::git::{RefMove, Repositories};
use crate::seams::peers::PeerError;
use crate::seams::refdb::{CommitAnswer, CommitRequest, Part, RefDbError, RefItem, RefStore, SlotState};
use crate::seams::volume::RefRecord;
use crate::stages::ports::{Behind, CatchUpError, Comparison, PeerRefs};
use crate::state::version_map::Mover;

const TXN: &str = "n.1.0.0.00000000000000aa";

/// Notes the refs that are to be caught up with, and brings none of them, unless they are hot.
#[derive(Default)]
struct Stuck {
    keys: Mutex<Vec<RefKey>>,
    hot: Mutex<Option<Hot>>,
}

/// A branch that is committed anew whenever the node has caught up with it.
#[derive(Clone)]
struct Hot {
    context: NodeContext,
    versions: Arc<VersionMap>,
    model: ModelRepositories,
}

impl Hot {
    /// Applies the refdb's value of branch b at the node, and commits the next one.
    async fn go_on(&self) {
        let key = RefKey::Ref(name("b"));
        let item =
            self.context.refdb.refs.read(&project(), std::slice::from_ref(&key)).await.unwrap().remove(0).unwrap();
        let (version, value, txn) = (item.version, item.value.clone(), item.txn.clone().unwrap());
        let old = self.model.read_ref(&project().name, &name("b")).await.unwrap();
        let moved = RefMove { name: name("b"), old, new: value.oid(), message: String::new() };
        self.model.move_refs(&project().name, &[moved], &[]).await.unwrap();
        let record = RefRecord { version, value: value.clone(), txn: txn.clone() };
        self.versions.moved(&project(), [(key.clone(), record)].into(), Mover::Other).unwrap();
        let new = RefValue::Oid(self.model.add_object(&project().name, &[], 100 + version.0));
        let next = Command { key, old: value, new, version: Version(version.0 + 1), predecessor: Some(txn) };
        commit(&self.context, version.0, vec![next]).await;
    }
}

/// Commits a transaction in a slot of the node's only lane.
async fn commit(context: &NodeContext, seq: u64, commands: Vec<Command>) {
    let id = format!("n.1.0.{seq}.00000000000000aa").parse().unwrap();
    let transaction = Transaction { commands, ..Transaction::empty(id, context.site.clone(), project()) };
    let encoded = transaction.encode();
    let request =
        CommitRequest { transaction, encoded, directories: Vec::new(), freed: Default::default(), lock_token: None };
    let answer = context.refdb.refs.commit(&request).await;
    assert!(matches!(answer, Ok(CommitAnswer::Committed)), "{answer:?}");
}

#[async_trait]
impl CatchUp for Stuck {
    async fn keys(&self, _: &ProjectKey, keys: &[RefKey]) -> Result<(), CatchUpError> {
        self.keys.lock().extend_from_slice(keys);
        let hot = self.hot.lock().clone();
        if let Some(hot) = hot {
            hot.go_on().await;
        }
        Ok(())
    }

    async fn project(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        Ok(())
    }

    async fn journal(&self, _: &TxnId) -> Result<Option<Bytes>, CatchUpError> {
        unreachable!("a verification reads no journal")
    }

    async fn is_collectable(&self, _: &Slot) -> Result<bool, CatchUpError> {
        unreachable!("a verification reads no journal")
    }

    async fn may_be_late(&self, _: &Slot) -> Result<bool, CatchUpError> {
        unreachable!("a verification reads no journal")
    }

    async fn restore_repository(&self, _: &ProjectKey) -> Result<(), CatchUpError> {
        unreachable!("a verification restores nothing")
    }

    async fn refetch_objects(&self, _: &ProjectKey) -> Result<(), CatchUpError> {
        unreachable!("a verification fetches nothing")
    }

    async fn transfer_state(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        unreachable!("it reads the whole project at full speed")
    }

    async fn projects(&self) -> Result<Behind, CatchUpError> {
        unreachable!("it reads all projects at full speed")
    }

    async fn bring_up_to_date(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        unreachable!("it reads the whole project at full speed")
    }

    async fn everything(&self) -> Result<Behind, CatchUpError> {
        unreachable!("it reads everything at full speed")
    }

    fn later(&self, _: &ProjectKey, _: Vec<RefKey>) {
        unreachable!("a verification waits for its catch-up")
    }
}

/// A peer that answers as if it had all that this node has, or as if another value of branch a were committed.
struct Liar {
    honest: Verifier,
    lie: Option<RefValue>,
}

impl Liar {
    /// A record of this node, with the lie in its place.
    fn bend(&self, entry: VersionsEntry) -> VersionsEntry {
        match &self.lie {
            Some(lie) if entry.key == RefKey::Ref(name("a")) => {
                VersionsEntry { version: Version(99), value: lie.clone(), ..entry }
            }
            _ => entry,
        }
    }
}

#[async_trait]
impl Peers for Liar {
    async fn objects(&self, _: &ProjectName, _: &[Oid], _: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        unreachable!("a comparison fetches no objects")
    }

    async fn statuses(&self) -> Vec<PeerStatus> {
        let answer = PeerAnswer {
            site: "l".parse().unwrap(),
            node: "liar".parse().unwrap(),
            version: String::new(),
            role: String::new(),
            epoch: 1,
            ready: true,
            waits_for: Vec::new(),
        };
        let (address, way) = (String::new(), String::new());
        vec![PeerStatus { name: "liar".into(), address, way, answer: Some(answer), problem: None, took_ms: 0 }]
    }

    async fn versions(&self, _: &str, _: &VersionsRequest) -> Result<VersionsPage, PeerError> {
        let head = VersionsHead {
            site: "l".parse().unwrap(),
            node: "liar".parse().unwrap(),
            refdb: None,
            volume: String::new(),
            start: 1,
            moves: 1,
            commits: true,
            reconciles: false,
            highest_incarnation: 1,
            sites: Vec::new(),
            parked: 0,
            quarantined: 0,
            debts: 0,
        };
        let records = self.honest.versions.page(&project(), None, 100).unwrap();
        let entry = |(key, record): (RefKey, RefRecord)| {
            let RefRecord { version, value, txn } = record;
            self.bend(VersionsEntry { project: project(), key, version, value, txn })
        };
        Ok(VersionsPage { head, entries: records.into_iter().map(entry).collect(), next: None })
    }

    async fn digests(&self, _: &str, request: &DigestsRequest) -> Result<DigestsPage, PeerError> {
        let mut page = PeerRefs::digests(&self.honest, request.clone()).await.unwrap();
        page.head.node = "liar".parse().unwrap();
        if self.lie.is_some() {
            page.projects.iter_mut().for_each(|project| project.digest = Some("0".repeat(64)));
        }
        Ok(page)
    }

    async fn refs(&self, _: &str, request: &RefsRequest) -> Result<RefsAnswer, PeerError> {
        let request = RefsRequest { catch_up: false, ..request.clone() };
        let mut answer = PeerRefs::refs(&self.honest, request).await.unwrap();
        for look in &mut answer.refs {
            look.record = look.record.take().map(|entry| self.bend(entry));
            if look.key != RefKey::State {
                look.disk = look.record.as_ref().map(|record| record.value.clone());
            }
        }
        Ok(answer)
    }
}

pub(super) struct World {
    pub(super) verifier: Verifier,
    stuck: Arc<Stuck>,
    pub(super) context: NodeContext,
    pub(super) model: ModelRepositories,
}

pub(super) fn project() -> ProjectKey {
    "p#1".parse().unwrap()
}

pub(super) fn name(branch: &str) -> RefName {
    format!("refs/heads/{branch}").parse().unwrap()
}

impl World {
    /// A node, and a refdb that has project p with branches a and b. The node knows nothing of it.
    pub(super) async fn new() -> (Self, Vec<(RefKey, RefValue)>) {
        Self::at_share(DEFAULT_SHARE).await
    }

    /// The same. The node is configured to take this share of the read units, in percent.
    async fn at_share(share: u32) -> (Self, Vec<(RefKey, RefValue)>) {
        let model = ModelRepositories::new(Default::default());
        model.create(&project().name, &name("a")).await.unwrap();
        let context = NodeContext { repositories: Arc::new(model.clone()), ..NodeContext::in_memory() };
        context.open_incarnation().await;
        let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
        let value = |number| RefValue::Oid(model.add_object(&project().name, &[], number));
        let active = ProjectState { phase: lockstep_proto::ProjectPhase::Active, incarnation: 1 };
        let refs = vec![
            (RefKey::State, RefValue::State(active)),
            (RefKey::Ref(name("a")), value(1)),
            (RefKey::Ref(name("b")), value(2)),
        ];
        let command = |(key, new): &(RefKey, RefValue)| Command::creation(key.clone(), new.clone());
        commit(&context, 0, refs.iter().map(command).collect()).await;
        context.tasks.spawn("durability", state.durability.clone().run());
        let stuck = Arc::new(Stuck::default());
        let verifier = Verifier::load(&context, &state, Arc::clone(&stuck) as _, share).unwrap();
        (Self { verifier, stuck, context, model }, refs)
    }

    /// Makes refs known to the node, and shows them on its disk.
    pub(super) async fn apply(&self, refs: &[(RefKey, RefValue)]) {
        for (key, value) in refs {
            let record = RefRecord { version: Version(1), value: value.clone(), txn: TXN.parse().unwrap() };
            self.verifier.versions.moved(&project(), [(key.clone(), record)].into(), Mover::Other).unwrap();
            if let RefKey::Ref(name) = key {
                let moved = RefMove { name: name.clone(), old: None, new: value.oid(), message: String::new() };
                self.model.move_refs(&project().name, &[moved], &[]).await.unwrap();
            }
        }
    }

    /// The records of the node, and the refs on its disk.
    async fn known(&self) -> (Vec<(RefKey, RefRecord)>, Vec<(RefName, Oid)>) {
        let records = self.verifier.versions.page(&project(), None, 100).unwrap();
        (records, self.model.list_refs(&project().name).await.unwrap())
    }

    async fn verify(&self, project: Option<&str>) -> Verification {
        let project = project.map(|name| name.parse().unwrap());
        self.run(VerifyRequest::of_refdb(project, 100)).await
    }

    async fn run(&self, request: VerifyRequest) -> Verification {
        self.verifier.begin(request).await.unwrap();
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(ended) = self.verifier.last().filter(|last| last.ended_ms.is_some()) {
                return ended;
            }
        }
        panic!("the verification does not end: {:?}", self.verifier.last());
    }
}

#[tokio::test(start_paused = true)]
async fn a_project_that_only_the_refdb_has_is_a_mismatch() {
    let (world, _) = World::new().await;
    for asked in [None, Some("p")] {
        let ended = world.verify(asked).await;
        let found: Vec<_> = ended.found.iter().map(|one| (one.project.as_str(), one.name.as_str())).collect();
        assert_eq!((found, ended.mismatches, ended.failures), (vec![("p#1", "@state")], 1, 0));
    }
    assert_eq!(world.verify(Some("nowhere")).await.projects, 0);
    assert_eq!(world.verifier.verified().map(|last| last.mismatches), Some(1), "p was not compared again");
}

#[tokio::test(start_paused = true)]
async fn a_catch_up_is_for_the_refs_that_differ_alone() {
    let (world, refs) = World::new().await;
    world.apply(&refs[..2]).await;
    let ended = world.verify(None).await;
    let found: Vec<_> = ended.found.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((found, ended.refs, ended.on_their_way), (vec!["refs/heads/b"], 2, 0));
    assert!(world.stuck.keys.lock().iter().all(|key| *key == RefKey::Ref(name("b"))));
    world.apply(&refs[2..]).await;
    assert!(world.verify(None).await.is_equal());
    assert_eq!(world.verifier.verified().map(|last| (last.whole, last.mismatches)), Some((true, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_is_committed_anew_with_each_look_is_no_mismatch() {
    let (world, refs) = World::new().await;
    world.apply(&refs[..2]).await;
    let World { context, model, .. } = &world;
    let versions = Arc::clone(&world.verifier.versions);
    *world.stuck.hot.lock() = Some(Hot { context: context.clone(), versions, model: model.clone() });
    let ended = world.verify(None).await;
    assert_eq!((ended.mismatches, ended.on_their_way), (0, 1), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_verification_takes_the_configured_share_unless_its_request_names_one() {
    let (world, refs) = World::at_share(5).await;
    world.apply(&refs).await;
    let end = async || {
        while world.verifier.last().is_some_and(|last| last.ended_ms.is_none()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let asked = |share| VerifyRequest { share, ..VerifyRequest::of_refdb(None, 100) };
    for (share, taken) in [(None, 5), (Some(50), 50)] {
        let begun = world.verifier.begin(asked(share)).await.unwrap();
        // One project takes one of the 3,000 units that a partition has per second.
        let seconds = 100.0 / f64::from(taken) / 3_000.0;
        assert_eq!((begun.request.share, begun.estimate.read_units), (Some(taken), 1));
        assert!((begun.estimate.seconds - seconds).abs() < 1e-9, "{begun:?}");
        end().await;
    }
    let own = world.verifier.begin_all().await.unwrap();
    let begun = world.verifier.last().filter(|last| last.number == own);
    assert_eq!(begun.and_then(|begun| begun.request.share), Some(5), "the failover takes the configured share");
}

/// Refs of a refdb, in the order of their keys. Counts the read units that DynamoDB takes for them, by their size.
struct Counted {
    inner: Arc<dyn RefStore>,
    refs: Vec<RefItem>,
    units: Arc<AtomicU64>,
}

impl Counted {
    fn count(&self, project: &ProjectKey, page: &[RefItem]) {
        // The names of the attributes, and the version as a number.
        let size = |item: &RefItem| {
            let texts = [project.to_string(), item.key.to_string(), item.value.to_string()];
            let txn = item.txn.as_ref().map_or(0, |txn| txn.to_string().len());
            texts.iter().map(String::len).sum::<usize>() + txn + 40
        };
        let bytes: usize = page.iter().map(size).sum();
        self.units.fetch_add((bytes as u64).div_ceil(4_096).max(1), Ordering::Relaxed);
    }
}

#[async_trait]
impl RefStore for Counted {
    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        self.inner.commit(request).await
    }

    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        self.inner.lock(part).await
    }

    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError> {
        self.inner.seal(txn, encoded).await
    }

    async fn seal_held(&self, txn: &TxnId, encoded: &Bytes, token: &str) -> Result<SlotState, RefDbError> {
        self.inner.seal_held(txn, encoded, token).await
    }

    async fn flip(&self, part: &Part) -> Result<(), RefDbError> {
        self.inner.flip(part).await
    }

    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError> {
        self.inner.release(project, txn, keys).await
    }

    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
        self.units.fetch_add(keys.len() as u64, Ordering::Relaxed);
        self.inner.read(project, keys).await
    }

    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError> {
        let behind = self.refs.iter().filter(|item| after.is_none_or(|after| item.key > *after));
        let page: Vec<RefItem> = behind.take(limit).cloned().collect();
        self.count(project, &page);
        Ok(page)
    }

    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
        self.inner.projects(after, limit).await
    }
}

/// At a share of 1 %, these are 30 of the 3,000 units that a partition has per second.
#[tokio::test(start_paused = true)]
async fn a_verification_consumes_no_more_read_units_per_second_than_its_share() {
    let (mut world, of_project) = World::at_share(1).await;
    let new = |number: u64| {
        let oid = world.model.add_object(&project().name, &[], 10 + number);
        (RefKey::Ref(name(&format!("r{number:05}"))), RefValue::Oid(oid))
    };
    let refs: Vec<(RefKey, RefValue)> = (0..3_000).map(new).collect();
    world.apply(&of_project[..1]).await;
    world.apply(&refs).await;
    let units = Arc::new(AtomicU64::new(0));
    let item = |(key, value)| {
        let (version, txn) = (Version(1), Some(TXN.parse().unwrap()));
        RefItem { key, version, value, txn, directory: false, loosened: None, lock: None }
    };
    let refs = refs.into_iter().map(item).collect();
    let inner = Arc::clone(&world.verifier.refdb.refs);
    world.verifier.refdb.refs = Arc::new(Counted { inner, refs, units: Arc::clone(&units) });
    let began = tokio::time::Instant::now();
    let ended = world.run(VerifyRequest::of_refdb(None, 1)).await;
    let seconds = began.elapsed().as_secs_f64();
    assert!(ended.is_equal() && ended.refs == 3_000, "{ended:?}");
    let (consumed, rate) = (units.load(Ordering::Relaxed) as f64, Pace::rate(1));
    assert!(consumed > 80.0, "{consumed} units");
    assert!(consumed / seconds <= rate && consumed / seconds > rate / 2.0, "{consumed} units in {seconds} s");
}

/// A comparison ends as the peer likes, and moves no ref: a catch-up takes values from the refdb alone.
#[tokio::test(start_paused = true)]
async fn a_peer_that_lies_has_no_ref_moved() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let (honest, before) = (world.verifier.clone(), world.known().await);
    assert_eq!((before.0.len(), before.1.len()), (2, 2));
    let never_committed = RefValue::Oid(world.model.add_object(&project().name, &[], 9));
    for (lie, found) in [(None, vec![]), (Some(never_committed), vec!["refs/heads/a"])] {
        world.verifier.peers = Arc::new(Liar { honest: honest.clone(), lie });
        let against = Some("liar".to_owned());
        let ended = world.run(VerifyRequest { against, ..VerifyRequest::of_refdb(None, 100) }).await;
        let names: Vec<_> = ended.found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((names, ended.failures, ended.peers.len()), (found, 0, 1), "{ended:?}");
        assert_eq!(world.known().await, before);
    }
    assert!(world.stuck.keys.lock().iter().all(|key| *key == RefKey::Ref(name("a"))));
}

/// The failover's own comparison begins when it asks: an older one says nothing about now.
#[tokio::test(start_paused = true)]
async fn a_failover_does_not_take_a_comparison_that_is_in_progress_for_its_own() {
    let (world, _) = World::new().await;
    let end = async || {
        while world.verifier.last().is_some_and(|last| last.ended_ms.is_none()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    for project in [None, Some("p".parse().unwrap())] {
        let running = world.verifier.begin(VerifyRequest::of_refdb(project, DEFAULT_SHARE)).await.unwrap();
        let refused = world.verifier.begin_all().await.unwrap_err().to_string();
        assert!(refused.contains("is in progress; that of the failover waits"), "{refused}");
        end().await;
        let own = world.verifier.begin_all().await.unwrap();
        assert!(own > running.number && world.verifier.result(own).is_ok());
        end().await;
        assert!(world.verifier.result(own).unwrap().is_some());
    }
}
