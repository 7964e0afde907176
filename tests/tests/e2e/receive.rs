//! A push to a server with Lockstep's hooks and the same push to plain git, side by side: the same verdict on each ref,
//! in git's words, and the same refs. One row per setting of receive-pack (`docs/git-servers.md`).

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, git, ok, quiet, refs, refuses, text};
use tokio::process::Command;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";

/// The settings of both servers, and the push.
struct Row {
    settings: &'static [(&'static str, &'static str)],
    push: &'static [&'static str],
}

const fn row(settings: &'static [(&'static str, &'static str)], push: &'static [&'static str]) -> Row {
    Row { settings, push }
}

/// The commits `first`, `second` (on top of it) and `third` (on top of that) are tags of the clone. Both servers have
/// `main` and the tag `moved` at `second`, and `old` at `first`.
const ROWS: &[Row] = &[
    row(&[], &["third:main", "third:refs/heads/fresh", "third:refs/notes/x", ":old"]),
    row(&[], &["first:main", "+first:moved", "second:old"]),
    row(&[], &["+first:main", "+third:refs/tags/moved", ":refs/tags/moved-not"]),
    row(&[], &[":main", "third:old"]),
    row(&[], &["--atomic", ":main", "third:old"]),
    row(&[("receive.denyDeleteCurrent", "true")], &[":main"]),
    row(&[("receive.denyDeleteCurrent", "refuse")], &[":main", ":old"]),
    row(&[("receive.denyDeleteCurrent", "updateInstead")], &[":main"]),
    row(&[("receive.denyDeleteCurrent", "warn")], &[":main"]),
    row(&[("receive.denyDeleteCurrent", "ignore")], &[":main"]),
    row(&[("receive.denyDeleteCurrent", "false")], &[":main"]),
    row(&[("receive.denyDeletes", "true")], &[":old", ":refs/tags/moved", "third:main"]),
    row(&[("receive.denyDeletes", "true")], &["--atomic", ":old", "third:main"]),
    row(&[("receive.denyDeletes", "true"), ("receive.denyDeletes", "false")], &[":old"]),
    row(&[("receive.denyNonFastForwards", "true")], &["+first:main", "+first:refs/tags/moved", "second:old"]),
    row(&[("receive.denyNonFastForwards", "yes")], &["--atomic", "+first:main", "third:refs/heads/fresh"]),
    row(&[("core.sharedRepository", "group"), ("receive.denyNonFastForwards", "1")], &["+first:main", "third:old"]),
    row(&[("receive.denyCurrentBranch", "refuse")], &["third:main"]),
    row(&[("receive.denyCurrentBranch", "updateInstead")], &["third:main"]),
    row(&[("receive.fsckObjects", "true")], &["third:main", "badly:refs/heads/badly"]),
    row(&[("transfer.fsckObjects", "true")], &["third:main", "badly:refs/heads/badly"]),
    row(&[("receive.fsckObjects", "false"), ("transfer.fsckObjects", "true")], &["badly:refs/heads/badly"]),
    row(&[("receive.fsckObjects", "true"), ("receive.fsck.missingEmail", "ignore")], &["badly:refs/heads/badly"]),
    row(&[("receive.fsckObjects", "true"), ("receive.fsck.missingEmail", "warn")], &["badly:refs/heads/badly"]),
    row(&[("receive.fsckObjects", "true"), ("receive.fsck.missingEmail", "error")], &["badly:refs/heads/badly"]),
    row(&[("receive.fsckObjects", "true"), ("receive.fsck.badDate", "ignore")], &["badly:refs/heads/badly"]),
    row(&[("receive.fsckObjects", "true"), ("fsck.missingEmail", "ignore")], &["badly:refs/heads/badly"]),
    row(&[("receive.maxInputSize", "2000")], &["large:refs/heads/large"]),
    row(&[("receive.maxInputSize", "2000")], &["third:main"]),
    row(&[("receive.advertiseAtomic", "false")], &["--atomic", "third:main"]),
    row(&[("receive.advertisePushOptions", "true")], &["-o", "ci.skip", "third:main"]),
    row(&[("receive.advertisePushOptions", "false")], &["-o", "ci.skip", "third:main"]),
    row(&[("receive.hideRefs", "refs/secret")], &["third:refs/secret/x", "third:main"]),
    row(&[("transfer.hideRefs", "refs/notes")], &["third:refs/notes/x", "third:main"]),
    row(&[("receive.autogc", "true"), ("gc.auto", "1"), ("gc.autoDetach", "false")], &["third:main", ":old"]),
    row(&[("receive.updateServerInfo", "true")], &["third:main", "third:refs/heads/fresh"]),
    row(&[("receive.certNonceSeed", "a seed")], &["--signed=yes", "third:main"]),
    row(&[], &["--signed=yes", "third:main"]),
    row(&[("receive.shallowUpdate", "true")], &["third:main"]),
    row(&[("receive.procReceiveRefs", "refs/nothing")], &["third:main"]),
    row(&[], &["third:refs/short", "third:main"]),
];

/// Two servers with the same content, and a clone to push from.
struct Servers {
    plain: PathBuf,
    ours: PathBuf,
    clone: PathBuf,
}

impl Servers {
    /// Makes the next pair. The sidecar's repository is created by `lockstep project create`.
    async fn new(cluster: &Cluster, name: &str) -> Self {
        let clone = clone(cluster).await;
        let plain = cluster.scratch(&format!("{name}-plain.git"));
        let _ = ok(git(&clone, &["init", "-q", "--bare", "-b", "main", &plain.display().to_string()]).await);
        cluster.create(name).await;
        let servers = Self { plain, ours: cluster.nodes[0].repository(name), clone };
        for (_, output) in
            servers.both(&["push", "second:refs/heads/main", "second:moved", "first:refs/heads/old"]).await
        {
            let _ = ok(output);
        }
        servers
    }

    /// Sets up both servers in the same way.
    async fn set(&self, settings: &[(&str, &str)]) {
        for server in [&self.plain, &self.ours] {
            for (key, value) in settings {
                let _ = ok(git(server, &["config", "--add", key, value]).await);
            }
        }
    }

    /// Adds a linked work tree to each server, with the branch `old`.
    async fn link_work_trees(&self) {
        for server in [&self.plain, &self.ours] {
            let tree = server.with_extension("tree").display().to_string();
            let _ = ok(git(server, &["worktree", "add", "-q", &tree, "old"]).await);
        }
    }

    fn hook(&self, name: &str, script: &str) {
        for server in [&self.plain, &self.ours] {
            let path = server.join("hooks").join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a hook");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a hook");
        }
    }

    /// Runs the same push against both: first the plain server.
    async fn both(&self, push: &[&str]) -> [(&Path, Output); 2] {
        let mut outputs = Vec::new();
        let (options, refspecs): (Vec<&str>, Vec<&str>) = push[usize::from(push[0] == "push")..]
            .iter()
            .partition(|word| word.starts_with('-') || **word == "ci.skip");
        for server in [&self.plain, &self.ours] {
            let url = format!("file://{}", server.display());
            let args = [&["push", "--porcelain"], &options[..], &[&url], &refspecs[..]].concat();
            outputs.push((server.as_path(), git(&self.clone, &args).await));
        }
        let [plain, ours]: [_; 2] = outputs.try_into().expect("two outputs");
        [plain, ours]
    }

    /// Runs the push, and compares verdicts and refs.
    async fn same(&self, what: &str, push: &[&str]) {
        let [(_, plain), (_, ours)] = self.both(push).await;
        assert_eq!(plain.status.success(), ours.status.success(), "{what}: {}\n{}", text(&plain), text(&ours));
        let (wanted, found) = (verdicts(&plain), verdicts(&ours));
        assert_eq!(wanted.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{what}: {}", text(&ours));
        for (one, verdict) in &wanted {
            let (flag, why) = verdict.split_at(1);
            let why = why.trim_start_matches(" [remote rejected] (").trim_end_matches(')');
            // JGit's and git's names for one and the same: `refs/short` is no branch, tag or note.
            let why = if why == "funny refname" { "fewer than three components" } else { why };
            let agrees = found[one].starts_with(flag) && (flag != "!" || found[one].contains(why));
            assert!(agrees, "{what}: {one} is {verdict:?} at plain git, and {:?} with Lockstep", found[one]);
        }
        assert_eq!(refs(&self.plain).await, refs(&self.ours).await, "{what}: {}", text(&ours));
    }
}

/// The verdict on each ref: flag and summary. A push that fails as a whole has none.
fn verdicts(output: &Output) -> BTreeMap<String, String> {
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let fields = listed.lines().map(|line| line.split('\t').collect::<Vec<_>>()).filter(|fields| fields.len() == 3);
    fields.map(|line| (line[1].to_owned(), format!("{} {}", line[0], line[2]))).collect()
}

/// A clone with three commits, a large one, and one that `fsck` refuses. It is made once.
async fn clone(cluster: &Cluster) -> PathBuf {
    let folder = cluster.scratch("clone");
    if folder.exists() {
        return folder;
    }
    std::fs::create_dir_all(&folder).expect("a folder");
    let run = async |args: &[&str]| ok(git(&folder, args).await);
    let _ = run(&["init", "-q", "-b", "main"]).await;
    for tag in ["first", "second", "third"] {
        let _ = run(&["commit", "-q", "--allow-empty", "-m", tag]).await;
        let _ = run(&["tag", tag]).await;
    }
    let noise: Vec<u8> = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(folder.join("noise"), noise).expect("a file");
    let _ = run(&["add", "noise"]).await;
    let _ = run(&["commit", "-q", "-m", "large"]).await;
    let _ = run(&["tag", "large"]).await;
    let commit = run(&["cat-file", "commit", "third"]).await.replace("T <t@example.com>", "T t@example.com");
    std::fs::write(folder.join("badly"), commit + "\n").expect("a file");
    let badly = run(&["hash-object", "-t", "commit", "--literally", "-w", "badly"]).await;
    let _ = run(&["update-ref", "refs/tags/badly", &badly]).await;
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_of_receive_pack_means_the_same_as_without_lockstep() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let _ = sign(&clone(&cluster).await).await;
    for (at, row) in ROWS.iter().enumerate() {
        let servers = Servers::new(&cluster, &format!("row{at}")).await;
        servers.set(row.settings).await;
        servers.same(&format!("{:?} {:?}", row.settings, row.push), row.push).await;
    }
}

/// A linked work tree in a bare repository: its branch is protected as in a repository with a work tree of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_a_linked_work_tree_has_checked_out_is_protected_as_by_git() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    for value in ["", "refuse", "warn", "ignore"] {
        let servers = Servers::new(&cluster, &format!("tree{value}")).await;
        if !value.is_empty() {
            servers.set(&[("receive.denyCurrentBranch", value), ("receive.denyDeleteCurrent", value)]).await;
        }
        servers.link_work_trees().await;
        servers.same(value, &["third:old", "third:main"]).await;
        servers.same(value, &[":old"]).await;
    }
    // Plain git would change the work tree. Lockstep refuses, because refs move after the commit.
    let servers = Servers::new(&cluster, "instead").await;
    servers.set(&[("receive.denyCurrentBranch", "updateInstead")]).await;
    servers.link_work_trees().await;
    let before = refs(&servers.ours).await;
    let [(_, plain), (_, ours)] = servers.both(&["third:old"]).await;
    let _ = ok(plain);
    refuses(ours, "branch is currently checked out");
    assert_eq!(refs(&servers.ours).await, before);
}

