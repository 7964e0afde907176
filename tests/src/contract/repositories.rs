//! The contract of the repositories ([`lockstep::seams::git`]). Every test takes a fixture with two empty volumes.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use lockstep::seams::blob::Payload;
use lockstep::seams::git::{GitError, IsCommitted, Packed, RefMove, Relation, RepairReport, Repositories};
use lockstep_proto::{Oid, ProjectName, RefName};

use crate::odd::{self, Answer};

/// Two volumes, and ways to create content in the first one, as a push that is not committed yet does.
pub trait Fixture: Send + Sync {
    /// The volume in which content is created.
    fn origin(&self) -> Arc<dyn Repositories>;
    /// The volume of another site.
    fn replica(&self) -> Arc<dyn Repositories>;
    /// Creates an object of any content, well-formed or not.
    fn put(&self, project: &ProjectName, kind: git2::ObjectType, content: &[u8]) -> Oid;
    /// Creates a blob with this content in the first volume. The same content gives the same id.
    fn blob(&self, project: &ProjectName, content: &str) -> Oid;
    /// Creates a commit with exactly these files (path, content). The same arguments give the same id.
    fn commit(&self, project: &ProjectName, parents: &[Oid], files: &[(&str, &str)]) -> Oid;
    /// Creates an annotated tag.
    fn tag(&self, project: &ProjectName, name: &str, target: Oid) -> Oid;
    /// Whether the replica has the object and everything that it needs.
    fn is_complete(&self, project: &ProjectName, oid: Oid) -> bool;
}

/// The project of the suite. Its name has a folder in it.
#[must_use]
pub fn project() -> ProjectName {
    "tools/build".parse().expect("a project name")
}

/// Parses the name of a ref.
#[must_use]
pub fn name(text: &str) -> RefName {
    text.parse().expect("a ref name")
}

/// A decimal number that is too long to be read as one.
const LONG: &str = "000000000000000000000000000000000000000000000000000000000000000001";

/// The id of an object that exists nowhere.
#[must_use]
pub fn nowhere() -> Oid {
    Oid::Sha1([7; 20])
}

/// A move of a ref. `None` stands for absence.
#[must_use]
pub fn moves(text: &str, old: impl Into<Option<Oid>>, new: impl Into<Option<Oid>>) -> RefMove {
    RefMove { name: name(text), old: old.into(), new: new.into(), message: String::new() }
}

async fn create(fixture: &dyn Fixture) {
    for volume in [fixture.origin(), fixture.replica()] {
        volume.create(&project(), &name("refs/heads/main")).await.expect("a repository");
    }
}

async fn pack(fixture: &dyn Fixture, wants: &[Oid], hints: &[Oid], committed: &[Oid]) -> Packed {
    let committed: BTreeSet<Oid> = committed.iter().copied().collect();
    let ask: IsCommitted = Arc::new(move |oid| committed.contains(oid));
    fixture.origin().pack(&project(), wants, hints, &ask).await.expect("a pack")
}

async fn ingest(fixture: &dyn Fixture, packed: &Packed, wants: &[Oid]) -> Result<(), GitError> {
    let packs: Vec<Payload> = packed.payload.iter().cloned().collect();
    fixture.replica().ingest(&project(), &packs, wants, &packed.bases).await
}

/// Packs `want` against `committed` values, and ingests the pack at the replica.
async fn carry(fixture: &dyn Fixture, want: Oid, committed: &[Oid]) -> Packed {
    let packed = pack(fixture, &[want], &[], committed).await;
    ingest(fixture, &packed, &[want]).await.expect("the replica accepts the pack");
    assert!(fixture.is_complete(&project(), want));
    packed
}

