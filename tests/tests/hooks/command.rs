//! The command line: its requests to the sidecar, and its exit codes.

use std::collections::BTreeMap;

use crate::fake::{MAIN, Site, fails, git, ok, value};

fn code(output: &std::process::Output) -> Option<i32> {
    output.status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn update_ref_commits_refuses_and_says_which_by_its_exit_code() {
    let site = Site::new().await;
    let new = site.commit();
    ok(git(&site.bare(), &["fetch", "-q", "../work", "main"]));
    let update = ["update-ref", "--project", "tools/build"];
    let run = |args: &[&str]| site.lockstep(&[&update, args].concat());
    ok(run(&[MAIN, &new]));
    assert_eq!(value(&site.bare(), MAIN), Some(new.clone()));
    ok(run(&["--old", &new, "--delete", "refs/heads/main"]));
    let stale = run(&["--old", &new, "--delete", "refs/heads/old"]);
    assert_eq!(code(&stale), Some(3));
    assert!(fails(stale).contains("the ref is"));
    assert_eq!(code(&run(&["refs/heads/x", "nonsense"])), Some(64));
    assert_eq!(code(&run(&["main", &new])), Some(64), "a short name is not a ref");
    site.shutdown.cancel();
    let away = Site::unserved().lockstep(&[&update[..], &[MAIN, &new]].concat());
    assert_eq!(code(&away), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_and_their_head() {
    let site = Site::new().await;
    let head = || site.fake.projects.lock().get(&"a/b".parse().unwrap()).map(ToString::to_string);
    ok(site.lockstep(&["project", "create", "a/b", "--head", "refs/heads/trunk"]));
    assert_eq!(head().as_deref(), Some("refs/heads/trunk"));
    assert_eq!(code(&site.lockstep(&["project", "create", "a/b"])), Some(3));
    ok(site.lockstep(&["head", "set", "--project", "a/b", MAIN]));
    assert_eq!(head().as_deref(), Some(MAIN));
    assert_eq!(code(&site.lockstep(&["project", "delete", "a/b"])), Some(64), "the command needs --yes");
    ok(site.lockstep(&["project", "delete", "a/b", "--yes"]));
    assert_eq!(head(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_goes_as_one_and_can_be_run_again() {
    let site = Site::new().await;
    let main: lockstep_proto::Oid = value(&site.bare(), MAIN).unwrap().parse().unwrap();
    let names: String = (0..150).map(|n| format!("create refs/heads/n{n:03} {main}\n")).collect();
    let file = site.folder.path().join("names");
    std::fs::write(&file, names).unwrap();
    let mut native = std::process::Command::new("git");
    native.args(["-c", "core.hooksPath=/dev/null", "update-ref", "--stdin"]).current_dir(site.bare());
    ok(native.stdin(std::fs::File::open(&file).unwrap()).output().unwrap());
    *site.fake.refdb.lock() = Some(BTreeMap::from([("refs/heads/n007".to_owned(), main)]));
    site.fake.refuse.lock().insert("refs/heads/n100".to_owned(), "locked by ops".to_owned());

    let first = site.lockstep(&["import", "build.git"]);
    assert_eq!(code(&first), Some(3));
    assert!(
        String::from_utf8_lossy(&first.stdout).contains("151 refs committed, 1 were committed before"),
        "{first:?}"
    );
    assert!(fails(first).contains("refs/heads/n100: locked by ops"));
    assert!(site.fake.projects.lock().contains_key(&"tools/build".parse().unwrap()));
    let sizes: Vec<usize> = site.fake.requests.lock().iter().map(|one| one.commands.len()).collect();
    assert_eq!(sizes, [153]);

    site.fake.refuse.lock().clear();
    let again = ok(site.lockstep(&["import", "build.git"]));
    assert!(again.contains("1 refs committed, 152 were committed before"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn installing_twice_is_harmless_and_touches_nobody_elses_hook() {
    let site = Site::unserved();
    ok(site.lockstep(&["hook", "install", "build.git", "--project", "tools/build"]));
    let receive = ok(git(&site.bare(), &["config", "--get-all", "receive.procReceiveRefs"]));
    assert_eq!(receive, "refs\n");
    let hook = site.bare().join("hooks/proc-receive");
    std::fs::write(&hook, "#!/bin/sh\n").unwrap();
    let text = fails(site.lockstep(&["hook", "install", "build.git", "--project", "tools/build"]));
    assert!(text.contains("Lockstep did not write"), "{text}");
    assert_eq!(std::fs::read_to_string(&hook).unwrap(), "#!/bin/sh\n");
    let text = fails(site.lockstep(&["hook", "install", "work", "--project", "tools/build"]));
    assert!(text.contains("git clone --bare"), "{text}");
    ok(git(site.folder.path(), &["init", "-q", "--bare", "--object-format=sha256", "long.git"]));
    for command in [&["hook", "install", "long.git"][..], &["import", "long.git", "--project", "long"]] {
        let text = fails(site.lockstep(command));
        assert!(text.contains("extensions.objectFormat"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_the_sidecar_does_not_move_is_not_taken_for_one_that_it_does() {
    let site = Site::new().await;
    let root = site.folder.path().join("volume");
    std::fs::create_dir_all(root.join("tools")).unwrap();
    *site.fake.root.lock() = root.to_str().map(str::to_owned);
    for command in [&["hook", "install", "build.git"][..], &["import", "build.git"]] {
        let text = fails(site.lockstep(command));
        assert!(text.contains("is not on the git volume") && text.contains("/volume/PROJECT.git"), "{text}");
    }
    ok(git(&root, &["init", "-q", "--bare", "tools/lint.git"]));
    let done = ok(site.lockstep(&["hook", "install", "volume/tools/lint.git"]));
    assert!(done.contains("as project tools/lint"), "{done}");
    let wrong = site.lockstep(&["hook", "install", "volume/tools/lint.git", "--project", "lint"]);
    assert_eq!(code(&wrong), Some(64));
    assert!(fails(wrong).contains("--project tools/lint"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_the_command_without_a_panic() {
    use std::io::Read;
    let site = Site::new().await;
    let mut command = std::process::Command::new(crate::fake::LOCKSTEP);
    command.args(["status", "--watch", "--json"]).env("LOCKSTEP_SOCKET", site.socket());
    let pipes = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut watch = pipes.spawn().unwrap();
    watch.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    let ended = watch.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_can_be_looked_at() {
    let site = Site::new().await;
    assert!(ok(site.lockstep(&["status"])).contains("site eu-aws  node eu-aws-0  incarnation none  role active"));
    let json: serde_json::Value = serde_json::from_str(&ok(site.lockstep(&["status", "--json"]))).unwrap();
    assert_eq!(json["site"], "eu-aws");
    assert_eq!(ok(site.lockstep(&["parked"])), "nothing\n");
    assert_eq!(ok(site.lockstep(&["quarantine", "--json"])), "[]\n");
    let nothing = "nothing is parked or quarantined at this node (eu-aws-0); other nodes: `lockstep status --all`\n";
    assert_eq!(ok(site.lockstep(&["quarantine", "list"])), nothing);
    let json: serde_json::Value = serde_json::from_str(&ok(site.lockstep(&["quarantine", "list", "--json"]))).unwrap();
    assert_eq!(json, serde_json::json!({"quarantined": [], "parked": []}));
    let unknown = site.lockstep(&["explain", "nowhere", "refs/heads/main"]);
    assert_eq!(code(&unknown), Some(1));
    assert_eq!(fails(unknown), "the refdb has no project nowhere\n");
    // Without a terminal nobody can type the name of the entry.
    let unasked = site.lockstep(&["quarantine", "discard", "a/shard/1"]);
    assert_eq!(code(&unasked), Some(64));
    assert!(fails(unasked).contains("--yes"));
}

#[test]
fn the_printed_example_passes_its_check_and_the_environment_stands_above_it() {
    let site = Site::unserved();
    std::fs::write(site.folder.path().join("lockstep.toml"), ok(site.lockstep(&["config", "example"]))).unwrap();
    ok(site.lockstep(&["config", "check"]));
    let mut command = std::process::Command::new(crate::fake::LOCKSTEP);
    command.args(["config", "check"]).current_dir(site.folder.path());
    let output = command.env("LOCKSTEP_COMMIT__LANES", "99").env("LOCKSTEP_API__SOKCET", "/x").output().unwrap();
    assert_eq!(code(&output), Some(1));
    let text = fails(output);
    assert!(text.contains("commit.lanes = 99") && text.contains("did you mean api.socket?"), "{text}");
}
