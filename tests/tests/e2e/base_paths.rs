//! Projects in base paths, that is, below other folders than the root. Each site has base paths of its own, on file
//! systems of their own.

use std::path::{Path, PathBuf};

use http::Method;
use lockstep::clients::api_client::{Call, Client};
use lockstep_proto::gerrit::{BasePath, HandshakeRequest, HandshakeResponse};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, git, ok};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::converged;
use lockstep_tests::e2e::{PATIENCE, behind, until};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";
const BIG: &str = "big/*";

/// A folder on another file system than the root's.
fn elsewhere() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a file system in memory")
}

async fn copy(from: &Path, to: &Path) {
    let _ = ok(tokio::process::Command::new("cp").arg("-a").args([from, to]).output().await.expect("cp runs"));
}

/// The log of a sidecar that ends during its start.
async fn refuses_to_start(node: &mut Node) -> String {
    node.start(None);
    assert!(!node.end().await.success(), "{}", node.log_tail());
    node.log_tail()
}

async fn restart(cluster: &mut Cluster, at: usize) {
    cluster.nodes[at].start(None);
    cluster.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_site_has_a_project_below_its_own_base_path() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("big/old").await;
    let there = elsewhere();
    let bases = [there.path().to_owned(), cluster.scratch("b-big")];
    std::fs::create_dir_all(bases[1].join("big")).expect("a folder");
    for (node, base) in cluster.nodes.iter_mut().zip(&bases) {
        let _ = node.stop().await;
        node.set_base_paths(&[(BIG, base)]);
        let why = refuses_to_start(node).await;
        let (is, should) = (node.root.join("big/old.git"), node.repository("big/old"));
        assert!(why.contains(&format!("{} (should be {})", is.display(), should.display())), "{why}");
        std::fs::create_dir_all(should.parent().expect("a folder")).expect("a folder");
        copy(&is, &should).await;
        std::fs::remove_dir_all(&is).expect("the folder moves");
        node.start(None);
    }
    cluster.ready().await;
    // The hooks are pinned by their path, so a repository that moved gets them again.
    for node in &cluster.nodes {
        let _ = ok(node.cli(&["hook", "install", &node.repository("big/old").display().to_string()]).await);
    }
    cluster.create("big/new").await;
    cluster.create("small").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let mut tip = None;
    for (at, project) in [(0, "big/old"), (1, "big/new"), (0, "big/new"), (1, "big/old"), (0, "small")] {
        let next = clone.commit(tip.as_deref(), project);
        let _ =
            ok(clone.push(&cluster.nodes[at].repository(project), &["--force"], &[&format!("{next}:{MAIN}")]).await);
        cluster.show(project, MAIN, Some(&next)).await;
        tip = Some(next);
    }
    for node in &mut cluster.nodes {
        let _ = ok(git(&node.repository("big/new"), &["gc", "-q"]).await);
        node.kill().await;
        node.start(None);
    }
    cluster.ready().await;
    for project in ["big/old", "big/new", "small"] {
        let _ = converged(&cluster, project).await;
    }
    for (node, base) in cluster.nodes.iter().zip(&bases) {
        assert!(base.join("big/new.git/HEAD").exists() && !node.root.join("big").join("new.git").exists());
        let installed = ok(node.cli(&["hook", "install", &node.repository("big/new").display().to_string()]).await);
        assert!(installed.contains("as project big/new"), "{installed}");
    }

    let _ = ok(cluster.nodes[1].cli(&["project", "delete", "big/new", "--yes"]).await);
    for base in &bases {
        let is_empty = |folder: &str| std::fs::read_dir(base.join(folder)).is_ok_and(|mut it| it.next().is_none());
        let gone = until(async || {
            let gone = !base.join("big/new.git").exists() && is_empty(".lockstep/trash") && is_empty(".lockstep/tmp");
            gone.then_some(())
        });
        assert!(gone.await.is_some(), "{}", base.display());
    }

    // The sidecar refuses to start with a base path that another sidecar uses, without a base path that it had before,
    // and with a folder that does not exist.
    let _ = cluster.nodes[1].stop().await;
    cluster.nodes[1].set_base_paths(&[(BIG, &bases[0])]);
    let why = refuses_to_start(&mut cluster.nodes[1]).await;
    assert!(why.contains("another sidecar") && why.contains(&bases[0].display().to_string()), "{why}");
    cluster.nodes[1].set_base_paths(&[]);
    let why = refuses_to_start(&mut cluster.nodes[1]).await;
    assert!(why.contains(&bases[1].join("big/old.git").display().to_string()), "{why}");
    let nowhere = cluster.scratch("nowhere");
    cluster.nodes[1].set_base_paths(&[(BIG, &nowhere)]);
    let why = refuses_to_start(&mut cluster.nodes[1]).await;
    assert!(why.contains("base path of big/*") && !nowhere.exists(), "{why}");
    cluster.nodes[1].set_base_paths(&[(BIG, &bases[1])]);
    restart(&mut cluster, 1).await;
    let _ = converged(&cluster, "big/old").await;
}

