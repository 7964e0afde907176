//! Existing repositories become projects: in parts, through a crash, verified, and open once another site has them.

use std::path::Path;

use git2::{Repository, RepositoryInitOptions};
use http::Method;
use lockstep::clients::api_client::{Call, Client};
use lockstep::seams::refdb::{IncarnationState, RefStore};
use lockstep_proto::ProjectKey;
use lockstep_proto::gerrit::HandshakeResponse;
use lockstep_tests::e2e::behind;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::documented_in;
use lockstep_tests::e2e::git::{Clone, fails, git, ok, refuses, text};
use lockstep_tests::e2e::verify::{converged, every_branch_moves, sound};
use lockstep_tests::e2e::{PATIENCE, until};
use lockstep_tests::unfit;
use tokio::time::{Instant, timeout};

use crate::life::get;
use crate::lockstep;

const MAIN: &str = "refs/heads/main";

/// A repository from before Lockstep: a history, branches, and many patch sets on top.
fn existing(repository: &Path, patch_sets: usize) {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).mkpath(true).external_template(false).initial_head(MAIN);
    Repository::init_opts(repository, &options).expect("a repository");
    let mut tip: Option<String> = None;
    for at in 0..40 {
        tip = Some(behind::commit(repository, tip.as_deref(), &format!("{at}")));
        if at % 10 == 0 {
            behind::set(repository, &format!("refs/heads/topic/{at}"), tip.as_deref());
        }
    }
    behind::set(repository, MAIN, tip.as_deref());
    for number in 1..=patch_sets {
        let patch_set = behind::commit(repository, tip.as_deref(), &format!("patch set {number}"));
        let (shard, name) = (number % 100, format!("{number}/1"));
        behind::set(repository, &format!("refs/changes/{shard:02}/{name}"), Some(&patch_set));
    }
    behind::set(repository, "refs/meta/config", tip.as_deref());
}

fn root(cluster: &Cluster) -> String {
    cluster.nodes[0].root.display().to_string()
}

/// The number of refs of the project p in the refdb.
async fn committed_refs(cluster: &Cluster) -> usize {
    let project: ProjectKey = "p#1".parse().expect("a key");
    let items = cluster.raw.scan(&project, None, 1_000).await.expect("the refdb answers");
    items.iter().filter(|item| item.value.oid().is_some()).count()
}

/// Whether every incarnation of a site was drained.
async fn is_adopted(cluster: &Cluster, site: &str) -> bool {
    let all = cluster.refdb.incarnations.incarnations(&site.parse().expect("a site")).await.expect("the refdb answers");
    all.iter().all(|one| one.state == IncarnationState::Drained)
}

