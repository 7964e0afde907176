//! Stories: a story is the world without random faults, in which a test takes one step after the other. The watch
//! judges everything, as in a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, Expected, Outcome, ProjectResponse, RefCommand,
    RefTransactionRequest, RefTransactionResponse,
};
use lockstep_proto::{NodeId, Oid, ProjectName, RefKey};

use super::backend::Volume;
use super::faults::{Cut, Seam};
use super::memory::MemoryBackend;
use super::node::RealNodes;
use super::phases::Phases;
use super::run::runtime;
use super::scenario::{Scenario, Writes};
use super::world::{Life, World, name};

/// The limit for every wait of a story, in virtual milliseconds.
const PATIENCE_MS: u64 = 60_000;

/// A world without random faults, in which a test does one step after another.
pub struct Story {
    /// The world of the story.
    pub world: Arc<World>,
    phases: Phases,
    nonce: AtomicU64,
}

/// A ref with its old and its new value.
pub type Step<'a> = (&'a str, Option<Oid>, Option<Oid>);

/// The project that every story has at its start.
#[must_use]
pub fn p0() -> ProjectName {
    name("p0")
}

/// Parses the name of a node.
#[must_use]
pub fn node(text: &str) -> NodeId {
    name(text)
}

fn request(id: &str, steps: &[Step<'_>]) -> RefTransactionRequest {
    let command = |(branch, old, new): &Step<'_>| {
        let old = old.map_or(Expected::Absent, Expected::Oid);
        RefCommand { name: name(branch), old, new: *new, force: true }
    };
    RefTransactionRequest {
        request_id: id.to_owned(),
        deadline_ms: Some(5_000),
        atomic: true,
        commands: steps.iter().map(command).collect(),
        actor: None,
        traceparent: None,
        message: None,
        lock: None,
    }
}

/// Runs a story in a world of its own. At the start every node is up, and there is one project, `p0`. The first site
/// has two nodes, the others have one each.
///
/// # Panics
/// If an expected event does not happen, or a property does not hold.
pub fn tell(story: impl AsyncFnOnce(&Story)) {
    tell_with(Writes::Whole, story);
}

/// Runs a story in which every transaction of several refs is committed under locks, and has a long form.
///
/// # Panics
/// As [`tell`].
pub fn tell_of_locks(story: impl AsyncFnOnce(&Story)) {
    tell_with(Writes::Staged, story);
}

/// Runs a story in which the site `blr-1` alone is active, and the others stand by.
///
/// # Panics
/// As [`tell`].
pub fn tell_of_standbys(story: impl AsyncFnOnce(&Story)) {
    tell_in(Scenario { one_active: true, ..Scenario::calm() }, InjectedBugs::default(), story);
}

/// Runs a story in which every node verifies itself in the background, all the time.
///
/// # Panics
/// As [`tell`].
pub fn tell_of_verifiers(story: impl AsyncFnOnce(&Story)) {
    tell_in(Scenario { verifies: true, ..Scenario::calm() }, InjectedBugs::default(), story);
}

/// Runs a story in which the nodes of a site share their reads. The first site has three nodes. The buffers of a node
/// have at most so many records together.
///
/// # Panics
/// As [`tell`].
pub fn tell_of_siblings(records: usize, story: impl AsyncFnOnce(&Story)) {
    tell_in(Scenario { shares: Some(records), ..Scenario::calm() }, InjectedBugs::default(), story);
}

/// Runs a story, with writes of the refdb of this size.
///
/// # Panics
/// As [`tell`].
pub fn tell_with(writes: Writes, story: impl AsyncFnOnce(&Story)) {
    tell_in(Scenario { writes, ..Scenario::calm() }, InjectedBugs::default(), story);
}

/// Runs a story with an injected bug, to show that a property does not hold.
///
/// # Panics
/// As [`tell`].
pub fn tell_injected(bug: InjectedBug, story: impl AsyncFnOnce(&Story)) {
    tell_in(Scenario::calm(), InjectedBugs::only(bug), story);
}

