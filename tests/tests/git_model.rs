//! The model of the repositories: properties beyond the contract, on which the simulator relies.

use std::sync::Arc;

use bytes::Bytes;
use lockstep::base::clock::SeededEntropy;
use lockstep::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use lockstep::seams::blob::Payload;
use lockstep::seams::git::model::ModelRepositories;
use lockstep::seams::git::{GitError, IsCommitted, Packed, RefMove, Relation, Repositories};
use lockstep_proto::{Oid, ProjectName, RefName};

fn project() -> ProjectName {
    "tools/build".parse().unwrap()
}

fn name(short: &str) -> RefName {
    format!("refs/heads/{short}").parse().unwrap()
}

async fn volume_with(bugs: InjectedBugs) -> ModelRepositories {
    let volume = ModelRepositories::new(bugs);
    volume.create(&project(), &name("main")).await.unwrap();
    volume
}

async fn volume() -> ModelRepositories {
    volume_with(InjectedBugs::default()).await
}

fn step(short: &str, old: Option<Oid>, new: Option<Oid>) -> RefMove {
    RefMove { name: name(short), old, new, message: String::new() }
}

async fn pack(from: &ModelRepositories, wants: &[Oid], hints: &[Oid], committed: &[Oid]) -> Packed {
    let committed = committed.to_vec();
    let ask: IsCommitted = Arc::new(move |oid| committed.contains(oid));
    from.pack(&project(), wants, hints, &ask).await.unwrap()
}

/// Adds objects. Each one points to the one before.
fn chain(volume: &ModelRepositories, length: u64) -> Vec<Oid> {
    let mut oids: Vec<Oid> = Vec::new();
    for nonce in 0..length {
        let parent = oids.last().copied();
        oids.push(volume.add_object(&project(), parent.as_slice(), nonce));
    }
    oids
}

#[tokio::test]
async fn a_pack_brings_what_is_new_and_names_its_bases() {
    let (origin, other) = (volume().await, volume().await);
    let chain = chain(&origin, 5);
    let first = pack(&origin, &chain[1..2], &[], &[]).await;
    assert_eq!(first.bases, []);
    other.ingest(&project(), first.payload.as_slice(), &chain[1..2], &[]).await.unwrap();
    assert!(other.closure_is_complete(&project(), chain[1]));

    let second = pack(&origin, &chain[4..], &[], &chain[1..2]).await;
    assert_eq!(second.bases, [chain[1]]);
    other.ingest(&project(), second.payload.as_slice(), &chain[4..], &second.bases).await.unwrap();
    assert!(other.closure_is_complete(&project(), chain[4]));
}

#[tokio::test]
async fn nothing_new_is_no_pack() {
    let origin = volume().await;
    let chain = chain(&origin, 3);
    let packed = pack(&origin, &chain[1..2], &chain[2..], &chain[2..]).await;
    assert!(packed.payload.is_none());
    assert_eq!(packed.bases, [chain[2]], "the hint has the wanted object, so it is the base");
}

#[tokio::test]
async fn a_pack_of_something_that_is_not_there_is_missing() {
    let (origin, absent) = (volume().await, Oid::Sha1([7; 20]));
    let top = origin.add_object(&project(), &[absent], 1);
    let none: IsCommitted = Arc::new(|_| false);
    let error = origin.pack(&project(), &[top], &[], &none).await.unwrap_err();
    assert_eq!(error, GitError::Missing { project: project(), oids: vec![absent] });
}

#[tokio::test]
async fn a_pack_whose_base_is_not_there_is_missing_and_adds_nothing() {
    let (origin, other) = (volume().await, volume().await);
    let chain = chain(&origin, 3);
    let packed = pack(&origin, &chain[2..], &[], &chain[..1]).await;
    let error = other.ingest(&project(), packed.payload.as_slice(), &chain[2..], &packed.bases).await.unwrap_err();
    assert_eq!(error, GitError::Missing { project: project(), oids: vec![chain[0]] });
    let error = other.ingest(&project(), packed.payload.as_slice(), &[], &[]).await.unwrap_err();
    assert_eq!(error, GitError::Missing { project: project(), oids: vec![chain[0]] }, "without wants too");
    assert_eq!(other.missing(&project(), &chain).await.unwrap(), chain);
}

#[tokio::test]
async fn a_want_that_is_there_without_its_parents_is_missing() {
    let (other, absent) = (volume().await, Oid::Sha1([7; 20]));
    let top = other.add_object(&project(), &[absent], 1);
    let error = other.ingest(&project(), &[], &[top], &[]).await.unwrap_err();
    assert_eq!(error, GitError::Missing { project: project(), oids: vec![absent] });
    assert!(!other.closure_is_complete(&project(), top));
}

