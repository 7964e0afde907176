//! Starts the sites, and makes the accounts, projects and open changes with which a run begins.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use lockstep::clients::api_client::Client;
use lockstep_loadtest::Fallible;
use lockstep_loadtest::load::estate::{Estate, Routes, Site};
use lockstep_loadtest::load::model::Class;
use lockstep_loadtest::load::plan::Arrival;
use lockstep_loadtest::load::profile::Profile;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::gerrit::rest::ADMIN;
use lockstep_tests::e2e::gerrit::{Kit, Sites};
use lockstep_tests::e2e::node::Node;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::acts::Act;
use super::client::{Said, rest};
use super::shared::{Place, Shared};
use super::world::{Account, BRANCH};

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// The pause before a step is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// The new bytes of a first change.
const FIRST_BYTES: u32 = 400;
/// Lines of the tests' configuration that are there to provoke faults, or to make them short. Without them, the
/// defaults hold.
const HASTY: [&str; 6] = [
    "lanes = 2\n",
    "window = 16\n",
    "deadline = \"10s\"\n",
    "heartbeat = \"300ms\"\n",
    "expires_after = \"3s\"\n",
    "adopted_elsewhere_after = \"6s\"\n",
];

/// Starts a sidecar and a Gerrit per site, and waits until all serve.
pub async fn start(kit: &Kit, binary: &Path, profile: &Profile) -> Sites {
    let letters = (b'a'..=b'z').map(char::from).take(profile.run.sites);
    let names: Vec<String> = letters.map(|letter| format!("{letter}-0")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let poll = format!("poll_interval = \"{}ms\"", profile.run.poll_ms);
    let tune = |node: &Node| {
        for line in HASTY {
            node.replace_setting(line, "");
        }
        node.replace_setting("poll_interval = \"20ms\"", &poll);
        node.replace_setting("log_format = \"text\"", "log_format = \"text\"\nlog_filter = \"warn\"");
        node.add_settings("[turns]\nagents = [\"ci-*\", \"bot-*\"]\n");
    };
    let cluster = Cluster::start_tuned(binary, &names, &tune).await;
    Sites::over(kit, cluster, names.len()).await
}

/// The sites, as the oracle and the measurements know them.
#[must_use]
pub fn estate(sites: &Sites, description: String) -> Estate {
    let site = |node: &Node| Site {
        name: node.name.clone(),
        client: Client::new(&node.socket()),
        root: node.root.clone(),
        url: format!("file://{}", node.root.display()),
        health: Some(node.health.to_string()),
    };
    let (all, refdb) = (sites.cluster.nodes.iter().map(site).collect::<Vec<_>>(), sites.cluster.raw.clone());
    Estate { routes: Routes::new(all.len()), sites: all, refdb, local: None, description }
}

/// The sites, as their clients see them.
#[must_use]
pub fn places(sites: &Sites) -> Vec<Place> {
    let all = sites.servers.iter().zip(&sites.cluster.nodes);
    all.map(|(server, node)| Place { name: node.name.clone(), http: server.http, root: node.root.clone() }).collect()
}

/// The name and the process id of every process.
#[must_use]
pub fn processes(sites: &Sites) -> Vec<(String, u32)> {
    let mut all = Vec::new();
    for (server, node) in sites.servers.iter().zip(&sites.cluster.nodes) {
        let id = u32::try_from(node.id().as_raw_nonzero().get()).unwrap_or(0);
        all.push((format!("sidecar {}", node.name), id));
        all.extend(server.id().map(|id| (format!("gerrit {}", node.name), id)));
    }
    all
}

/// Makes accounts, projects and open changes, and waits until every site shows them.
///
/// # Errors
/// Gerrit refuses one of them, or a site does not show it in time.
pub async fn populate(shared: &Arc<Shared>) -> Fallible<()> {
    let first = &shared.places[0];
    for account in Account::all() {
        let body = json!({"http_password": account.login().1, "email": account.email()});
        call(first, "PUT", &format!("/accounts/{}", account.name()), &body).await?;
    }
    // Bots move branches and push tags past review.
    let rule = json!({"rules": {"global:Registered-Users": {"action": "ALLOW"}}});
    let may = json!({"permissions": {"push": rule, "create": rule}});
    let rights = json!({"add": {"refs/heads/bump-*": may, "refs/tags/*": may}});
    call(first, "POST", "/projects/All-Projects/access", &rights).await?;
    for project in &shared.world.projects {
        call(first, "PUT", &format!("/projects/{}", project.name), &json!({"create_empty_commit": true})).await?;
    }
    for place in &shared.places {
        for account in Account::all() {
            shows(place, &format!("/accounts/{}", account.name())).await?;
        }
        for project in &shared.world.projects {
            shows(place, &format!("/projects/{}/branches/{BRANCH}", project.name)).await?;
        }
    }
    let authors = (0..shared.places.len()).map(|site| first_changes(shared, site));
    try_join_all(authors).await.map(drop)
}

/// Pushes the first changes of one site's authors. The sites share the changes of each project evenly.
async fn first_changes(shared: &Arc<Shared>, site: usize) -> Fallible<()> {
    let open = shared.profile.run.open_changes as usize;
    for (rank, project) in shared.world.projects.iter().enumerate() {
        for number in (0..open).filter(|number| (rank + number) % shared.places.len() == site) {
            let arrival = Arrival {
                at_us: number as u64,
                class: Class::PushPatchSet,
                project: u32::try_from(rank)?,
                site: u32::try_from(site)?,
                pick: 0,
                count: 1,
                bytes: FIRST_BYTES,
                git: true,
                at_home: true,
            };
            let end = Instant::now() + PATIENCE;
            loop {
                match Act::new(shared, &arrival, site, 1, end).push_new(project, 1).await? {
                    Said::Done(_) => break,
                    Said::Refused { again: Some(_), .. } if Instant::now() < end => sleep(AGAIN).await,
                    other => return Err(format!("a first change of {}: {other:?}", project.name).into()),
                }
            }
        }
    }
    Ok(())
}

async fn call(place: &Place, method: &str, path: &str, body: &Value) -> Fallible<()> {
    match rest(place.http, ADMIN, (method, path), body, Instant::now() + PATIENCE).await {
        Said::Done(_) => Ok(()),
        other => Err(format!("{method} {path} at {}: {other:?}", place.name).into()),
    }
}

/// Waits until a site answers a path with success.
async fn shows(place: &Place, path: &str) -> Fallible<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match call(place, "GET", path, &Value::Null).await {
            Err(_) if Instant::now() < end => sleep(AGAIN).await,
            answer => return answer,
        }
    }
}
