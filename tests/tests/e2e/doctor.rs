//! The doctor, the preflight before a node is taken away, and the support bundle, beside real sidecars: each test
//! breaks something, and looks for the finding that names it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use lockstep_proto::doctor::{CheckResult, Diagnosis, Finding, Severity};
use lockstep_tests::aws::record::Record;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::ok;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;

use crate::lockstep;

/// The output of `lockstep doctor --json` at a node.
async fn doctor(node: &Node) -> (Option<i32>, Diagnosis) {
    let config = node.home.join("lockstep.toml").display().to_string();
    let output = node.cli(&["doctor", "--config", &config, "--json"]).await;
    let diagnosis = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), diagnosis)
}

fn check<'a>(diagnosis: &'a Diagnosis, name: &str) -> &'a CheckResult {
    diagnosis.checks.iter().find(|one| one.check == name).unwrap_or_else(|| panic!("no {name} in {diagnosis:?}"))
}

/// The findings of a check about a subject.
fn about<'a>(diagnosis: &'a Diagnosis, name: &str, subject: &str) -> Vec<&'a Finding> {
    check(diagnosis, name).findings.iter().filter(|one| one.subject == subject).collect()
}

/// One of three sidecars has another lease, and keeps records for less time than a node may be away.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_has_drifted_at_one_of_three_sites_is_found_from_the_others() {
    let tune = |node: &Node| {
        node.set_gerrit("refresh = \"none\"");
        if node.name == "c-0" {
            node.replace_setting("expires_after = \"3s\"", "expires_after = \"4s\"");
            node.replace_setting("poll_interval = \"100ms\"", "poll_interval = \"100ms\"\nretention = \"25h\"");
        }
    };
    let cluster = Cluster::start_tuned(lockstep(), &["a-0", "b-0", "c-0"], &tune).await;
    let (code, diagnosis) = doctor(&cluster.nodes[0]).await;
    assert_eq!(code, Some(2), "{diagnosis:?}");
    let found = about(&diagnosis, "drift", "lease.expires_after");
    assert_eq!(found.len(), 1, "{diagnosis:?}");
    assert_eq!((found[0].severity, found[0].text.as_str()), (Severity::Error, "it is 3s here, and 4s at c-0"));
    assert_eq!(about(&diagnosis, "drift", "eventlog.retention").len(), 1, "{diagnosis:?}");
    assert_eq!(check(&diagnosis, "sidecar").findings, []);
    for name in ["dns", "tls", "permissions", "clock", "peers", "versions", "gerrit"] {
        let result = check(&diagnosis, name);
        assert_eq!((&result.findings, &result.not_seen), (&Vec::new(), &None), "{name}");
    }

    let (_, diagnosis) = doctor(&cluster.nodes[2]).await;
    let found = about(&diagnosis, "drift", "lease.expires_after");
    assert!(found[0].text.contains("3s at a-0") && found[0].text.contains("3s at b-0"), "{found:?}");
    assert_eq!(about(&diagnosis, "retention", "eventlog.retention").len(), 1, "{diagnosis:?}");

    let only = cluster.nodes[0].cli(&["doctor", "--only", "drift", "--config", "/gone"]).await;
    let text = String::from_utf8_lossy(&only.stdout).into_owned();
    assert_eq!(only.status.code(), Some(2), "{text}");
    assert!(text.contains("error in drift: lease.expires_after") && !text.contains("error in retention"), "{text}");
}

/// A peer and then the sidecar itself are gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_and_a_silent_sidecar_are_told_and_the_machine_is_looked_at_all_the_same() {
    let mut cluster = Cluster::start_plain(lockstep(), &["a-0", "b-0"]).await;
    cluster.nodes[1].kill().await;
    let (code, diagnosis) = doctor(&cluster.nodes[0]).await;
    assert_eq!((code, about(&diagnosis, "peers", "peers.b-0").len()), (Some(2), 1), "{diagnosis:?}");
    cluster.nodes[0].kill().await;
    let (code, diagnosis) = doctor(&cluster.nodes[0]).await;
    assert_eq!(code, Some(2), "{diagnosis:?}");
    assert_eq!(about(&diagnosis, "sidecar", "api.socket")[0].severity, Severity::Error);
    assert!(check(&diagnosis, "peers").not_seen.as_ref().is_some_and(|why| why.contains("does not answer")));
    assert_eq!((&check(&diagnosis, "git").not_seen, &check(&diagnosis, "disk").not_seen), (&None, &None));
    let nothing = cluster.nodes[0].cli(&["doctor", "--config", "/gone"]).await;
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_taken_away_is_found_with_the_command_that_prints_the_policy() {
    let record = Arc::new(Record::default());
    let cluster = Cluster::start_recorded(lockstep(), &["a-0"], &record).await;
    let (_, before) = doctor(&cluster.nodes[0]).await;
    assert_eq!(check(&before, "permissions").findings, []);
    record.deny("GetItem");
    record.deny("DescribeStreamSummary");
    record.deny("ListShards");
    let (code, diagnosis) = doctor(&cluster.nodes[0]).await;
    assert_eq!(code, Some(2));
    for call in ["read of the table of refs", "read of the table of the journal", "look at the stream of a"] {
        let found = about(&diagnosis, "permissions", call);
        assert_eq!(found.len(), 1, "{call}: {diagnosis:?}");
        assert!(found[0].remedy.contains("`lockstep aws policy`"), "{found:?}");
    }
    assert_eq!(about(&diagnosis, "permissions", "query of the table of refs").len(), 0, "it is allowed still");
}

