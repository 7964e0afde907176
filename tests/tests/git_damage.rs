//! Damage of a real repository: objects that a disk has lost or garbled, behind values that look right.

use std::path::Path;
use std::sync::Arc;

use lockstep::seams::blob::Payload;
use lockstep::seams::git::{IsCommitted, Settings};
use lockstep_proto::Oid;
use lockstep_tests::contract::repositories::{Fixture, name, project};
use lockstep_tests::local_git::{LocalFixture, git};

/// Packs everything that a value needs.
async fn pack(fixture: &LocalFixture, want: Oid) -> Vec<Payload> {
    let nothing: IsCommitted = Arc::new(|_| false);
    fixture.origin().pack(&project(), &[want], &[], &nothing).await.unwrap().payload.into_iter().collect()
}

/// The number of objects in a repository, by git's count.
fn object_count(git_dir: &Path) -> usize {
    git(git_dir, &["cat-file", "--batch-all-objects", "--batch-check"]).unwrap().lines().count()
}

/// An object that a damaged disk has lost comes again with a pack, although the values that need it are there.
#[tokio::test]
async fn lost_and_garbled_objects_come_again_with_a_pack() {
    for memory_pack_bytes in [Settings::default().memory_pack_bytes, 0] {
        let fixture = LocalFixture::with(&Settings { memory_pack_bytes, ..Settings::default() });
        for volume in [fixture.origin(), fixture.replica()] {
            volume.create(&project(), &name("refs/heads/main")).await.unwrap();
        }
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
        let file = |path: &str| {
            let blob = git(&dir, &["rev-parse", &format!("{one}:{path}")]).unwrap().trim().to_owned();
            dir.join("objects").join(&blob[..2]).join(&blob[2..])
        };
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