/// Settings of git, and the number of packs that a small push leaves with them, where all releases agree.
type UnpackLimit = (&'static [(&'static str, &'static str)], Option<usize>);

/// The number of packs of a server.
fn packs(server: &Path) -> usize {
    let files = std::fs::read_dir(server.join("objects/pack")).expect("a folder");
    files.filter(|file| file.as_ref().expect("a file").path().extension().is_some_and(|end| end == "pack")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_stays_a_pack_from_the_same_size_on_as_with_plain_git() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let rows: [UnpackLimit; 5] = [
        (&[], Some(0)),
        (&[("receive.unpackLimit", "1")], Some(1)),
        (&[("transfer.unpackLimit", "1")], Some(1)),
        // The releases of git differ in which of the two decides.
        (&[("receive.unpackLimit", "1000"), ("transfer.unpackLimit", "1")], None),
        (&[("receive.unpackLimit", "1"), ("transfer.unpackLimit", "1000")], None),
    ];
    for (at, (settings, expected)) in rows.into_iter().enumerate() {
        let servers = Servers::new(&cluster, &format!("unpack{at}")).await;
        servers.set(settings).await;
        servers.set(&[("receive.autogc", "false")]).await;
        servers.same(&format!("{settings:?}"), &["third:main"]).await;
        let by_plain = packs(&servers.plain);
        assert_eq!(packs(&servers.ours), by_plain, "{settings:?}");
        assert!(expected.is_none_or(|expected| by_plain == expected), "{settings:?}: {by_plain} packs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_on_the_list_of_objects_to_skip_is_taken_as_by_plain_git() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    for listed in ["badly", "third"] {
        let servers = Servers::new(&cluster, listed).await;
        let list = cluster.scratch(&format!("skip-{listed}"));
        let id = ok(git(&servers.clone, &["rev-parse", listed]).await);
        std::fs::write(&list, format!("{id}\n")).expect("a file");
        let list = list.display().to_string();
        servers.set(&[("receive.fsckObjects", "true"), ("receive.fsck.skipList", list.as_str())]).await;
        servers.same(listed, &["badly:refs/heads/badly"]).await;
        let there = refs(&servers.ours).await.expect("git lists the refs");
        assert_eq!(there.contains_key("refs/heads/badly"), listed == "badly", "{there:?}");
    }
}

/// A server that is at work on a push sends empty packets, so that no connection is cut meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_hooks_are_slow_is_kept_alive_as_with_plain_git() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    for (seconds, is_kept_alive) in [("1", true), ("0", false)] {
        let servers = Servers::new(&cluster, &format!("alive{seconds}")).await;
        servers.set(&[("receive.keepAlive", seconds)]).await;
        servers.hook("pre-receive", "cat > /dev/null; sleep 1.5");
        for server in [&servers.plain, &servers.ours] {
            let mut push = quiet(Command::new("git"), &servers.clone);
            push.arg("-C").arg(&servers.clone).env("GIT_TRACE_PACKET", "1").arg("push").arg(server).arg("third:main");
            let output = push.output().await.expect("git runs");
            assert!(output.status.success(), "{}", text(&output));
            let traced = text(&output);
            let empty = traced.lines().any(|line| line.trim_end().ends_with("sideband< \\1"));
            assert_eq!(empty, is_kept_alive, "{seconds} of {}: {traced}", server.display());
        }
    }
}

/// Plain git cannot make a file of so long a name either, and takes a long name of short components.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_too_long_is_refused_alone() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let servers = Servers::new(&cluster, "p").await;
    let (component, name) = (format!("refs/heads/{}", "x".repeat(251)), format!("refs/heads{}", "/abcdefg".repeat(95)));
    for (long, why, plain_takes_it) in [(component, "longer than 250", false), (name, "longer than 768", true)] {
        let beside = format!("refs/heads/beside-{}", long.len());
        let both = [format!("third:{long}"), format!("third:{beside}")];
        let [(_, plain), (_, ours)] = servers.both(&[&both[0], &both[1]]).await;
        assert_eq!(plain.status.success(), plain_takes_it, "{}", text(&plain));
        refuses(ours, why);
        let by_plain = refs(&servers.plain).await.expect("git lists the refs");
        assert_eq!(by_plain.contains_key(&long), plain_takes_it, "{by_plain:?}");
        // Newer releases of git refuse the whole push if a file cannot be made.
        let there = refs(&servers.ours).await.expect("git lists the refs");
        assert_eq!((there.contains_key(&long), there.contains_key(&beside)), (false, true), "{there:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_starts_gc_as_with_plain_git() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    for (autogc, expected) in [("true", 1), ("false", 2)] {
        let servers = Servers::new(&cluster, &format!("gc-{autogc}")).await;
        let limits = [("receive.unpackLimit", "1"), ("gc.auto", "6700"), ("gc.autoPackLimit", "1")];
        let waits = [("gc.autoDetach", "false"), ("maintenance.autoDetach", "false")];
        servers.set(&[&[("receive.autogc", autogc)][..], &limits, &waits].concat()).await;
        servers.same("first", &["third:main"]).await;
        servers.same("second", &["large:refs/heads/large"]).await;
        assert_eq!((packs(&servers.plain), packs(&servers.ours)), (expected, expected), "receive.autogc {autogc}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_info_refs_lags_by_one_push_unlike_that_of_plain_git() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let servers = Servers::new(&cluster, "p").await;
    servers.set(&[("receive.updateServerInfo", "true")]).await;
    let value = async |tag: &str| ok(git(&servers.clone, &["rev-parse", tag]).await);
    let (second, third) = (value("second").await, value("third").await);
    servers.same("updated", &["third:main"]).await;
    let shown = |server: &Path| std::fs::read_to_string(server.join("info/refs")).expect("a file");
    let line = |value: &str| format!("{value}\trefs/heads/main\n");
    let (plain, ours) = (shown(&servers.plain), shown(&servers.ours));
    assert!(plain.contains(&line(&third)), "{plain}");
    assert!(ours.contains(&line(&second)), "docs/git-servers.md says that it differs: {ours}");
}

/// The one setting that means something else: a shallow push needs a shallow repository.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_from_a_shallow_clone_that_would_make_the_server_shallow_is_refused() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let mut servers = Servers::new(&cluster, "p").await;
    let _ = ok(git(&servers.clone, &["commit", "-q", "--allow-empty", "-m", "unknown to both"]).await);
    let _ = ok(git(&servers.clone, &["commit", "-q", "--allow-empty", "-m", "tip"]).await);
    let shallow = cluster.scratch("shallow");
    let url = format!("file://{}", servers.clone.display());
    let _ = ok(git(&servers.clone, &["clone", "-q", "--depth=1", &url, &shallow.display().to_string()]).await);
    servers.clone = shallow;
    servers.same("no setting", &["HEAD:refs/heads/shallow"]).await;
    servers.set(&[("receive.shallowUpdate", "true")]).await;
    let [(_, plain), (_, ours)] = servers.both(&["HEAD:refs/heads/shallow"]).await;
    let _ = ok(plain);
    assert!(!ours.status.success(), "{}", text(&ours));
    assert!(text(&ours).contains("missing"), "{}", text(&ours));
    assert!(!servers.ours.join("shallow").exists());
}

/// The hooks write their names, arguments, input and git's environment into a file.
const LOG: &str = r#"{ echo "$(basename "$0") $*"; env | grep -E '^GIT_(PUSH_|DIR)' | grep -vE 'CERT=|NONCE=' | sort; \
case "$0" in *-receive) cat;; esac; } >> log"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_hooks_of_an_administrator_run_as_without_lockstep() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let servers = Servers::new(&cluster, "p").await;
    servers.set(&[("receive.advertisePushOptions", "true"), ("receive.certNonceSeed", "a seed")]).await;
    for hook in ["pre-receive", "update", "post-receive", "post-update"] {
        servers.hook(hook, LOG);
    }
    let key = sign(&servers.clone).await;
    let verify = [("gpg.ssh.allowedSignersFile", key.as_str())];
    servers.set(&verify).await;
    servers.same("plain", &["third:main", "third:refs/heads/fresh"]).await;
    servers.same("options", &["-o", "ci.skip", ":old", "+first:moved"]).await;
    servers.same("signed", &["--signed=yes", "third:refs/heads/signed"]).await;
    servers.hook("update", &format!("{LOG}\necho said by update; test \"$1\" != refs/heads/no"));
    servers.same("declined", &["third:refs/heads/no", "third:refs/heads/yes"]).await;
    servers.same("all or nothing", &["--atomic", "first:refs/heads/no", "third:refs/heads/more"]).await;
    servers.hook("pre-receive", &format!("{LOG}\nexit 1"));
    servers.same("declined whole", &["third:refs/heads/last"]).await;
    let log = |server: &Path| std::fs::read_to_string(server.join("log")).expect("a log");
    let (plain, ours) = (log(&servers.plain), log(&servers.ours));
    assert_eq!(plain, ours);
    for part in
        ["GIT_PUSH_OPTION_0=ci.skip", "GIT_PUSH_CERT_NONCE_STATUS=OK", "post-update refs/heads/main refs/heads/fresh"]
    {
        assert!(plain.contains(part), "no {part} in {plain}");
    }
}

