//! m. The time that a backlog of 50 MB takes through one shard that takes 1 MiB per second, in proportion to what the
//! limit allows for the bytes of its records, and the share of records that are appended twice. The backlog grows from
//! the first commit on, faster than the shard takes it.
//!
//! Then the same in a process that is killed in the middle: the records that are appended twice, and the time until the
//! restarted node is ready, as a multiple of the time that it takes with an empty journal.

use std::path::Path;
use std::time::Duration;

use futures::future::try_join_all;
use http::Method;
use lockstep::clients::api_client::{Call, project_path};
use lockstep::seams::embedded::write_limits::WriteLimits;
use lockstep::seams::refdb::{IncarnationRecord, IncarnationState, Incarnations};
use lockstep_proto::bridge::{Outcome, RefTransactionResponse};
use lockstep_proto::{Oid, ProjectName};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::History;
use crate::process::Process;
use crate::report::{Figure, Goal, Report, round};
use crate::site::{Manner, PATIENCE, Site, batch, stop};

/// The number of waiting transactions.
const COMMITS: usize = 510;
/// The number of projects that they are spread over.
const PROJECTS: usize = 3;
/// The size of each transaction's content, in bytes.
const BYTES: usize = 98_000;
/// The limit of the shard, in bytes per second. It takes a burst of one second.
const LIMIT: u64 = 1 << 20;

/// The number of restarts with an empty journal. The longest one counts.
const RESTARTS: usize = 3;

/// Measures the figures m.
pub async fn measure(report: &Report) -> Fallible<()> {
    measure_alive(report).await?;
    measure_killed(report).await
}

fn limits() -> WriteLimits {
    WriteLimits { shards: 1, bytes: LIMIT, records: 1_000, lose_every: None }
}

async fn measure_alive(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start_behind(Some(limits())).await?;
    let sites = vec![Site::start(&cloud, SITES[0], &SITES[..1], Manner::NEAR).await?];
    let mut projects = Vec::new();
    for at in 0..PROJECTS {
        projects.push(sites[0].begin_project(&format!("behind-{at}"), &sites).await?);
    }
    let make = |(project, base): &(ProjectName, Oid)| make(&sites[0].repository(project), Some(*base));
    let histories: Vec<_> = projects.iter().map(make).collect::<Fallible<_>>()?;
    published(&sites[0]).await;
    let (before, start) = (cloud.answered(), Instant::now());
    let writes = projects.iter().zip(&histories);
    try_join_all(writes.map(|((project, _), commits)| write(&sites[0], project, commits))).await?;
    let committed = start.elapsed();
    published(&sites[0]).await;
    let (took, after) = (start.elapsed().as_secs_f64(), cloud.answered());
    let (appended, refused) = (after.taken - before.taken, after.refused - before.refused);
    // The limit allows each record once.
    let bytes = (after.taken_bytes - before.taken_bytes) as f64 * COMMITS as f64 / appended as f64;
    let allowed = bytes / LIMIT as f64;
    report.figure(&Figure {
        name: "m.backlog_of_50_mb_behind_1_mib_per_second",
        value: took / allowed,
        unit: "of the time at the limit",
        goal: Some(Goal::AtMost(1.2)),
        samples: COMMITS as u64,
        detail: json!({"took_s": round(took), "allowed_s": round(allowed), "bytes": round(bytes), "appended": appended,
                       "refused": refused, "committed_in_s": round(committed.as_secs_f64())}),
    });
    report.figure(&Figure {
        name: "m.records_appended_twice",
        value: (appended as f64 - COMMITS as f64) / COMMITS as f64,
        unit: "of the records",
        goal: Some(Goal::AtMost(0.05)),
        samples: appended,
        detail: json!({"appended": appended, "transactions": COMMITS}),
    });
    stop(sites).await;
    Ok(())
}

