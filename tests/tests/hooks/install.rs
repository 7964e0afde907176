//! The installation: which folder the hooks are in, whom they stand in the way of, and what is left when they go.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lockstep::clients::git_hooks::in_force::{self, Fault};

use crate::fake::{MAIN, Site, fails, ok, quiet, value};

/// Runs git as a user of this host, with the host's settings.
fn on_host(site: &Site, folder: &Path, args: &[&str]) -> std::process::Output {
    quiet(std::process::Command::new("git"), folder).env("HOME", site.folder.path()).args(args).output().unwrap()
}

fn push(site: &Site, args: &[&str]) -> std::process::Output {
    on_host(site, &site.work(), &[&["push", "origin"], args].concat())
}

fn write_hook(path: &Path, script: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A host-wide folder of hooks, with a `pre-receive` that refuses the branch `frozen`.
fn host_wide(site: &Site) -> PathBuf {
    let shared = site.folder.path().join("shared hooks");
    write_hook(&shared.join("pre-receive"), "! grep -q refs/heads/frozen");
    ok(on_host(site, site.folder.path(), &["config", "--global", "core.hooksPath", shared.to_str().unwrap()]));
    shared
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".sample"))
        .collect();
    names.sort();
    names
}

fn install(site: &Site) -> std::process::Output {
    site.lockstep(&["hook", "install", "build.git", "--project", "tools/build"])
}