/// Creation and deletion can be repeated. Without a repository, every call reports that it is absent.
pub async fn a_repository_is_there_from_its_creation_to_its_deletion(fixture: &dyn Fixture) {
    let volume = fixture.origin();
    let absent = Err(GitError::NoRepository(project()));
    assert_eq!(volume.exists(&project()).await, Ok(false));
    assert_eq!(volume.read_ref(&project(), &name("refs/heads/main")).await, absent.clone().map(|(): ()| None));
    assert_eq!(volume.move_refs(&project(), &[moves("refs/heads/main", None, nowhere())], &[]).await, absent);
    for _ in 0..2 {
        volume.create(&project(), &name("refs/heads/main")).await.expect("created");
        assert_eq!(volume.exists(&project()).await, Ok(true));
        assert_eq!(volume.head(&project()).await, Ok(Some(name("refs/heads/main"))));
        assert_eq!(volume.list_refs(&project()).await, Ok(vec![]));
    }
    let commit = fixture.commit(&project(), &[], &[("a", "1")]);
    volume.move_refs(&project(), &[moves("refs/heads/main", None, commit)], &[]).await.expect("moved");
    volume.create(&project(), &name("refs/heads/other")).await.expect("creating it again is harmless");
    assert_eq!(volume.read_ref(&project(), &name("refs/heads/main")).await, Ok(Some(commit)));
    for _ in 0..2 {
        volume.delete(&project()).await.expect("deleted");
        assert_eq!(volume.exists(&project()).await, Ok(false));
    }
    volume.create(&project(), &name("refs/heads/main")).await.expect("created again");
    assert_eq!(volume.list_refs(&project()).await, Ok(vec![]));
    assert_eq!(volume.missing(&project(), &[commit]).await, Ok(vec![commit]));
}

/// `HEAD` can point to any branch, even to one that does not exist.
pub async fn head_points_where_it_is_told(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    volume.set_head(&project(), &name("refs/heads/next")).await.expect("set");
    assert_eq!(volume.head(&project()).await, Ok(Some(name("refs/heads/next"))));
    assert_eq!(volume.read_ref(&project(), &name("refs/heads/next")).await, Ok(None));
}

/// If one old value is wrong, no ref of the batch moves.
pub async fn refs_move_all_or_none(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let two = fixture.commit(&project(), &[one], &[("a", "2")]);
    let (main, next) = ("refs/heads/main", "refs/heads/next");
    volume.move_refs(&project(), &[moves(main, None, one), moves(next, None, one)], &[]).await.expect("created");
    let stale = volume.move_refs(&project(), &[moves(main, one, two), moves(next, two, one)], &[]).await;
    let moved = |expected, actual| GitError::RefMoved { project: project(), name: name(next), expected, actual };
    assert_eq!(stale, Err(moved(Some(two), Some(one))));
    let exists = volume.move_refs(&project(), &[moves(main, one, None), moves(next, None, two)], &[]).await;
    assert_eq!(exists, Err(moved(None, Some(one))));
    let both = vec![(name(main), one), (name(next), one)];
    assert_eq!(volume.list_refs(&project()).await, Ok(both));
    let batch = [moves("refs/tags/v1", None, two), moves(main, one, two), moves(next, one, None)];
    volume.move_refs(&project(), &batch, &[]).await.expect("moved");
    assert_eq!(volume.list_refs(&project()).await, Ok(vec![(name(main), two), (name("refs/tags/v1"), two)]));
    assert_eq!(volume.read_ref(&project(), &name(next)).await, Ok(None));
    let gone = volume.move_refs(&project(), &[moves(next, one, two)], &[]).await;
    assert_eq!(gone, Err(moved(Some(one), None)));
}

/// A ref moves only after its object has arrived.
pub async fn a_ref_never_moves_to_what_is_not_there(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let batch = [moves("refs/heads/a", None, one), moves("refs/heads/b", None, nowhere())];
    let result = volume.move_refs(&project(), &batch, &[]).await;
    assert_eq!(result, Err(GitError::Missing { project: project(), oids: vec![nowhere()] }));
    assert_eq!(volume.list_refs(&project()).await, Ok(vec![]));
}

/// Refs are listed in the byte order of their names. The sidecar's own refs, and those that every site computes for
/// itself, are left out.
pub async fn only_replicated_refs_are_listed(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let shown = ["refs/changes/01/1/1", "refs/changes/01/1/meta", "refs/heads/a", "refs/heads/a-b", "refs/heads/b/c"];
    let batch: Vec<RefMove> = shown.iter().rev().map(|text| moves(text, None, one)).collect();
    volume.move_refs(&project(), &batch, &[("kept/1".into(), one)]).await.expect("moved");
    let local = [moves("refs/cache-automerge/ab/cd", None, one)];
    volume.move_refs(&project(), &local, &[]).await.expect("moved");
    let listed: Vec<RefName> = volume.list_refs(&project()).await.expect("refs").into_iter().map(|(n, _)| n).collect();
    assert_eq!(listed, shown.map(name).to_vec());
    assert_eq!(volume.read_ref(&project(), &local[0].name).await, Ok(Some(one)));
}

