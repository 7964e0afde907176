//! Gerrit's offline programs beside a sidecar. They load the bridge's repository manager, so their writes are commits
//! at every site. Without a sidecar, and at a standby, they end with the reason, and change nothing.

use git2::{Repository, Signature};
use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::Login;
use lockstep_tests::e2e::git::{git, ok, refs, text};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::converged;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use crate::failover::make_standby;
use crate::lockstep;

/// The program moves the external id of each user name that is not in lower case, because the name of its note depends
/// on this setting. Other user names keep their notes, so the program finds nothing to write for them.
const PROGRAM: &str = "ChangeExternalIdCaseSensitivity";
const SETTING: &str = "auth.userNameCaseInsensitive";
const REF: &str = "refs/meta/external-ids";
const JO: Login<'_> = Login("Jo", "s3cret");

/// Runs the program at a site. It must tell its user that nothing was changed, and the reason. This program of Gerrit
/// logs a failed commit, and goes on to its setting, which is taken back here.
async fn is_refused_at(sites: &Sites, at: usize, reason: &str) {
    let setting = sites.servers[at].setting(SETTING).await;
    let said = text(&sites.servers[at].program(PROGRAM, &["--batch"]).await);
    sites.servers[at].set(SETTING, &setting).await;
    assert!(said.contains(reason) && said.to_lowercase().contains("nothing was changed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn an_offline_program_commits_at_every_site_or_says_why_not() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let _ = sites.servers[0].rest("PUT", "/accounts/Jo", &json!({"http_password": JO.1})).await.json();
    sites.servers[0].create("p").await;
    let before = in_lockstep(&sites, "p").await;
    make_standby(&sites.cluster, "b").await;
    for server in &mut sites.servers {
        server.stop().await;
    }
    let users = converged(&sites.cluster, "All-Users").await;
    let setting = sites.servers[0].setting(SETTING).await;

    is_refused_at(&sites, 1, "write to a, which is active").await;
    let _ = sites.cluster.nodes[0].stop().await;
    is_refused_at(&sites, 0, "cannot be reached").await;
    sites.cluster.nodes[0].start(None);
    sites.cluster.ready().await;
    assert_eq!(converged(&sites.cluster, "All-Users").await.refs, users.refs);

    let _ = ok(sites.servers[0].program(PROGRAM, &["--batch"]).await);
    let after = converged(&sites.cluster, "All-Users").await;
    assert_ne!(after.refs.get(REF), users.refs.get(REF), "the program's commit is at both sites");
    // The program changes the setting of its own site. The other sites need the same.
    let changed = sites.servers[0].setting(SETTING).await;
    assert_ne!(changed, setting);
    sites.servers[1].set(SETTING, &changed).await;
    for server in &mut sites.servers {
        server.start();
    }
    for server in &mut sites.servers {
        server.ready().await;
    }
    for server in &sites.servers {
        server.answers(JO, "/accounts/self", 200).await;
    }
    assert_eq!(in_lockstep(&sites, "p").await.refs, before.refs);
}

/// The file of a ref at a node: `REF:PATH`.
async fn file(node: &Node, project: &str, path: &str) -> String {
    ok(git(&node.repository(project), &["show", path]).await)
}

/// Commits a file on top of a ref, through the sidecar.
async fn put(node: &Node, project: &str, name: &str, file: &str, content: &str) {
    let new = {
        let repository = Repository::open_bare(node.repository(project)).expect("a repository");
        let tip = repository.find_reference(name).expect("the ref").peel_to_commit().expect("a commit");
        let old = tip.tree().expect("a tree");
        let mut tree = repository.treebuilder(Some(&old)).expect("a tree");
        let blob = repository.blob(content.as_bytes()).expect("a blob");
        drop(tree.insert(file, blob, 0o100_644).expect("an entry"));
        let tree = repository.find_tree(tree.write().expect("a tree")).expect("a tree");
        let person = Signature::now("T", "t@example.com").expect("a person");
        repository.commit(None, &person, &person, "a file\n", &tree, &[&tip]).expect("a commit").to_string()
    };
    let _ = ok(node.cli(&["update-ref", "--project", project, name, &new]).await);
}

/// Creates an account. Returns its number and its ref.
async fn account(sites: &Sites, name: &str) -> (u64, String) {
    let made = sites.servers[0].rest("PUT", &format!("/accounts/{name}"), &json!({})).await.json();
    let number = made["_account_id"].as_u64().expect("a number");
    (number, format!("refs/users/{:02}/{number}", number % 100))
}

/// The name of an external id's note.
fn note(id: &str, is_case_insensitive: bool) -> String {
    let id = if is_case_insensitive { id.to_lowercase() } else { id.to_owned() };
    Sha1::digest(id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each program finds something to write. The last one writes into the repository itself, so that the next start of
/// Gerrit commits it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn the_other_programs_write_and_both_sites_agree() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    if sites.servers[0].kit.release < (3, 13) {
        return;
    }
    sites.servers[0].create("p").await;
    let ((jo, jos), (old, olds)) = (account(&sites, "Jo").await, account(&sites, "Old").await);
    let token = format!("/accounts/{jo}/tokens/ci");
    let _: Value = sites.servers[0].rest("PUT", &token, &json!({"token": JO.1})).await.json();
    in_lockstep(&sites, "p").await;
    for server in &mut sites.servers {
        server.stop().await;
    }
    // A label of an earlier release, and a password of an earlier release.
    let (node, is_case_insensitive) = (&sites.cluster.nodes[0], sites.servers[0].setting(SETTING).await == "true");
    let label = "[label \"Old\"]\n\tfunction = MaxWithBlock\n\tvalue = -1 Bad\n\tvalue = 0 None\n\tvalue = +1 Good\n";
    let config = file(node, "p", "refs/meta/config:project.config").await;
    put(node, "p", "refs/meta/config", "project.config", &format!("{config}\n{label}")).await;
    let tokens = file(node, "All-Users", &format!("{jos}:tokens.config")).await;
    let hash = tokens.lines().find_map(|line| line.trim().strip_prefix("hash = ")).expect("a hash");
    let content = format!("[externalId \"username:Old\"]\n\taccountId = {old}\n\tpassword = {hash}\n");
    put(node, "All-Users", REF, &note("username:Old", is_case_insensitive), &content).await;

    let mut moved = Vec::new();
    for (program, args, project, name) in [
        ("MigrateLabelFunctions", &["--project", "p"][..], "p", "refs/meta/config"),
        ("ReduceMaxTokenLifetime", &["--lifetime", "1d"], "All-Users", jos.as_str()),
        ("MigratePasswordsToTokens", &[], "All-Users", olds.as_str()),
    ] {
        let value = async || refs(&node.repository(project)).await.expect("a repository").get(name).cloned();
        let before = value().await;
        let said = ok(sites.servers[0].program(program, args).await);
        let after = value().await;
        assert_ne!(before, after, "{program} has written nothing: {said}");
        moved.push((project, name));
    }

    for server in &mut sites.servers {
        server.start();
    }
    for server in &mut sites.servers {
        server.ready().await;
    }
    in_lockstep(&sites, "p").await;
    let files = ["project.config", "tokens.config", "tokens.config"];
    let parts = ["[submit-requirement \"Old\"]", "expiration", "[token "];
    for node in &sites.cluster.nodes {
        for (((project, name), path), part) in moved.iter().zip(files).zip(parts) {
            let shown = file(node, project, &format!("{name}:{path}")).await;
            assert!(shown.contains(part), "{}: no {part} in {name}:{path}: {shown}", node.name);
        }
    }
}
