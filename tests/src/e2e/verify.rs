//! The checks at the end of a test, when nobody pushes any more: every node equals the refdb, `git fsck` is clean, and
//! each ref can still be pushed to.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use lockstep_proto::{ProjectKey, ProjectPhase, RefKey, RefValue};
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::git::{self, Clone, git, ok, text};
use super::node::Node;
use super::{PATIENCE, until};

/// The refdb's refs of one project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Every live ref and its value.
    pub refs: BTreeMap<String, String>,
    /// The target of `HEAD`.
    pub head: Option<String>,
}

/// Reads a project from the refdb.
///
/// # Panics
/// If there is no such project, or the refdb does not answer.
pub async fn truth(cluster: &Cluster, project: &str) -> Truth {
    const PAGE: usize = 1_000;
    let name = project.parse().expect("a project name");
    let all = cluster.refdb.refs.projects(None, PAGE).await.expect("the refdb answers");
    let state = all.into_iter().find(|(one, _)| *one == name).map(|(_, item)| item.value);
    let Some(RefValue::State(state)) = state else { panic!("no project {project} in the refdb") };
    assert_eq!(state.phase, ProjectPhase::Active);
    let key: ProjectKey = format!("{project}#{}", state.incarnation).parse().expect("a project key");
    let (mut truth, mut after): (Truth, Option<RefKey>) = (Truth::default(), None);
    loop {
        let page = cluster.refdb.refs.scan(&key, after.as_ref(), PAGE).await.expect("the refdb answers");
        for item in &page {
            match (&item.key, &item.value) {
                (RefKey::Ref(name), RefValue::Oid(oid)) => drop(truth.refs.insert(name.to_string(), oid.to_string())),
                (RefKey::Head, RefValue::Symref(target)) => truth.head = Some(target.to_string()),
                _ => {}
            }
        }
        if page.len() < PAGE {
            return truth;
        }
        after = page.last().map(|item| item.key.clone());
    }
}

/// Waits until every node equals the refdb, then lets git check every repository.
///
/// # Panics
/// If a node differs for too long, or git finds a fault.
pub async fn converged(cluster: &Cluster, project: &str) -> Truth {
    let truth = agreed(cluster, project).await;
    for node in &cluster.nodes {
        sound(&node.repository(project)).await;
    }
    truth
}

/// Waits until every node equals the refdb and holds nothing as bad. The objects may be such as `git fsck` dislikes.
///
/// # Panics
/// If a node differs for too long.
pub async fn agreed(cluster: &Cluster, project: &str) -> Truth {
    let end = Instant::now() + PATIENCE;
    let truth = loop {
        let truth = truth(cluster, project).await;
        let mut differences = Vec::new();
        for node in &cluster.nodes {
            differences.extend(difference(node, project, &truth).await);
        }
        if differences.is_empty() {
            break truth;
        }
        assert!(Instant::now() < end, "the sites differ from the refdb:\n{}", differences.join("\n"));
        sleep(Duration::from_millis(50)).await;
    };
    for node in &cluster.nodes {
        let status = until(async || node.status().await).await;
        let status = status.unwrap_or_else(|| panic!("{} does not answer\n{}", node.name, node.log_tail()));
        assert_eq!(status.quarantined, 0, "{}: {status:?}", node.name);
    }
    truth
}

/// Checks with `git fsck` that every object is intact and every ref complete.
///
/// # Panics
/// If git finds a fault.
pub async fn sound(repository: &Path) {
    let mut found = fsck(repository).await;
    for _ in 0..5 {
        // A maintenance job that the test has just stopped may have a child that still removes a pack, its index first.
        if !text(&found).contains("index not opened") {
            break;
        }
        sleep(Duration::from_secs(1)).await;
        found = fsck(repository).await;
    }
    // Gerrit points `HEAD` there in projects that hold only permissions. git reports it, and continues its check.
    let strange_to_git = text(&found).trim() == "error: HEAD points to something strange (refs/meta/config)";
    assert!(found.status.success() || strange_to_git, "{}", text(&found));
    let _ = ok(git(repository, &["rev-list", "--objects", "--all", "--quiet"]).await);
}

async fn fsck(repository: &Path) -> Output {
    git(repository, &["fsck", "--full", "--strict", "--no-dangling", "--no-progress"]).await
}

async fn difference(node: &Node, project: &str, truth: &Truth) -> Vec<String> {
    let shown = match git::refs(&node.repository(project)).await {
        Ok(shown) => shown,
        Err(why) => return vec![format!("{}: {why}", node.name)],
    };
    let mut lines = Vec::new();
    for (name, oid) in &truth.refs {
        if shown.get(name) != Some(oid) {
            lines.push(format!("{}: {name} is {:?}, in the refdb {oid}", node.name, shown.get(name)));
        }
    }
    let foreign = shown.keys().filter(|name| !truth.refs.contains_key(*name));
    lines.extend(foreign.map(|name| format!("{}: {name} should not be there", node.name)));
    let head = text(&git(&node.repository(project), &["symbolic-ref", "HEAD"]).await).trim().to_owned();
    if truth.head.as_ref().is_some_and(|wanted| *wanted != head) {
        lines.push(format!("{}: HEAD is {head}, in the refdb {:?}", node.name, truth.head));
    }
    lines
}

/// Pushes a new commit to every branch, at each node in turn, which shows that no ref stays locked. Deletes nothing.
///
/// # Panics
/// If a push is refused.
pub async fn every_branch_moves(cluster: &Cluster, project: &str, clone: &Clone) {
    for (at, node) in cluster.nodes.iter().enumerate() {
        // Only a node that has caught up holds every commit on which the next ones are made.
        let truth = converged(cluster, project).await;
        let repository = node.repository(project);
        let _ = ok(clone.fetch(&repository).await);
        let branches = truth.refs.iter().filter(|(name, _)| name.starts_with("refs/heads/"));
        let moved: Vec<String> = branches
            .map(|(name, oid)| format!("{}:{name}", clone.commit(Some(oid), &format!("{oid} moves on at {at}"))))
            .collect();
        for chunk in moved.chunks(90) {
            let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
            let _ = ok(clone.push(&repository, &[], &chunk).await);
        }
    }
    converged(cluster, project).await;
}