/// The root is open to the group, and a sidecar with this umask makes repositories that the group cannot read.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_whose_umask_is_077_is_told_beside_a_root_that_is_open_to_the_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, program) = (folder.path().join("git"), folder.path().join("lockstep"));
    std::fs::create_dir(&root).expect("a folder");
    let script = format!("#!/bin/sh\numask 077\nexec {} \"$@\"\n", lockstep().display());
    std::fs::write(&program, script).expect("a script");
    for path in [&root, &program] {
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a mode");
    }
    let elsewhere = |_: &str| Some((root.clone(), program.clone()));
    let cluster = Cluster::start_on(lockstep(), &["a-0"], &elsewhere).await;
    let (_, diagnosis) = doctor(&cluster.nodes[0]).await;
    let found = about(&diagnosis, "process", "umask");
    assert_eq!((found.len(), found[0].severity), (1, Severity::Note), "{diagnosis:?}");
    assert!(found[0].text.starts_with("the umask is 077: the group may read"), "{found:?}");
}

/// The exit code of a preflight, and its blockers.
async fn preflight(node: &Node, option: &str) -> (Option<i32>, Vec<String>) {
    let output: Output = node.cli(&["preflight", option, "--json"]).await;
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let blockers = report["blockers"].as_array().expect("a list");
    (output.status.code(), blockers.iter().map(|one| one["check"].to_string()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_be_drained_while_its_sibling_is_ready_and_not_after_that() {
    let mut cluster = Cluster::start_plain(lockstep(), &["a-0", "a-1"]).await;
    for option in ["--before-drain", "--before-upgrade"] {
        let safe = until(async || Some(preflight(&cluster.nodes[0], option).await).filter(|it| it.0 == Some(0))).await;
        assert!(safe.is_some(), "{option}: {:?}", preflight(&cluster.nodes[0], option).await);
    }
    let far = cluster.nodes[0].cli(&["preflight", "--before-upgrade", "--to-release", "99.0.0"]).await;
    assert_eq!(far.status.code(), Some(3), "{far:?}");
    cluster.nodes[1].kill().await;
    let refused = until(async || {
        let found = preflight(&cluster.nodes[0], "--before-drain").await;
        Some(found).filter(|(code, blockers)| *code == Some(3) && blockers.contains(&"\"budget\"".to_owned()))
    });
    assert!(refused.await.is_some(), "{:?}", preflight(&cluster.nodes[0], "--before-drain").await);
}

/// The text of a part of a bundle.
fn part(bundle: &Path, name: &str) -> String {
    let output = Command::new("tar").arg("-xzOf").arg(bundle).arg(format!("lockstep-support/{name}")).output();
    let output = output.expect("tar runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_support_bundle_has_every_part_and_none_of_the_planted_secrets() {
    let mut cluster = Cluster::start_plain(lockstep(), &["a-0"]).await;
    let node = &mut cluster.nodes[0];
    let token = node.home.join("hook-token");
    std::fs::write(&token, "planted-in-a-file\n").expect("a file");
    node.add_settings(&format!(
        "# token = \"planted-in-a-comment\"\n[handover]\nwebhook = \"http://u:planted-in-a-url@127.0.0.1:9/x\"\n\
         token_file = {token:?}\n"
    ));
    let _ = node.stop().await;
    node.start(None);
    node.ready().await;
    let (config, bundle) = (node.home.join("lockstep.toml"), node.home.join("bundle.tar.gz"));
    let (config, to) = (config.display().to_string(), bundle.display().to_string());
    let args = ["support-bundle", "--config", &config, "--to", &to, "--json"];
    let made: serde_json::Value = serde_json::from_str(&ok(node.cli(&args).await)).expect("JSON");
    assert!(made.is_object(), "{made}");
    let whole = Command::new("tar").arg("-xzOf").arg(&bundle).output().expect("tar runs");
    let whole = String::from_utf8_lossy(&whole.stdout).into_owned();
    assert!(!whole.contains("planted"), "{whole}");
    assert!(part(&bundle, "configuration.toml").contains("http://REDACTED@127.0.0.1:9/x"));
    assert!(part(&bundle, "status.json").contains("\"node\": \"a-0\""));
    assert!(part(&bundle, "doctor.txt").starts_with("doctor of a-0 at a"));
    assert!(part(&bundle, "sizes.txt").contains("node.redb"));
    let again = node.cli(&args).await;
    assert_eq!(again.status.code(), Some(64), "an archive that exists is not replaced: {again:?}");
}