/// Kept values are released by their labels. Unknown labels and repeated releases are harmless.
pub async fn kept_values_are_let_go_by_label(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let long = format!("stray/{one}/refs/heads/{}", "long/".repeat(100));
    let keep = [
        ("eu-aws-0.1.0.7.00c0ffee".to_owned(), one),
        ("eu-aws-0.1.0.7.00c0ffee/2".to_owned(), one),
        (long[..200].to_owned(), one),
        (long, one),
    ];
    volume.move_refs(&project(), &[moves("refs/heads/a", None, one)], &[]).await.expect("created");
    volume.move_refs(&project(), &[moves("refs/heads/a", one, None)], &keep).await.expect("deleted and kept");
    volume.move_refs(&project(), &[], &keep).await.expect("kept twice");
    let kept: Vec<String> = keep.iter().map(|(label, _)| label.clone()).collect();
    assert_eq!(volume.kept(&project()).await, Ok(kept), "labels are returned unchanged");
    let labels: Vec<String> = keep.into_iter().map(|(label, _)| label).chain(["unknown".to_owned()]).collect();
    for _ in 0..2 {
        volume.release(&project(), &labels).await.expect("released");
    }
    assert_eq!(volume.kept(&project()).await, Ok(Vec::new()));
    assert_eq!(volume.missing(&project(), &[one, nowhere()]).await, Ok(vec![nowhere()]));
}

/// A commit relates to its ancestors. An object that is not a commit has none.
pub async fn values_relate_by_ancestry(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let two = fixture.commit(&project(), &[one], &[("a", "2")]);
    let three = fixture.commit(&project(), &[one], &[("a", "3")]);
    let merge = fixture.commit(&project(), &[two, three], &[("a", "4")]);
    let blob = fixture.blob(&project(), "1");
    let cases = [
        (one, merge, Relation::FastForward),
        (three, merge, Relation::FastForward),
        (merge, one, Relation::Diverged),
        (two, three, Relation::Diverged),
        (blob, two, Relation::Diverged),
    ];
    for (old, new, expected) in cases {
        assert_eq!(volume.relation(&project(), old, new).await, Ok(expected), "{old} -> {new}");
    }
    let missing = volume.relation(&project(), one, nowhere()).await;
    assert_eq!(missing, Err(GitError::Missing { project: project(), oids: vec![nowhere()] }));
}

/// Only a blob of decimal digits is read as a number.
pub async fn numbers_are_read(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    let commit = fixture.commit(&project(), &[], &[("a", "1")]);
    let cases = [("184", Some(184)), ("185\n", Some(185)), ("-1", None), ("", None), ("label", None), (LONG, None)];
    for (content, expected) in cases {
        let blob = fixture.blob(&project(), content);
        assert_eq!(volume.counter(&project(), blob).await, Ok(expected), "{content:?}");
        assert_eq!(volume.counters(&project(), &[commit, blob]).await, Ok(vec![None, expected]), "{content:?}");
    }
    assert_eq!(volume.counter(&project(), commit).await, Ok(None));
    let missing = volume.counter(&project(), nowhere()).await;
    assert_eq!(missing, Err(GitError::Missing { project: project(), oids: vec![nowhere()] }));
}

/// Two commits share history if a commit is an ancestor of both.
pub async fn histories_are_shared_or_not(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    let root = fixture.commit(&project(), &[], &[("a", "1")]);
    let left = fixture.commit(&project(), &[root], &[("a", "2")]);
    let right = fixture.commit(&project(), &[root], &[("a", "3")]);
    let apart = fixture.commit(&project(), &[], &[("b", "1")]);
    let blob = fixture.blob(&project(), "17");
    let cases = [(left, right, true), (root, left, true), (left, apart, false), (blob, left, false)];
    for (one, other, expected) in cases {
        assert_eq!(volume.share_history(&project(), one, other).await, Ok(expected), "{one} {other}");
        assert_eq!(volume.share_history(&project(), other, one).await, Ok(expected), "{other} {one}");
        let both = volume.share_histories(&project(), &[(one, one), (one, other)]).await;
        assert_eq!(both, Ok(vec![one != blob, expected]), "{one} {other}");
    }
    let missing = volume.share_history(&project(), root, nowhere()).await;
    assert_eq!(missing, Err(GitError::Missing { project: project(), oids: vec![nowhere()] }));
}

