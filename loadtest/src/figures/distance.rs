//! d. The latency of a commit when AWS is a round trip of 20 ms away.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::History;
use crate::report::{Figure, Goal, Report, round};
use crate::site::{Manner, Site, batch, stop};
use crate::stats::Stats;

/// The simulated round trip.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// The number of transactions per measurement.
const TIMES: usize = 150;

/// Measures the figures d.
pub async fn measure(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let manner = Manner { round_trip: Some(ROUND_TRIP), ..Manner::USUAL };
    let sites = Site::all(&cloud, manner).await?;
    for (name, refs, goal) in [("d.commit_p50_1_ref_20ms", 1, 25.0), ("d.commit_p50_50_refs_20ms", 50, 40.0)] {
        let stats = commits(&sites, refs).await?;
        report.figure(&Figure {
            name,
            value: stats.p50(),
            unit: "ms",
            goal: Some(Goal::AtMost(goal)),
            samples: stats.count(),
            detail: json!({"latency_ms": stats.json(), "round_trip_ms": round(ROUND_TRIP.as_secs_f64() * 1000.0)}),
        });
    }
    stop(sites).await;
    Ok(())
}

/// Moves `refs` branches together, each to a new commit.
async fn commits(sites: &[Site], refs: usize) -> Fallible<Stats> {
    let (project, base) = sites[0].begin_project(&format!("{}-refs-{refs}", SITES[0]), sites).await?;
    let history =
        History { from: Some(base), chains: refs, length: TIMES, bytes: 200, seed: refs as u64, loose: false };
    let history = history.import(&sites[0].repository(&project))?;
    let mut stats = Stats::new()?;
    for at in 0..TIMES {
        let moves = history.iter().enumerate().map(|(chain, commits)| {
            (format!("refs/heads/branch-{chain}"), (at > 0).then(|| commits[at - 1]), commits[at])
        });
        let request = batch(format!("{refs}-{at}"), moves)?;
        let start = Instant::now();
        sites[0].commit(&project, request).await?;
        stats.add(start.elapsed());
    }
    Ok(stats)
}
