//! One run: start everything, inject faults, heal, converge.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::refdb::{RefDb, Role, SlotState};
use lockstep::stages::api::Inspection;
use lockstep_proto::bridge::{CreateProjectRequest, Outcome};
use lockstep_proto::verify::{ALL_PEERS, Mismatch, Verification, VerifyRequest};
use lockstep_proto::{NodeId, ProjectName, SiteId, Slot, TxnId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::backend::{Backend, NodeFactory};
use super::check::Violation;
use super::check::availability::Judged;
use super::clients::Client;
use super::dice::Dice;
use super::facts::is_rotten;
use super::listeners::Listener;
use super::nemesis::Nemesis;
use super::phases::Phases;
use super::scenario::Scenario;
use super::trace::Trace;
use super::world::{World, name};
use super::{capacity, failovers, rebuilds, retention, site_list};

/// The number of trace lines that a failure prints.
const TAIL: usize = 60;

/// The result of a run in which every property held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed of the run.
    pub seed: u64,
    /// The hash of the trace.
    pub hash: u64,
    /// The duration of the run, in virtual milliseconds.
    pub virtual_ms: u64,
    /// The time from healing to convergence, in virtual milliseconds.
    pub converged_in_ms: u64,
    /// The number of commits in the refdb.
    pub commits: u64,
    /// The number of refs that were created with the name of an emptied folder.
    pub freed: usize,
    /// The number of faults injected into calls.
    pub faults: u64,
    /// The number of accepted stream events, and of their deliveries, each node counted once per event.
    pub events: [u64; 2],
    /// The number of refs per answer: committed, not visible yet, refused, unknown, and without an answer.
    pub heard: [u64; 5],
    /// How often the availability of nodes and of commits was judged.
    pub judged: Judged,
    /// The lines of the trace, each with its virtual time. Equal for equal seeds.
    pub trace: String,
}

/// The result of a run in which a property did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// The name of the scenario, which a replay needs beside the seed.
    pub scenario: String,
    /// The property that did not hold.
    pub violation: Violation,
    /// The lines of the trace, each with its virtual time. Equal for equal seeds.
    pub trace: String,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [committed, unseen, refused, unknown, unheard] = self.heard;
        let [taken, listened] = self.events;
        write!(
            out,
            "seed {} trace {:016x}: {} s virtual, {} commits, {} names freed, {} faults, converged in {} ms; \
             heard: {committed} committed, {unseen} not yet visible, {refused} refused, {unknown} unknown, {unheard} \
             nothing; {taken} events taken, heard {listened} times; judged available: {} attempts, {} beats",
            self.seed,
            self.hash,
            self.virtual_ms / 1_000,
            self.commits,
            self.freed,
            self.faults,
            self.converged_in_ms,
            self.judged.attempts,
            self.judged.beats
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.trace.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "seed {} ({}) violates {}", self.seed, self.scenario, self.violation)?;
        write!(out, "replay: make sim SEED={}", self.seed)
    }
}

/// Runs one seed from start to end, in a runtime of its own.
///
/// # Errors
/// The first property that did not hold.
///
/// # Panics
/// If the machine cannot start a runtime.
pub fn run(
    seed: u64,
    scenario: Scenario,
    bugs: InjectedBugs,
    backend: Arc<dyn Backend>,
    factory: Arc<dyn NodeFactory>,
) -> Result<Report, Box<Failure>> {
    let title = scenario.name.clone();
    let (ended, trace) = runtime().block_on(async {
        let world = World::new(seed, scenario, bugs, backend, factory);
        (Phases { world: world.clone() }.run().await, world.trace.clone())
    });
    let trace: Arc<Trace> = trace;
    match ended {
        Ok(report) => Ok(Report { hash: trace.hash(), trace: trace.text(), ..report }),
        Err(violation) => Err(Box::new(Failure { seed, scenario: title, violation, trace: trace.text() })),
    }
}

/// A runtime of one thread, whose time advances only when no task has work.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a current-thread runtime without I/O needs nothing of the machine")
}

