//! The corpus of odd objects, held against plain git, and both ways on which objects reach a receiver.

use std::path::Path;
use std::sync::Arc;

use git2::{ObjectType, Repository};
use lockstep::seams::blob::Payload;
use lockstep::seams::git::{GitError, IsCommitted, PackLimits, Packed, Settings};
use lockstep_proto::Oid;
use lockstep_tests::contract::repositories::{Fixture, name, odd_objects_are_refused_or_carried, project};
use lockstep_tests::local_git::{LocalFixture, git};
use lockstep_tests::odd::{self, Answer, Odd, ids, push::push};

/// Two volumes with the project, once for packs that are made in memory and once for packs that git makes.
async fn both_ways(limits: PackLimits) -> [LocalFixture; 2] {
    let plain = Settings { inline: limits, spilled: limits, ..Settings::default() };
    let fixtures = [LocalFixture::with(&plain), LocalFixture::with(&Settings { memory_pack_bytes: 0, ..plain })];
    for fixture in &fixtures {
        for volume in [fixture.origin(), fixture.replica()] {
            volume.create(&project(), &name("refs/heads/main")).await.unwrap();
        }
    }
    fixtures
}

/// Packs a value against nothing.
async fn pack(fixture: &LocalFixture, want: Oid) -> Result<Packed, GitError> {
    let none: IsCommitted = Arc::new(|_| false);
    fixture.origin().pack(&project(), &[want], &[], &none).await
}

/// A bare repository whose server has this configuration.
fn server(folder: &Path, config: &[(&str, &str)]) -> Repository {
    let repository = Repository::init_bare(folder).unwrap();
    let mut settings = repository.config().unwrap();
    config.iter().for_each(|(key, value)| settings.set_str(key, value).unwrap());
    repository
}

/// Makes an odd object in a repository of its own. Returns its id, and a pack of all that was made.
fn made(odd: &Odd, folder: &Path) -> (String, Vec<u8>) {
    let repository = Repository::init_bare(folder).unwrap();
    let odb = repository.odb().unwrap();
    let write = |kind: ObjectType, content: &[u8]| odb.write(kind, content).unwrap().to_string();
    let id = (odd.make)(&odd::Forge::new(&write));
    (id, odd::everything(folder))
}

#[test]
fn plain_git_answers_as_the_corpus_says() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, strict] = ["plain.git", "strict.git"].map(|name| folder.path().join(name));
    server(&plain, &[]);
    server(&strict, &[("receive.fsckObjects", "true")]);
    let mut wrong = Vec::new();
    for (number, odd) in odd::all().iter().enumerate() {
        let (id, pack) = made(odd, &folder.path().join(number.to_string()));
        for (to, expected) in [(&plain, odd.plain), (&strict, odd.fsck)] {
            let answer = push(to, &odd.name_of_ref(number), &id, &pack);
            if answer.is_ok() != (expected == Answer::Taken) {
                wrong.push(format!("{odd:?} is not {expected:?} by {}: {answer:?}", to.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_message_id_of_this_git_has_an_example() {
    assert!(odd::all().len() >= 60);
    let (here, known) = (ids::of_this_git(), ids::known());
    assert!(here.len() > 40, "git help -c lists the message ids as receive.fsck.<id>: {here:?}");
    let new: Vec<_> = here.difference(&known).collect();
    assert!(
        new.is_empty(),
        "this git has new message ids: {new:?}. Add an example of each to tests/src/odd (or the reason for none to \
         WITHOUT_EXAMPLE in ids.rs), and see whether `seams/git/parse` still walks what git walks"
    );
}

#[test]
fn every_message_id_of_any_supported_git_has_an_example() {
    let (here, known) = (ids::of_this_git(), ids::known());
    let lacks = |id: &&&str| !known.contains(**id);
    let new: Vec<_> = ids::SINCE_2_39.iter().chain(ids::LATER).filter(lacks).collect();
    assert!(new.is_empty(), "these have neither an example nor a reason for none: {new:?}");
    let misspelt: Vec<_> = ids::SINCE_2_39.iter().filter(|id| !here.contains(**id)).collect();
    assert!(misspelt.is_empty(), "this git does not know {misspelt:?}");
}

#[tokio::test]
async fn a_tree_without_a_mode_is_refused_before_the_commit_and_by_a_receiver() {
    for fixture in both_ways(PackLimits::SPILLED).await {
        let write = |kind, content: &[u8]| fixture.put(&project(), kind, content).to_string();
        let evil: Oid = odd::Forge::new(&write).entry("10064x", b"a").parse().unwrap();
        match pack(&fixture, evil).await {
            Err(GitError::Flawed { flaw, .. }) => assert!(flaw.why.starts_with("badTree: "), "{flaw}"),
            other => panic!("{other:?}"),
        }
        // A forged transaction may carry it all the same.
        let forged = Payload::Memory(odd::everything(&fixture.origin_dir(&project())).into());
        let result = fixture.replica().ingest(&project(), &[forged], &[evil], &[]).await;
        assert!(matches!(result, Err(GitError::Bad { .. } | GitError::Flawed { .. })), "{result:?}");
        let all = ["cat-file", "--batch-all-objects", "--batch-check"];
        assert_eq!(git(&fixture.replica_dir(&project()), &all).unwrap(), "");
    }
}

#[tokio::test]
async fn a_pack_above_the_limits_of_its_receivers_is_refused_before_the_commit() {
    let tight = PackLimits { blob_bytes: 10, memory_bytes: 1 << 20, ..PackLimits::SPILLED };
    for fixture in both_ways(tight).await {
        let fits = fixture.commit(&project(), &[], &[("a", "short")]);
        assert!(pack(&fixture, fits).await.is_ok());
        let exceeds = fixture.commit(&project(), &[], &[("a", "eleven byte")]);
        let refused = pack(&fixture, exceeds).await;
        assert!(matches!(&refused, Err(GitError::Bad { why, .. }) if why.contains("above the limit")), "{refused:?}");
    }
}

#[tokio::test]
async fn odd_objects_are_carried_through_git_too() {
    let through_git = Settings { memory_pack_bytes: 0, ..Settings::default() };
    odd_objects_are_refused_or_carried(&LocalFixture::with(&through_git)).await;
}