/// A walk finds exactly the commits behind its tips, through tags and merges.
pub async fn commits_behind_tips_are_found(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    let mut way = vec![fixture.commit(&project(), &[], &[("a", "0")])];
    for at in 1..7 {
        way.push(fixture.commit(&project(), &way[at - 1..at], &[("a", &at.to_string())]));
    }
    let side = fixture.commit(&project(), &way[1..2], &[("b", "1")]);
    let merge = fixture.commit(&project(), &[way[6], side], &[("c", "1")]);
    let (tag, blob) = (fixture.tag(&project(), "v1", merge), fixture.blob(&project(), "17"));
    let sorted = |mut oids: Vec<Oid>| {
        oids.sort_unstable();
        oids
    };
    let behind = async |tips: &[Oid]| volume.commits_behind(&project(), tips, 100).await.expect("a walk");
    let all = sorted(way.iter().copied().chain([side, merge]).collect());
    assert_eq!(behind(&[tag, blob, way[2]]).await, all);
    assert_eq!(behind(&[side]).await, sorted(vec![way[0], way[1], side]));
    assert_eq!(behind(&[]).await, []);
    assert_eq!(volume.commits_behind(&project(), &[merge], 2).await.expect("a walk").len(), 2);
    let steps = async |tip, every| volume.steps_to(&project(), tip, every).await.expect("a walk");
    assert_eq!(steps(merge, 3).await, [way[2], way[5]]);
    assert_eq!(steps(way[2], 3).await, [], "the tip itself is no step");
    assert_eq!((steps(merge, 100).await, steps(blob, 1).await), (vec![], vec![]));
    let missing = volume.commits_behind(&project(), &[nowhere()], 1).await;
    assert_eq!(missing, Err(GitError::Missing { project: project(), oids: vec![nowhere()] }));
}

/// A pack ends at committed values, and names them as its bases.
pub async fn a_pack_ends_at_committed_values(fixture: &dyn Fixture) {
    create(fixture).await;
    let one = fixture.commit(&project(), &[], &[("a", "1"), ("dir/b", "1")]);
    let two = fixture.commit(&project(), &[one], &[("a", "2"), ("dir/b", "1")]);
    let three = fixture.commit(&project(), &[two], &[("a", "2"), ("dir/b", "3")]);
    assert_eq!(carry(fixture, one, &[]).await.bases, vec![]);
    let packed = pack(fixture, &[three], &[one], &[one]).await;
    assert_eq!(packed.bases, vec![one]);
    ingest(fixture, &packed, &[three]).await.expect("taken");
    ingest(fixture, &packed, &[three]).await.expect("ingested twice");
    assert!(fixture.is_complete(&project(), three));
    let nothing = pack(fixture, &[three], &[], &[three]).await;
    assert_eq!((nothing.payload.is_none(), nothing.bases), (true, vec![three]));
}

/// An object that a refused push left behind is packed again, because no other site has it.
pub async fn an_object_that_is_not_committed_is_no_base(fixture: &dyn Fixture) {
    create(fixture).await;
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let refused = fixture.commit(&project(), &[one], &[("a", "2")]);
    let three = fixture.commit(&project(), &[refused], &[("a", "2"), ("b", "3")]);
    carry(fixture, one, &[]).await;
    let packed = carry(fixture, three, &[one]).await;
    assert_eq!(packed.bases, vec![one]);
}

/// Tags, blobs and merges are carried like commits.
pub async fn every_kind_of_value_is_carried(fixture: &dyn Fixture) {
    create(fixture).await;
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let left = fixture.commit(&project(), &[one], &[("a", "1"), ("l", "2")]);
    let right = fixture.commit(&project(), &[one], &[("a", "1"), ("r/r/r", "2")]);
    let merge = fixture.commit(&project(), &[left, right], &[("a", "1"), ("l", "2"), ("moved/r/r", "2")]);
    let tag = fixture.tag(&project(), "v1", merge);
    let outer = fixture.tag(&project(), "v1-signed", tag);
    let sequence = fixture.blob(&project(), "42");
    carry(fixture, one, &[]).await;
    assert_eq!(carry(fixture, outer, &[one]).await.bases, vec![one]);
    assert_eq!(carry(fixture, tag, &[merge, one]).await.bases, vec![merge]);
    assert_eq!(carry(fixture, sequence, &[one]).await.bases, vec![]);
    let replica = fixture.replica();
    let batch = [moves("refs/tags/v1", None, tag), moves("refs/sequences/changes", None, sequence)];
    replica.move_refs(&project(), &batch, &[]).await.expect("moved");
}

