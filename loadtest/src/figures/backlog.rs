//! h. The time that a site which was down takes to apply 10,000 events, from the start of its node.

use futures::future::try_join_all;
use lockstep_proto::{Oid, ProjectName};
use serde_json::json;
use tokio::time::Instant;

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::{History, git};
use crate::report::{Figure, Goal, Report, round};
use crate::site::{Manner, Site, batch, stop};

/// The number of waiting events.
const EVENTS: usize = 10_000;
/// The number of projects that they are spread over.
const PROJECTS: usize = 4;
/// The number of clients per project that make the events.
const CLIENTS: usize = 4;

/// Measures the figure h.
pub async fn measure(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let pair = &SITES[..2];
    let mut sites = vec![
        Site::begin(&cloud, pair[0], pair, Manner::NEAR).await?,
        Site::begin(&cloud, pair[1], pair, Manner::NEAR).await?,
    ];
    for site in &sites {
        site.ready().await?;
    }
    let mut projects = Vec::new();
    for at in 0..PROJECTS {
        projects.push(sites[0].begin_project(&format!("backlog-{at}"), &sites).await?);
    }
    stop(sites.split_off(1)).await;
    let writing = Instant::now();
    for project in &projects {
        write(&sites[0], project).await?;
    }
    let written = writing.elapsed();
    // An orderly stop publishes everything.
    stop(sites).await;
    let start = Instant::now();
    let site = Site::start(&cloud, pair[1], pair, Manner::NEAR).await?;
    let ready = start.elapsed();
    site.recorded.reach(EVENTS as u64).await?;
    let took = start.elapsed();
    let (from_event_log, from_journal) = site.recorded.origins();
    let mut shown = 0;
    for (project, _) in &projects {
        let refs = git(&["for-each-ref", "--format=%(refname)", "refs/heads/new-*"], &site.repository(project))?;
        shown += refs.lines().count();
    }
    if shown != EVENTS {
        return Err(format!("only {shown} of {EVENTS} refs can be read after the backlog").into());
    }
    report.figure(&Figure {
        name: "h.backlog_of_10000_events",
        value: took.as_secs_f64(),
        unit: "s",
        goal: Some(Goal::AtMost(20.0)),
        samples: EVENTS as u64,
        detail: json!({"ready_after_s": round(ready.as_secs_f64()), "committed_in_s": round(written.as_secs_f64()),
                       "projects": PROJECTS, "objects_per_event": 3, "refs_that_can_be_read": shown,
                       "records_from_the_event_log": from_event_log, "transactions_from_the_journal": from_journal}),
    });
    stop(vec![site]).await;
    Ok(())
}

/// Commits one project's part of the events: new branches with a commit of 1 KiB each.
async fn write(site: &Site, (project, base): &(ProjectName, Oid)) -> Fallible<()> {
    let chains = EVENTS / PROJECTS;
    let history = History { from: Some(*base), chains, length: 1, bytes: 1_000, seed: 1, loose: false };
    let commits: Vec<Oid> = history.import(&site.repository(project))?.into_iter().flatten().collect();
    let clients = commits.chunks(chains.div_ceil(CLIENTS)).enumerate().map(async |(client, commits)| {
        for (at, oid) in commits.iter().enumerate() {
            let name = format!("refs/heads/new-{client}-{at}");
            site.commit(project, batch(name.clone(), [(name, None, *oid)])?).await?;
        }
        Fallible::Ok(())
    });
    try_join_all(clients).await?;
    Ok(())
}
