//! Sites of a benchmark: whole nodes in this process, each on a volume of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep::base::clock::SystemClock;
use lockstep::base::observer::Observer;
use lockstep::node::assembly::{Node, NodeDependencies, Seams, Watch, dependencies};
use lockstep::node::config::Settings;
use lockstep::seams::git;
use lockstep::telemetry::metrics::Metrics;
use lockstep::telemetry::status_board::StatusBoard;
use lockstep_proto::bridge::{CreateProjectRequest, Expected, Outcome, RefCommand, RefTransactionRequest};
use lockstep_proto::{Oid, ProjectName, Transaction, TxnId};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::far::{Far, far_refdb};
use crate::history::History;

/// The limit for any step. A benchmark gives up after it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The number of committed transactions that are kept for [`RecordingObserver::take_committed`].
pub const KEPT: usize = 1_000;

/// A running node, and a record of its reports.
pub struct Site {
    /// The node, which serves until it is stopped or killed.
    pub node: Node,
    /// The seams of the node.
    pub deps: NodeDependencies,
    /// The record of the transactions that it committed and applied.
    pub recorded: Arc<RecordingObserver>,
    root: PathBuf,
}

/// The settings of a benchmark's site.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The pause between two reads of a shard.
    pub poll: Duration,
    /// The simulated round trip to AWS, if any.
    pub round_trip: Option<Duration>,
}

impl Manner {
    /// Short pauses: the emulators are near and have no limit on reads.
    pub const NEAR: Self = Self { poll: Duration::from_millis(20), round_trip: None };
    /// Four reads per second and node, as in production. Kinesis allows five reads per second and shard, for all
    /// readers together.
    pub const USUAL: Self = Self { poll: Duration::from_millis(250), round_trip: None };
}

/// An observer that records when transactions of other sites become readable here. It also updates the status board, as
/// in production.
pub struct RecordingObserver {
    watch: Watch,
    visible: Mutex<HashMap<TxnId, Instant>>,
    count: watch::Sender<u64>,
    kept: Mutex<Vec<Arc<Transaction>>>,
    seen: AtomicU64,
    fetched: AtomicU64,
}

impl RecordingObserver {
    /// A record of no transaction yet. Metrics go nowhere.
    pub fn new() -> Arc<Self> {
        let clock = Arc::new(SystemClock);
        let watch = Watch::new(Arc::new(StatusBoard::new(clock.clone())), Metrics::noop(), clock);
        Arc::new(Self {
            watch,
            visible: Mutex::default(),
            count: watch::Sender::new(0),
            kept: Mutex::default(),
            seen: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
        })
    }

    /// The number of transactions of other sites that were applied.
    pub fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Waits until this many transactions of other sites were applied.
    pub async fn reach(&self, count: u64) -> Fallible<()> {
        let mut watched = self.count.subscribe();
        match timeout(PATIENCE, watched.wait_for(|now| *now >= count)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{} of {count} transactions were applied in {PATIENCE:?}", self.count()).into()),
        }
    }

    /// The number of records from the event log, own ones included, and the number of transactions that came from the
    /// journal instead.
    pub fn origins(&self) -> (u64, u64) {
        (self.seen.load(Ordering::Relaxed), self.fetched.load(Ordering::Relaxed))
    }

    /// Takes the transactions that were committed here since the last call, at most [`KEPT`].
    pub fn take_committed(&self) -> Vec<Arc<Transaction>> {
        std::mem::take(&mut *self.kept.lock())
    }

    /// The time at which each transaction became readable.
    pub fn visible(&self) -> HashMap<TxnId, Instant> {
        self.visible.lock().clone()
    }
}

impl Observer for RecordingObserver {
    fn committed(&self, transaction: &Transaction, visible: bool, took: Duration) {
        let mut kept = self.kept.lock();
        if kept.len() < KEPT {
            kept.push(Arc::new(transaction.clone()));
        }
        drop(kept);
        self.watch.committed(transaction, visible, took);
    }

    fn seen(&self, origin: &lockstep_proto::SiteId, txn: &TxnId, committed_at_ms: u64) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.watch.seen(origin, txn, committed_at_ms);
    }

    fn applied(&self, transaction: &Transaction) {
        let now = Instant::now();
        self.visible.lock().insert(transaction.id.clone(), now);
        self.count.send_modify(|count| *count += 1);
        self.watch.applied(transaction);
    }

    fn skipped(&self, origin: &lockstep_proto::SiteId, txn: &TxnId) {
        self.watch.skipped(origin, txn);
    }

    fn caught_up(&self, txn: &TxnId) {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        self.watch.caught_up(txn);
    }

    fn failed(&self, stage: &'static str, why: &dyn std::fmt::Display) {
        eprintln!("{stage}: {why}");
    }
}

impl Site {
    /// Starts a node of one of `sites`, and waits until it is ready.
    pub async fn start(cloud: &Cloud, name: &str, sites: &[&str], manner: Manner) -> Fallible<Self> {
        let site = Self::begin(cloud, name, sites, manner).await?;
        site.ready().await?;
        Ok(site)
    }

