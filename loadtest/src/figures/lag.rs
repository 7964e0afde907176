//! e. The time from a commit until another site shows it, under an open loop of 200 transactions per second. Each
//! latency counts from the moment at which its transaction should have started, whatever delayed it.

use std::time::Duration;

use futures::future::try_join_all;
use lockstep_proto::{Oid, ProjectName, TxnId};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::Fallible;
use crate::cloud::Cloud;
use crate::history::History;
use crate::report::{Figure, Goal, Report};
use crate::site::{Manner, Site, batch, stop};
use crate::stats::Stats;

/// The number of transactions per second.
const RATE: u32 = 200;
/// The number of projects that they are spread over.
const PROJECTS: usize = 8;

/// A new ref of a project with its value.
pub(super) type Change = (ProjectName, String, Oid);

/// The names and goals of one measurement.
struct Names {
    p50: &'static str,
    p99: &'static str,
    goals: Option<(f64, f64)>,
}

/// Measures the figures e.
pub async fn measure(report: &Report) -> Fallible<()> {
    let near = Names { p50: "e.visible_p50", p99: "e.visible_p99", goals: Some((50.0, 250.0)) };
    run(report, Duration::from_millis(20), 25, &near).await?;
    let aws = Names { p50: "e.visible_p50_poll_250ms", p99: "e.visible_p99_poll_250ms", goals: None };
    run(report, Duration::from_millis(250), 10, &aws).await
}

async fn run(report: &Report, poll: Duration, seconds: usize, names: &Names) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let sites = Site::all(&cloud, Manner { poll, round_trip: None }).await?;
    let changes = changes(&sites, RATE as usize * seconds).await?;
    sites[0].node.stages().state.durability.wait_durable().await;
    let (lags, commits) = open_loop(&sites, changes).await?;
    let detail = json!({"visible_ms": lags.json(), "commit_answered_ms": commits.json(), "rate_per_s": RATE,
                        "poll_ms": poll.as_millis() as u64, "sites": sites.len(), "projects": PROJECTS});
    let figure = |name, value, goal: Option<f64>| Figure {
        name,
        value,
        unit: "ms",
        goal: goal.map(Goal::AtMost),
        samples: lags.count(),
        detail: detail.clone(),
    };
    report.figure(&figure(names.p50, lags.p50(), names.goals.map(|(p50, _)| p50)));
    report.figure(&figure(names.p99, lags.at(0.99), names.goals.map(|(_, p99)| p99)));
    stop(sites).await;
    Ok(())
}

/// Makes new changes as Gerrit does: each has a commit of its own. They are spread over the projects.
pub(super) async fn changes(sites: &[Site], count: usize) -> Fallible<Vec<Change>> {
    let mut changes = Vec::new();
    for at in 0..PROJECTS {
        let (project, base) = sites[0].begin_project(&format!("changes-{at}"), sites).await?;
        let length = count.div_ceil(PROJECTS);
        let history =
            History { from: Some(base), chains: length, length: 1, bytes: 1_000, seed: at as u64, loose: false };
        for (number, commits) in history.import(&sites[0].repository(&project))?.into_iter().enumerate() {
            let number = number + 1;
            changes.push((number, project.clone(), format!("refs/changes/{:02}/{number}/1", number % 100), commits[0]));
        }
    }
    changes.sort_by_key(|(number, ..)| *number);
    Ok(changes.into_iter().take(count).map(|(_, project, name, oid)| (project, name, oid)).collect())
}

/// Starts every transaction at its own time. Returns the lags of both other sites, and the latencies of the commits.
async fn open_loop(sites: &[Site], changes: Vec<Change>) -> Fallible<(Stats, Stats)> {
    let before: Vec<u64> = sites.iter().map(|site| site.recorded.count()).collect();
    let count = changes.len() as u64;
    let done = commit_all(&sites[0], changes, RATE).await?;
    let (mut lags, commits) = (Stats::new()?, Stats::of(done.iter().map(Committed::took))?);
    for (site, before) in sites.iter().zip(&before).skip(1) {
        site.recorded.reach(before + count).await?;
        let visible = site.recorded.visible();
        for Committed { txn, intended, .. } in &done {
            let seen = visible.get(txn).ok_or_else(|| format!("{txn} was not applied"))?;
            lags.add(seen.duration_since(*intended));
        }
    }
    Ok((lags, commits))
}

/// A transaction that was committed.
pub(super) struct Committed {
    /// Its id.
    pub txn: TxnId,
    /// When it should have started.
    pub intended: Instant,
    /// When its commit was answered.
    pub answered: Instant,
}

impl Committed {
    /// The time from when it should have started until its answer.
    pub fn took(&self) -> Duration {
        self.answered.duration_since(self.intended)
    }
}

/// Commits every change at its own time, so many per second.
pub(super) async fn commit_all(site: &Site, changes: Vec<Change>, rate: u32) -> Fallible<Vec<Committed>> {
    let start = Instant::now() + Duration::from_millis(100);
    let every = Duration::from_secs(1) / rate;
    let calls = changes.into_iter().enumerate().map(|(at, (project, name, oid))| async move {
        let intended = start + every * u32::try_from(at)?;
        sleep_until(intended).await;
        let txn = site.commit(&project, batch(format!("change-{at}"), [(name, None, oid)])?).await?;
        Fallible::Ok(Committed { txn, intended, answered: Instant::now() })
    });
    try_join_all(calls).await
}
