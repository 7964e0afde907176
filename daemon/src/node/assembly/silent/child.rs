//! The standby on the copy: `lockstep silent-drill`, a child of the sidecar.
//!
//! Its refdb, event log and blob store are in its memory, and it has no peers. First a node with an empty refdb
//! rebuilds one from the version map, as after a lost refdb. Then a second node on the same volume moves to it, joins,
//! and becomes active by a forced failover.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::failover::{ExecuteRequest, Failover, FailoverKind, FailoverStep, PlanRequest};
use lockstep_proto::rebuild::{RebuildPhase, RebuildRequest};
use lockstep_proto::silent::SilentStep;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::production::{Outside, on_volume};
use super::super::{Inspector, Node, NodeDependencies, Watch, git_settings};
use super::canary::Canary;
use super::error::SilentError;
use super::own_objects::OwnObjects;
use crate::base::clock::{Clock, SystemClock};
use crate::node::config::Settings;
use crate::node::silent_drill::contents::Contents;
use crate::node::silent_drill::plan::{Plan, settings};
use crate::node::silent_drill::words::{FOUND, Word, say};
use crate::seams::blob::memory::MemoryBlobs;
use crate::seams::copy::leash::{self, Leashed};
use crate::seams::eventlog::memory::MemoryEventLog;
use crate::seams::probe::Probe;
use crate::seams::probe::page::PageProbe;
use crate::seams::refdb::Tables;
use crate::seams::refdb::memory::MemoryTables;
use crate::seams::signing::SiteSigner;
use crate::seams::volume::lock::VolumeLock;
use crate::stages::api::server::BoundApi;
use crate::stages::ports::{Comparison, Operators};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::status_board::StatusBoard;
use crate::telemetry::{self, Telemetry};

/// The prefix of the refdb that is rebuilt.
const REBUILT: &str = "drill";
/// The pause between two looks at something that goes on by itself.
const LOOK: Duration = Duration::from_millis(50);
/// How long a node that is asked for a thing is waited for. The parent bounds the whole.
const LONG: Duration = Duration::from_secs(3_600);

/// Runs the child. Standard input has its plan in the first line. It ends with its standard input.
///
/// # Errors
/// There is no plan, or the parent does not listen.
pub async fn run_child() -> Result<(), SilentError> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(SilentError::Plan)?;
    let plan: Plan = serde_json::from_str(&line).map_err(|error| SilentError::Plan(error.into()))?;
    leash::end_with_input()?;
    bounded(plan.memory)?;
    let logs = telemetry::Settings {
        site: plan.site.clone(),
        node: plan.node.clone(),
        log_format: telemetry::LogFormat::Text,
        log_filter: "warn".to_owned(),
        otlp_endpoint: None,
    };
    let logs = Telemetry::build(&logs)?;
    logs.install()?;
    if let Err(why) = Standby::new(plan)?.run().await {
        say(&Word::Red(why.to_string()))?;
    }
    Ok(say(&Word::End)?)
}