    /// Starts a node, and does not wait for it.
    pub async fn begin(cloud: &Cloud, name: &str, sites: &[&str], manner: Manner) -> Fallible<Self> {
        let settings = cloud.settings(name, manner.poll, sites)?;
        Self::on(&settings, &cloud.seams, manner.round_trip).await
    }

    /// Starts a node with this configuration on these seams, and does not wait for it. AWS may be a round trip away.
    pub async fn on(settings: &Settings, seams: &Seams, round_trip: Option<Duration>) -> Fallible<Self> {
        let recorded = RecordingObserver::new();
        let git = git::Settings::default();
        let mut deps = dependencies(settings, seams, None, git, recorded.clone(), &Metrics::noop())?;
        if let Some(round_trip) = round_trip {
            deps.refdb = far_refdb(&deps.refdb, round_trip);
            deps.eventlog = Arc::new(Far::new(deps.eventlog, round_trip));
        }
        let node = Node::start(deps.clone()).await?;
        Ok(Self { node, deps, recorded, root: settings.base_paths.root().to_owned() })
    }

    /// Waits until the node is ready.
    pub async fn ready(&self) -> Fallible<()> {
        let end = Instant::now() + PATIENCE;
        while !self.node.is_ready() {
            if Instant::now() >= end {
                return Err(format!("a node still waits for {:?}", self.node.latches().closed()).into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts all three sites.
    pub async fn all(cloud: &Cloud, manner: Manner) -> Fallible<Vec<Self>> {
        let mut sites = Vec::new();
        for name in SITES {
            sites.push(Self::begin(cloud, name, &SITES, manner).await?);
        }
        for site in &sites {
            site.ready().await?;
        }
        Ok(sites)
    }

    /// The repository of a project at this site.
    pub fn repository(&self, project: &ProjectName) -> PathBuf {
        self.root.join(format!("{project}.git"))
    }

    /// Creates a project and waits until every one of `sites` has it.
    pub async fn create_project(&self, name: &str, sites: &[Self]) -> Fallible<ProjectName> {
        let project: ProjectName = name.parse()?;
        let request = CreateProjectRequest { request_id: format!("create-{name}"), head: "refs/heads/main".parse()? };
        let answer = self.node.transactions().create_project(&project, request).await;
        let answer = answer.map_err(|error| error.message)?;
        if answer.outcome != Outcome::Committed {
            return Err(format!("project {name} was not created: {:?}", answer.refusal).into());
        }
        let end = Instant::now() + PATIENCE;
        while !sites.iter().all(|site| site.repository(&project).exists()) {
            if Instant::now() >= end {
                return Err(format!("project {name} did not arrive at every site").into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(project)
    }

    /// Creates a project with a first commit on `main`, on which all other commits build.
    pub async fn begin_project(&self, name: &str, sites: &[Self]) -> Fallible<(ProjectName, Oid)> {
        let project = self.create_project(name, sites).await?;
        let base = History::base(&self.repository(&project))?;
        let before: Vec<u64> = sites.iter().map(|site| site.recorded.count()).collect();
        self.commit(&project, batch(format!("begin-{name}"), [("refs/heads/main".to_owned(), None, base)])?).await?;
        for (site, before) in sites.iter().zip(before).skip(1) {
            site.recorded.reach(before + 1).await?;
        }
        Ok((project, base))
    }

    /// Commits a batch. Any outcome other than committed and visible is an error.
    pub async fn commit(&self, project: &ProjectName, request: RefTransactionRequest) -> Fallible<TxnId> {
        let answer = self.node.transactions().submit(project, request).await.map_err(|error| error.message)?;
        match answer {
            answer if answer.outcome == Outcome::Committed => Ok(answer.txn.ok_or("committed without an id")?),
            answer => Err(format!("not committed: {answer:?}").into()),
        }
    }
}

/// A batch that moves each ref from its old to its new value, as a push does.
pub fn batch(
    id: String,
    moves: impl IntoIterator<Item = (String, Option<Oid>, Oid)>,
) -> Fallible<RefTransactionRequest> {
    let command = |(name, old, new): (String, Option<Oid>, Oid)| {
        let old = old.map_or(Expected::Absent, Expected::Oid);
        Ok(RefCommand { name: name.parse()?, old, new: Some(new), force: true })
    };
    Ok(RefTransactionRequest {
        request_id: id,
        deadline_ms: Some(60_000),
        atomic: true,
        commands: moves.into_iter().map(command).collect::<Fallible<_>>()?,
        actor: None,
        traceparent: None,
        message: None,
        lock: None,
    })
}

/// Stops nodes in an orderly way.
pub async fn stop(sites: Vec<Site>) {
    futures::future::join_all(sites.iter().map(|site| site.node.stop(Duration::from_secs(10)))).await;
}
