//! m. The time that a backlog of 50 MB takes through one shard that takes 1 MiB per second, in proportion to what the
//! limit allows for the bytes of its records, and the share of records that are appended twice. The backlog grows from
//! the first commit on, faster than the shard takes it.

use std::time::Duration;

use futures::future::try_join_all;
use lockstep::seams::embedded::write_limits::WriteLimits;
use lockstep_proto::{Oid, ProjectName};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::History;
use crate::report::{Figure, Goal, Report, round};
use crate::site::{Manner, Site, batch, stop};

/// The number of waiting transactions.
const COMMITS: usize = 510;
/// The number of projects that they are spread over.
const PROJECTS: usize = 3;
/// The size of each transaction's content, in bytes.
const BYTES: usize = 98_000;
/// The limit of the shard, in bytes per second. It takes a burst of one second.
const LIMIT: u64 = 1 << 20;

/// Measures the figure m.
pub async fn measure(report: &Report) -> Fallible<()> {
    let limits = WriteLimits { shards: 1, bytes: LIMIT, records: 1_000, lose_every: None };
    let cloud = Cloud::start_behind(Some(limits)).await?;
    let sites = vec![Site::start(&cloud, SITES[0], &SITES[..1], Manner::NEAR).await?];
    let mut projects = Vec::new();
    for at in 0..PROJECTS {
        projects.push(sites[0].begin_project(&format!("behind-{at}"), &sites).await?);
    }
    let histories: Vec<_> = projects.iter().map(|project| make(&sites[0], project)).collect::<Fallible<_>>()?;
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
        unit: "of what the limit allows",
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
fn make(site: &Site, (project, base): &(ProjectName, Oid)) -> Fallible<Vec<Oid>> {
    let chains = COMMITS / PROJECTS;
    let history = History { from: Some(*base), chains, length: 1, bytes: BYTES, seed: 1, loose: false };
    Ok(history.import(&site.repository(project))?.into_iter().flatten().collect())
}

/// Commits one project's part: a branch for each commit.
async fn write(site: &Site, project: &ProjectName, commits: &[Oid]) -> Fallible<()> {
    for (at, oid) in commits.iter().enumerate() {
        let name = format!("refs/heads/new-{at}");
        site.commit(project, batch(name.clone(), [(name, None, *oid)])?).await?;
    }
    Ok(())
}
