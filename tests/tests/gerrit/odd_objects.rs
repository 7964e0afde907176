//! Odd objects and packs through a real Gerrit: refused with nothing changed, or at both sites.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{ObjectType, Repository};
use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::git::{git, ok, refs, text};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::agreed;
use lockstep_tests::odd::push::{is_taken, request};
use lockstep_tests::odd::{self, Answer, packs};
use serde_json::json;

use crate::lockstep;

/// Lets every user create branches and tags with commits of anybody.
fn all_may_push() -> serde_json::Value {
    let allow = json!({"rules": {"global:Registered-Users": {"action": "ALLOW"}}});
    let names =
        ["create", "push", "createTag", "createSignedTag", "forgeAuthor", "forgeCommitter", "forgeServerAsCommitter"];
    let permissions: serde_json::Map<_, _> = names.iter().map(|name| ((*name).to_owned(), allow.clone())).collect();
    json!({"add": {"refs/heads/*": {"permissions": permissions}, "refs/tags/*": {"permissions": permissions}}})
}

/// Makes objects in a repository of their own. Returns the id to push.
fn made(folder: &Path, make: fn(&odd::Forge<'_>) -> String) -> String {
    let repository = Repository::init_bare(folder).unwrap();
    let odb = repository.odb().unwrap();
    let write = |kind: ObjectType, content: &[u8]| odb.write(kind, content).unwrap().to_string();
    make(&odd::Forge::new(&write))
}

/// Pushes a pack to a new ref, without a git client. The error is the answer of a Gerrit that does not take it.
async fn push_raw(sites: &Sites, pack: &[u8], id: &str, name: &str) -> Result<(), String> {
    let answer = sites.servers[0].receive_pack("odd", &request(name, id, pack)).await;
    if is_taken(&answer.text, name) { Ok(()) } else { Err(format!("{answer:?}")) }
}

/// Pushes every object that git refuses, as no git client would. Gerrit takes none of them, and no ref moves. An
/// ordinary commit goes the same way before, and arrives.
async fn broken_ones_are_refused_with_nothing_changed(sites: &Sites) {
    let (folder, name) = (sites.cluster.scratch("control"), "refs/heads/control");
    let id = made(&folder, |forge| forge.commit(&forge.plain_tree()));
    push_raw(sites, &odd::everything(&folder), &id, name).await.expect("an ordinary commit is taken");
    let before = agreed(&sites.cluster, "odd").await.refs;
    assert_eq!(before.get(name), Some(&id));
    let mut taken = Vec::new();
    let broken = odd::all().into_iter().enumerate().filter(|(_, odd)| odd.plain == Answer::Refused);
    for (number, odd) in broken {
        let folder = sites.cluster.scratch(&format!("broken-{number}"));
        let id = made(&folder, odd.make);
        match push_raw(sites, &odd::everything(&folder), &id, &odd.name_of_ref(number)).await {
            Ok(()) => taken.push(odd),
            Err(answer) => println!("{odd:?}: {answer}"),
        }
    }
    assert!(taken.is_empty(), "Gerrit takes {taken:?}");
    assert_eq!(agreed(&sites.cluster, "odd").await.refs, before);
}

/// Pushes every odd pack. Gerrit refuses it with nothing changed, or it arrives at both sites, and each serves a clone.
async fn packs_are_refused_with_nothing_changed_or_arrive(sites: &Sites) {
    let mut expected = agreed(&sites.cluster, "odd").await.refs;
    let before = expected.len();
    let (id, pack) = packs::base();
    push_raw(sites, &pack, &id, "refs/heads/base").await.expect("an ordinary commit is taken");
    expected.insert("refs/heads/base".to_owned(), id);
    for odd in packs::ODD {
        let ((id, pack), name) = (odd.made(), odd.name_of_ref());
        match push_raw(sites, &pack, &id, &name).await {
            Ok(()) => _ = expected.insert(name, id),
            Err(answer) => println!("{odd:?}: {answer}"),
        }
    }
    let taken = expected.len() - before;
    println!("Gerrit takes {} of {} packs", taken - 1, packs::ODD.len());
    assert!(taken > 6 && taken < packs::ODD.len(), "{taken}");
    assert_eq!(agreed(&sites.cluster, "odd").await.refs, expected);
    for (server, node) in sites.servers.iter().zip(&sites.cluster.nodes) {
        node.reports(|status| (status.quarantined, status.parked) == (0, 0)).await;
        let clone = sites.cluster.scratch(&format!("packs-of-{}", node.name));
        let args = ["clone", "-q", "--mirror", &server.clone_url("odd"), &clone.display().to_string()];
        let _ = ok(git(&sites.cluster.scratch(""), &args).await);
    }
}

/// Pushes every odd object that a git client can send. Returns what Gerrit has taken.
async fn pushed(sites: &Sites, project: &str) -> BTreeMap<String, String> {
    let url = sites.servers[0].clone_url(project);
    let mut taken = BTreeMap::new();
    for (number, odd) in odd::all().into_iter().enumerate().filter(|(_, odd)| odd.plain == Answer::Taken) {
        let folder = sites.cluster.scratch(&format!("odd-{number}"));
        let id = made(&folder, odd.make);
        let name = odd.name_of_ref(number);
        let output = git(&folder, &["push", "-q", &url, &format!("{id}:{name}")]).await;
        if output.status.success() {
            taken.insert(name, id);
        } else {
            println!("{odd:?}: {}", text(&output).lines().filter(|line| line.contains("rejected")).collect::<String>());
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn odd_objects_are_refused_by_gerrit_or_arrive_at_both_sites() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    let _ = a.rest("POST", "/projects/All-Projects/access", &all_may_push()).await.json();
    a.create("odd").await;
    in_lockstep(&sites, "odd").await;
    let before = agreed(&sites.cluster, "odd").await.refs;
    let taken = pushed(&sites, "odd").await;
    println!("Gerrit takes {} of {}", taken.len(), odd::all().len());
    assert!(taken.len() > 20, "Gerrit takes only {taken:?}");
    let truth = agreed(&sites.cluster, "odd").await;
    let expected: BTreeMap<String, String> = before.into_iter().chain(taken).collect();
    assert_eq!(truth.refs, expected);
    for (server, node) in [a, b].into_iter().zip(&sites.cluster.nodes) {
        assert_eq!(refs(&node.repository("odd")).await.unwrap(), expected, "{}", node.name);
        let clone = sites.cluster.scratch(&format!("clone-of-{}", node.name));
        let args = ["clone", "-q", "--mirror", &server.clone_url("odd"), &clone.display().to_string()];
        let _ = ok(git(&sites.cluster.scratch(""), &args).await);
        let status = node.status().await.expect("it answers");
        assert_eq!((status.quarantined, status.parked), (0, 0), "{}: {status:?}", node.name);
    }
    broken_ones_are_refused_with_nothing_changed(&sites).await;
    packs_are_refused_with_nothing_changed_or_arrive(&sites).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_merged_change_with_a_long_line_of_attributes_arrives_and_work_goes_on_upon_it() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    a.create("p").await;
    in_lockstep(&sites, "p").await;
    let attributes = format!("*.bin {}\n", "a".repeat(3000));
    for (at, server, file, content) in [(0, a, ".gitattributes", attributes.as_str()), (1, b, "file", "one\n")] {
        let user = sites.user(at, "p").await;
        let commit = user.commit(file, content, file).await;
        let number = user.review("master").await[0];
        let change = format!("/changes/p~{number}");
        let vote = json!({"labels": {"Code-Review": 2}});
        let _ = server.rest("POST", &format!("{change}/revisions/current/review"), &vote).await.json();
        let submitted = server.rest("POST", &format!("{change}/submit"), &json!({})).await.json();
        assert_eq!(submitted["status"], "MERGED");
        sites.cluster.show("p", "refs/heads/master", Some(&commit)).await;
        for server in [a, b] {
            let merged = async || server.find("project:p is:merged").await.contains(&number).then_some(());
            assert!(until(merged).await.is_some(), "{}", server.log_tail());
        }
    }
    agreed(&sites.cluster, "p").await;
}