async fn push(cluster: &Cluster, clone: &Clone, commit: &str, name: &str) {
    let to = cluster.nodes[0].repository("big/x");
    let _ = ok(clone.push(&to, &[], &[&format!("{commit}:{name}")]).await);
    cluster.show("big/x", name, Some(commit)).await;
}

/// Two nodes. The second one has a base path, with a repository of one commit in it.
struct Restored {
    cluster: Cluster,
    clone: Clone,
    base: PathBuf,
    one: String,
}

impl Restored {
    async fn new() -> Self {
        let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
        let base = cluster.scratch("big");
        std::fs::create_dir(&base).expect("a folder");
        let _ = cluster.nodes[1].stop().await;
        cluster.nodes[1].set_base_paths(&[(BIG, &base)]);
        restart(&mut cluster, 1).await;
        cluster.create("big/x").await;
        let clone = Clone::new(&cluster.scratch("clone"));
        let one = clone.commit(None, "one");
        push(&cluster, &clone, &one, MAIN).await;
        Self { cluster, clone, base, one }
    }

    /// Stops the node, and replaces its base path with the folder `then`, or with an empty one.
    async fn restore(&mut self, then: Option<&Path>) {
        let _ = self.cluster.nodes[1].stop().await;
        std::fs::remove_dir_all(&self.base).expect("today");
        match then {
            Some(then) => copy(then, &self.base).await,
            None => std::fs::create_dir(&self.base).expect("a folder"),
        }
    }

    /// Copies the present base path, while the node is down.
    async fn snapshot(&mut self) -> PathBuf {
        let folder = self.cluster.scratch("yesterday");
        let _ = self.cluster.nodes[1].stop().await;
        copy(&self.base, &folder).await;
        restart(&mut self.cluster, 1).await;
        folder
    }

    /// Pushes to the other node, and waits until that node has the commit.
    async fn push_elsewhere(&self, commit: &str, name: &str) {
        let to = self.cluster.nodes[0].repository("big/x");
        let _ = ok(self.clone.push(&to, &[], &[&format!("{commit}:{name}")]).await);
    }
}

/// The node's own records are not on that file system, so they are not restored together with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_path_of_another_day_is_brought_up_to_date() {
    let mut world = Restored::new().await;
    let yesterday = world.snapshot().await;
    let two = world.clone.commit(Some(&world.one), "two");
    push(&world.cluster, &world.clone, &two, MAIN).await;
    push(&world.cluster, &world.clone, &world.one, "refs/heads/other").await;
    world.restore(Some(&yesterday)).await;
    // No commit in the folder leads to this one. It builds on a commit that only the node's own records know.
    let three = world.clone.commit(Some(&two), "three");
    world.push_elsewhere(&three, MAIN).await;
    restart(&mut world.cluster, 1).await;
    let truth = converged(&world.cluster, "big/x").await;
    assert_eq!(truth.refs.get(MAIN), Some(&three));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_base_path_is_filled_though_somebody_pushed_meanwhile() {
    let mut world = Restored::new().await;
    world.restore(None).await;
    let two = world.clone.commit(Some(&world.one), "two");
    world.push_elsewhere(&two, MAIN).await;
    restart(&mut world.cluster, 1).await;
    let truth = converged(&world.cluster, "big/x").await;
    assert_eq!(truth.refs.get(MAIN), Some(&two));
}

