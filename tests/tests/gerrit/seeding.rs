//! A base path as Gerrits have it in the field: a link, a folder without `.git`, a name with a space.

use std::collections::BTreeSet;
use std::path::Path;

use git2::Repository;
use lockstep_tests::e2e::behind;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::gerrit::Kit;
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::git::{ok, text};
use lockstep_tests::e2e::node::Node;
use serde_json::{Value, json};

use crate::lockstep;

/// A repository from before Lockstep, with one branch.
fn existing(repository: &Path) {
    std::fs::create_dir_all(repository).expect("a folder");
    Repository::init_bare(repository).expect("a repository").set_head("refs/heads/main").expect("a HEAD");
    let commit = behind::commit(repository, None, "content");
    behind::set(repository, "refs/heads/main", Some(&commit));
}

async fn listed(server: &Server) -> BTreeSet<String> {
    let all = server.read("/projects/").await;
    all.as_object().into_iter().flat_map(|projects| projects.keys().cloned()).collect()
}

async fn in_the_refdb(cluster: &Cluster) -> BTreeSet<String> {
    let all = cluster.refdb.refs.projects(None, 100).await.expect("the refdb answers");
    all.into_iter().map(|(name, _)| name.to_string()).collect()
}

/// The project of each repository that a seed did not take is named, and the remedy works.
async fn follow_the_advice(node: &Node, said: &str) {
    for name in ["/plain: ", "/lib.git: "] {
        let line = said.lines().find(|line| line.contains(name)).expect("a line");
        let command = line.split('`').find(|part| part.contains("mv ")).expect("a command");
        let ran = std::process::Command::new("sh").args(["-c", command]).status().expect("sh runs");
        assert!(ran.success(), "{command}");
    }
    std::fs::rename(node.root.join("Team A"), node.root.join("team-a")).expect("renamed");
    let _ = ok(node.cli(&["seed", "--alone"]).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn every_project_that_gerrit_lists_is_seeded_or_named_and_takes_writes_after_the_advice() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let node = &cluster.nodes[0];
    let mut server = Server::found(&Kit::from_env(), node, &cluster.scratch("gerrit-0")).await;
    let (root, away) = (&node.root, cluster.scratch("away"));
    for repository in [root.join("fine.git"), root.join("plain"), root.join("Team A/app.git"), away.join("lib.git")] {
        existing(&repository);
    }
    std::os::unix::fs::symlink(away.join("lib.git"), root.join("lib.git")).expect("a link");
    let output = node.cli(&["seed", "--alone"]).await;
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");

    server.install_bridge(node).await;
    server.run().await;
    let (all, seeded) = (listed(&server).await, in_the_refdb(&cluster).await);
    let expected = ["All-Projects", "All-Users", "Team A/app", "fine", "lib", "plain"];
    assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    for name in all.difference(&seeded) {
        let is_named = [format!("/{name}: "), format!("/{name}.git: ")].iter().any(|path| said.contains(path));
        assert!(is_named, "Gerrit lists {name}, and the seed does not name it: {said}");
    }
    assert!(seeded.is_subset(&all) && seeded.len() >= 3, "{seeded:?}");

    server.stop().await;
    follow_the_advice(node, &said).await;
    server.run().await;
    assert_eq!(listed(&server).await, in_the_refdb(&cluster).await);
    for project in ["plain", "lib", "team-a%2Fapp"] {
        let path = format!("/projects/{project}/branches/new");
        let made: Value = server.rest("PUT", &path, &json!({"revision": "main"})).await.json();
        assert_eq!(made["ref"], "refs/heads/new", "{made}");
    }
}
