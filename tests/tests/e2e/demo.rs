//! The demo: three sites in one process, of which nothing is left afterwards.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use lockstep_tests::e2e::git::quiet;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::lockstep;

/// A limit far above the duration of the demo.
const LONG: Duration = Duration::from_secs(600);

fn demo(folder: &Path, args: &[&str]) -> Child {
    let mut command = quiet(Command::new(lockstep()), folder);
    command.arg("demo").args(args).env("TMPDIR", folder).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

async fn end(child: Child) -> Output {
    timeout(LONG, child.wait_with_output()).await.expect("it ends").expect("it ran")
}

fn left(folder: &Path) -> usize {
    std::fs::read_dir(folder)
        .expect("a folder")
        .filter_map(Result::ok)
        .filter(|one| one.file_name().to_string_lossy().starts_with("lockstep-demo-"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_seeds_every_branch_of_a_repository_and_proves_the_sites_equal() {
    let folder = tempfile::tempdir().expect("a folder");
    let git = async |args: &[&str]| {
        let output = quiet(Command::new("git"), folder.path())
            .current_dir(folder.path())
            .args(args)
            .output()
            .await
            .expect("git runs");
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "-q", "-b", "main", "src"]).await;
    git(&["-C", "src", "commit", "-q", "--allow-empty", "-m", "one"]).await;
    // More folders of names than one commit takes.
    for n in 0..60 {
        git(&["-C", "src", "branch", &format!("u{n}/x")]).await;
    }
    let source = folder.path().join("src").display().to_string();
    let output = end(demo(folder.path(), &["--for", "2s", "--json", "--repo", &source])).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_str(text.lines().last().expect("a summary")).expect("JSON");
    assert_eq!((&summary["equal"], &summary["fsck_clean"]), (&true.into(), &true.into()), "{summary}");
    assert!(summary["refs"].as_u64() > Some(60), "{summary}");
    assert_eq!(left(folder.path()), 0, "the folder was not deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_that_ends_it_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut child = demo(folder.path(), &["--json"]);
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = timeout(LONG, lines.next_line()).await.expect("in time").expect("readable");
        assert!(first.is_some_and(|line| line.contains("transaction")));
        let id = Pid::from_raw(i32::try_from(child.id().expect("it runs")).expect("an id")).expect("an id");
        kill_process(id, signal).expect("a signal");
        let reading = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let output = end(child).await;
        reading.await.expect("read to the end");
        assert!(output.status.success(), "{signal:?}: {output:?}");
        assert_eq!(left(folder.path()), 0, "{signal:?}: the folder was not deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_prints_the_address_of_each_console_and_a_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = end(demo(folder.path(), &["--for", "1s"])).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    for site in ["eu-aws", "muc-1", "muc-2"] {
        let line = format!("  {site:8} https://127.0.0.1:");
        assert!(text.lines().any(|one| one.starts_with(&line) && one.ends_with("/console")), "{site}: {text}");
    }
    assert!(text.contains("\n  token    lockstep-operator-"), "{text}");
}
