//! c. The cost of the sidecar's own code: commits through the API over a refdb, an event log, a store and repositories
//! that are all in memory. Everything runs on one thread, so processor time is the time of one core.

use std::sync::Arc;

use futures::future::try_join_all;
use lockstep::base::clock::{SeededEntropy, SystemClock};
use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::node::assembly::{Node, NodeDependencies, NodeSettings, ProbeSet};
use lockstep::seams::blob::memory::MemoryBlobs;
use lockstep::seams::eventlog::memory::MemoryEventLog;
use lockstep::seams::git::model::ModelRepositories;
use lockstep::seams::peers::FallbackPeers;
use lockstep::seams::refdb::memory::{MemoryRefDb, MemoryTables};
use lockstep::seams::refdb::{Role, SiteRecord};
use lockstep::seams::signing::SiteSigner;
use lockstep::seams::volume::memory::MemoryStore;
use lockstep_proto::bridge::{CreateProjectRequest, Outcome};
use lockstep_proto::{Oid, ProjectName, SiteId};
use serde_json::json;
use tokio::time::Instant;

use crate::Fallible;
use crate::host::thread_seconds;
use crate::report::{Figure, Goal, Report, round};
use crate::site::{RecordingObserver, batch};

/// The number of concurrent callers.
const CALLERS: usize = 64;
/// The number of commits per caller.
const EACH: usize = 500;
/// The number of commits per branch. After them another branch begins, because the model of a repository walks a
/// branch's whole history at each move. git does not, and this cost would hide the sidecar's.
const BRANCH: usize = 10;
/// The number of projects that the callers work on.
const PROJECTS: usize = 8;
/// The number of measurements. Their median is the figure.
const ROUNDS: usize = 3;

/// Measures the figure c, on a thread and a runtime of its own.
pub async fn measure(report: &Report) -> Fallible<()> {
    let (plain, signed) = (rounds(false).await?, rounds(true).await?);
    let ((per_core_second, per_second), (with_signature, _)) = (plain[ROUNDS / 2], signed[ROUNDS / 2]);
    let rounds = plain;
    report.figure(&Figure {
        name: "c.signed_per_unsigned",
        value: with_signature / per_core_second,
        unit: "commits per core second with a signature on each, in units of those without",
        goal: None,
        samples: (ROUNDS * CALLERS * EACH) as u64,
        detail: json!({"commits_per_core_second": round(with_signature)}),
    });
    report.figure(&Figure {
        name: "c.commits_per_core_second",
        value: per_core_second,
        unit: "commits/s of processor time",
        goal: Some(Goal::AtLeast(5_000.0)),
        samples: (ROUNDS * CALLERS * EACH) as u64,
        detail: json!({"commits_per_s_on_the_clock": round(per_second), "callers": CALLERS, "projects": PROJECTS,
                       "rounds": rounds.iter().map(|(value, _)| round(*value)).collect::<Vec<_>>()}),
    });
    Ok(())
}

/// The results of all measurements, the slowest first. With `signed`, each transaction is signed, and its record is
/// verified when the node reads its own stream.
async fn rounds(signed: bool) -> Fallible<Vec<(f64, f64)>> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _ = tell.send(runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(commits(signed))));
        });
        rounds.push(told.await??);
    }
    rounds.sort_by(|left, right| left.0.total_cmp(&right.0));
    Ok(rounds)
}

/// Commits per second of processor time, and per second of wall-clock time.
#[expect(clippy::cast_precision_loss, reason = "some ten thousand commits")]
async fn commits(signed: bool) -> Fallible<(f64, f64)> {
    let repositories = ModelRepositories::new(InjectedBugs::default());
    let node = Node::start(deps(&repositories, signed).await?).await?;
    while !node.is_ready() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let project: ProjectName = format!("project-{}", caller % PROJECTS).parse()?;
        if caller < PROJECTS {
            create(&node, &project).await?;
        }
        let objects = (0..EACH).scan(None, |before: &mut Option<Oid>, at| {
            if at % BRANCH == 0 {
                *before = None;
            }
            let oid = repositories.add_object(&project, before.as_slice(), (caller * EACH + at) as u64);
            Some((before.replace(oid), oid))
        });
        let objects: Vec<_> = objects.collect();
        callers.push((project, format!("refs/heads/branch-{caller}"), objects));
    }
    let (processor, clock) = (thread_seconds()?, Instant::now());
    try_join_all(callers.iter().map(|(project, name, objects)| work(&node, project, name, objects))).await?;
    let total = (CALLERS * EACH) as f64;
    let rates = (total / (thread_seconds()? - processor), total / clock.elapsed().as_secs_f64());
    node.kill();
    Ok(rates)
}

async fn work(node: &Node, project: &ProjectName, name: &str, objects: &[(Option<Oid>, Oid)]) -> Fallible<()> {
    let api = node.transactions();
    for (at, (old, new)) in objects.iter().enumerate() {
        let branch = format!("{name}-{}", at / BRANCH);
        let request = batch(format!("{name}-{at}"), [(branch, *old, *new)])?;
        let answer = api.submit(project, request).await.map_err(|error| error.message)?;
        if answer.outcome != Outcome::Committed {
            return Err(format!("{answer:?}").into());
        }
    }
    Ok(())
}

async fn create(node: &Node, project: &ProjectName) -> Fallible<()> {
    let request = CreateProjectRequest { request_id: format!("create-{project}"), head: "refs/heads/main".parse()? };
    let answer = node.transactions().create_project(project, request).await.map_err(|error| error.message)?;
    if answer.outcome == Outcome::Committed { Ok(()) } else { Err(format!("{answer:?}").into()) }
}

async fn deps(repositories: &ModelRepositories, signed: bool) -> Fallible<NodeDependencies> {
    let site: SiteId = "eu-aws".parse()?;
    let refdb = MemoryRefDb::new().refdb();
    if signed {
        let record = refdb.sites.enroll_site(&site, Role::Active).await?;
        let demands = SiteRecord { signed: true, epoch: record.epoch + 1, ..record.clone() };
        refdb.sites.change_site(Some(&record), &demands, 0).await?;
    }
    Ok(NodeDependencies {
        refdb,
        tables: Arc::new(MemoryTables::default()),
        eventlog: Arc::new(MemoryEventLog::new(1)),
        blobs: Arc::new(MemoryBlobs::default()),
        peers: Arc::new(FallbackPeers::new(Vec::new())),
        repositories: Arc::new(repositories.clone()),
        store: Arc::new(MemoryStore::default()),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SeededEntropy::new(1)),
        gerrit: None,
        probes: ProbeSet::default(),
        observer: RecordingObserver::new(),
        signer: SiteSigner::from_seed(&[1; 32]).filter(|_| signed).map(Arc::new),
        boot: "bench".to_owned(),
        settings: NodeSettings::new(site.clone(), "eu-aws-0".parse()?, vec![site]),
        bugs: InjectedBugs::default(),
    })
}