/// Runs a story among the message faults of a scenario, with this seed.
///
/// # Panics
/// As [`tell`].
pub fn tell_with_seed(seed: u64, scenario: Scenario, story: impl AsyncFnOnce(&Story)) {
    tell_seeded(seed, scenario, InjectedBugs::default(), story);
}

fn tell_in(scenario: Scenario, bugs: InjectedBugs, story: impl AsyncFnOnce(&Story)) {
    tell_seeded(1, scenario, bugs, story);
}

fn tell_seeded(seed: u64, scenario: Scenario, bugs: InjectedBugs, story: impl AsyncFnOnce(&Story)) {
    runtime().block_on(async {
        let nodes = if scenario.shares.is_some() { [3, 1, 1] } else { [2, 1, 1] };
        let scenario = Scenario { projects: 1, shards: 1, nodes, ..scenario };
        let backend = MemoryBackend::of_models(scenario.shards, bugs);
        let world = World::new(seed, scenario, bugs, Arc::new(backend), Arc::new(RealNodes));
        let told = Story { phases: Phases { world: world.clone() }, world, nonce: AtomicU64::new(0) };
        told.holds(told.phases.set_up().await);
        story(&told).await;
        told.pass(100).await;
    });
}

impl Story {
    fn holds<T>(&self, result: Result<T, super::Violation>) -> T {
        result.unwrap_or_else(|violation| panic!("{}\n{violation}", self.world.trace.tail(80).join("\n")))
    }

    /// Lets virtual time pass.
    ///
    /// # Panics
    /// If a property does not hold.
    pub async fn pass(&self, ms: u64) {
        self.holds(self.phases.pass(ms).await);
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// If it does not hold in time, or a property does not hold.
    pub async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let end = self.world.trace.now_ms() + PATIENCE_MS;
        while !is_so().await {
            self.pass(20).await;
            let tail = || self.world.trace.tail(60).join("\n");
            assert!(self.world.trace.now_ms() < end, "{}\nnot in time: {what}", tail());
        }
    }

    /// Waits until every node equals the refdb.
    ///
    /// # Panics
    /// If a property does not hold.
    pub async fn converge(&self) {
        self.holds(self.phases.converge("convergence").await);
    }

    /// The present life of a node.
    ///
    /// # Panics
    /// If the node is down.
    #[must_use]
    pub fn life(&self, node: &str) -> Life {
        self.world.life(&name::<NodeId>(node)).unwrap_or_else(|| panic!("{node} is down"))
    }

    /// Starts a node, and waits until it serves.
    ///
    /// # Panics
    /// If it does not serve in time.
    pub async fn start(&self, node: &str) {
        self.world.start(&name(node)).await;
        self.until(&format!("{node} is ready"), async || self.life(node).node.is_ready()).await;
    }

    /// Kills a node.
    ///
    /// # Panics
    /// If the node is down.
    pub fn crash(&self, node: &str) {
        assert!(self.world.crash(&name(node)), "{node} must be up");
    }

    /// Kills nodes at the same moment, and starts them again, one after the other.
    ///
    /// # Panics
    /// If one is down, or does not serve in time.
    pub async fn restart(&self, nodes: &[&str]) {
        nodes.iter().for_each(|node| self.crash(node));
        for node in nodes {
            self.start(node).await;
        }
    }

    /// Cuts the link of a node to a seam, or ends the cut.
    pub fn cut(&self, node: &str, seam: Seam, cut: Option<Cut>) {
        self.world.faults.cut(&name(node), seam, cut);
    }

    /// Lets a node's calls that begin with this text fail before they take effect. `None` ends it.
    pub fn bar(&self, node: &str, calls: Option<&'static str>) {
        self.world.faults.bar(&name(node), calls);
    }