impl Phases {
    async fn run(&self) -> Result<Report, Violation> {
        self.set_up().await?;
        let converged_in_ms = if self.world.scenario.rewind {
            self.rewind().await?;
            0
        } else {
            self.safety().await?;
            self.heal().await;
            let took = self.converge("convergence").await?;
            self.verify().await?;
            took
        };
        if self.world.scenario.rebuild {
            rebuilds::rebuild(self).await?;
        }
        if self.world.scenario.lose_a_site {
            self.lose_a_site().await?;
        }
        if self.world.scenario.expel_a_node {
            self.expel_a_node().await?;
        }
        let known = self.world.watch.known();
        Ok(Report {
            seed: self.world.seed,
            hash: 0,
            virtual_ms: self.world.trace.now_ms(),
            converged_in_ms,
            commits: known.facts.commits,
            freed: known.facts.freed(),
            faults: self.world.faults.injected(),
            events: known.events.counts(),
            heard: known.history.counts(),
            judged: known.availability.judged(),
            trace: String::new(),
        })
    }

    pub(super) async fn set_up(&self) -> Result<(), Violation> {
        let broken = |what: String| Violation { property: "set-up", what };
        self.world.enroll().await.map_err(broken)?;
        if self.world.scenario.autoscales {
            capacity::begin(&self.world).await.map_err(broken)?;
        }
        for node in self.world.nodes() {
            let world = self.world.clone();
            tokio::spawn(async move { world.start(&node).await });
        }
        if self.world.scenario.events > 0 {
            for node in self.world.nodes() {
                tokio::spawn(Listener::new(self.world.clone(), node).run());
            }
        }
        self.all_ready().await?;
        self.world.start_gerrits();
        for number in 0..self.world.scenario.projects {
            self.create_project(&name(&format!("p{number}"))).await.map_err(broken)?;
        }
        self.converge("convergence").await?;
        if self.world.scenario.signed {
            self.world.require_signatures(true).await;
            // Every node has read it, and every incarnation is one that signs.
            self.pass(5_000).await?;
            self.converge("convergence").await?;
        }
        Ok(())
    }

    async fn create_project(&self, project: &ProjectName) -> Result<(), String> {
        let nodes = self.world.nodes();
        let life = nodes.first().and_then(|node| self.world.life(node)).ok_or("no node is up")?;
        let request = CreateProjectRequest { request_id: format!("create-{project}"), head: name("refs/heads/b0") };
        let answer = life.node.transactions().create_project(project, request).await;
        self.world.trace.note("operator", &format!("creates {project}: {answer:?}"));
        let response = answer.map_err(|error| error.message)?;
        match response.outcome {
            Outcome::Committed | Outcome::CommittedNotYetVisible => Ok(()),
            Outcome::Refused | Outcome::Unknown => Err(format!("{project} was not created: {:?}", response.refusal)),
        }
    }

    async fn safety(&self) -> Result<(), Violation> {
        let stop = CancellationToken::new();
        self.world.trace.note("run", "SAFETY");
        self.world.faults.switch(true);
        let mut tasks = vec![tokio::spawn(Nemesis::new(self.world.clone(), stop.clone()).run())];
        if let Some(drawn) = retention::drawn(&self.world) {
            tasks.push(tokio::spawn(retention::forget(self.world.clone(), drawn.keeps_ms, stop.clone())));
            let away = drawn.away.map(|away| retention::keep_away(self.world.clone(), away, stop.clone()));
            tasks.extend(away.map(tokio::spawn));
        }
        if self.world.scenario.autoscales {
            tasks.push(tokio::spawn(capacity::tell(self.world.clone(), stop.clone())));
        }
        let changing = self.world.scenario.list_moves.then(|| tokio::spawn(site_list::change(self.world.clone())));
        for site in self.world.all_sites() {
            for number in 0..self.world.scenario.clients {
                let client = Client::new(self.world.clone(), site.clone(), number, stop.clone());
                tasks.push(tokio::spawn(client.run()));
            }
        }
        let result = self.pass(self.world.scenario.safety_ms).await;
        stop.cancel();
        result?;
        let Some(changing) = changing else { return Ok(()) };
        self.heal().await;
        site_list::has_changed(self, &changing).await?;
        self.pass(10_000).await?;
        match self.world.serves_outside() {
            Some(node) => Err(Violation { property: "site-list", what: format!("{node} serves outside of the list") }),
            None => Ok(()),
        }
    }

