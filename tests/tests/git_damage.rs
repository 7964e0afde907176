//! Damage of a real repository: objects that a disk has lost or garbled, behind values that look right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use git2::Repository;
use lockstep::seams::blob::Payload;
use lockstep::seams::git::{GitError, IsCommitted, Settings};
use lockstep_proto::Oid;
use lockstep_tests::contract::repositories::{Fixture, name, project};
use lockstep_tests::local_git::{LocalFixture, commit, git};

/// Two volumes that have the project, without any object.
async fn with_project(settings: &Settings) -> LocalFixture {
    let fixture = LocalFixture::with(settings);
    for volume in [fixture.origin(), fixture.replica()] {
        volume.create(&project(), &name("refs/heads/main")).await.unwrap();
    }
    fixture
}

/// Packs everything that a value needs.
async fn pack(fixture: &LocalFixture, want: Oid) -> Vec<Payload> {
    let nothing: IsCommitted = Arc::new(|_| false);
    fixture.origin().pack(&project(), &[want], &[], &nothing).await.unwrap().payload.into_iter().collect()
}

/// The number of objects in a repository, by git's count.
fn object_count(git_dir: &Path) -> usize {
    git(git_dir, &["cat-file", "--batch-all-objects", "--batch-check"]).unwrap().lines().count()
}

/// The object of a file in a commit, by git.
fn blob_at(git_dir: &Path, commit: Oid, path: &str) -> Oid {
    git(git_dir, &["rev-parse", &format!("{commit}:{path}")]).unwrap().trim().parse().unwrap()
}

fn loose_file(git_dir: &Path, oid: Oid) -> PathBuf {
    let digits = oid.to_string();
    git_dir.join("objects").join(&digits[..2]).join(&digits[2..])
}

/// An object that a damaged disk has lost comes again with a pack, although the values that need it are there.
#[tokio::test]
async fn lost_and_garbled_objects_come_again_with_a_pack() {
    for memory_pack_bytes in [Settings::default().memory_pack_bytes, 0] {
        let fixture = with_project(&Settings { memory_pack_bytes, ..Settings::default() }).await;
        let one = fixture.commit(&project(), &[], &[("a", "first"), ("b", "second")]);
        let packed = pack(&fixture, one).await;
        fixture.replica().ingest(&project(), &packed, &[one], &[]).await.unwrap();
        let (replica, dir) = (fixture.replica(), fixture.replica_dir(&project()));
        // Unpack what came as a pack, so that one object is one file.
        for entry in std::fs::read_dir(dir.join("objects/pack")).unwrap().flatten() {
            std::fs::rename(entry.path(), dir.join(entry.file_name())).unwrap();
        }
        for entry in std::fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.path()) {
            if entry.extension().is_some_and(|extension| extension == "pack") {
                let script = format!("git --git-dir {} unpack-objects -q < {}", dir.display(), entry.display());
                assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
            }
        }
        let whole = object_count(&dir);
        let file = |path: &str| loose_file(&dir, blob_at(&dir, one, path));
        std::fs::remove_file(file("a")).unwrap();
        std::fs::remove_file(file("b")).unwrap();
        std::fs::write(file("b"), b"\0\0\0\0").unwrap();
        assert_eq!(replica.garbled(&project(), false).await, Ok(1));
        assert_eq!(replica.garbled(&project(), true).await, Ok(1));
        assert_eq!(replica.is_complete(&project(), &[one]).await, Ok(false));

        let packed = pack(&fixture, one).await;
        replica.ingest(&project(), &packed, &[one], &[]).await.unwrap();
        assert_eq!(replica.is_complete(&project(), &[one]).await, Ok(true));
        assert_eq!((replica.garbled(&project(), false).await, object_count(&dir)), (Ok(0), whole));
        git(&dir, &["fsck", "--full", "--strict"]).unwrap();
    }
}