async fn push(cluster: &Cluster, node: usize, project: &str, branch: &str) -> std::process::Output {
    let repository = cluster.nodes[node].repository(project);
    let clone = Clone::new(&cluster.scratch(&format!("clone-{branch}-{node}")));
    let commit = clone.commit(None, branch);
    clone.push(&repository, &[], &[&format!("{commit}:refs/heads/{branch}")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_seeded_over_a_crash_and_opens_when_another_holds_it() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let _ = cluster.nodes[0].stop().await;
    for (project, patch_sets) in [("All-Projects", 3), ("All-Users", 120), ("tools/build", 700)] {
        existing(&cluster.nodes[0].repository(project), patch_sets);
    }
    // The sidecar is killed when it has locked the refs of the third project, the second one of more than 99 refs.
    cluster.nodes[0].start(Some("commit.locked:2"));
    cluster.ready().await;
    let (socket, root) = (cluster.nodes[0].socket(), root(&cluster));
    let seed = tokio::spawn(async move {
        let mut command = tokio::process::Command::new(lockstep());
        command.args(["seed", "--root", &root]).env("LOCKSTEP_SOCKET", socket).kill_on_drop(true);
        timeout(PATIENCE * 2, command.output()).await.expect("it ends").expect("it runs")
    });
    let _ = cluster.nodes[0].end().await;
    let there = until(async || cluster.nodes[1].repository("tools/build").exists().then_some(())).await;
    assert!(there.is_some(), "the other site did not learn of the project\n{}", cluster.nodes[1].log_tail());
    // The folder is there a moment before the node knows the project.
    let early = async || fails(push(&cluster, 1, "tools/build", "early").await);
    let refused = until(async || early().await.contains("is being seeded").then_some(())).await;
    assert!(refused.is_some(), "{}", early().await);
    cluster.nodes[0].start(None);
    let done = seed.await.expect("the command");
    let said = ok(done);
    assert!(said.contains("tools/build: open; 706 refs on the disk = refdb"), "{said}");
    assert!(said.contains("3 projects are seeded, verified and open"), "{said}");
    cluster.ready().await;
    for (project, refs) in [("All-Projects", 9), ("All-Users", 126), ("tools/build", 706)] {
        let truth = converged(&cluster, project).await;
        assert_eq!((truth.refs.len(), truth.head.as_deref()), (refs, Some(MAIN)), "{project}");
    }
    for at in 0..2 {
        let _ = ok(push(&cluster, at, "tools/build", &format!("late{at}")).await);
    }
    every_branch_moves(&cluster, "tools/build", &Clone::new(&cluster.scratch("mover"))).await;
    documented_in("seeding.md", "lockstep seed", &cluster.nodes[0].cli(&["seed"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_another_site_it_waits_unless_it_is_told_that_it_is_alone() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.nodes[1].kill().await;
    existing(&cluster.nodes[0].repository("p"), 5);
    let waits = async { cluster.nodes[0].cli(&["seed", "--root", &root(&cluster)]).await };
    // By then its refs are committed, and the other site is known to be dead: the command waits all the same.
    let settled = async {
        assert!(
            until(async || (committed_refs(&cluster).await >= 11).then_some(())).await.is_some(),
            "no 11 refs of p"
        );
        assert!(until(async || is_adopted(&cluster, "b").await.then_some(())).await.is_some(), "b was not adopted");
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    };
    tokio::select! {
        biased;
        waited = waits => panic!("it does not wait: {}", text(&waited)),
        () = settled => {}
    }
    refuses(push(&cluster, 0, "p", "early").await, "is being seeded");
    let status = async || ok(cluster.nodes[0].cli(&["status"]).await);
    let shown = status().await;
    assert!(shown.contains("projects that are not in order\n") && shown.contains("  p        seeding  -"), "{shown}");
    let verbose = get(cluster.nodes[0].health, "/readyz?verbose").await;
    assert!(verbose.contains("project p is seeding\n"), "{verbose}");
    let gerrit = serde_json::json!({"session": "s", "server_id": "one", "instance_id": "eu", "gerrit_version": "3.13.5",
        "bridge_version": "0.1.0", "all_projects": "p", "all_users": "p"});
    let call = Call::new(Method::POST, "/v1/gerrit/hello", &gerrit).expect("JSON");
    let handshake = async || {
        Client::new(&cluster.nodes[0].socket()).send::<HandshakeResponse>(&call, Instant::now() + PATIENCE).await
    };
    let not_yet = handshake().await.expect_err("its projects take no commits yet").to_string();
    assert!(not_yet.contains("it is being seeded"), "{not_yet}");
    let said = ok(cluster.nodes[0].cli(&["seed", "--root", &root(&cluster), "--alone", "p"]).await);
    assert!(said.contains("p: open; 11 refs"), "{said}");
    let _ = ok(push(&cluster, 0, "p", "late").await);
    assert!(handshake().await.expect("an answer").accepted);
    assert!(!status().await.contains("not in order"), "{}", status().await);
    cluster.nodes[1].start(None);
    cluster.ready().await;
    converged(&cluster, "p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_cannot_be_seeded_is_named_and_the_others_wait_for_it() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let repository = cluster.nodes[0].repository("p");
    existing(&repository, 2);
    let blob = behind::blob(&repository, "no commit");
    std::fs::write(repository.join("refs/heads/odd"), format!("{blob}\n")).expect("a ref");
    let seed = async || cluster.nodes[0].cli(&["seed", "--root", &root(&cluster), "--alone"]).await;
    let refused = seed().await;
    assert_eq!(refused.status.code(), Some(3));
    let said = fails(refused);
    assert!(
        said.contains("refs/heads/odd") && said.contains("is no commit") && said.contains("run the same"),
        "{said}"
    );
    refuses(push(&cluster, 0, "p", "early").await, "is being seeded");
    std::fs::remove_file(repository.join("refs/heads/odd")).expect("mended");
    assert!(ok(seed().await).contains("p: open; 8 refs"));
    let elsewhere = cluster.scratch("elsewhere");
    std::fs::create_dir_all(&elsewhere).expect("a folder");
    let wrong = cluster.nodes[0].cli(&["seed", "--root", &elsewhere.display().to_string()]).await;
    refuses(wrong, "the sidecar's git volume is");
}

/// The delete-project plugin does the same: it moves the folder away, then asks for the deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_moved_away_is_deleted_everywhere_and_its_name_used_again() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let first = push(&cluster, 0, "p", "main").await;
    let _ = ok(first);
    converged(&cluster, "p").await;
    let [a, b] = [0, 1].map(|at| cluster.nodes[at].repository("p"));
    // This plays a server that holds the repository open: its pack and its folder, even after their names change.
    let held = Repository::open_bare(&a).expect("a repository");
    let folder = std::fs::File::open(&a).expect("a folder");
    std::fs::rename(&a, a.with_file_name("p.17.%project%.git")).expect("moved away");
    let _ = ok(cluster.nodes[0].cli(&["project", "delete", "p", "--yes"]).await);
    assert!(!a.exists(), "the repository came back while it was deleted");
    assert!(until(async || (!b.exists()).then_some(())).await.is_some(), "{}", cluster.nodes[1].log_tail());
    cluster.create("p").await;
    let _ = ok(push(&cluster, 1, "p", "other").await);
    let truth = converged(&cluster, "p").await;
    assert_eq!(truth.refs.keys().collect::<Vec<_>>(), ["refs/heads/other"]);
    drop((held, folder));
    sound(&a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_gone_comes_back_from_another_site() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    existing(&cluster.nodes[0].repository("p"), 30);
    let said = ok(cluster.nodes[0].cli(&["seed", "--root", &root(&cluster), "--json"]).await);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let p = &report["projects"][0];
    assert!(p["project"] == "p" && p["stage"] == "open" && p["done"] == 36, "{said}");
    converged(&cluster, "p").await;
    let a = cluster.nodes[0].repository("p");
    std::fs::rename(&a, cluster.scratch("taken")).expect("taken away");
    assert!(until(async || a.exists().then_some(())).await.is_some(), "{}", cluster.nodes[0].log_tail());
    let truth = converged(&cluster, "p").await;
    assert_eq!(truth.refs.len(), 36);
    let _ = ok(push(&cluster, 0, "p", "goes-on").await);
    converged(&cluster, "p").await;
    assert!(git(&a, &["symbolic-ref", "HEAD"]).await.status.success());
}

/// Everything that Gerrit lists is seeded, or named with the advice that makes it so.
#[tokio::test(flavor = "multi_thread")]
async fn every_repository_that_gerrit_lists_is_seeded_or_named_and_the_advice_works() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let (root, away) = (cluster.nodes[0].root.clone(), cluster.scratch("away"));
    existing(&root.join("fine.git"), 1);
    existing(&root.join("plain"), 1);
    existing(&root.join("Team A/app.git"), 1);
    existing(&away.join("lib.git"), 1);
    std::os::unix::fs::symlink(away.join("lib.git"), root.join("lib.git")).expect("a link");
    let seed = async || cluster.nodes[0].cli(&["seed", "--alone"]).await;
    let first = seed().await;
    assert_eq!(first.status.code(), Some(3), "{}", text(&first));
    let said = text(&first);
    for part in ["fine: open; 7 refs", "git/plain: its name", "Team A/app.git: project name", "git/lib.git: the link"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert!(said.contains("3 repositories were not seeded"), "{said}");
    // The refusal of a push to such a repository names this very command.
    let unknown = cluster.nodes[0].cli(&["update-ref", "--project", "plain", MAIN, &"1".repeat(40)]).await;
    refuses(unknown, "bring it in with `lockstep seed`");
    let advice = |name: &str| {
        let line = said.lines().find(|line| line.contains(name)).expect("a line");
        line.split('`').find(|part| part.contains("mv ")).expect("a command").to_owned()
    };
    for command in [advice("git/plain:"), advice("git/lib.git:")] {
        let ran = std::process::Command::new("sh").args(["-c", &command]).status().expect("sh runs");
        assert!(ran.success(), "{command}");
    }
    std::fs::rename(root.join("Team A"), root.join("team-a")).expect("renamed");
    let said = ok(seed().await);
    assert!(said.contains("4 projects are seeded, verified and open"), "{said}");
    for project in ["plain", "lib", "team-a/app"] {
        let _ = ok(push(&cluster, 0, project, "late").await);
    }
}

/// An unfit repository makes no project. A ref that does not fit is named, and the others are seeded.
#[tokio::test(flavor = "multi_thread")]
async fn an_unfit_repository_is_refused_before_its_project_is_made_and_an_unfit_ref_is_left_out() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let (shallow, odd) = (cluster.nodes[0].repository("shallow"), cluster.nodes[0].repository("odd"));
    existing(&shallow, 1);
    std::fs::write(shallow.join("shallow"), format!("{}\n", "1".repeat(40))).expect("a file");
    existing(&odd, 1);
    let _ = ok(git(&odd, &["symbolic-ref", "refs/heads/latest", MAIN]).await);
    let value = ok(git(&odd, &["rev-parse", MAIN]).await);
    let packed =
        [b"# pack-refs with: peeled fully-peeled sorted \n", value.as_bytes(), b" refs/heads/caf\xe9\n"].concat();
    std::fs::write(odd.join("packed-refs"), packed).expect("packed refs");
    let seed = async || cluster.nodes[0].cli(&["seed", "--alone"]).await;
    let output = seed().await;
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output);
    for part in [
        "it is shallow",
        "git fetch --unshallow",
        "odd: open; 7 refs",
        "\"refs/heads/caf\\351\": is not UTF-8",
        "refs/heads/latest: is a symbolic ref to refs/heads/main",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let projects = cluster.refdb.refs.projects(None, 100).await.expect("the refdb answers");
    assert!(projects.iter().all(|(name, _)| name.as_str() != "shallow"), "the project was made");
    std::fs::remove_file(shallow.join("shallow")).expect("completed");
    let said = text(&seed().await);
    assert!(said.contains("shallow: open; 7 refs"), "{said}");
}

/// Each kind of repository that `docs/git-servers.md` lists.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute: make soak"]
async fn each_kind_of_unfit_repository_makes_no_project_and_is_seeded_after_its_remedy() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    for (at, kind) in unfit::kinds().enumerate() {
        let (folder, outside) =
            (cluster.nodes[0].root.join(format!("kind{at}")), cluster.scratch(&format!("away{at}")));
        for new in [&folder, &outside] {
            std::fs::create_dir_all(new).expect("a folder");
        }
        let run = |script: &str| ok(unfit::run(&folder, &outside, script));
        let _ = (run(unfit::WORK), run(kind.make));
        let project = format!("kind{at}/x");
        let seed = async || cluster.nodes[0].cli(&["seed", "--alone", &project]).await;
        if !kind.reason.is_empty() {
            let refused = seed().await;
            assert_eq!(refused.status.code(), Some(3), "{}: {}", kind.name, text(&refused));
            refuses(refused, kind.reason);
            let projects = cluster.refdb.refs.projects(None, 100).await.expect("the refdb answers");
            assert!(projects.iter().all(|(name, _)| name.as_str() != project), "{}: the project was made", kind.name);
        }
        let Some(remedy) = kind.remedy else { continue };
        let _ = run(remedy);
        let said = text(&seed().await);
        assert!(said.contains(&format!("{project}: open; ")), "{}: {said}", kind.name);
    }
}