    /// Replaces the refdb by an older backup at a random moment, while clients and nemesis go on. At the end every node
    /// must say so.
    async fn rewind(&self) -> Result<(), Violation> {
        let dice = Dice::new(self.world.seed, "rewind");
        let stop = CancellationToken::new();
        self.world.faults.switch(true);
        tokio::spawn(Nemesis::new(self.world.clone(), stop.clone()).run());
        for site in self.world.sites() {
            for number in 0..self.world.scenario.clients {
                tokio::spawn(Client::new(self.world.clone(), site.clone(), number, stop.clone()).run());
            }
        }
        self.pass(dice.between(500, 15_000)).await?;
        self.world.trace.note("run", "BACKUP");
        let backup = self.world.backend.backup();
        self.pass(dice.between(2_500, 20_000)).await?;
        self.world.trace.note("run", "THE REFDB GOES BACK");
        self.world.watch.rewound();
        self.world.backend.restore(&backup);
        self.pass(30_000).await?;
        stop.cancel();
        self.heal().await;
        self.pass(15_000).await?;
        for node in self.world.nodes() {
            let life = self.world.life(&node);
            let says = life.as_ref().is_some_and(|life| life.node.went_back());
            self.world.watch.hindsight(&node, says, life.is_some_and(|life| life.node.is_ready()));
        }
        self.judge()
    }

    async fn heal(&self) {
        self.world.trace.note("run", "HEAL");
        self.world.faults.heal();
        for site in self.world.sites().into_iter().filter(|_| !self.world.scenario.moves_writes()) {
            let fenced = {
                let known = self.world.watch.known();
                known.facts.sites.get(&site).is_some_and(|record| record.role != Role::Active)
            };
            if fenced {
                self.world.set_role(&site, Role::Active).await;
            }
        }
        for node in self.world.nodes() {
            let world = self.world.clone();
            tokio::spawn(async move { world.start(&node).await });
        }
    }

    /// Waits until nothing differs from the refdb. Returns the virtual milliseconds that this took.
    pub(super) async fn converge(&self, property: &'static str) -> Result<u64, Violation> {
        let from = self.world.trace.now_ms();
        loop {
            self.pass(200).await?;
            let late = self.world.not_ready();
            let differs = match late.is_empty() {
                true => self.world.watch.differs().map(|what| (property, what)),
                false => Some((property, format!("{late:?} not ready"))),
            };
            let differs = match differs {
                None => failovers::unfinished(&self.world).await.map(|what| ("failover", what)),
                differs => differs,
            };
            let differs = differs.or_else(|| self.world.gerrits_differ().map(|what| ("refresh", what)));
            let differs = match differs {
                None => self.world.refdb_differs().await.map(|what| (property, what)),
                differs => differs,
            };
            let took = self.world.trace.now_ms() - from;
            let Some((property, what)) = differs else {
                self.world.trace.note("run", &format!("CONVERGED in {took} ms"));
                return Ok(took);
            };
            if took > self.world.scenario.converge_ms {
                return Err(Violation { property, what: format!("after {took} healed ms: {what}") });
            }
        }
    }

    /// Has every node compare its refs with the refdb, and with its peers, as `lockstep verify` does: all are equal.
    async fn verify(&self) -> Result<(), Violation> {
        let of_refdb = VerifyRequest::of_refdb(None, 100);
        let of_peers = VerifyRequest { against: Some(ALL_PEERS.to_owned()), ..of_refdb.clone() };
        for node in self.world.nodes() {
            let life = self.world.life(&node);
            let Some(inspection) = life.and_then(|life| life.node.inspection()) else { continue };
            for request in [of_refdb.clone(), of_peers.clone()] {
                self.verify_node(&node, inspection.as_ref(), request).await?;
            }
        }
        Ok(())
    }