/// Packing and ingestion name the objects that are missing. Ingestion stores nothing while objects are missing.
pub async fn missing_objects_are_named(fixture: &dyn Fixture) {
    create(fixture).await;
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let two = fixture.commit(&project(), &[one], &[("a", "2")]);
    let missing = |oid| Err(GitError::Missing { project: project(), oids: vec![oid] });
    let none: IsCommitted = Arc::new(|_| false);
    let unknown = fixture.origin().pack(&project(), &[nowhere()], &[], &none).await;
    assert_eq!(unknown.map(|_| ()), missing(nowhere()));
    let packed = pack(fixture, &[two], &[], &[one]).await;
    assert_eq!(ingest(fixture, &packed, &[two]).await, missing(one));
    let packs: Vec<Payload> = packed.payload.iter().cloned().collect();
    assert_eq!(fixture.replica().ingest(&project(), &packs, &[two], &[]).await, missing(one));
    assert_eq!(fixture.replica().missing(&project(), &[two]).await, Ok(vec![two]));
    assert_eq!(fixture.replica().ingest(&project(), &[], &[two], &[]).await, missing(two));
    carry(fixture, one, &[]).await;
    ingest(fixture, &packed, &[two]).await.expect("ingested after the objects that it builds on");
}

/// A damaged byte anywhere in a pack is reported as bad content, and nothing of the pack is stored.
pub async fn a_damaged_pack_is_bad(fixture: &dyn Fixture) {
    create(fixture).await;
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let packed = pack(fixture, &[one], &[], &[]).await;
    let Some(Payload::Memory(good)) = packed.payload else { panic!("a small pack is in memory") };
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("not empty") ^= 1;
    let cut = good[..good.len() - 1].to_vec();
    for bytes in [flipped, cut, b"no pack at all".to_vec(), Vec::new()] {
        let payload = Payload::Memory(Bytes::from(bytes));
        let result = fixture.replica().ingest(&project(), &[payload], &[one], &[]).await;
        assert!(matches!(result, Err(GitError::Bad { .. })), "{result:?}");
    }
    assert_eq!(fixture.replica().missing(&project(), &[one]).await, Ok(vec![one]));
}

/// The packs of one call are ingested in order. A good pack stays even if a later one is bad.
pub async fn several_packs_are_taken_in_order(fixture: &dyn Fixture) {
    create(fixture).await;
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let two = fixture.commit(&project(), &[one], &[("a", "2")]);
    let first = pack(fixture, &[one], &[], &[]).await.payload.expect("a pack");
    let second = pack(fixture, &[two], &[], &[one]).await.payload.expect("a pack");
    let replica = fixture.replica();
    replica.ingest(&project(), &[first, second], &[one, two], &[]).await.expect("taken");
    assert!(fixture.is_complete(&project(), two));
}

/// Everything that git can walk is packed, and taken by the replica. Anything else is refused before it is committed.
pub async fn odd_objects_are_refused_or_carried(fixture: &dyn Fixture) {
    create(fixture).await;
    let none: IsCommitted = Arc::new(|_| false);
    for odd in odd::all() {
        let write = |kind, content: &[u8]| fixture.put(&project(), kind, content).to_string();
        let want: Oid = (odd.make)(&odd::Forge::new(&write)).parse().expect("an object id");
        let packed = fixture.origin().pack(&project(), &[want], &[], &none).await;
        match (odd.answer(), packed) {
            (Answer::Taken, Ok(packed)) => {
                ingest(fixture, &packed, &[want]).await.unwrap_or_else(|error| panic!("{odd:?}: {error}"));
                assert!(fixture.is_complete(&project(), want), "{odd:?}");
                let relation = fixture.replica().relation(&project(), want, want).await;
                assert!(relation.is_ok(), "{odd:?}: {relation:?}");
                let behind = fixture.origin().commits_behind(&project(), &[want], 10).await;
                assert!(behind.is_ok(), "{odd:?}: {behind:?}");
            }
            (Answer::Refused, Err(GitError::Flawed { flaw, .. })) => {
                let id = odd.ids.first().filter(|id| !id.ends_with("Missing"));
                assert!(id.is_none_or(|id| flaw.why.starts_with(&format!("{id}: "))), "{odd:?}: {flaw}");
            }
            (Answer::Refused, Err(GitError::Missing { .. })) => assert!(odd.name.contains("no"), "{odd:?}"),
            (expected, packed) => panic!("{odd:?} is not {expected:?}: {packed:?}"),
        }
    }
}