/// The snapshot was taken while the sidecar worked, and is restored after the same life ended. No process owns the lock
/// in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_the_same_life_is_known_for_what_it_is() {
    let mut world = Restored::new().await;
    let snapshot = world.cluster.scratch("snapshot");
    // A copy of a repository in use fails if a file that it has listed is removed meanwhile.
    let copied = until(async || {
        let _ = std::fs::remove_dir_all(&snapshot);
        let output = tokio::process::Command::new("cp").arg("-a").args([&world.base, &snapshot]).output().await;
        output.expect("cp runs").status.success().then_some(())
    });
    assert!(copied.await.is_some(), "no copy of {} succeeded", world.base.display());
    let two = world.clone.commit(Some(&world.one), "two");
    push(&world.cluster, &world.clone, &two, MAIN).await;
    std::fs::write(snapshot.join("big/x.git").join(format!("{MAIN}.lock")), "").expect("a lock");
    world.restore(Some(&snapshot)).await;
    restart(&mut world.cluster, 1).await;
    let truth = converged(&world.cluster, "big/x").await;
    assert_eq!(truth.refs.get(MAIN), Some(&two));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_does_not_come_back_with_a_base_path() {
    const GONE: &str = "refs/heads/gone";
    let mut world = Restored::new().await;
    push(&world.cluster, &world.clone, &world.one, GONE).await;
    for project in ["big/deleted", "big/again", "big/head"] {
        world.cluster.create(project).await;
        let to = world.cluster.nodes[0].repository(project);
        let _ = ok(world.clone.push(&to, &[], &[&format!("{}:{GONE}", world.one)]).await);
        world.cluster.show(project, GONE, Some(&world.one)).await;
    }
    let yesterday = world.snapshot().await;
    let node = &world.cluster.nodes[0];
    let _ = ok(world.clone.push(&node.repository("big/x"), &[], &[&format!(":{GONE}")]).await);
    world.cluster.show("big/x", GONE, None).await;
    // git cannot have this name beside the deleted ref, which the restored folder brings back.
    push(&world.cluster, &world.clone, &world.one, &format!("{GONE}/below")).await;
    let _ = ok(node.cli(&["head", "set", "--project", "big/head", GONE]).await);
    for project in ["big/deleted", "big/again"] {
        let _ = ok(node.cli(&["project", "delete", project, "--yes"]).await);
        for node in &world.cluster.nodes {
            let gone = until(async || (!node.repository(project).exists()).then_some(())).await;
            assert!(gone.is_some(), "{project} was not deleted at {}", node.name);
        }
    }
    world.cluster.create("big/again").await;
    let to = world.cluster.nodes[0].repository("big/again");
    let _ = ok(world.clone.push(&to, &[], &[&format!("{}:{MAIN}", world.one)]).await);
    world.cluster.show("big/again", MAIN, Some(&world.one)).await;
    let at_gone = until(async || {
        let head = std::fs::read_to_string(world.cluster.nodes[1].repository("big/head").join("HEAD"));
        head.is_ok_and(|head| head.contains(GONE)).then_some(())
    });
    assert!(at_gone.await.is_some(), "HEAD did not arrive");

    world.restore(Some(&yesterday)).await;
    restart(&mut world.cluster, 1).await;
    for project in ["big/x", "big/again", "big/head"] {
        let _ = converged(&world.cluster, project).await;
    }
    let deleted = world.cluster.nodes[1].repository("big/deleted");
    let gone = until(async || (!deleted.exists()).then_some(())).await;
    assert!(gone.is_some(), "big/deleted came back\n{}", world.cluster.nodes[1].log_tail());
    let strays = ok(world.cluster.nodes[1].cli(&["stray", "list", "big/again"]).await);
    assert!(strays.contains(GONE), "an uncommitted value must be kept as a stray: {strays}");
    let strays = ok(world.cluster.nodes[1].cli(&["stray", "list", "big/x"]).await);
    assert!(!strays.contains(GONE), "a value that was once committed is no stray: {strays}");
}

