//! Creates the projects of a run at every site, each with `main` and open changes. The requests go into the ledger,
//! like those of the run.

use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use http::Method;
use lockstep::clients::api_client::{Call, project_path};
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{CreateProjectRequest, Outcome, ProjectResponse};
use tokio::time::{Instant, sleep};

use crate::Fallible;
use crate::load::drive::{Context, commit_or_fail};
use crate::load::estate::Estate;
use crate::load::ledger::{Ended, Entry};
use crate::load::oracle::refs;
use crate::load::world::{Built, Effect, Places, first_batches};

/// How long a project may take until it is at every site.
const PATIENCE: Duration = Duration::from_secs(120);
/// Projects that are created at the same time.
const AT_ONCE: usize = 4;

/// Creates all projects, and waits until every site shows their refs.
///
/// # Errors
/// A project is refused, or does not arrive in time.
pub(super) async fn prepare(context: &Context) -> Fallible<()> {
    let names: Vec<ProjectName> = context.world.names().cloned().collect();
    let users = context.world.users().name.clone();
    let ranks: Vec<(u32, ProjectName)> = (0..).zip(names).collect();
    let work = stream::iter(ranks).map(|(rank, name)| async move {
        create(&context.estate, &name).await?;
        first_refs(context, rank, &name).await
    });
    let waiting: Vec<(ProjectName, usize)> = work.buffer_unordered(AT_ONCE).try_collect().await?;
    for (name, refs) in waiting {
        arrived(&context.estate, &name, refs).await?;
    }
    arrived(&context.estate, &users, 1).await
}

async fn create(estate: &Estate, name: &ProjectName) -> Fallible<()> {
    let request = CreateProjectRequest { request_id: format!("create-{name}"), head: "refs/heads/main".parse()? };
    let call = Call::new(Method::PUT, project_path(name, ""), &request)?;
    let answer: ProjectResponse = estate.sites[0].client.resend(&call, Instant::now() + PATIENCE).await?;
    if answer.outcome == Outcome::Committed {
        return Ok(());
    }
    Err(format!("project {name} was not created: {:?}", answer.refusal).into())
}

/// Commits the first refs of a project at the first site. Returns their number.
async fn first_refs(context: &Context, rank: u32, name: &ProjectName) -> Fallible<(ProjectName, usize)> {
    let site = &context.estate.sites[0];
    let repository = site.repository(name);
    let end = Instant::now() + PATIENCE;
    while !repository.exists() {
        if Instant::now() >= end {
            return Err(format!("{}: the repository of {name} does not appear", site.name).into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    let places = Places { refs: repository.clone(), objects: repository };
    let is_of_users = *name == context.world.users().name;
    let open = if is_of_users { 0 } else { context.profile.run.open_changes };
    let sites = u32::try_from(context.estate.sites.len())?;
    let mut refs = 0;
    for built in first_batches(&context.world, name, &places, open, sites)? {
        refs += built.moves.len();
        commit(context, name, &built).await?;
        if let Effect::Opened(changes) = built.effect {
            context.world.project(rank).opened(changes);
        }
    }
    Ok((name.clone(), refs))
}

async fn commit(context: &Context, name: &ProjectName, built: &Built) -> Fallible<()> {
    let site = &context.estate.sites[0];
    let txn = commit_or_fail(&site.client, name, built, Instant::now() + PATIENCE).await?;
    context.ledger.lock().push(Entry {
        request: built.request.clone(),
        class: None,
        site: 0,
        project: name.to_string(),
        git: false,
        began_us: -2,
        ended_us: -1,
        ended: Ended::Committed,
        txn,
        why: None,
        moves: built.moves.clone(),
    });
    Ok(())
}

/// Waits until every site shows this many refs of a project.
async fn arrived(estate: &Estate, name: &ProjectName, wanted: usize) -> Fallible<()> {
    let end = Instant::now() + PATIENCE;
    for site in &estate.sites {
        loop {
            let shown = refs(&site.repository(name)).map_or(0, |refs| refs.len());
            if shown >= wanted {
                break;
            }
            if Instant::now() >= end {
                return Err(format!("{}: it shows {shown} of {wanted} refs of {name}", site.name).into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}