#[tokio::test]
async fn damaged_packs_are_bad_wherever_the_damage_is() {
    let (origin, other) = (volume().await, volume().await);
    let chain = chain(&origin, 2);
    let Some(Payload::Memory(pack)) = pack(&origin, &chain[1..], &[], &[]).await.payload else { panic!("no pack") };
    for at in 0..pack.len() {
        let mut damaged = pack.to_vec();
        damaged[at] ^= 1;
        for bytes in [damaged, pack[..at].to_vec()] {
            let payload = Payload::Memory(Bytes::from(bytes));
            let error = other.ingest(&project(), &[payload], &[], &[]).await.unwrap_err();
            assert!(matches!(error, GitError::Bad { .. }), "{at}: {error}");
        }
    }
    assert_eq!(other.missing(&project(), &chain).await.unwrap(), chain);
}

#[tokio::test]
async fn refs_move_together_or_not_at_all() {
    let volume = volume().await;
    let chain = chain(&volume, 2);
    volume.move_refs(&project(), &[step("a", None, Some(chain[0]))], &[]).await.unwrap();
    let moves = [step("b", None, Some(chain[1])), step("a", None, Some(chain[1]))];
    let error = volume.move_refs(&project(), &moves, &[("kept".into(), chain[0])]).await.unwrap_err();
    let (expected, actual) = (None, Some(chain[0]));
    assert_eq!(error, GitError::RefMoved { project: project(), name: name("a"), expected, actual });
    let absent = Oid::Sha1([7; 20]);
    let moves = [step("a", Some(chain[0]), Some(chain[1])), step("b", None, Some(absent))];
    let error = volume.move_refs(&project(), &moves, &[]).await.unwrap_err();
    assert_eq!(error, GitError::Missing { project: project(), oids: vec![absent] });
    let twice = [step("b", None, Some(chain[0])), step("b", None, Some(chain[1]))];
    assert!(volume.move_refs(&project(), &twice, &[]).await.is_err());
    assert_eq!(volume.refs(&project()), [(name("a"), chain[0])].into());
    assert!(volume.kept(&project()).is_empty());
}

#[tokio::test]
async fn names_that_exclude_each_other_are_not_on_one_disk() {
    let volume = volume().await;
    let oid = chain(&volume, 1)[0];
    let create = |short| step(short, None, Some(oid));
    volume.move_refs(&project(), &[create("a/b"), create("a-b")], &[]).await.unwrap();
    for short in ["a", "a/b/c"] {
        let error = volume.move_refs(&project(), &[create(short)], &[]).await.unwrap_err();
        assert!(error.to_string().contains("exclude each other"), "{error}");
    }
    volume.move_refs(&project(), &[create("a"), step("a/b", Some(oid), None)], &[]).await.unwrap();
    assert_eq!(volume.refs(&project()), [(name("a"), oid), (name("a-b"), oid)].into());
}

#[tokio::test]
async fn values_are_kept_until_they_are_released() {
    let volume = volume().await;
    let oid = chain(&volume, 1)[0];
    volume.move_refs(&project(), &[], &[("one".into(), oid), ("two".into(), oid)]).await.unwrap();
    volume.release(&project(), &["one".into(), "unknown".into()]).await.unwrap();
    assert_eq!(volume.kept(&project()), [("two".to_owned(), oid)].into());
}

#[tokio::test]
async fn relations_follow_the_links() {
    let volume = volume().await;
    let chain = chain(&volume, 3);
    assert_eq!(volume.relation(&project(), chain[0], chain[2]).await, Ok(Relation::FastForward));
    assert_eq!(volume.relation(&project(), chain[2], chain[0]).await, Ok(Relation::Diverged));
}

#[tokio::test]
async fn a_repository_is_made_and_deleted_once() {
    let volume = volume().await;
    volume.create(&project(), &name("other")).await.unwrap();
    assert_eq!(volume.head(&project()).await, Ok(Some(name("main"))));
    volume.set_head(&project(), &name("other")).await.unwrap();
    assert_eq!(volume.head(&project()).await, Ok(Some(name("other"))));
    for _ in 0..2 {
        volume.delete(&project()).await.unwrap();
        assert_eq!(volume.exists(&project()).await, Ok(false));
    }
    assert_eq!(volume.head(&project()).await, Err(GitError::NoRepository(project())));
    assert_eq!(volume.set_head(&project(), &name("x")).await, Err(GitError::NoRepository(project())));
}