fn gerrit(base_path: &Path, base_paths: &[(&str, Option<&Path>)]) -> HandshakeRequest {
    let entry = |(projects, path): &(&str, Option<&Path>)| BasePath {
        projects: (*projects).to_owned(),
        path: path.map(|path| path.display().to_string()),
    };
    HandshakeRequest {
        session: "a process".into(),
        server_id: "one".into(),
        instance_id: "eu".into(),
        gerrit_version: "3.13.5".into(),
        bridge_version: "0.1.0".into(),
        all_projects: "All-Projects".parse().expect("a name"),
        all_users: "All-Users".parse().expect("a name"),
        base_path: Some(base_path.display().to_string()),
        base_paths: base_paths.iter().map(entry).collect(),
    }
}

async fn handshake(node: &Node, gerrit: &HandshakeRequest) -> HandshakeResponse {
    let call = Call::new(Method::POST, "/v1/gerrit/hello", gerrit).expect("JSON");
    Client::new(&node.socket()).send(&call, Instant::now() + PATIENCE).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_seeded_where_they_lie_and_a_gerrit_must_know_it() {
    let mut cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let users = elsewhere();
    let root = cluster.nodes[0].root.clone();
    let _ = cluster.nodes[0].stop().await;
    cluster.nodes[0].set_base_paths(&[("All-Users", users.path())]);
    for project in ["All-Projects", "All-Users"] {
        let repository = cluster.nodes[0].repository(project);
        git2::Repository::init_bare(&repository).expect("a repository");
        let commit = behind::commit(&repository, None, project);
        behind::set(&repository, "refs/meta/config", Some(&commit));
    }
    restart(&mut cluster, 0).await;
    let node = &cluster.nodes[0];
    let seeded = ok(node.cli(&["seed", "--root", &root.display().to_string(), "--alone"]).await);
    assert!(seeded.contains("2 projects are seeded, verified and open"), "{seeded}");
    let imported = node.cli(&["import", "All-Users", "--root", &root.display().to_string()]).await;
    assert!(ok(imported).contains("All-Users: 0 refs committed, 1 were committed before"));
    let other = Clone::new(&cluster.scratch("All-Users.git"));
    let why = fails(node.cli(&["import", &other.folder().display().to_string(), "--project", "All-Users"]).await);
    assert!(why.contains("is not on the git volume") && why.contains(&users.path().display().to_string()), "{why}");

    let why = handshake(node, &gerrit(&root, &[])).await.reason.expect("a reason");
    let (ours, theirs) = (users.path().display(), root.display());
    let said = format!("All-Users is below {theirs} for Gerrit, and below {ours} for the sidecar");
    assert!(why.contains(&said) && why.contains("[git.base_paths]"), "{why}");
    let why =
        handshake(node, &gerrit(users.path(), &[("All-Users", Some(users.path()))])).await.reason.expect("a reason");
    assert!(why.contains("gerrit.basePath is") && !why.contains("All-Users is"), "{why}");

    // The commit that `init` wrote there is committed.
    let repository = node.repository("All-Users");
    let before = ok(git(&repository, &["rev-parse", "refs/meta/config"]).await);
    let next = behind::commit(&repository, Some(&before), "init");
    behind::set(&repository, "refs/meta/config", Some(&next));
    let answer = handshake(node, &gerrit(&root, &[("*", None), ("All-Users", Some(users.path()))])).await;
    assert!(answer.accepted, "{answer:?}");
    assert_eq!(converged(&cluster, "All-Users").await.refs.get("refs/meta/config"), Some(&next));
}