/// The refusal of a ref that is moved behind Lockstep's back.
fn guarded(site: &Site) -> String {
    fails(on_host(site, &site.bare(), &["update-ref", "refs/heads/x", MAIN]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_wide_folder_gets_no_hook_and_loses_none() {
    let mut site = Site::unserved();
    site.serve().await;
    ok(site.lockstep(&["hook", "uninstall", "build.git"]));
    let shared = host_wide(&site);
    ok(install(&site));
    assert_eq!(names(&shared), ["pre-receive"]);
    ok(on_host(&site, site.folder.path(), &["clone", "-q", "work", "other"]));
    ok(on_host(&site, &site.folder.path().join("other"), &["commit", "-q", "--allow-empty", "-m", "theirs"]));
    assert!(guarded(&site).contains("lockstep update-ref"));
    let new = site.commit();
    ok(push(&site, &["main"]));
    assert_eq!(value(&site.bare(), MAIN), Some(new));
    assert!(fails(push(&site, &["main:frozen"])).contains("pre-receive hook declined"));
    // A hook of the shared folder that comes or goes later counts, too.
    write_hook(&shared.join("update"), "echo \"shared: $1\"; exit 1");
    assert!(fails(push(&site, &["main:more"])).contains("shared: refs/heads/more"));
    std::fs::remove_file(shared.join("pre-receive")).unwrap();
    std::fs::remove_file(shared.join("update")).unwrap();
    ok(install(&site));
    ok(push(&site, &["main:frozen"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_set_later_does_not_put_the_guard_out_of_force() {
    let site = Site::new().await;
    host_wide(&site);
    assert!(guarded(&site).contains("lockstep update-ref"));
    site.commit();
    ok(push(&site, &["main"]));
    assert_eq!(site.fake.requests.lock().len(), 1);
}

/// Earlier releases wrote the hooks into the shared folder.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_in_a_shared_folder_let_the_repositories_of_others_pass() {
    let site = Site::new().await;
    let shared = host_wide(&site);
    for hook in ["proc-receive", "reference-transaction"] {
        std::fs::copy(site.bare().join("hooks").join(hook), shared.join(hook)).unwrap();
    }
    let folder = site.folder.path();
    ok(on_host(&site, folder, &["clone", "-q", "--bare", "work", "theirs.git"]));
    ok(on_host(&site, &folder.join("theirs.git"), &["config", "receive.procReceiveRefs", "refs"]));
    ok(on_host(&site, folder, &["clone", "-q", "theirs.git", "clone"]));
    ok(on_host(&site, &folder.join("clone"), &["commit", "-q", "--allow-empty", "-m", "theirs"]));
    ok(on_host(&site, &folder.join("clone"), &["push", "-q", "origin", "HEAD:refs/heads/theirs"]));
    ok(on_host(&site, &folder.join("theirs.git"), &["branch", "-D", "theirs"]));
    ok(on_host(&site, &folder.join("clone"), &["push", "-q", "origin", "HEAD:refs/heads/theirs", ":old"]));
    let refs = ok(on_host(&site, &folder.join("theirs.git"), &["for-each-ref", "--format=%(refname)", "refs/heads"]));
    assert_eq!(refs, "refs/heads/main\nrefs/heads/theirs\n");
    assert!(site.fake.requests.lock().is_empty());
    assert!(guarded(&site).contains("lockstep update-ref"));
}

#[test]
fn uninstalling_restores_what_was_there() {
    for own_folder in [false, true] {
        let site = Site::unserved();
        let look = || {
            let settings = ok(on_host(&site, &site.bare(), &["config", "--local", "--list"]));
            (settings, names(&site.bare().join("hooks")), site.refs())
        };
        ok(site.lockstep(&["hook", "uninstall", "build.git"]));
        let hooks = site.folder.path().join("company");
        write_hook(&hooks.join("post-receive"), "true");
        if own_folder {
            ok(on_host(&site, &site.bare(), &["config", "core.hooksPath", hooks.to_str().unwrap()]));
        } else {
            write_hook(&site.bare().join("hooks/pre-receive"), "true");
        }
        ok(on_host(&site, &site.bare(), &["config", "receive.procReceiveRefs", "refs/for"]));
        ok(on_host(&site, &site.bare(), &["config", "transfer.hideRefs", "refs/hidden"]));
        ok(on_host(&site, &site.bare(), &["config", "receive.advertiseAtomic", "false"]));
        let before = look();
        ok(install(&site));
        ok(install(&site));
        assert_ne!(look(), before);
        assert!(guarded(&site).contains("lockstep update-ref"));
        assert!(names(&site.bare().join("hooks")).contains(&"reference-transaction".to_owned()));
        ok(site.lockstep(&["hook", "uninstall", "build.git"]));
        assert_eq!(look(), before, "own folder: {own_folder}");
        let text = fails(site.lockstep(&["hook", "uninstall", "build.git"]));
        assert!(text.contains("has no hooks of Lockstep"), "{text}");
        ok(on_host(&site, &site.bare(), &["update-ref", "refs/heads/x", MAIN]));
    }
}

#[test]
fn a_hook_that_would_come_into_force_and_a_linked_folder_are_refused_with_the_way_out() {
    let site = Site::unserved();
    ok(site.lockstep(&["hook", "uninstall", "build.git"]));
    let shared = host_wide(&site);
    write_hook(&site.bare().join("hooks/update"), "exit 1");
    let text = fails(install(&site));
    assert!(text.contains("hooks/update is not in force now") && text.contains("shared hooks"), "{text}");
    std::fs::remove_file(site.bare().join("hooks/update")).unwrap();
    ok(install(&site));
    ok(site.lockstep(&["hook", "uninstall", "build.git"]));
    std::fs::remove_dir_all(site.bare().join("hooks")).unwrap();
    std::os::unix::fs::symlink(&shared, site.bare().join("hooks")).unwrap();
    let text = fails(install(&site));
    let advice = text.split('`').nth(1).unwrap();
    assert!(text.contains("is a link"), "{text}");
    assert_eq!(names(&shared), ["pre-receive"]);
    let advice = advice.replace("shared hooks", "'shared hooks'");
    ok(std::process::Command::new("sh").args(["-c", &advice]).current_dir(site.folder.path()).output().unwrap());
    ok(on_host(&site, site.folder.path(), &["config", "--global", "--unset", "core.hooksPath"]));
    ok(install(&site));
}

#[test]
fn every_way_to_put_the_hooks_out_of_force_is_found() {
    let site = Site::unserved();
    let (bare, project) = (site.bare(), "tools/build".parse().unwrap());
    let check = || in_force::check(&bare, &project, true);
    let config = |args: &[&str]| ok(on_host(&site, &bare, &[&["config"], args].concat()));
    assert_eq!(check(), Ok(()));
    config(&["core.hooksPath", "/nowhere"]);
    assert_eq!(check(), Err(Fault::OtherFolder("/nowhere".into())));
    config(&["--unset", "core.hooksPath"]);
    assert_eq!(check(), Ok(()), "the folder of the repository is git's default");
    let hook = bare.join("hooks/reference-transaction");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(check(), Err(Fault::NoHook(hook.clone())));
    ok(install(&site));
    std::fs::write(bare.join("hooks/proc-receive"), "#!/bin/sh\n").unwrap();
    assert!(matches!(check(), Err(Fault::NoHook(_))));
    std::fs::remove_file(bare.join("hooks/proc-receive")).unwrap();
    ok(install(&site));
    config(&["--add", "receive.procReceiveRefs", "!refs/heads/x"]);
    assert!(matches!(check(), Err(Fault::NotHandedOver(_))));
    config(&["--unset-all", "receive.procReceiveRefs"]);
    assert!(matches!(check(), Err(Fault::NotHandedOver(_))));
    ok(install(&site));
    assert_eq!(check(), Ok(()));
    assert_eq!(in_force::check(&bare, &"other".parse().unwrap(), true), Err(Fault::OtherProject("tools/build".into())));
    ok(site.lockstep(&["hook", "uninstall", "build.git"]));
    assert_eq!(check(), Err(Fault::NotInstalled));
    assert_eq!(in_force::check(&bare, &project, false), Ok(()), "a server that is not plain git has no hooks");
}
