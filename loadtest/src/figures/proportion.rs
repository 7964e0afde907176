//! f. The cost of a commit is in proportion to its new objects: a new ref with one commit, in turns in a repository
//! with 500,000 refs and 200,000 commits and in an empty one.
//!
//! `git fast-import` makes the large repository, and its refs are written as `packed-refs`. A direct loader seeds the
//! version maps of both nodes with all of them. The refdb does not know these refs: a commit touches only its own items
//! there.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::base::observer::Nobody;
use lockstep::seams::blob::long_form::LongForms;
use lockstep::seams::blob::memory::MemoryBlobs;
use lockstep::seams::git::{self, LocalRepositories, Repositories};
use lockstep::seams::volume::disk::DiskStore;
use lockstep::seams::volume::{Changes, NodeStore, RefRecord};
use lockstep::stages::apply::Units;
use lockstep::state::committed_requests::CommittedRequests;
use lockstep::state::materialize::{Materializer, OnMismatch};
use lockstep::state::version_map::{Mover, VersionMap};
use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey, RefValue, TxnId, Version, limits};
use serde_json::json;
use tokio::time::Instant;

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::History;
use crate::report::{Figure, Goal, Report};
use crate::site::{Manner, Site, batch, stop};
use crate::stats::Stats;

/// The number of refs in the large repository.
const REFS: usize = 500_000;
/// The number of commits in the large repository.
const COMMITS: usize = 200_000;
/// The number of transactions per repository.
const TIMES: usize = 200;
/// The number of refs per step of the loader.
const CHUNK: usize = 50_000;

/// Measures the figures f.
pub async fn measure(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let sites = vec![Site::start(&cloud, SITES[0], &SITES[..1], Manner::NEAR).await?];
    let other = Other::open(&cloud.folder().join("other"))?;
    let large = sites[0].create_project("large", &sites).await?;
    let empty = sites[0].create_project("empty", &sites).await?;
    other.apply_all(&sites[0]).await?;
    let bases = [fill(&sites[0], &other, &large).await?, begin(&sites[0], &empty).await?];
    other.apply_all(&sites[0]).await?;
    let commits = commit(&sites[0], [(&large, bases[0]), (&empty, bases[1])]).await?;
    let applied = other.apply_in_turns(&sites[0], &large).await?;
    tell(report, "f.commit_p50_large_minus_empty", &commits);
    tell(report, "f.apply_p50_large_minus_empty", &applied);
    stop(sites).await;
    Ok(())
}

fn tell(report: &Report, name: &'static str, [large, empty]: &[Stats; 2]) {
    report.figure(&Figure {
        name,
        value: large.p50() - empty.p50(),
        unit: "ms",
        goal: Some(Goal::AtMost(5.0)),
        samples: large.count() + empty.count(),
        detail: json!({"large_ms": large.json(), "empty_ms": empty.json(), "refs": REFS, "commits": COMMITS}),
    });
}

/// The apply stage on a volume of its own, without a node around it, so that exactly one unit is timed.
struct Other {
    units: Units,
    store: Arc<dyn NodeStore>,
    root: std::path::PathBuf,
}

impl Other {
    fn open(root: &Path) -> Fallible<Self> {
        std::fs::create_dir_all(root)?;
        let repositories = Arc::new(LocalRepositories::open(root, git::Settings::default())?);
        let store: Arc<dyn NodeStore> = Arc::new(DiskStore::open(&root.join("node.redb"))?);
        let versions = Arc::new(VersionMap::new(Arc::clone(&store), InjectedBugs::default()));
        let materializer = Materializer {
            repositories: repositories.clone(),
            versions: Arc::clone(&versions),
            mover: Mover::Other,
            comes_back: Default::default(),
        };
        let (blobs, observer) = (Arc::new(MemoryBlobs::default()), Arc::new(Nobody));
        let bugs = InjectedBugs::default();
        let long_forms = LongForms::new(blobs.clone(), repositories.spill(), limits::INLINE_COMMANDS);
        let requests = Arc::new(CommittedRequests::load(Arc::clone(&store), bugs)?);
        let units = Units { versions, repositories, materializer, blobs, long_forms, requests, observer, bugs };
        Ok(Self { units, store, root: root.to_owned() })
    }