/// Bounds the memory of this process and of each that it starts, and has the kernel choose it first if memory is short.
fn bounded(bytes: u64) -> Result<(), SilentError> {
    let maximum = getrlimit(Resource::Data).maximum;
    let limit = Rlimit { current: Some(maximum.map_or(bytes, |maximum| maximum.min(bytes))), maximum };
    setrlimit(Resource::Data, limit).map_err(|error| SilentError::Memory(error.into()))?;
    // A kernel without this file has no such choice.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Measures the duration of each step.
struct Steps(Instant);

impl Steps {
    fn done(&mut self, step: &str) -> Result<(), SilentError> {
        let took_ms = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0 = Instant::now();
        Ok(say(&Word::Step(SilentStep { step: step.to_owned(), took_ms }))?)
    }
}

/// The standby on the copy.
struct Standby {
    plan: Plan,
    settings: Settings,
    tables: MemoryTables,
    deps: NodeDependencies,
    board: Arc<StatusBoard>,
}

impl Standby {
    /// Opens the copy of the volume.
    fn new(plan: Plan) -> Result<Self, SilentError> {
        let (settings, tables) = (settings(&plan), MemoryTables::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let board = Arc::new(StatusBoard::new(Arc::clone(&clock)));
        let watch = Arc::new(Watch::new(Arc::clone(&board), Metrics::noop(), clock));
        let outside = Outside {
            refdb: tables.open(MemoryTables::CURRENT),
            tables: Arc::new(tables.clone()),
            eventlog: Arc::new(MemoryEventLog::new(1)),
            blobs: Arc::new(MemoryBlobs::default()),
            peers: Some(Arc::new(OwnObjects)),
        };
        let git = git_settings(&settings)?;
        let deps = on_volume(&settings, outside, None, git, watch, &Metrics::noop())?;
        // The site may have to sign. Its own key stays with the real standby: records of a drill are good nowhere.
        let signer = SiteSigner::throwaway().ok_or(SilentError::NoRandomness)?;
        let deps = NodeDependencies { signer: Some(Arc::new(signer)), ..deps };
        Ok(Self { plan, settings, tables, deps, board })
    }

    async fn run(self) -> Result<(), SilentError> {
        let mut steps = Steps(Instant::now());
        let _lock = VolumeLock::take(self.settings.base_paths.root(), Duration::ZERO).await?;
        for site in self.deps.store.bound()?.sites {
            self.deps.eventlog.ensure(&site.site).await?;
        }
        say(&Word::Doing("making a refdb from the version map of the copy".to_owned()))?;
        self.rebuild().await?;
        steps.done("rebuild")?;
        say(&Word::Doing("waiting until the standby on the copy is ready".to_owned()))?;
        let deps = NodeDependencies { refdb: self.tables.open(REBUILT), ..self.deps.clone() };
        let node = Node::start(deps).await?;
        let shutdown = CancellationToken::new();
        let _api = self.serve(&node, &shutdown).await?;
        let gerrit = self.gerrit()?;
        until(&node, "the standby on the copy is ready", || node.is_ready()).await?;
        steps.done("start")?;
        say(&Word::Doing("promoting the standby on the copy".to_owned()))?;
        self.promote(&node).await?;
        say(&Word::TakesWrites)?;
        steps.done("promote")?;
        say(&Word::Doing("probing the standby on the copy".to_owned()))?;
        let canary = Canary::create(&node, &self.settings).await?;
        canary.probe().await?;
        steps.done("probe")?;
        if let Some(gerrit) = gerrit {
            say(&Word::Doing("waiting for the Gerrit on the copy".to_owned()))?;
            self.wait_for(gerrit).await?;
            steps.done("gerrit")?;
        }
        say(&Word::Green)?;
        say(&Word::Doing("comparing all refs".to_owned()))?;
        self.verify(&node).await?;
        let found = self.found().await?;
        let text = serde_json::to_vec(&found)?;
        let path = self.plan.folder.join(FOUND);
        std::fs::write(&path, text).map_err(|error| SilentError::File(path, error))?;
        steps.done("compare")
    }

    /// Makes a refdb in memory from the version map. The node that does it finds an empty refdb, and commits nothing.
    async fn rebuild(&self) -> Result<(), SilentError> {
        let node = Node::start(self.deps.clone()).await?;
        until(&node, "the copy sees that its refdb is lost", || node.went_back()).await?;
        let (rebuilds, into) = (node.rebuilds(), REBUILT.to_owned());
        let from_sites = Vec::new();
        let request = RebuildRequest { into, from_sites, dry_run: false, take_over: false, lost: true, moves: None };
        rebuilds.begin("silent drill", request).map_err(SilentError::Refused)?;
        let ended = || rebuilds.rebuild().filter(|one| one.phase != RebuildPhase::Running);
        until(&node, "the refdb of the copy is made", || ended().is_some()).await?;
        node.kill();
        match ended() {
            Some(one) if one.phase == RebuildPhase::Done => Ok(()),
            one => Err(SilentError::NoRefDb(one.and_then(|one| one.why).unwrap_or_default())),
        }
    }

    /// Serves the API to the hooks of the canary, and to the Gerrit on the copy.
    async fn serve(
        &self,
        node: &Node,
        shutdown: &CancellationToken,
    ) -> Result<crate::stages::api::server::ApiTasks, SilentError> {
        let api = BoundApi::bind(&self.settings.api.socket, None).await?;
        let api = api
            .giving(Arc::clone(&self.deps.repositories))
            .refreshing(node.refreshes())
            .guarded(node.handshake())
            .forwarding(node.events())
            .waiting(self.settings.commit.deadline);
        Ok(api.spawn(node.transactions(), Arc::new(Inspector::of(node, Arc::clone(&self.board))), shutdown))
    }

    fn gerrit(&self) -> Result<Option<Leashed>, SilentError> {
        let Some(gerrit) = &self.plan.gerrit else { return Ok(None) };
        let lockstep = std::env::current_exe()?;
        let envs = [
            ("LOCKSTEP_DRILL_SITE", gerrit.site.as_os_str()),
            ("LOCKSTEP_DRILL_ROOT", self.plan.root.as_os_str()),
            ("LOCKSTEP_DRILL_URL", gerrit.url.as_ref()),
        ];
        let failed = |error| SilentError::NoGerrit(gerrit.program.clone(), error);
        Leashed::start(&lockstep, &gerrit.program, &envs).map_err(failed).map(Some)
    }

    /// Waits until the Gerrit answers, or has ended.
    async fn wait_for(&self, mut running: Leashed) -> Result<(), SilentError> {
        let Some(gerrit) = &self.plan.gerrit else { return Ok(()) };
        let page = format!("{}config/server/version", gerrit.url);
        let probe = PageProbe::new(&page, None, self.settings.probes.timeout)?;
        let answers = async {
            while probe.run().await.iter().any(|one| one.red.is_some()) {
                sleep(self.settings.probes.interval).await;
            }
        };
        tokio::select! {
            biased;
            () = answers => Ok(()),
            ended = running.end() => {
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(SilentError::GerritEnded(gerrit.program.clone(), how, page))
            }
        }
    }

    /// Promotes the site of the copy over the active one, as if that were gone.
    async fn promote(&self, node: &Node) -> Result<(), SilentError> {
        let desk = node.operators();
        let plan = PlanRequest::new(FailoverKind::Forced, self.plan.from.clone(), self.plan.site.clone());
        let planned = desk.plan(&plan).await.map_err(SilentError::Refused)?;
        let request = ExecuteRequest {
            plan,
            plan_hash: planned.hash,
            reason: "silent drill".to_owned(),
            pause_before: Vec::new(),
        };
        desk.execute("silent drill", request).await.map_err(SilentError::Refused)?;
        let failover = self.ended(node, desk.as_ref()).await?;
        let probed = failover.end.as_ref().and_then(|end| end.green_ms);
        let note = |step: FailoverStep| {
            failover.steps.iter().find(|one| one.step == step).map(|one| one.note.clone()).unwrap_or_default()
        };
        match (failover.unserved, probed) {
            (true, _) => Err(SilentError::Unserved(note(FailoverStep::Serve))),
            (false, None) => Err(SilentError::RedCommitPath(note(FailoverStep::Probe))),
            (false, Some(_)) => Ok(()),
        }
    }

    /// Waits for the end of the failover.
    async fn ended(&self, node: &Node, desk: &dyn Operators) -> Result<Failover, SilentError> {
        loop {
            let failover = desk.sites().await.map_err(SilentError::Refused)?.failover;
            match failover {
                Some(failover) if failover.end.is_some() => return Ok(failover),
                Some(failover) if failover.held.is_some() => {
                    return Err(SilentError::Held(failover.held.unwrap_or_default()));
                }
                _ if node.is_fenced() => return Err(SilentError::Fenced),
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Compares the refs of the copy, on its disk and in its version map, with its refdb.
    async fn verify(&self, node: &Node) -> Result<(), SilentError> {
        let verifier = &node.stages().verifier;
        let number = verifier.begin_all().await?;
        loop {
            match verifier.result(number)? {
                Some(result) if result.is_equal() => return Ok(()),
                Some(result) => {
                    let (count, failed, first) = (result.mismatches, result.failures, result.examples.join("; "));
                    return Ok(say(&Word::Red(format!(
                        "{count} refs differ and {failed} projects cannot be compared: {first}"
                    )))?);
                }
                None => sleep(LOOK).await,
            }
        }
    }

    /// The refs that the repositories show.
    async fn found(&self) -> Result<Contents, SilentError> {
        let mut found = Contents::new();
        for (name, _) in self.deps.store.projects()? {
            if self.deps.repositories.exists(&name).await? {
                let refs = self.deps.repositories.list_refs(&name).await?;
                found.insert(name, refs.into_iter().collect());
            }
        }
        Ok(found)
    }
}

/// Waits until something is so.
async fn until(node: &Node, what: &'static str, is_so: impl Fn() -> bool) -> Result<(), SilentError> {
    let wait = async {
        while !is_so() {
            if node.is_fenced() {
                return Err(SilentError::Fenced);
            }
            sleep(LOOK).await;
        }
        Ok(())
    };
    timeout(LONG, wait).await.unwrap_or(Err(SilentError::Late(what)))
}
