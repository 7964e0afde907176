//! The guard: one test per row of the table of the inputs of git's `reference-transaction` hook.

use lockstep::clients::git_hooks::guard;

use crate::fake::{MAIN, Site, fails, git, ok, value};

/// Each of these commands would move a ref behind Lockstep's back.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_bypass_lockstep_are_refused() {
    for packed in [false, true] {
        let site = Site::unserved();
        if packed {
            ok(git(&site.bare(), &["pack-refs", "--all"]));
        }
        let before = site.refs();
        let new = site.commit();
        ok(git(&site.bare(), &["fetch", "-q", "../work", "main"]));
        ok(git(&site.work(), &["branch", "b1"]));
        ok(git(&site.work(), &["branch", "b2"]));
        for (args, remedy) in [
            (vec!["update-ref", MAIN, &new], format!("lockstep update-ref --project tools/build {MAIN} {new}")),
            (vec!["update-ref", "refs/heads/fresh", &new], "update-ref --project tools/build refs/heads/fresh".into()),
            (vec!["update-ref", "-d", MAIN], format!("lockstep update-ref --project tools/build --delete {MAIN}")),
            (vec!["update-ref", "-d", "refs/heads/old"], "--delete refs/heads/old".into()),
            (vec!["update-ref", "--no-deref", "-d", "refs/tags/v1"], "--delete refs/tags/v1".into()),
            (vec!["tag", "-d", "v1"], "--delete refs/tags/v1".into()),
            (vec!["branch", "-D", "old"], "--delete refs/heads/old".into()),
            (vec!["branch", "-m", "old", "renamed"], "lockstep update-ref".into()),
            (vec!["tag", "v2", &new], "lockstep update-ref --project tools/build refs/tags/v2".into()),
            (vec!["fetch", "-q", "../work", "b1:b1", "b2:b2", "main:main"], "lockstep import".into()),
        ] {
            let text = fails(git(&site.bare(), &args));
            assert!(text.contains("change refs without Lockstep") && text.contains(&remedy), "{args:?}: {text}");
            assert_eq!(site.refs(), before, "{args:?}, packed: {packed}");
        }
    }
}

/// The deletion of a ref that is packed and loose with the same value looks like the pruning by `pack-refs`.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_of_a_ref_that_is_packed_and_loose_is_refused() {
    let site = Site::unserved();
    let main = value(&site.bare(), MAIN).unwrap();
    ok(git(&site.bare(), &["pack-refs", "--all", "--no-prune"]));
    assert!(site.bare().join(MAIN).exists());
    let before = site.refs();
    let text = fails(git(&site.bare(), &["update-ref", "-d", MAIN, &main]));
    assert!(text.contains("--delete refs/heads/main"), "{text}");
    assert_eq!(site.refs(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_passes_and_keeps_every_ref() {
    let mut site = Site::unserved();
    site.serve().await;
    for (round, command) in [
        vec!["pack-refs", "--all"],
        vec!["gc", "-q", "--prune=now"],
        vec!["maintenance", "run", "--task=gc"],
        vec!["maintenance", "run", "--task=pack-refs"],
        vec!["maintenance", "run", "--task=loose-objects", "--task=incremental-repack"],
        vec!["repack", "-q", "-a", "-d"],
        vec!["pack-refs", "--all", "--no-prune"],
        vec!["pack-refs", "--all"],
    ]
    .into_iter()
    .enumerate()
    {
        // The refs are loose over packed (main), loose only (fresh), and packed only (old, v1).
        site.commit();
        ok(site.push(&["main", &format!("main:refs/heads/fresh{round}")]));
        assert!(site.bare().join(MAIN).exists());
        let before = site.refs();
        ok(git(&site.bare(), &command));
        assert_eq!(site.refs(), before, "{command:?}");
        if command[0] == "gc" || command == ["pack-refs", "--all"] {
            assert!(!site.bare().join(MAIN).exists(), "{command:?} pruned nothing, so it tests nothing");
        }
    }
    ok(git(&site.bare(), &["fsck", "--strict"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_a_new_value_and_a_local_ref_pass() {
    let site = Site::unserved();
    let main = value(&site.bare(), MAIN).unwrap();
    for name in [MAIN, "refs/cache-automerge/ab/cd", "refs/lockstep/kept/1"] {
        ok(git(&site.bare(), &["update-ref", name, &main]));
    }
    for name in ["refs/cache-automerge/ab/cd", "refs/lockstep/kept/1"] {
        ok(git(&site.bare(), &["update-ref", "-d", name]));
    }
    let listed = ok(git(&site.work(), &["ls-remote", "origin"]));
    assert!(listed.contains(MAIN) && !listed.contains("refs/lockstep"), "{listed}");
}

/// Newer releases of git report `symbolic-ref`. The form of the line is the same in all of them.
#[tokio::test]
async fn head_has_a_command_of_its_own() {
    let site = Site::unserved();
    let zero = "0".repeat(40);
    let decide = |input: String, state: &'static str| {
        let bare = site.bare();
        async move { guard::decide(&bare, || Some("tools/build".to_owned()), state, input.as_bytes()).await }
    };
    let moved = format!("{zero} ref:refs/heads/old HEAD\n");
    let text = decide(moved.clone(), "prepared").await.unwrap_err().to_string();
    assert!(text.contains("lockstep head set --project tools/build refs/heads/old"), "{text}");
    decide(moved, "committed").await.unwrap();
    decide(format!("{zero} ref:{MAIN} HEAD\n"), "prepared").await.unwrap();
    let torn = decide("nonsense\n".to_owned(), "prepared").await.unwrap_err().to_string();
    assert!(torn.contains("nonsense"), "{torn}");
}

/// A name that is not UTF-8, a symbolic ref, and a name that Lockstep does not take: nobody else has them, so they may
/// go, and no new ones may come. They are in the way of nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_is_never_replicated_may_be_deleted_and_not_made() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for packed in [false, true] {
        let site = Site::unserved();
        let odd = OsStr::from_bytes(b"refs/heads/caf\xe9");
        let native = |args: &[&OsStr]| {
            let mut command = crate::fake::quiet(std::process::Command::new("git"), &site.bare());
            command.args(args).output().unwrap()
        };
        let past =
            |args: &[&OsStr]| native(&[&[OsStr::new("-c"), OsStr::new("core.hooksPath=/dev/null")], args].concat());
        let update = OsStr::new("update-ref");
        for name in [odd, OsStr::new("refs/stash")] {
            ok(past(&[update, name, OsStr::new(MAIN)]));
        }
        ok(past(&[OsStr::new("symbolic-ref"), OsStr::new("refs/heads/latest"), OsStr::new(MAIN)]));
        if packed {
            ok(git(&site.bare(), &["gc", "-q"]));
        }
        let new = site.commit();
        ok(git(&site.bare(), &["fetch", "-q", "../work", "main"]));
        let refused = native(&[update, odd, OsStr::new(&new)]);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains("\"refs/heads/caf\\351\" would become"), "{text}");
        for name in [odd, OsStr::new("refs/stash")] {
            ok(native(&[update, OsStr::new("-d"), name]));
        }
        ok(git(&site.bare(), &["symbolic-ref", "--delete", "refs/heads/latest"]));
        assert_eq!(site.refs().lines().count(), 3, "{}", site.refs());
    }
}