/// A node that has lost one commit gets that commit, and not the history behind it.
#[tokio::test]
async fn objects_that_are_asked_for_alone_come_without_those_to_which_they_point() {
    for memory_pack_bytes in [Settings::default().memory_pack_bytes, 0] {
        let fixture = with_project(&Settings { memory_pack_bytes, ..Settings::default() }).await;
        let one = fixture.commit(&project(), &[], &[("a", "first")]);
        let two = fixture.commit(&project(), &[one], &[("a", "second"), ("b", "third")]);
        let packed = pack(&fixture, two).await;
        fixture.replica().ingest(&project(), &packed, &[two], &[]).await.unwrap();
        let (replica, dir) = (fixture.replica(), fixture.replica_dir(&project()));
        let whole = object_count(&dir);

        let file = blob_at(&fixture.origin_dir(&project()), two, "b");
        let wants = [two, file];
        let alone = fixture.origin().pack_alone(&project(), &wants).await.unwrap();
        let alone = alone.payload.expect("a pack");
        let bytes = match &alone {
            Payload::Memory(bytes) => bytes.to_vec(),
            Payload::File(path, _) => std::fs::read(&**path).unwrap(),
        };
        assert_eq!(bytes[8..12], [0, 0, 0, 2], "the number of objects in the head of the pack");

        // The loose objects are lost. Those that came as a pack go with it, and git unpacks the others.
        for entry in std::fs::read_dir(dir.join("objects/pack")).unwrap().flatten() {
            std::fs::rename(entry.path(), dir.join(entry.file_name())).unwrap();
        }
        for entry in std::fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.path()) {
            if entry.extension().is_some_and(|extension| extension == "pack") {
                let script = format!("git --git-dir {} unpack-objects -q < {}", dir.display(), entry.display());
                assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
            }
        }
        wants.iter().for_each(|oid| std::fs::remove_file(loose_file(&dir, *oid)).unwrap());
        assert_eq!(replica.is_complete(&project(), &[two]).await, Ok(false));
        replica.ingest(&project(), &[alone], &wants, &[]).await.unwrap();
        assert_eq!((replica.is_complete(&project(), &[two]).await, object_count(&dir)), (Ok(true), whole));
    }
}

/// Runs a job on a thread of its own. A read that hangs fails the test instead of holding it.
fn within_a_bound<F: Future<Output = ()>>(job: impl FnOnce() -> F + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(job());
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(Duration::from_secs(20)).expect("no read hangs, and no assertion fails");
}

/// Leaves the beginning of an object's file, as a power cut may.
fn cut_off(git_dir: &Path, oid: Oid) {
    let path = loose_file(git_dir, oid);
    let content = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &content[..content.len() / 2]).unwrap();
}

fn is_damaged<T: Debug>(answer: Result<T, GitError>, oid: Oid) {
    match answer {
        Err(GitError::Damaged { project: of, object, .. }) => assert_eq!((of, object), (project(), oid)),
        other => panic!("{oid} is damaged, and the answer is {other:?}"),
    }
}

/// libgit2 reads such a file for ever.
#[test]
fn no_read_of_an_object_that_is_cut_off_hangs_and_each_names_it() {
    within_a_bound(async || {
        let fixture = with_project(&Settings::default()).await;
        let origin = fixture.origin();
        let one = fixture.commit(&project(), &[], &[("a", "first")]);
        let two = fixture.commit(&project(), &[one], &[("a", "second")]);
        let other = fixture.commit(&project(), &[], &[("a", "third")]);
        let number = fixture.blob(&project(), "1234567890123456789");
        let file = fixture.blob(&project(), "a file that is long enough to have a header before its half");
        let dir = fixture.origin_dir(&project());
        for oid in [one, number, file] {
            cut_off(&dir, oid);
        }
        let nothing: IsCommitted = Arc::new(|_| false);
        is_damaged(origin.pack(&project(), &[two], &[], &nothing).await, one);
        is_damaged(origin.pack(&project(), &[file], &[], &nothing).await, file);
        is_damaged(origin.pack_for_peer(&project(), &[two], &[], &nothing).await, one);
        is_damaged(origin.relation(&project(), two, one).await, one);
        is_damaged(origin.relations(&project(), &[(other, two), (two, one)]).await, one);
        is_damaged(origin.share_history(&project(), other, one).await, one);
        is_damaged(origin.commits_behind(&project(), &[two], 10).await, one);
        is_damaged(origin.steps_to(&project(), two, 1).await, one);
        is_damaged(origin.counter(&project(), number).await, number);
        assert_eq!(origin.take_damage(), BTreeMap::from([(project(), BTreeSet::from([one, number, file]))]));
        assert_eq!(origin.take_damage(), BTreeMap::new(), "they are taken once");
        assert_eq!(origin.unsound(&project(), &[one, two, number]).await, Ok(vec![one, number]));
    });
}