    async fn verify_node(
        &self,
        node: &NodeId,
        inspection: &dyn Inspection,
        request: VerifyRequest,
    ) -> Result<(), Violation> {
        let violates = |what: String| Violation { property: "verify", what: format!("{node}: {what}") };
        let begun = inspection.verify(request).await.map_err(|error| violates(error.message))?;
        let until = self.world.trace.now_ms() + self.world.scenario.converge_ms;
        let is_ours = |last: &Verification| last.ended_ms.is_some() && last.number == begun.number;
        let ended = loop {
            self.pass(100).await?;
            match inspection.verification().await.filter(is_ours) {
                Some(ended) => break ended,
                None if self.world.trace.now_ms() > until => return Err(violates("it does not end".into())),
                None => {}
            }
        };
        let is_bad = |found: &&Mismatch| found.name.parse().is_ok_and(|name| !is_rotten(&name));
        if let Some(found) = ended.found.iter().find(is_bad) {
            return Err(violates(format!("{found:?}")));
        }
        match ended.failed.first() {
            Some(failed) => Err(violates(format!("{failed:?}"))),
            None => Ok(()),
        }
    }

    /// Keeps a node away until it is expelled and the journal is collected past it, then brings it back.
    async fn expel_a_node(&self) -> Result<(), Violation> {
        let nodes = self.world.nodes();
        let away = &nodes[usize::try_from(self.world.seed).unwrap_or(0) % nodes.len()];
        self.world.crash(away);
        let before = self.transactions();
        let stop = CancellationToken::new();
        for site in self.world.sites() {
            tokio::spawn(Client::new(self.world.clone(), site, 7, stop.clone()).run());
        }
        let property = "expulsion";
        let until = self.world.trace.now_ms() + self.world.scenario.converge_ms;
        loop {
            self.pass(1_000).await?;
            let nodes = self.world.backend.refdb().nodes.nodes().await.unwrap_or_default();
            let expelled = nodes.iter().any(|node| node.node == *away && node.expelled);
            let after = self.transactions();
            let missed = after.difference(&before).next();
            let is_collected = match missed {
                Some(txn) => slot_is_empty(&self.world.backend.refdb(), &txn.slot).await,
                None => false,
            };
            if expelled && is_collected {
                break;
            }
            if self.world.trace.now_ms() > until {
                let what = format!("{away}: expelled {expelled}, {missed:?} collected {is_collected}");
                return Err(Violation { property, what });
            }
        }
        stop.cancel();
        self.world.trace.note(away.as_str(), "COMES BACK");
        self.world.start(away).await;
        self.converge(property).await.map(|_| ())
    }

    fn transactions(&self) -> BTreeSet<TxnId> {
        self.world.watch.known().facts.transactions.keys().cloned().collect()
    }

    /// Loses every volume of one site, which must recover. The other sites have all acknowledged commits.
    async fn lose_a_site(&self) -> Result<(), Violation> {
        let sites = self.world.sites();
        let at = usize::try_from(self.world.seed).unwrap_or(0) % sites.len();
        let site: &SiteId = &sites[at];
        self.world.trace.note(site.as_str(), "SITE LOST");
        for node in self.world.nodes_of(site) {
            self.world.lose_disk(&node);
        }
        sleep(Duration::from_secs(5)).await;
        for node in self.world.nodes_of(site) {
            let world = self.world.clone();
            tokio::spawn(async move { world.start(&node).await });
        }
        self.converge("site-loss").await.map(|_| ())
    }
}

async fn slot_is_empty(refdb: &RefDb, slot: &Slot) -> bool {
    matches!(refdb.journal.slot(slot).await, Ok(SlotState::Empty))
}
