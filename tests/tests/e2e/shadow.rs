//! Shadow mode beside another replication: a script that pushes from one repository to the other, and makes mistakes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lockstep_tests::e2e::behind::{commit, set};
use lockstep_tests::e2e::git::{git, ok, quiet};
use lockstep_tests::e2e::node::free_port;
use lockstep_tests::e2e::until;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::life::get;
use crate::lockstep;

/// A site with a plain repository, and a watch.
struct Site {
    home: PathBuf,
    health: SocketAddr,
    watch: Child,
}

impl Site {
    async fn start(folder: &Path, name: &str) -> Self {
        let home = folder.join(name);
        let repository = home.join("git/p.git");
        std::fs::create_dir_all(&repository).expect("a folder");
        let _ = ok(git(&repository, &["init", "-q", "--bare", "-b", "main"]).await);
        let health = free_port();
        let settings = format!(
            "site = \"{name}\"\nnode = \"{name}-0\"\nsites = [\"a\", \"b\"]\nroot = \"{0}/git\"\n\
             state = \"{0}/state\"\n[health]\nlisten = \"{1}\"\n[blobs]\nurl = \"file://{0}/blobs\"\n\
             [api]\nsocket = \"{0}/run/api.sock\"\n",
            home.display(),
            health
        );
        std::fs::write(home.join("lockstep.toml"), settings).expect("a file");
        let mut command = quiet(Command::new(lockstep()), &home);
        command.args(["shadow", "watch", "--every-ms", "20", "--config"]).arg(home.join("lockstep.toml"));
        command.arg("--journal").arg(home.join("shadow")).stdout(Stdio::null()).kill_on_drop(true);
        let watch = command.spawn().expect("the watch starts");
        let site = Self { home, health, watch };
        site.sees("\"entry\":\"project\"", 1).await;
        site
    }

    fn repository(&self) -> PathBuf {
        self.home.join("git/p.git")
    }

    /// Waits until this many lines of the journal have a text.
    async fn sees(&self, text: &str, count: usize) {
        let journal = self.home.join("shadow/shadow.jsonl");
        let seen = || std::fs::read_to_string(&journal).unwrap_or_default().matches(text).count();
        assert!(until(async || (seen() >= count).then_some(())).await.is_some(), "{} of {text}", seen());
    }

    /// Moves refs between two looks, and waits until the watch has seen it.
    async fn moves(&self, refs: &[(&str, Option<&str>)]) {
        let journal = self.home.join("shadow/shadow.jsonl");
        let before = std::fs::read_to_string(&journal).unwrap_or_default().matches("\"moved\"").count();
        self.signal(Signal::STOP);
        refs.iter().for_each(|(name, value)| set(&self.repository(), name, *value));
        self.signal(Signal::CONT);
        self.sees("\"moved\"", before + 1).await;
    }

    /// Waits until the watch has told twice more that it lives.
    async fn lives(&self) {
        let journal = std::fs::read_to_string(self.home.join("shadow/shadow.jsonl")).unwrap_or_default();
        self.sees("\"looked\"", journal.matches("\"looked\"").count() + 2).await;
    }

    fn signal(&self, signal: Signal) {
        let id = self.watch.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
        kill_process(id, signal).expect("it takes a signal");
    }
}

/// Every file below a folder, with its content and its time.
fn files(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => {
                let time = path.metadata().and_then(|meta| meta.modified()).expect("a time");
                found.insert(path.clone(), (std::fs::read(&path).expect("a file"), time));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shadow_sees_what_another_replication_does_and_changes_nothing() {
    let folder = tempfile::Builder::new().prefix("lockstep-shadow-").tempdir().expect("a folder");
    let (mut a, mut b) = (Site::start(folder.path(), "a").await, Site::start(folder.path(), "b").await);
    let first = commit(&a.repository(), None, "one");
    let second = commit(&a.repository(), Some(&first), "two");
    let (from, to) = (a.repository().display().to_string(), b.repository());
    let copied = async |refspec: &str| drop(ok(git(&to, &["fetch", "-q", &from, refspec]).await));
    // One move arrives, one does not, and a change comes in two parts.
    a.moves(&[("refs/heads/main", Some(&first))]).await;
    copied("refs/heads/main:refs/heads/main").await;
    b.sees("\"moved\"", 1).await;
    a.moves(&[("refs/heads/lost", Some(&second))]).await;
    let _ = ok(git(&a.repository(), &["pack-refs", "--all"]).await);
    a.moves(&[("refs/changes/01/1/1", Some(&second)), ("refs/changes/01/1/meta", Some(&second))]).await;
    for name in ["refs/changes/01/1/meta", "refs/changes/01/1/1"] {
        copied(&format!("{name}:{name}")).await;
        b.sees(&format!("\"name\":\"{name}\""), 1).await;
    }
    // While nobody else writes, the watches change no byte of a repository.
    let before = [files(&a.home.join("git")), files(&b.home.join("git"))];
    a.lives().await;
    b.lives().await;
    assert!(before == [files(&a.home.join("git")), files(&b.home.join("git"))]);
    let metrics = get(a.health, "/metrics").await;
    for line in ["lockstep_shadow_projects 1", "lockstep_shadow_refs_total 4", "lockstep_shadow_problems 0"] {
        assert!(metrics.lines().any(|one| one == line), "no {line} in {metrics}");
    }
    for site in [&mut a, &mut b] {
        assert!(!site.home.join("git/.lockstep").exists() && !site.home.join("state").exists());
        site.watch.kill().await.expect("it can be killed");
    }

    let report = async |options: &[&str]| {
        let mut command = quiet(Command::new(lockstep()), folder.path());
        command.args(["shadow", "report"]).arg(a.home.join("shadow")).arg(b.home.join("shadow"));
        command.args(options).output().await.expect("it runs")
    };
    let text = report(&["--patience", "0"]).await;
    assert_eq!(text.status.code(), Some(2), "{text:?}");
    let said = String::from_utf8(text.stdout).expect("a text");
    for part in [
        "a-0 (site a): 1 projects, ",
        "a-0 -> b-0: 3 arrived, 0 passed over, 0 under way, 1 LOST; lag ",
        "  p refs/heads/lost: ",
        "proposals whose refs did not come together",
        "projects whose refs differ at the end\n  p : 5 refs at a-0, 4 refs at b-0\n",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let json = report(&["--json", "--patience", "0"]).await;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["ways"][0]["lost"], 1, "{json}");
}