    /// The raw volume of a node.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn volume(&self, node: &str) -> Arc<dyn Volume> {
        self.world.volume(&name(node)).expect("the node has a volume")
    }

    /// Adds a new object to a node's repository.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn object(&self, node: &str, project: &ProjectName) -> Oid {
        self.volume(node).add_object(project, &[], self.nonce.fetch_add(1, Ordering::Relaxed))
    }

    /// Pushes a ref from one value to another through a node.
    ///
    /// # Errors
    /// The node gives no verdict.
    pub async fn push(
        &self,
        node: &str,
        id: &str,
        project: &ProjectName,
        step: Step<'_>,
    ) -> Result<RefTransactionResponse, ApiError> {
        self.push_all(node, id, project, &[step]).await
    }

    /// Pushes refs together, each from one value to another, through a node.
    ///
    /// # Errors
    /// The node gives no verdict.
    pub async fn push_all(
        &self,
        node: &str,
        id: &str,
        project: &ProjectName,
        steps: &[Step<'_>],
    ) -> Result<RefTransactionResponse, ApiError> {
        self.send(node, project, request(id, steps)).await
    }

    /// Pushes a ref from one value to another through a node, under the operator lock with this token.
    ///
    /// # Errors
    /// The node gives no verdict.
    pub async fn push_under(
        &self,
        token: &str,
        node: &str,
        id: &str,
        project: &ProjectName,
        step: Step<'_>,
    ) -> Result<RefTransactionResponse, ApiError> {
        self.push_all_under(token, node, id, project, &[step]).await
    }

    /// Pushes refs together through a node, under the operator lock with this token.
    ///
    /// # Errors
    /// The node gives no verdict.
    pub async fn push_all_under(
        &self,
        token: &str,
        node: &str,
        id: &str,
        project: &ProjectName,
        steps: &[Step<'_>],
    ) -> Result<RefTransactionResponse, ApiError> {
        let request = RefTransactionRequest { lock: Some(token.to_owned()), ..request(id, steps) };
        self.send(node, project, request).await
    }

    async fn send(
        &self,
        node: &str,
        project: &ProjectName,
        request: RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError> {
        let id = request.request_id.clone();
        self.world.watch.asked(project, &request);
        let answer = self.life(node).node.transactions().submit(project, request).await;
        self.world.trace.note("story", &format!("{id} heard {answer:?}"));
        if let Ok(response) = &answer {
            self.world.watch.answered(&name(node), &id, response);
        }
        answer
    }

    /// Asks a node for the outcome of a push.
    ///
    /// # Panics
    /// If the node gives no verdict.
    pub async fn look_up(&self, node: &str, id: &str, project: &ProjectName, step: Step<'_>) -> Outcome {
        let answer = self.life(node).node.transactions().look_up(project, &request(id, &[step])).await;
        answer.unwrap_or_else(|error| panic!("{id}: {error:?}")).outcome
    }

    /// Creates a project through a node.
    ///
    /// # Panics
    /// If the node gives no verdict.
    pub async fn create(&self, node: &str, id: &str, project: &ProjectName, head: &str) -> ProjectResponse {
        self.world.watch.operates(id, project, RefKey::State, None);
        let request = CreateProjectRequest { request_id: id.to_owned(), head: name(head) };
        self.operated(id, self.life(node).node.transactions().create_project(project, request).await)
    }

    /// Deletes a project through a node.
    ///
    /// # Panics
    /// If the node gives no verdict.
    pub async fn delete(&self, node: &str, id: &str, project: &ProjectName) -> ProjectResponse {
        self.world.watch.operates(id, project, RefKey::State, None);
        let request = DeleteProjectRequest { request_id: id.to_owned(), lock: None };
        self.operated(id, self.life(node).node.transactions().delete_project(project, request).await)
    }

    fn operated(&self, id: &str, answer: Result<ProjectResponse, ApiError>) -> ProjectResponse {
        self.world.trace.note("story", &format!("{id} heard {answer:?}"));
        let response = answer.unwrap_or_else(|error| panic!("{id}: {error:?}"));
        self.world.watch.operated(id, &response);
        response
    }

    /// The state of a project in the refdb, as text.
    #[must_use]
    pub fn state(&self, project: &ProjectName) -> String {
        self.world.watch.known().facts.state(project).map(|state| state.to_string()).unwrap_or_default()
    }
}
