//! The lock of a volume: only one sidecar uses a volume, even while children of an earlier sidecar still live.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lockstep::seams::volume::lock::{LockError, VolumeLock, boot_id};
use tokio::sync::Mutex;

/// A child inherits every lock of its process, those of other tests too. So one test runs at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A child that lives until its standard input ends, like a git that waits for commands.
fn child() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn a_second_sidecar_is_refused_and_told_why() {
    let _alone = ALONE.lock().await;
    let root = tempfile::tempdir().unwrap();
    let first = VolumeLock::take(root.path(), Duration::ZERO).await.unwrap();
    let refused = VolumeLock::take(root.path(), Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(&refused, LockError::Held { path, .. } if path == first.path()));
    let text = refused.to_string();
    assert!(text.contains(".lockstep/lock") && text.contains("start again"), "{text}");
}

#[tokio::test]
async fn it_is_free_again_when_it_is_dropped() {
    let _alone = ALONE.lock().await;
    let root = tempfile::tempdir().unwrap();
    drop(VolumeLock::take(root.path(), Duration::ZERO).await.unwrap());
    VolumeLock::take(root.path(), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn an_orphaned_child_holds_it_until_it_ends() {
    let _alone = ALONE.lock().await;
    let root = tempfile::tempdir().unwrap();
    let lock = VolumeLock::take(root.path(), Duration::ZERO).await.unwrap();
    let mut orphan = child();
    drop(lock);
    let refused = VolumeLock::take(root.path(), Duration::ZERO).await;
    assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");

    let next = tokio::spawn({
        let root = root.path().to_owned();
        async move { VolumeLock::take(&root, Duration::from_secs(3600)).await }
    });
    drop(orphan.stdin.take());
    orphan.wait().unwrap();
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_root_that_is_a_file_is_an_error_with_its_path() {
    let _alone = ALONE.lock().await;
    let root = tempfile::NamedTempFile::new().unwrap();
    let failed = VolumeLock::take(root.path(), Duration::ZERO).await.unwrap_err();
    assert!(matches!(failed, LockError::Failed { .. }));
    assert!(failed.to_string().contains(".lockstep/lock"));
}

#[test]
fn the_boot_id_is_one_line_and_stays() {
    let id = boot_id().unwrap();
    assert_eq!(id.len(), 36, "{id}");
    assert_eq!(id, boot_id().unwrap());
}