/// Commits on top of odd ones, with the usual steps in between, are carried too.
pub async fn histories_go_on_upon_odd_commits(fixture: &dyn Fixture) {
    create(fixture).await;
    for odd in odd::all().into_iter().filter(|odd| odd.answer() == Answer::Taken) {
        let write = |kind, content: &[u8]| fixture.put(&project(), kind, content).to_string();
        let below: Oid = (odd.make)(&odd::Forge::new(&write)).parse().expect("an object id");
        let is_commit = fixture.origin().relation(&project(), below, below).await == Ok(Relation::FastForward);
        if !is_commit {
            continue;
        }
        carry(fixture, below, &[]).await;
        let tree = odd::Forge::new(&write).plain_tree();
        let lines = format!("tree {tree}\nparent {below}\nauthor T\ncommitter T\n\nupon {odd:?}\n");
        let upon = fixture.put(&project(), git2::ObjectType::Commit, lines.as_bytes());
        let next = fixture.put(
            &project(),
            git2::ObjectType::Commit,
            lines.replacen(&below.to_string(), &upon.to_string(), 1).as_bytes(),
        );
        assert_eq!(carry(fixture, next, &[below]).await.bases, [below], "{odd:?}");
        for volume in [fixture.origin(), fixture.replica()] {
            assert_eq!(volume.relation(&project(), below, next).await, Ok(Relation::FastForward), "{odd:?}");
            assert_eq!(volume.relation(&project(), next, below).await, Ok(Relation::Diverged), "{odd:?}");
            assert_eq!(volume.share_history(&project(), below, next).await, Ok(true), "{odd:?}");
        }
    }
}

/// A value is complete when everything behind it is present. A healthy repository has no garbled files.
pub async fn values_are_complete_or_not(fixture: &dyn Fixture) {
    create(fixture).await;
    let (origin, replica) = (fixture.origin(), fixture.replica());
    let one = fixture.commit(&project(), &[], &[("a", "1"), ("d/b", "2")]);
    let two = fixture.commit(&project(), &[one], &[("a", "3")]);
    let blob = fixture.blob(&project(), "17");
    assert_eq!(origin.is_complete(&project(), &[two, blob]).await, Ok(true));
    assert_eq!(origin.is_complete(&project(), &[]).await, Ok(true));
    assert_eq!(replica.is_complete(&project(), &[two]).await, Ok(false));
    carry(fixture, two, &[]).await;
    assert_eq!(replica.is_complete(&project(), &[two, one]).await, Ok(true));
    assert_eq!(replica.is_complete(&project(), &[two, blob]).await, Ok(false));
    let content = format!("object {}\ntype commit\ntag t\ntagger T <t@x> 1700000000 +0000\n\nm\n", nowhere());
    let dangling = fixture.put(&project(), git2::ObjectType::Tag, content.as_bytes());
    assert_eq!(origin.is_complete(&project(), &[dangling]).await, Ok(false));
    for volume in [origin, replica] {
        assert_eq!(volume.garbled(&project(), true).await, Ok(0));
    }
    let elsewhere: ProjectName = "elsewhere".parse().expect("a project name");
    let absent = fixture.origin().is_complete(&elsewhere, &[one]).await;
    assert_eq!(absent, Err(GitError::NoRepository(elsewhere)), "an error is no answer");
}

/// Repair changes nothing on a healthy volume.
pub async fn repair_leaves_a_healthy_volume_alone(fixture: &dyn Fixture) {
    create(fixture).await;
    let volume = fixture.origin();
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    volume.move_refs(&project(), &[moves("refs/heads/main", None, one)], &[("k".into(), one)]).await.expect("moved");
    volume.sync().await.expect("synced");
    for unclean in [false, true] {
        assert_eq!(volume.repair(unclean).await, Ok(RepairReport::default()));
    }
    assert_eq!(volume.list_refs(&project()).await, Ok(vec![(name("refs/heads/main"), one)]));
    assert!(volume.spill().is_absolute());
}
