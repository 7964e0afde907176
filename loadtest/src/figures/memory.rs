//! i. The memory of a sidecar's process: idle, and under 200 transactions per second, half of them its own and half of
//! another site.

use std::time::Duration;

use futures::future::{try_join, try_join_all};
use http::Method;
use lockstep::clients::api_client::{Call, project_path};
use lockstep_proto::bridge::{Outcome, RefTransactionResponse};
use lockstep_proto::{Oid, ProjectName};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::History;
use crate::host::{anonymous, mib, peak_resident, resident, threads};
use crate::process::Process;
use crate::report::{Figure, Goal, Report, round};
use crate::site::{Manner, PATIENCE, Site, batch, stop};

/// The number of transactions per second at each of the two sites.
const RATE: u32 = 100;
/// The duration of the load, in seconds.
const SECONDS: usize = 20;
/// The time without any work before the memory of the idle process is read.
const REST: Duration = Duration::from_secs(10);

/// Measures the figures i.
pub async fn measure(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let pair = &SITES[..2];
    let peer = Site::begin(&cloud, pair[1], pair, Manner::NEAR).await?;
    let process = Process::start(&cloud, pair[0], pair)?;
    process.ready().await?;
    peer.ready().await?;
    let project = process.create_project("memory").await?;
    let peers = vec![peer];
    let end = Instant::now() + PATIENCE;
    while !peers[0].repository(&project).exists() && Instant::now() < end {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(REST).await;
    tell(
        report,
        "i.idle_memory",
        resident(process.pid()),
        30.0,
        1,
        json!({"anonymous_mib": round(mib(anonymous(process.pid())))}),
    );
    let mut course = Vec::new();
    tokio::select! {
        biased;
        ended = try_join(own(&process, &project), foreign(&peers[0], &project)) => drop(ended?),
        () = watch(process.pid(), &mut course) => {}
    }
    let detail = json!({"anonymous_mib_at_the_end": round(mib(anonymous(process.pid()))),
                        "resident_mib_at_the_end": round(mib(resident(process.pid()))),
                        "mib_and_threads_every_2_s": course, "transactions_per_s": 2 * RATE, "seconds": SECONDS});
    let samples = 2 * u64::from(RATE) * SECONDS as u64;
    tell(report, "i.memory_under_load", peak_resident(process.pid()), 96.0, samples, detail);
    stop(peers).await;
    Ok(())
}

fn tell(report: &Report, name: &'static str, bytes: u64, goal: f64, samples: u64, detail: Value) {
    report.figure(&Figure { name, value: mib(bytes), unit: "MiB", goal: Some(Goal::AtMost(goal)), samples, detail });
}

/// Reads the memory of the process at intervals, which tells growth with the load from growth with time.
async fn watch(pid: u32, course: &mut Vec<(f64, u64)>) {
    loop {
        sleep(Duration::from_secs(2)).await;
        course.push((round(mib(resident(pid))), threads(pid)));
    }
}

fn history(seed: u64) -> History {
    let chains = RATE as usize * SECONDS;
    History { from: None, chains, length: 1, bytes: 1_000, seed, loose: false }
}

/// Batches of one new branch each, with the times at which they start.
fn plan(name: &str, commits: Vec<Vec<Oid>>) -> impl Iterator<Item = (Instant, String, Oid)> {
    let start = Instant::now();
    commits.into_iter().flatten().zip(0..).map(move |(oid, at): (Oid, u32)| {
        (start + Duration::from_secs(1) / RATE * at, format!("refs/heads/{name}-{at}"), oid)
    })
}

async fn own(process: &Process, project: &ProjectName) -> Fallible<()> {
    let commits = history(1).import(&process.root.join(format!("{project}.git")))?;
    let calls = plan("own", commits).map(async |(start, name, oid)| {
        sleep_until(start).await;
        let body = batch(name.clone(), [(name, None, oid)])?;
        let call = Call::new(Method::POST, project_path(project, "/ref-transactions"), &body)?;
        let answer: RefTransactionResponse = process.client.send(&call, Instant::now() + PATIENCE).await?;
        if answer.outcome == Outcome::Committed { Ok(()) } else { Err(format!("{answer:?}").into()) }
    });
    try_join_all(calls).await.map(drop)
}

async fn foreign(peer: &Site, project: &ProjectName) -> Fallible<()> {
    let commits = history(2).import(&peer.repository(project))?;
    let calls = plan("foreign", commits).map(async |(start, name, oid)| {
        sleep_until(start).await;
        peer.commit(project, batch(name.clone(), [(name, None, oid)])?).await
    });
    try_join_all(calls).await.map(drop)
}
