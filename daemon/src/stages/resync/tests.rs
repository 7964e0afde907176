//! Whole resyncs of a node on seams in memory, with a catch-up that finds nothing newer.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{
    Command, Oid, ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefName, RefValue, Slot, Transaction,
    TxnId, Version,
};
use tokio::sync::Notify;

use super::*;
use crate::seams::blob::Payload;
use crate::seams::git::RefMove;
use crate::seams::git::model::ModelRepositories;
use crate::seams::peers::serve;
use crate::seams::refdb::{CommitAnswer, CommitRequest};
use crate::seams::volume::RefRecord;
use crate::stages::ports::Behind;
use crate::state::version_map::Mover;

const TXN: &str = "n.1.0.0.00000000000000aa";

/// A catch-up of a node that has everything: it brings nothing.
struct Current;

#[async_trait]
impl CatchUp for Current {
    async fn keys(&self, _: &ProjectKey, _: &[RefKey]) -> Result<(), CatchUpError> {
        Ok(())
    }

    async fn project(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        Ok(())
    }

    async fn journal(&self, _: &TxnId) -> Result<Option<Bytes>, CatchUpError> {
        unreachable!("a resync reads no journal itself")
    }

    async fn is_collectable(&self, _: &Slot) -> Result<bool, CatchUpError> {
        unreachable!("a resync reads no journal itself")
    }

    async fn may_be_late(&self, _: &Slot) -> Result<bool, CatchUpError> {
        unreachable!("a resync reads no journal itself")
    }

    async fn transfer_state(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        unreachable!("a catch-up decides on that")
    }

    async fn projects(&self) -> Result<Behind, CatchUpError> {
        Ok(Behind::new())
    }

    async fn bring_up_to_date(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        Ok(())
    }

    async fn restore_repository(&self, _: &ProjectKey) -> Result<(), CatchUpError> {
        unreachable!("a resync creates the repository itself")
    }

    async fn refetch_objects(&self, _: &ProjectKey) -> Result<(), CatchUpError> {
        unreachable!("a resync fetches the objects itself")
    }

    async fn everything(&self) -> Result<Behind, CatchUpError> {
        unreachable!("projects are taken one by one")
    }

    fn later(&self, _: &ProjectKey, _: Vec<RefKey>) {
        unreachable!("a resync waits for its catch-up")
    }
}

/// The repositories of another node, which answers once it is let go.
struct There {
    model: ModelRepositories,
    go: Arc<Notify>,
}

#[async_trait]
impl Peers for There {
    async fn objects(&self, project: &ProjectName, wants: &[Oid], haves: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        self.go.notified().await;
        let answer = serve::objects(&self.model, project, wants, haves).await;
        self.go.notify_one();
        answer
    }
}

fn project() -> ProjectKey {
    "p#1".parse().unwrap()
}

fn name(branch: &str) -> RefName {
    format!("refs/heads/{branch}").parse().unwrap()
}

fn request(key: Option<&str>) -> ResyncRequest {
    let key = key.map(|key| key.parse().unwrap());
    ResyncRequest {
        scope: ResyncScope::Project { project: project().name, key },
        from: None,
        reason: "a test".to_owned(),
    }
}

/// A node that has project p with branches a and b, and a peer that has the same.
struct World {
    here: ModelRepositories,
    /// The values of branches a and b, and the object to which both point.
    values: [Oid; 3],
    context: NodeContext,
    state: NodeState,
    resyncer: Resyncer,
    /// Lets the peer answer.
    go: Arc<Notify>,
}

impl World {
    async fn new() -> Self {
        let models = [(); 2].map(|()| ModelRepositories::new(Default::default()));
        let mut values = Vec::new();
        for model in &models {
            model.create(&project().name, &name("a")).await.unwrap();
            let base = model.add_object(&project().name, &[], 1);
            let object = |number| model.add_object(&project().name, &[base], number);
            values = vec![object(2), object(3), base];
        }
        let [here, there] = models;
        let go = Arc::new(Notify::new());
        let peers = Arc::new(There { model: there, go: Arc::clone(&go) });
        let context = NodeContext { repositories: Arc::new(here.clone()), peers, ..NodeContext::in_memory() };
        context.open_incarnation().await;
        let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
        context.tasks.spawn("durability", state.durability.clone().run());
        let resyncer = Resyncer::new(&context, &state, Arc::new(Current));
        let values: [Oid; 3] = values.try_into().unwrap();
        let world = Self { here, values, context, state, resyncer, go };
        world.know().await;
        world
    }