/// Waits until everything that a site has committed is in its stream.
async fn published(site: &Site) {
    let journal = site.node.stages().journal.lock().clone();
    let Some(journal) = journal else { return };
    while journal.marks().iter().any(|mark| mark.published < mark.settled || mark.in_flight > 0) {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Makes the commits of one project in its repository. No ref names them yet.
fn make(repository: &Path, from: Option<Oid>) -> Fallible<Vec<Oid>> {
    let chains = COMMITS / PROJECTS;
    let history = History { from, chains, length: 1, bytes: BYTES, seed: 1, loose: false };
    Ok(history.import(repository)?.into_iter().flatten().collect())
}

/// Commits one project's part: a branch for each commit.
async fn write(site: &Site, project: &ProjectName, commits: &[Oid]) -> Fallible<()> {
    for (at, oid) in commits.iter().enumerate() {
        let name = format!("refs/heads/new-{at}");
        site.commit(project, batch(name.clone(), [(name, None, *oid)])?).await?;
    }
    Ok(())
}

async fn measure_killed(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start_behind(Some(limits())).await?;
    let mut process = Process::start(&cloud, SITES[0], &SITES[..1])?;
    process.ready().await?;
    let mut projects = Vec::new();
    for at in 0..PROJECTS {
        projects.push(process.create_project(&format!("behind-{at}")).await?);
    }
    let mut usual = Duration::ZERO;
    for _ in 0..RESTARTS {
        drained(&cloud).await?;
        usual = usual.max(restarted(&mut process).await?);
    }
    drained(&cloud).await?;
    let make = |project: &ProjectName| make(&process.root.join(format!("{project}.git")), None);
    let histories: Vec<_> = projects.iter().map(make).collect::<Fallible<_>>()?;
    let before = cloud.answered();
    let writes = projects.iter().zip(&histories);
    try_join_all(writes.map(|(project, commits)| send(&process, project, commits))).await?;
    let middle = before.taken + COMMITS as u64 / 2;
    let is_late = cloud.answered().taken >= middle;
    wait("half of the records", async || Ok(cloud.answered().taken >= middle)).await?;
    let behind = restarted(&mut process).await?;
    let left = incarnations(&cloud).await?;
    let is_waiting = left.iter().any(|one| matches!(one.state, IncarnationState::Frozen | IncarnationState::Poisoned));
    if !is_waiting {
        return Err("nothing was left to publish when the node was ready: it was killed too late".into());
    }
    drained(&cloud).await?;
    let appended = cloud.answered().taken - before.taken;
    report.figure(&Figure {
        name: "m.killed_in_the_middle_records_appended_twice",
        value: (appended as f64 - COMMITS as f64) / COMMITS as f64,
        unit: "of the records",
        goal: Some(Goal::AtMost(0.05)),
        samples: appended,
        detail: json!({"appended": appended, "transactions": COMMITS,
                       "half_was_taken_before_the_last_commit": is_late}),
    });
    report.figure(&Figure {
        name: "m.killed_in_the_middle_ready",
        value: behind.as_secs_f64() / usual.as_secs_f64(),
        unit: "of the time with an empty journal",
        goal: None,
        samples: 1,
        detail: json!({"behind_s": round(behind.as_secs_f64()), "empty_s": round(usual.as_secs_f64()),
                       "restarts_with_an_empty_journal": RESTARTS}),
    });
    Ok(())
}

/// Kills a node and starts it again. Returns the time from its end until it is ready.
async fn restarted(process: &mut Process) -> Fallible<Duration> {
    process.kill()?;
    let start = Instant::now();
    process.restart()?;
    process.ready().await?;
    Ok(start.elapsed())
}

async fn incarnations(cloud: &Cloud) -> Fallible<Vec<IncarnationRecord>> {
    Ok(cloud.seams.refdb.incarnations(&SITES[0].parse()?).await?)
}

/// Waits until everything that the site has committed is in its stream: what its present incarnation committed, and
/// what the earlier ones left.
async fn drained(cloud: &Cloud) -> Fallible<()> {
    wait("an empty journal", async || {
        let is_published = |one: &IncarnationRecord| match one.state {
            IncarnationState::Open => one.published == one.settled,
            IncarnationState::Drained => true,
            IncarnationState::Frozen | IncarnationState::Poisoned => false,
        };
        Ok(incarnations(cloud).await?.iter().all(is_published))
    })
    .await
}

async fn wait(what: &str, is_so: impl AsyncFn() -> Fallible<bool>) -> Fallible<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so().await? {
        if Instant::now() >= end {
            return Err(format!("not in time: {what}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Commits one project's part through the API of a process: a branch for each commit.
async fn send(process: &Process, project: &ProjectName, commits: &[Oid]) -> Fallible<()> {
    for (at, oid) in commits.iter().enumerate() {
        let name = format!("refs/heads/new-{at}");
        let body = batch(name.clone(), [(name, None, *oid)])?;
        let call = Call::new(Method::POST, project_path(project, "/ref-transactions"), &body)?;
        let answer: RefTransactionResponse = process.client.send(&call, Instant::now() + PATIENCE).await?;
        if answer.outcome != Outcome::Committed {
            return Err(format!("not committed: {answer:?}").into());
        }
    }
    Ok(())
}