/// The lines of the reflog of `main`: old value, new value and message. Committer and time are the server's own.
fn logged(server: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(server.join("logs/refs/heads/main")).expect("a log");
    let line = |line: &str| {
        let (moved, message) = line.split_once('\t').unwrap_or((line, "no message"));
        let values: Vec<&str> = moved.split(' ').take(2).collect();
        format!("{} {message}", values.join(" "))
    };
    log.lines().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflog_that_exists_has_the_moves_and_messages_of_git_at_every_site() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let servers = Servers::new(&cluster, "p").await;
    let shows = async |tag: &str| {
        let value = ok(git(&servers.clone, &["rev-parse", tag]).await);
        cluster.show("p", "refs/heads/main", Some(&value)).await;
    };
    shows("second").await;
    let elsewhere = cluster.nodes[1].repository("p");
    for server in [&servers.plain, &servers.ours, &elsewhere] {
        std::fs::create_dir_all(server.join("logs/refs/heads")).expect("a folder");
        std::fs::write(server.join("logs/refs/heads/main"), "").expect("a log");
    }
    servers.same("forward", &["third:main"]).await;
    shows("third").await;
    servers.same("forced, beside another ref", &["--atomic", "+first:main", "third:refs/heads/fresh"]).await;
    shows("first").await;
    let plain = logged(&servers.plain);
    assert!(plain.len() == 2 && plain.iter().all(|line| line.ends_with(" push")), "{plain:?}");
    assert_eq!((&logged(&servers.ours), &logged(&elsewhere)), (&plain, &plain));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_its_own_is_in_the_reflogs_of_all_sites() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (first, second) = (clone.commit(None, "one"), clone.commit(None, "two"));
    let servers = [0, 1].map(|at| cluster.nodes[at].repository("p"));
    let _ = ok(clone.push(&servers[0], &[], &[&format!("{first}:{MAIN}"), &format!("{second}:refs/tags/x")]).await);
    cluster.show("p", MAIN, Some(&first)).await;
    for server in &servers {
        std::fs::create_dir_all(server.join("logs/refs/heads")).expect("a folder");
        std::fs::write(server.join("logs/refs/heads/main"), "").expect("a log");
    }
    let set = async |at: usize, value: &str, message: &str| {
        let args = ["update-ref", "--project", "p", "--force", "-m", message, MAIN, value];
        cluster.nodes[at].cli(&args).await
    };
    let mut wanted = Vec::new();
    for (at, old, new, message) in [
        (0, &first, &second, "Renamed the label \u{e9}"),
        (1, &second, &first, "back again"),
        (0, &first, &second, "push"),
    ] {
        let _ = ok(set(at, new, message).await);
        cluster.show("p", MAIN, Some(new)).await;
        wanted.push(format!("{old} {new} {message}"));
    }
    assert_eq!((&logged(&servers[0]), &logged(&servers[1])), (&wanted, &wanted));
    for bad in ["two\nlines", &"x".repeat(513)] {
        let told = fails(set(0, &first, bad).await);
        assert!(told.contains("field message"), "{told}");
    }
}

/// Makes a key, and lets the clone sign with it. Returns the file of allowed signers.
async fn sign(clone: &Path) -> String {
    let key = clone.join("key").display().to_string();
    let mut keygen = quiet(Command::new("ssh-keygen"), clone);
    let _ = ok(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).output().await.expect("ssh-keygen runs"));
    let public = std::fs::read_to_string(clone.join("key.pub")).expect("a key");
    std::fs::write(clone.join("signers"), format!("t@example.com {public}")).expect("a file");
    for (name, value) in [("gpg.format", "ssh"), ("user.signingKey", &format!("{key}.pub"))] {
        let _ = ok(git(clone, &["config", name, value]).await);
    }
    clone.join("signers").display().to_string()
}
