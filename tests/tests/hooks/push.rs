//! Pushes: one push is one request, and every verdict reaches the user.

use std::sync::Arc;

use lockstep_proto::bridge::{ApiError, Expected, RefusalCode};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::fake::{MAIN, Site, fails, git, ok, value};

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_three_refs_is_one_request() {
    let site = Site::new().await;
    let (old, new) = (value(&site.bare(), MAIN).unwrap(), site.commit());
    ok(site.push(&["main", "main:refs/heads/fresh", ":old"]));
    let requests = site.fake.requests.lock();
    assert_eq!(requests.len(), 1);
    let expected: Vec<_> =
        requests[0].commands.iter().map(|one| (one.name.to_string(), one.old, one.new.is_some(), one.force)).collect();
    let old = Expected::Oid(old.parse().unwrap());
    for command in [
        (MAIN.to_owned(), old, true, true),
        ("refs/heads/fresh".to_owned(), Expected::Absent, true, true),
        ("refs/heads/old".to_owned(), old, false, true),
    ] {
        assert!(expected.contains(&command), "{command:?} is not in {expected:?}");
    }
    assert!(!requests[0].atomic);
    assert_eq!(value(&site.bare(), MAIN), Some(new.clone()));
    assert_eq!(value(&site.bare(), "refs/heads/fresh"), Some(new));
    assert_eq!(value(&site.bare(), "refs/heads/old"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_atomic_push_is_all_or_nothing() {
    let site = Site::new().await;
    let before = site.refs();
    site.commit();
    site.fake.refuse.lock().insert("refs/heads/old".into(), "the branch is frozen; ask ops".into());
    let text = fails(site.push(&["--atomic", "main", "main:old"]));
    assert!(text.contains("the branch is frozen; ask ops"), "{text}");
    assert_eq!(site.refs(), before);
    assert!(site.fake.requests.lock()[0].atomic);
    site.fake.refuse.lock().clear();
    ok(site.push(&["--atomic", "main", "main:old"]));
    assert_eq!(value(&site.bare(), "refs/heads/old"), value(&site.work(), "main"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_ref_shows_its_reason_and_the_others_go() {
    let site = Site::new().await;
    let new = site.commit();
    site.fake.refuse.lock().insert("refs/heads/old".into(), "not a fast-forward; use --force".into());
    let text = fails(site.push(&["main", "main:old", "main:refs/short"]));
    assert!(text.contains("main -> old (not a fast-forward; use --force)"), "{text}");
    assert!(text.contains("refs/short") && text.contains("choose another name"), "{text}");
    assert_eq!(value(&site.bare(), MAIN), Some(new));
    assert_ne!(value(&site.bare(), "refs/heads/old"), value(&site.bare(), MAIN));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_is_committed_and_cannot_be_shown_is_a_success_with_a_notice() {
    let site = Site::new().await;
    let (before, new) = (value(&site.bare(), MAIN), site.commit());
    let why = "this is committed at every site, and this server cannot show it yet (a lock of another program)";
    site.fake.unseen.lock().insert(MAIN.into(), why.into());
    let pushed = site.push(&["main", "main:old"]);
    let told = String::from_utf8_lossy(&pushed.stderr).into_owned();
    assert!(pushed.status.success(), "{told}");
    // git wraps no lines, but it may put spaces at their ends.
    assert!(told.contains(&format!("Lockstep: {MAIN}: {why}")), "{told}");
    assert_eq!(told.matches("Lockstep:").count(), 1, "the other ref is here: {told}");
    assert_eq!((value(&site.bare(), MAIN), value(&site.bare(), "refs/heads/old")), (before, Some(new)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repositorys_own_rules_still_hold() {
    let site = Site::new().await;
    for rule in ["receive.denyDeletes", "receive.denyNonFastForwards"] {
        ok(git(&site.bare(), &["config", rule, "true"]));
    }
    site.commit();
    let text = fails(site.push(&["main", ":old"]));
    assert!(text.contains("receive.denyDeletes"), "{text}");
    let requests = site.fake.requests.lock();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].commands.len(), 1);
    assert!(!requests[0].commands[0].force);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_hook_may_decline_a_ref() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new().await;
    let hook = site.bare().join("hooks/update");
    std::fs::write(&hook, "#!/bin/sh\necho \"looking at $1\"\ntest \"$1\" != refs/heads/old\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let new = site.commit();
    let text = fails(site.push(&["main", ":old"]));
    assert!(text.contains("looking at refs/heads/old") && text.contains("hook declined"), "{text}");
    assert_eq!(value(&site.bare(), MAIN), Some(new));
    assert!(value(&site.bare(), "refs/heads/old").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_thousands_of_refs_is_one_request() {
    let site = Site::new().await;
    // A busy machine may need more than the usual deadline for so many refs.
    ok(git(&site.bare(), &["config", "lockstep.deadlineMs", "120000"]));
    let names: Vec<String> = (0..2_001).map(|n| format!("main:refs/heads/n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ok(site.push(&names));
    assert_eq!(site.fake.requests.lock().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sidecar_the_user_reads_what_to_do() {
    let site = Site::unserved();
    let before = site.refs();
    site.commit();
    let text = fails(site.push(&["main"]));
    assert!(text.contains("nothing was changed: try again when it is running"), "{text}");
    assert_eq!(site.refs(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_is_unknown_and_not_refused() {
    let site = Site::new().await;
    *site.fake.gate.lock() = Some(Arc::new(Notify::new()));
    ok(git(&site.bare(), &["config", "lockstep.deadlineMs", "3000"]));
    site.commit();
    let text = fails(site.push(&["main"]));
    assert!(text.contains("it is not known yet whether this was committed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_no_retry_helps_against_is_told_at_once_and_others_are_repeated() {
    let site = Site::new().await;
    site.commit();
    let why = "the role of site b is standby; write to a, which is active; nothing was changed";
    *site.fake.closed.lock() = Some(ApiError::new(RefusalCode::NotServing, false, why));
    let text = fails(site.push(&["main"]));
    assert!(text.contains(why) && !text.contains("try again"), "{text}");
    assert_eq!(site.fake.requests.lock().len(), 1, "the hook has repeated it");
    *site.fake.closed.lock() = Some(ApiError::not_serving("it starts"));
    let text = fails(site.push(&["main"]));
    assert!(text.contains("it starts; try again later"), "{text}");
    assert!(site.fake.requests.lock().len() > 3, "the hook has not repeated it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_tried_again_with_the_same_bytes() {
    let mut site = Site::unserved();
    let real = site.folder.path().join("real/api.sock");
    site.serve_at(&real).await;
    std::fs::create_dir_all(site.socket().parent().unwrap()).unwrap();
    let listener = UnixListener::bind(site.socket()).unwrap();
    let lossy = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut lost = vec![0; 16 * 1024];
        let mut length = 0;
        while !lost[..length].ends_with(b"}") {
            length += first.read(&mut lost[length..]).await.unwrap();
        }
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let mut upstream = UnixStream::connect(real).await.unwrap();
        tokio::io::copy_bidirectional(&mut second, &mut upstream).await.ok();
        String::from_utf8(lost[..length].to_vec()).unwrap()
    });
    let new = site.commit();
    ok(site.push(&["main"]));
    assert_eq!(value(&site.bare(), MAIN), Some(new));
    let lost = lossy.await.unwrap();
    let requests = site.fake.requests.lock();
    assert_eq!(requests.len(), 1);
    assert!(lost.contains(&requests[0].request_id), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_namespace_refuses_each_ref_with_the_reason() {
    let site = Site::new().await;
    let before = site.refs();
    site.commit();
    let text = fails(site.push(&["--receive-pack=git --namespace=fork receive-pack", "main", "main:fresh"]));
    assert_eq!(text.matches("GIT_NAMESPACE").count(), 2, "{text}");
    assert_eq!(site.refs(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_utf_8_is_refused_alone_and_the_rest_of_the_push_goes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let site = Site::new().await;
    let new = site.commit();
    let mut command = crate::fake::quiet(std::process::Command::new("git"), &site.work());
    command.args(["push", "origin", "main", "main:refs/heads/@", "main:refs/heads/x/@"]);
    command.arg(OsStr::from_bytes(b"main:refs/heads/caf\xe9"));
    let text = fails_lossy(command.output().unwrap());
    assert!(text.contains("the name \"refs/heads/caf\\351\" is not UTF-8; choose another name"), "{text}");
    for name in [MAIN, "refs/heads/@", "refs/heads/x/@"] {
        assert_eq!(value(&site.bare(), name), Some(new.clone()), "{name}");
    }
}

/// The standard error of a command that must fail. git repeats a name that is not UTF-8 in it.
fn fails_lossy(output: std::process::Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}