    /// Applies the transactions that a site has committed since the last call.
    async fn apply_all(&self, site: &Site) -> Fallible<()> {
        for transaction in site.recorded.take_committed() {
            let project = transaction.project.clone();
            self.units.apply(&project, &[transaction], OnMismatch::Stop).await?;
        }
        Ok(())
    }

    /// The same, timed: one distribution for the large repository, and one for the other.
    async fn apply_in_turns(&self, site: &Site, large: &ProjectName) -> Fallible<[Stats; 2]> {
        let mut stats = [Stats::new()?, Stats::new()?];
        for transaction in site.recorded.take_committed() {
            let project = transaction.project.clone();
            let start = Instant::now();
            self.units.apply(&project, &[transaction], OnMismatch::Stop).await?;
            stats[usize::from(project.name != *large)].add(start.elapsed());
        }
        Ok(stats)
    }
}

/// Makes the large repository on both volumes. Returns its newest commit.
async fn fill(site: &Site, other: &Other, project: &ProjectName) -> Fallible<Oid> {
    let git_dir = site.repository(project);
    let history = History { from: None, chains: 1, length: COMMITS, bytes: 0, seed: 1, loose: false };
    let commits = history.import(&git_dir)?.pop().unwrap_or_default();
    let mut refs: Vec<(String, Oid)> = (1..=REFS)
        .map(|number| (format!("refs/changes/{:02}/{number}/1", number % 100), commits[number % COMMITS]))
        .collect();
    refs.sort_unstable();
    std::fs::write(git_dir.join("packed-refs"), packed(&refs)?)?;
    let copy = other.root.join(format!("{project}.git"));
    copy_files(&git_dir.join("objects/pack"), &copy.join("objects/pack"))?;
    std::fs::copy(git_dir.join("packed-refs"), copy.join("packed-refs"))?;
    let key = site.node.stages().state.versions.project_key(project)?.ok_or("the project does not exist")?;
    for store in [&site.deps.store, &other.store] {
        seed(store, &key, &refs).await?;
    }
    commits.last().copied().ok_or_else(|| "no commits".into())
}

fn packed(refs: &[(String, Oid)]) -> Fallible<String> {
    let mut text = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for (name, oid) in refs {
        writeln!(text, "{oid} {name}")?;
    }
    Ok(text)
}

fn copy_files(from: &Path, to: &Path) -> Fallible<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Writes refs into a node's version map, as if they had been committed and applied.
async fn seed(store: &Arc<dyn NodeStore>, project: &ProjectKey, refs: &[(String, Oid)]) -> Fallible<()> {
    let txn: TxnId = "bench.1.0.0.00c0ffee00c0ffee".parse()?;
    for chunk in refs.chunks(CHUNK) {
        let mut changes = Changes::default();
        for (name, oid) in chunk {
            let record = RefRecord { version: Version(1), value: RefValue::Oid(*oid), txn: txn.clone() };
            changes.refs.push((project.clone(), RefKey::Ref(name.parse()?), record));
        }
        store.commit(changes).await?;
    }
    Ok(())
}

/// Commits a first commit to the empty repository, on which the others build.
async fn begin(site: &Site, project: &ProjectName) -> Fallible<Oid> {
    let history = History { from: None, chains: 1, length: 1, bytes: 0, seed: 2, loose: true };
    let base = history.import(&site.repository(project))?.remove(0).remove(0);
    site.commit(project, batch("begin".to_owned(), [("refs/heads/main".to_owned(), None, base)])?).await?;
    Ok(base)
}

/// Commits new refs with a commit each, in turns. Returns the durations per repository.
async fn commit(site: &Site, projects: [(&ProjectName, Oid); 2]) -> Fallible<[Stats; 2]> {
    let made = projects.map(|(project, base)| {
        let bytes = History::SMALL;
        let history = History { from: Some(base), chains: TIMES, length: 1, bytes, seed: 3, loose: true };
        history.import(&site.repository(project))
    });
    let [large, empty] = made;
    site.node.stages().state.durability.wait_durable().await;
    let mut stats = [Stats::new()?, Stats::new()?];
    for (at, pair) in large?.into_iter().zip(empty?).enumerate() {
        for (which, oid) in [pair.0[0], pair.1[0]].into_iter().enumerate() {
            let name = format!("refs/heads/new-{at}");
            let request = batch(name.clone(), [(name, None, oid)])?;
            let start = Instant::now();
            site.commit(projects[which].0, request).await?;
            stats[which].add(start.elapsed());
        }
    }
    Ok(stats)
}