#[tokio::test]
async fn a_synced_state_survives_every_power_cut() {
    let volume = volume().await;
    let chain = chain(&volume, 3);
    volume.move_refs(&project(), &[step("a", None, Some(chain[2]))], &[("k".into(), chain[0])]).await.unwrap();
    volume.sync().await.unwrap();
    for seed in 0..20 {
        volume.power_cut(&SeededEntropy::new(seed));
        assert_eq!(volume.refs(&project()), [(name("a"), chain[2])].into());
        assert_eq!(volume.kept(&project()), [("k".to_owned(), chain[0])].into());
        assert!(volume.closure_is_complete(&project(), chain[2]));
    }
}

/// Whether a power cut keeps an object, and a ref that moved to it, if both are unsynced.
async fn after_power_cut(seed: u64) -> (bool, bool) {
    let volume = volume().await;
    let old = volume.add_object(&project(), &[], 1);
    volume.move_refs(&project(), &[step("a", None, Some(old))], &[]).await.unwrap();
    volume.sync().await.unwrap();
    let new = volume.add_object(&project(), &[old], 2);
    volume.move_refs(&project(), &[step("a", Some(old), Some(new))], &[]).await.unwrap();
    volume.power_cut(&SeededEntropy::new(seed));
    let kept = volume.refs(&project())[&name("a")] == new;
    let there = volume.missing(&project(), &[new]).await.unwrap().is_empty();
    volume.power_cut(&SeededEntropy::new(seed + 1));
    assert_eq!(volume.refs(&project())[&name("a")] == new, kept, "the state after a power cut must be durable");

    let report = volume.repair(true).await.unwrap();
    assert_eq!(report.refs, u64::from(kept && !there), "a repair removes refs without an object");
    assert_eq!(volume.repair(true).await.unwrap().refs, 0);
    (there, kept)
}

#[tokio::test]
async fn a_power_cut_loses_any_combination_and_the_same_seed_the_same_one() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let left = after_power_cut(seed).await;
        assert_eq!(left, after_power_cut(seed).await);
        seen.insert(left);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[tokio::test]
async fn a_power_cut_takes_or_brings_back_whole_repositories() {
    let (mut gone, mut back) = (0, 0);
    for seed in 0..32 {
        let volume = volume().await;
        volume.power_cut(&SeededEntropy::new(seed));
        gone += u64::from(!volume.exists(&project()).await.unwrap());

        let volume = self::volume().await;
        let oid = chain(&volume, 1)[0];
        volume.sync().await.unwrap();
        volume.delete(&project()).await.unwrap();
        volume.power_cut(&SeededEntropy::new(seed));
        back += u64::from(volume.closure_is_complete(&project(), oid));
    }
    assert!((1..32).contains(&gone) && (1..32).contains(&back), "{gone} gone, {back} back");
}

#[tokio::test]
async fn a_repository_that_was_made_again_never_shows_the_old_content_with_the_new() {
    for seed in 0..32 {
        let volume = volume().await;
        let old = volume.add_object(&project(), &[], 1);
        volume.sync().await.unwrap();
        volume.delete(&project()).await.unwrap();
        volume.create(&project(), &name("main")).await.unwrap();
        let new = volume.add_object(&project(), &[], 2);
        volume.power_cut(&SeededEntropy::new(seed));
        assert!(!volume.missing(&project(), &[old, new]).await.unwrap().is_empty(), "{seed}");
    }
}

#[tokio::test]
async fn handles_share_a_volume_until_it_is_wiped() {
    let volume = volume().await;
    let handle = volume.clone();
    handle.sync().await.unwrap();
    assert_eq!(handle.exists(&project()).await, Ok(true));
    volume.wipe();
    handle.power_cut(&SeededEntropy::new(1));
    assert_eq!(handle.exists(&project()).await, Ok(false));
}

#[tokio::test]
async fn bugs_are_there_only_when_they_are_injected() {
    let injected = volume_with(InjectedBugs::only(InjectedBug::PackAgainstUncommitted)).await;
    let wrong = chain(&injected, 3);
    assert_eq!(pack(&injected, &wrong[2..], &[], &wrong[..1]).await.bases, [wrong[1]], "an uncommitted base");
    let correct = volume().await;
    chain(&correct, 3);
    assert_eq!(pack(&correct, &wrong[2..], &[], &wrong[..1]).await.bases, [wrong[0]]);

    let injected = volume_with(InjectedBugs::only(InjectedBug::RefsBeforeObjects)).await;
    injected.move_refs(&project(), &[step("a", None, Some(wrong[0]))], &[]).await.unwrap();
    assert!(!injected.closure_is_complete(&project(), wrong[0]));
}
