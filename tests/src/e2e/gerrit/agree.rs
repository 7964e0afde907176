//! The checks at the end of a test, when nothing is in progress any more: refs are equal at all sites, and each index
//! matches the refs.

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::server::Server;
use super::{FIRST_PROJECTS, Sites};
use crate::e2e::PATIENCE;
use crate::e2e::git;
use crate::e2e::node::Node;
use crate::e2e::verify::{Truth, converged};

/// Waits until every site shows the refdb's refs, of a project and of Gerrit's own projects, and its index matches
/// them. Returns the refdb's refs of the project.
///
/// # Panics
/// If a site differs for too long.
pub async fn in_lockstep(sites: &Sites, project: &str) -> Truth {
    for first in FIRST_PROJECTS {
        converged(&sites.cluster, first).await;
    }
    let truth = converged(&sites.cluster, project).await;
    for (server, node) in sites.servers.iter().zip(&sites.cluster.nodes) {
        indexed(server, node, project).await;
    }
    truth
}

/// Waits until a site's index matches its refs: it has every change and no other, each up to date. Accounts and groups
/// too.
async fn indexed(server: &Server, node: &Node, project: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let wrong = differences(server, node, project).await;
        if wrong.is_empty() {
            return;
        }
        assert!(
            Instant::now() < end,
            "{}: the index differs from the refs: {wrong:?}\n{}",
            node.name,
            server.log_tail()
        );
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn differences(server: &Server, node: &Node, project: &str) -> Vec<String> {
    let refs = git::refs(&node.repository(project)).await.expect("a repository");
    let number =
        |name: &str| name.strip_prefix("refs/changes/")?.strip_suffix("/meta")?.split('/').nth(1)?.parse().ok();
    let mut changes: Vec<u32> = refs.keys().filter_map(|name| number(name)).collect();
    changes.sort_unstable();
    let found = server.find(&format!("project:{project}")).await;
    let stale = server.read("/config/server/test-plugin~stale").await;
    let mut wrong: Vec<String> = stale.as_array().into_iter().flatten().map(Value::to_string).collect();
    if changes != found {
        wrong.push(format!("the refs have the changes {changes:?}, a search finds {found:?}"));
    }
    wrong
}