    /// Commits the project, and has it in the version map and on the disk.
    async fn know(&self) {
        let active = ProjectState { phase: ProjectPhase::Active, incarnation: 1 };
        let refs = [
            (RefKey::State, RefValue::State(active)),
            (RefKey::Head, RefValue::Symref(name("a"))),
            (RefKey::Ref(name("a")), RefValue::Oid(self.values[0])),
            (RefKey::Ref(name("b")), RefValue::Oid(self.values[1])),
        ];
        let commands = refs.iter().map(|(key, new)| Command::creation(key.clone(), new.clone())).collect();
        let transaction =
            Transaction { commands, ..Transaction::empty(TXN.parse().unwrap(), self.context.site.clone(), project()) };
        let encoded = transaction.encode();
        let request = CommitRequest {
            transaction,
            encoded,
            directories: Vec::new(),
            freed: Default::default(),
            lock_token: None,
        };
        assert_eq!(self.context.refdb.refs.commit(&request).await, Ok(CommitAnswer::Committed));
        let record = |value| RefRecord { version: Version(1), value, txn: TXN.parse().unwrap() };
        let known = refs.into_iter().map(|(key, value)| (key, record(value))).collect();
        self.state.versions.moved(&project(), known, Mover::Other).unwrap();
        for (branch, value) in ["a", "b"].into_iter().zip(self.values) {
            self.set(branch, None, Some(value)).await;
        }
    }

    /// Moves a branch on the disk, around the sidecar.
    async fn set(&self, branch: &str, old: Option<Oid>, new: Option<Oid>) {
        let moved = RefMove { name: name(branch), old, new, message: String::new() };
        self.here.move_refs(&project().name, &[moved], &[]).await.unwrap();
    }