#[test]
fn a_damaged_object_is_named_when_git_makes_the_pack() {
    within_a_bound(async || {
        let fixture = with_project(&Settings { memory_pack_bytes: 0, ..Settings::default() }).await;
        let origin = fixture.origin();
        let file = fixture.blob(&project(), "a file that is long enough to have a header before its half");
        cut_off(&fixture.origin_dir(&project()), file);
        let nothing: IsCommitted = Arc::new(|_| false);
        is_damaged(origin.pack(&project(), &[file], &[], &nothing).await, file);
    });
}

#[test]
fn a_pack_that_has_an_object_replaces_its_damaged_copy() {
    for memory_pack_bytes in [Settings::default().memory_pack_bytes, 0] {
        within_a_bound(async move || {
            let fixture = with_project(&Settings { memory_pack_bytes, ..Settings::default() }).await;
            let replica = fixture.replica();
            let one = fixture.commit(&project(), &[], &[("a", "first")]);
            let dir = fixture.replica_dir(&project());
            let files = BTreeMap::from([("a".to_owned(), b"first".to_vec())]);
            assert_eq!(commit(&Repository::open_bare(&dir).unwrap(), &[], &files), one);
            let blob = blob_at(&dir, one, "a");
            for oid in [one, blob] {
                cut_off(&dir, oid);
            }
            is_damaged(replica.steps_to(&project(), one, 1).await, one);
            replica.ingest(&project(), &pack(&fixture, one).await, &[one], &[]).await.unwrap();
            assert_eq!(replica.unsound(&project(), &[one, blob]).await, Ok(vec![]));
            assert_eq!(replica.steps_to(&project(), one, 1).await, Ok(vec![]));
            git(&dir, &["fsck", "--full", "--strict"]).unwrap();
            assert!(loose_file(&dir, one).with_added_extension("garbled").exists(), "nothing is deleted");
        });
    }
}

#[test]
fn a_damaged_copy_beside_a_pack_gives_way_to_the_packed_one() {
    within_a_bound(async || {
        let fixture = with_project(&Settings::default()).await;
        let origin = fixture.origin();
        let one = fixture.commit(&project(), &[], &[("a", "first")]);
        let two = fixture.commit(&project(), &[one], &[("a", "second")]);
        let dir = fixture.origin_dir(&project());
        git(&dir, &["update-ref", "refs/heads/main", &two.to_string()]).unwrap();
        git(&dir, &["repack", "-a", "-q"]).unwrap();
        cut_off(&dir, one);
        assert_eq!(origin.commits_behind(&project(), &[two], 10).await.unwrap().len(), 2);
        assert!(!loose_file(&dir, one).exists());
        assert_eq!(origin.take_damage(), BTreeMap::new());
    });
}

/// An object in a repository from which this one borrows.
#[test]
fn a_damaged_object_of_an_alternate_is_named_too() {
    within_a_bound(async || {
        let fixture = with_project(&Settings::default()).await;
        let origin = fixture.origin();
        let dir = fixture.origin_dir(&project());
        let lender = fixture.origin_root().join("lender.git");
        let files = BTreeMap::from([("a".to_owned(), b"first".to_vec())]);
        let one = commit(&Repository::init_bare(&lender).unwrap(), &[], &files);
        std::fs::create_dir_all(dir.join("objects/info")).unwrap();
        std::fs::write(dir.join("objects/info/alternates"), format!("{}\n", lender.join("objects").display())).unwrap();
        assert_eq!(origin.commits_behind(&project(), &[one], 10).await, Ok(vec![one]));
        cut_off(&lender, one);
        is_damaged(origin.commits_behind(&project(), &[one], 10).await, one);
    });
}