    async fn ended(&self) -> Resync {
        loop {
            match self.resyncer.last().filter(|last| last.ended_ms.is_some()) {
                Some(ended) => return ended,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Runs a resync to its end.
    async fn run(&self, request: ResyncRequest) -> Resync {
        self.go.notify_one();
        let _ = self.resyncer.begin("uid 0", request).await.unwrap();
        self.ended().await
    }

    fn is_whole(&self) -> bool {
        let refs = BTreeMap::from([(name("a"), self.values[0]), (name("b"), self.values[1])]);
        self.values.iter().all(|oid| self.here.closure_is_complete(&project().name, *oid))
            && self.here.refs(&project().name) == refs
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_project_is_whole_afterwards_and_a_value_that_gives_way_is_a_stray() {
    let world = World::new().await;
    assert!(world.is_whole());
    let own = world.here.add_object(&project().name, &[world.values[2]], 9);
    world.set("a", Some(world.values[0]), Some(own)).await;
    world.set("b", Some(world.values[1]), None).await;
    world.set("c", None, Some(own)).await;
    world.here.lose_object(&project().name, &world.values[1]);
    let ended = world.run(request(None)).await;
    assert!(world.is_whole(), "{:?}", world.here.refs(&project().name));
    assert_eq!((ended.done, ended.failures, ended.refetched), (1, 0, 1));
    assert_eq!((ended.refs_set, ended.strays, ended.by.as_str()), (3, 2, "uid 0"));
    let strays = world.state.materializer.strays(&project().name).await.unwrap();
    assert!(strays.iter().all(|stray| stray.value == own), "{strays:?}");

    let again = world.run(request(None)).await;
    assert_eq!((again.number, again.refetched, again.refs_set, again.strays), (2, 0, 0, 0), "nothing is left to do");
}

#[tokio::test(start_paused = true)]
async fn refs_that_init_wrote_stay_for_the_handshake_until_a_gerrit_runs() {
    let world = World::new().await;
    let runs = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = Arc::clone(&runs);
    let gerrit_runs = Arc::new(move || seen.load(std::sync::atomic::Ordering::SeqCst));
    let resyncer = world.resyncer.clone().leaving([project().name].into(), gerrit_runs);
    let world = World { resyncer, ..world };
    let by_init = world.here.add_object(&project().name, &[world.values[0]], 9);
    world.set("a", Some(world.values[0]), Some(by_init)).await;
    world.here.set_head(&project().name, &name("b")).await.unwrap();
    for scope in [ResyncScope::All, request(Some("refs/heads/a")).scope] {
        let ended = world.run(ResyncRequest { scope, ..request(None) }).await;
        let [one] = &ended.failed[..] else { panic!("{ended:?}") };
        assert!(one.why.starts_with("1 refs on the disk") && one.why.contains("Start Gerrit") && one.retry, "{one:?}");
        assert!(world.state.materializer.strays(&project().name).await.unwrap().is_empty());
        assert_eq!(world.here.refs(&project().name).get(&name("a")), Some(&by_init));
    }
    assert_eq!(world.run(request(Some("refs/heads/b"))).await.failures, 0, "that ref is as it should be");
    world.here.lose_object(&project().name, &world.values[1]);
    assert_eq!(world.run(request(None)).await.failures, 1);
    assert!(world.here.closure_is_complete(&project().name, world.values[1]), "objects come in any case");
    runs.store(true, std::sync::atomic::Ordering::SeqCst);
    let ended = world.run(request(None)).await;
    assert_eq!((ended.failures, ended.refs_set), (0, 2), "the handshake is over: the ref and HEAD are set");
    assert!(world.is_whole());
}

/// An `init` on a repository without refs begins a history of its own, and the handshake refuses that.
#[tokio::test(start_paused = true)]
async fn a_repository_without_refs_is_never_left_for_init() {
    let world = World::new().await;
    let resyncer = world.resyncer.clone().leaving([project().name].into(), Arc::new(|| false));
    let world = World { resyncer, ..world };
    let restoring = || world.context.store.facts().unwrap().restoring;
    world.here.delete(&project().name).await.unwrap();
    assert_eq!(world.run(request(None)).await.failures, 0);
    assert!(world.is_whole() && restoring().is_empty(), "{:?}", world.here.refs(&project().name));

    let mut facts = world.context.store.facts().unwrap();
    facts.restoring.insert(project().name);
    world.state.durability.stage(|changes| changes.facts = Some(facts));
    world.state.durability.wait_durable().await;
    world.set("a", Some(world.values[0]), None).await;
    assert_eq!(world.run(request(None)).await.failures, 1);
    assert!(restoring().contains(&project().name), "the restorer has begun it, and ends it");
}

/// A ref whose garbled file was taken away is missing until a handshake or the restorer sets it.
#[tokio::test(start_paused = true)]
async fn a_project_of_init_is_being_mended_until_its_refs_are_right() {
    let world = World::new().await;
    let resyncer = world.resyncer.clone().leaving([project().name].into(), Arc::new(|| false));
    let world = World { resyncer, ..world };
    let mending = || world.context.store.facts().unwrap().mending;
    world.state.durability.change_facts(|facts| facts.mending = [project().name].into()).unwrap();
    world.state.durability.wait_durable().await;
    world.set("a", Some(world.values[0]), None).await;
    assert_eq!(world.run(request(None)).await.failures, 1, "the ref is left to a handshake");
    assert!(mending().contains(&project().name), "a seed would take the ref for deleted");
    world.set("a", None, Some(world.values[0])).await;
    assert_eq!(world.run(request(None)).await.failures, 0);
    assert!(mending().is_empty());
}

/// The Gerrit that runs may start again before this node does, after a crash of both, and its `init` writes.
#[tokio::test(start_paused = true)]
async fn a_resync_that_takes_files_away_notes_no_project_of_init_as_being_restored() {
    let world = World::new().await;
    let resyncer = world.resyncer.clone().leaving([project().name].into(), Arc::new(|| true));
    let world = World { resyncer, ..world };
    let facts = || world.context.store.facts().unwrap();
    world.here.garble(&project().name, world.values[2]);
    world.resyncer.begin("uid 0", request(None)).await.unwrap();
    while !facts().mending.contains(&project().name) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(facts().restoring.is_empty(), "the restorer would set its refs");
    world.go.notify_one();
    let ended = world.ended().await;
    assert_eq!((ended.failures, ended.garbled), (0, 1));
    assert!(world.is_whole() && facts().mending.is_empty() && facts().restoring.is_empty());

    // A run that died has left the note. One ref is not enough then.
    let noted = crate::seams::volume::VolumeFacts { mending: [project().name].into(), ..facts() };
    world.state.durability.stage(|changes| changes.facts = Some(noted));
    world.state.durability.wait_durable().await;
    world.here.lose_object(&project().name, &world.values[1]);
    assert_eq!(world.run(request(Some("refs/heads/a"))).await.failures, 0);
    assert!(world.is_whole() && facts().mending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn objects_come_again_although_the_refs_look_right() {
    let world = World::new().await;
    world.here.lose_object(&project().name, &world.values[2]);
    assert!(!world.is_whole());
    let ended = world.run(ResyncRequest { scope: ResyncScope::All, ..request(None) }).await;
    assert_eq!((ended.projects, ended.failures, ended.refetched, ended.refs_set), (1, 0, 1, 0));
    assert!(world.is_whole());
}

#[tokio::test(start_paused = true)]
async fn a_resync_of_one_ref_leaves_the_others_as_they_are() {
    let world = World::new().await;
    world.set("a", Some(world.values[0]), None).await;
    world.set("b", Some(world.values[1]), None).await;
    let ended = world.run(request(Some("refs/heads/b"))).await;
    assert_eq!((ended.refs_set, ended.failures), (1, 0));
    let refs = world.here.refs(&project().name);
    assert_eq!((refs.get(&name("a")), refs.get(&name("b"))), (None, Some(&world.values[1])));
    world.here.set_head(&project().name, &name("b")).await.unwrap();
    assert_eq!(world.run(request(Some("@HEAD"))).await.refs_set, 1);
    assert_eq!(world.here.head(&project().name).await.unwrap(), Some(name("a")));
}

#[tokio::test(start_paused = true)]
async fn a_missing_repository_comes_back_with_all_refs_and_is_noted_meanwhile() {
    let world = World::new().await;
    world.here.delete(&project().name).await.unwrap();
    let begun = world.resyncer.begin("uid 0", request(Some("refs/heads/b"))).await.unwrap();
    assert_eq!(begun.ended_ms, None);
    while !world.context.store.facts().unwrap().restoring.contains(&project().name) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.go.notify_one();
    assert_eq!(world.ended().await.failures, 0);
    assert!(world.is_whole(), "one ref was asked for, and a repository without the others must not stay");
    assert!(world.context.store.facts().unwrap().restoring.is_empty());
}

#[tokio::test(start_paused = true)]
async fn objects_that_no_peer_has_are_named_and_nothing_moves() {
    let world = World::new().await;
    let nowhere = Oid::Sha1([7; 20]);
    let own = world.here.add_object(&project().name, &[nowhere], 9);
    let record = RefRecord { version: Version(2), value: RefValue::Oid(own), txn: TXN.parse().unwrap() };
    world.state.versions.moved(&project(), [(RefKey::Ref(name("a")), record)].into(), Mover::Other).unwrap();
    let ended = world.run(request(None)).await;
    let [one] = &ended.failed[..] else { panic!("{ended:?}") };
    assert!(one.project == "p" && one.why.contains("no peer has") && one.retry, "{one:?}");
    assert_eq!(world.here.refs(&project().name).get(&name("a")), Some(&world.values[0]));
    assert!(!world.state.debts.is_owed(&project().name), "its refs are not behind the refdb");
}

#[tokio::test(start_paused = true)]
async fn asking_twice_joins_the_resync_in_progress_and_another_one_is_refused() {
    let world = World::new().await;
    world.here.lose_object(&project().name, &world.values[2]);
    let begun = world.resyncer.begin("uid 0", request(None)).await.unwrap();
    let again = ResyncRequest { reason: "once more".to_owned(), ..request(None) };
    let joined = world.resyncer.begin("uid 1", again.clone()).await.unwrap();
    assert_eq!((joined.number, joined.by.as_str()), (begun.number, "uid 0"));
    let other = world.resyncer.begin("uid 1", request(Some("refs/heads/a"))).await.unwrap_err();
    assert!(other.retry && other.message.contains("resync 1 of uid 0 is in progress"), "{}", other.message);
    world.go.notify_one();
    assert_eq!(world.ended().await.failures, 0);
    assert_eq!(world.resyncer.begin("uid 1", again).await.unwrap().number, 2, "the first one has ended");
}

#[tokio::test(start_paused = true)]
async fn requests_that_make_no_sense_are_refused_and_begin_nothing() {
    let world = World::new().await;
    let refused = async |request: ResyncRequest| world.resyncer.begin("uid 0", request).await.unwrap_err().message;
    let scope = ResyncScope::Project { project: "q".parse().unwrap(), key: None };
    assert!(refused(ResyncRequest { scope, ..request(None) }).await.contains("the refdb has no project q"));
    assert!(refused(request(Some("refs/heads/c"))).await.contains("the refdb has no ref refs/heads/c of p#1"));
    assert!(refused(request(Some("@state"))).await.contains("leave the ref out"));
    let from = ResyncRequest { from: Some("x".to_owned()), ..request(None) };
    assert!(refused(from).await.contains("from x: this node has no peers"));
    world.state.comes_back.site_is_off(true);
    assert!(refused(request(None)).await.contains("the site of this node is off"));
    assert_eq!(world.resyncer.last(), None);
}

#[tokio::test(start_paused = true)]
async fn a_resync_of_the_site_names_its_other_nodes() {
    let world = World::new().await;
    let nodes = [("n", "s"), ("n-1", "s"), ("m", "t")];
    for (node, site) in nodes {
        let record = crate::seams::refdb::NodeRecord::first(node, site);
        let _ = world.context.refdb.nodes.put_node(&record, None).await.unwrap();
    }
    let ended = world.run(ResyncRequest { scope: ResyncScope::Site, ..request(None) }).await;
    assert_eq!(ended.ask_too, vec!["n-1".parse::<NodeId>().unwrap()]);
    assert_eq!((ended.projects, ended.failures), (1, 0));
}
