//! Tests that need real repositories: git beside the sidecar, large packs, and the remains of crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use git2::Repository;
use lockstep::seams::blob::Payload;
use lockstep::seams::git::{GitError, IsCommitted, Packed, Settings};
use lockstep_proto::{Oid, RefName};
use lockstep_tests::contract::repositories::{Fixture, moves, name, project};
use lockstep_tests::e2e::until;
use lockstep_tests::local_git::{LocalFixture, commit, git, ours};
use rand::{Rng, SeedableRng};

type Files = BTreeMap<String, Vec<u8>>;

async fn volumes(settings: &Settings) -> LocalFixture {
    with_project(LocalFixture::with(settings)).await
}

async fn with_project(fixture: LocalFixture) -> LocalFixture {
    for volume in [fixture.origin(), fixture.replica()] {
        volume.create(&project(), &name("refs/heads/main")).await.unwrap();
    }
    fixture
}

fn files(list: &[(&str, &str)]) -> Files {
    list.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect()
}

async fn pack(fixture: &LocalFixture, wants: &[Oid], committed: &BTreeSet<Oid>) -> Packed {
    let committed = committed.clone();
    let ask: IsCommitted = Arc::new(move |oid| committed.contains(oid));
    fixture.origin().pack(&project(), wants, &[], &ask).await.unwrap()
}

fn packs(packed: &Packed) -> Vec<Payload> {
    packed.payload.iter().cloned().collect()
}

async fn carry(fixture: &LocalFixture, want: Oid, committed: &BTreeSet<Oid>) -> Packed {
    let packed = pack(fixture, &[want], committed).await;
    fixture.replica().ingest(&project(), &packs(&packed), &[want], &packed.bases).await.unwrap();
    assert!(fixture.is_complete(&project(), want), "{want} is not complete");
    packed
}

fn fsck(git_dir: &Path) {
    git(git_dir, &["fsck", "--full", "--strict"]).unwrap();
}

/// The number of objects in a repository, by git's count.
fn object_count(git_dir: &Path) -> usize {
    git(git_dir, &["cat-file", "--batch-all-objects", "--batch-check"]).unwrap().lines().count()
}

/// Settings for both kinds of packs: made in memory, and made by git and taken through quarantine.
fn both_ways() -> [Settings; 2] {
    [Settings::default(), Settings { memory_pack_bytes: 0, ..Settings::default() }]
}

#[tokio::test]
async fn random_histories_arrive_whole() {
    for (seed, settings) in (1..).zip(both_ways()) {
        let fixture = volumes(&settings).await;
        let repository = Repository::open_bare(fixture.origin_dir(&project())).unwrap();
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut committed = BTreeSet::new();
        let mut known: Vec<(Oid, Files)> = vec![(commit(&repository, &[], &Files::new()), Files::new())];
        for step in 0..40 {
            let (one, mut content) = known[random.next_u32() as usize % known.len()].clone();
            let (two, _) = known[random.next_u32() as usize % known.len()].clone();
            let folder = random.next_u32() % 4;
            if step % 5 == 4 {
                let renamed = |path: &String| path.replacen(&format!("d{folder}/"), "moved/", 1);
                content = content.iter().map(|(path, bytes)| (renamed(path), bytes.clone())).collect();
            }
            content.insert(format!("d{folder}/e/f{}", random.next_u32() % 9), format!("{step}").into_bytes());
            content.insert(format!("run{step}"), vec![b'x'; 3000]);
            let parents = if step % 3 == 0 && one != two { vec![one, two] } else { vec![one] };
            let next = commit(&repository, &parents, &content);
            if random.next_u32() % 3 != 0 {
                carry(&fixture, next, &committed).await;
                committed.insert(next);
                let branch = format!("refs/heads/b{step}");
                fixture.replica().move_refs(&project(), &[moves(&branch, None, next)], &[]).await.unwrap();
            }
            known.push((next, content));
        }
        fsck(&fixture.replica_dir(&project()));
    }
}

#[tokio::test]
async fn a_pack_costs_what_is_new_not_what_is_there() {
    let fixture = volumes(&Settings::default()).await;
    let repository = Repository::open_bare(fixture.origin_dir(&project())).unwrap();
    let mut content: Files = (0..60).map(|n| (format!("d{}/f{n}", n % 30), vec![b'x'; n])).collect();
    let mut history = vec![commit(&repository, &[], &content)];
    for step in 1..=400 {
        content.insert("d1/counter".into(), format!("{step}").into_bytes());
        history.push(commit(&repository, &history[step - 1..], &content));
    }
    let tip = *history.last().unwrap();
    fixture.origin().move_refs(&project(), &[moves("refs/heads/main", None, tip)], &[]).await.unwrap();
    let committed = BTreeSet::from([tip]);
    carry(&fixture, tip, &BTreeSet::new()).await;
    let before = object_count(&fixture.replica_dir(&project()));
    for back in [0, 1, 20, 100, 300, 399] {
        content.insert("d1/new".into(), format!("{back}").into_bytes());
        let change = commit(&repository, &[history[400 - back]], &content);
        let packed = pack(&fixture, &[change], &committed).await;
        let Some(Payload::Memory(bytes)) = &packed.payload else { panic!("a small pack") };
        let objects = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
        // The objects are the commit, two folders, the new file and the counter.
        assert!(objects <= 5, "{objects} objects for a change {back} commits behind the tip");
        fixture.replica().ingest(&project(), &packs(&packed), &[change], &packed.bases).await.unwrap();
        assert!(fixture.is_complete(&project(), change));
    }
    assert!(object_count(&fixture.replica_dir(&project())) > before);
}

#[tokio::test]
async fn a_submodule_may_name_a_new_commit_of_the_same_repository() {
    let fixture = volumes(&Settings::default()).await;
    let repository = Repository::open_bare(fixture.origin_dir(&project())).unwrap();
    let one = commit(&repository, &[], &files(&[("a", "1")]));
    let mut builder = repository.treebuilder(None).unwrap();
    builder.insert("sub", lockstep_tests::local_git::theirs(one), 0o160_000).unwrap();
    let tree = repository.find_tree(builder.write().unwrap()).unwrap();
    let person = git2::Signature::new("A", "a@b", &git2::Time::new(1_700_000_001, 0)).unwrap();
    let base = ours(repository.commit(None, &person, &person, "base", &tree, &[]).unwrap());
    let parent = repository.find_commit(lockstep_tests::local_git::theirs(base)).unwrap();
    let two = ours(repository.commit(None, &person, &person, "two", &tree, &[&parent]).unwrap());
    let committed = BTreeSet::from([base]);
    carry(&fixture, base, &BTreeSet::new()).await;
    assert_eq!(fixture.replica().missing(&project(), &[one]).await.unwrap(), vec![one]);
    let packed = pack(&fixture, &[two, one], &committed).await;
    fixture.replica().ingest(&project(), &packs(&packed), &[two, one], &packed.bases).await.unwrap();
    assert!(fixture.is_complete(&project(), one));
}

#[tokio::test]
async fn a_long_history_is_left_to_git() {
    let fixture = volumes(&Settings::default()).await;
    let repository = Repository::open_bare(fixture.origin_dir(&project())).unwrap();
    let base = commit(&repository, &[], &files(&[("a", "1"), ("b/c", "1")]));
    let mut tip = base;
    for step in 0..4200 {
        tip = commit(&repository, &[tip], &files(&[("a", &step.to_string()), ("b/c", "1")]));
    }
    let tag = fixture.tag(&project(), "v1", tip);
    carry(&fixture, base, &BTreeSet::new()).await;
    let packed = carry(&fixture, tag, &BTreeSet::from([base])).await;
    assert_eq!(packed.bases, vec![base]);
    fsck(&fixture.replica_dir(&project()));
}

#[tokio::test]
async fn a_branch_upon_an_old_commit_needs_no_pack() {
    let fixture = volumes(&Settings::default()).await;
    let mut history = vec![fixture.commit(&project(), &[], &[("a", "0")])];
    for step in 1..300 {
        history.push(fixture.commit(&project(), &history[step - 1..], &[("a", &step.to_string())]));
    }
    let tip = history[299];
    fixture.origin().move_refs(&project(), &[moves("refs/heads/main", None, tip)], &[]).await.unwrap();
    let packed = pack(&fixture, &[history[20]], &BTreeSet::from([tip])).await;
    assert_eq!((packed.payload.is_none(), packed.bases), (true, vec![history[20]]));
}

#[tokio::test]
async fn a_large_push_goes_through_files() {
    for fixture in [LocalFixture::new(), LocalFixture::elsewhere(&Settings::default())] {
        goes_through_files(&with_project(fixture).await).await;
    }
}

async fn goes_through_files(fixture: &LocalFixture) {
    let repository = Repository::open_bare(fixture.origin_dir(&project())).unwrap();
    let mut noise = vec![0; 12 << 20];
    rand_chacha::ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut noise);
    let one = commit(&repository, &[], &Files::from([("large".into(), noise)]));
    let packed = carry(fixture, one, &BTreeSet::new()).await;
    let Some(Payload::File(path, length)) = &packed.payload else { panic!("a large pack is in a file") };
    assert!(*length > 12 << 20);
    assert!(path.starts_with(fixture.origin().spill()));
    assert_eq!(path.metadata().unwrap().len(), *length);
    fsck(&fixture.replica_dir(&project()));
}

#[tokio::test]
async fn missing_bases_are_named_on_both_ways() {
    for settings in both_ways() {
        let fixture = volumes(&settings).await;
        let one = fixture.commit(&project(), &[], &[("a", "1")]);
        let two = fixture.commit(&project(), &[one], &[("a", "2")]);
        let packed = pack(&fixture, &[two], &BTreeSet::from([one])).await;
        let result = fixture.replica().ingest(&project(), &packs(&packed), &[two], &[]).await;
        assert_eq!(result, Err(GitError::Missing { project: project(), oids: vec![one] }));
        assert_eq!(object_count(&fixture.replica_dir(&project())), 0);
    }
}

#[tokio::test]
async fn an_empty_object_is_not_there_and_is_written_again() {
    for settings in both_ways() {
        let fixture = volumes(&settings).await;
        let one = fixture.commit(&project(), &[], &[("a", "1")]);
        let digits = one.to_string();
        let folder = fixture.replica_dir(&project()).join("objects").join(&digits[..2]);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(&digits[2..]), b"").unwrap();
        assert_eq!(fixture.replica().missing(&project(), &[one]).await.unwrap(), vec![one]);
        carry(&fixture, one, &BTreeSet::new()).await;
        fsck(&fixture.replica_dir(&project()));
    }
}

/// A danger that was measured: libgit2 and gix lose refs beside `git pack-refs`. The code that moves refs here must
/// not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_beside_a_running_gc() {
    let fixture = volumes(&Settings::default()).await;
    let (one, two) = (fixture.commit(&project(), &[], &[("a", "1")]), fixture.commit(&project(), &[], &[("a", "2")]));
    let volume = fixture.origin();
    let count = 150;
    let branch = |n: usize| format!("refs/heads/old{n}");
    let first: Vec<_> = (0..count).map(|n| moves(&branch(n), None, one)).collect();
    volume.move_refs(&project(), &first, &[]).await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let (dir, stopped) = (fixture.origin_dir(&project()), Arc::clone(&stop));
    let packer = std::thread::spawn(move || {
        let mut rounds = 0;
        while !stopped.load(Ordering::SeqCst) {
            // git may give up if it finds a lock of the sidecar.
            let _ = git(&dir, &["pack-refs", "--all", "--prune"]);
            if rounds % 10 == 0 {
                let _ = git(&dir, &["gc", "--quiet"]);
            }
            rounds += 1;
        }
    });
    let mut expected = BTreeMap::new();
    for n in 0..count {
        let created = format!("refs/heads/new{n}");
        let batch = [moves(&branch(n), one, (n % 3 == 0).then_some(two)), moves(&created, None, one)];
        volume.move_refs(&project(), &batch, &[(format!("k{n}"), one)]).await.unwrap();
        volume.move_refs(&project(), &[moves(&created, one, two)], &[]).await.unwrap();
        expected.insert(name(&created), two);
        if n % 3 == 0 {
            expected.insert(name(&branch(n)), two);
        }
    }
    stop.store(true, Ordering::SeqCst);
    packer.join().unwrap();
    let listed: BTreeMap<RefName, Oid> = volume.list_refs(&project()).await.unwrap().into_iter().collect();
    assert_eq!(listed, expected);
    assert_eq!(
        git(&fixture.origin_dir(&project()), &["for-each-ref", "refs/lockstep"]).unwrap().lines().count(),
        count
    );
}

/// Transactions that wait for the same repository go to git together. Only those that are not possible fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_transactions_that_go_together_only_the_bad_ones_fail() {
    let fixture = volumes(&Settings::default()).await;
    let (one, two) = (fixture.commit(&project(), &[], &[("a", "1")]), fixture.commit(&project(), &[], &[("a", "2")]));
    let volume = fixture.origin();
    volume.move_refs(&project(), &[moves("refs/heads/other", None, two)], &[]).await.unwrap();
    let mut batches: Vec<_> = (0..40).map(|n| vec![moves(&format!("refs/heads/b{n}"), None, one)]).collect();
    batches[7] = vec![moves("refs/heads/b7", None, one), moves("refs/heads/other", one, two)];
    batches[23] = vec![moves("refs/heads/other/below", None, one)];
    let project = project();
    let results = join_all(batches.iter().map(|batch| volume.move_refs(&project, batch, &[]))).await;
    for (n, result) in results.iter().enumerate() {
        match n {
            7 => assert!(matches!(result, Err(GitError::RefMoved { .. })), "{result:?}"),
            23 => assert!(matches!(result, Err(GitError::Failed { .. })), "{result:?}"),
            _ => assert_eq!(*result, Ok(()), "transaction {n}"),
        }
    }
    let listed: BTreeMap<RefName, Oid> = volume.list_refs(&project).await.unwrap().into_iter().collect();
    let moved = (0..40).filter(|n| ![7, 23].contains(n)).map(|n| (name(&format!("refs/heads/b{n}")), one));
    assert_eq!(listed, moved.chain([(name("refs/heads/other"), two)]).collect());
}

/// The first refs of a project that arrives with very many of them are written at once, and packed as git does it.
#[tokio::test]
async fn many_first_refs_appear_at_once() {
    let fixture = volumes(&Settings::default()).await;
    let (origin, dir) = (fixture.origin(), fixture.origin_dir(&project()));
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let tag = fixture.tag(&project(), "v1", one);
    let names = (1..1_200).map(|number| format!("refs/changes/{:02}/{number}/1", number % 100));
    let mut first: Vec<_> = names.map(|name| moves(&name, None, one)).collect();
    first.extend([moves("refs/meta/config", None, one), moves("refs/tags/v1", None, tag)]);
    origin.move_refs(&project(), &first, &[]).await.unwrap();
    let mut expected: Vec<_> = first.iter().map(|one| (one.name.clone(), one.new.unwrap())).collect();
    expected.sort_unstable();
    assert_eq!(origin.list_refs(&project()).await.unwrap(), expected);
    assert!(!dir.join("refs/changes").exists(), "no ref was a file of its own");
    assert_eq!(std::fs::read_to_string(dir.join("logs/refs/meta/config")).unwrap().lines().count(), 1);
    let packed = || std::fs::read_to_string(dir.join("packed-refs")).unwrap_or_default();
    let is_peeled = async || packed().contains(&format!("refs/tags/v1\n^{one}\n")).then_some(());
    until(is_peeled).await.expect("git writes the file anew, with the targets of tags");
    assert_eq!(origin.move_refs(&project(), &[moves("refs/tags/v1", tag, one)], &[]).await, Ok(()));
    assert_eq!(git(&dir, &["rev-parse", "refs/tags/v1"]), Ok(one.to_string()));
    fsck(&dir);
    // A branch that is no commit is refused by git, and then no ref appears.
    let other = volumes(&Settings::default()).await;
    let (one, blob) = (other.commit(&project(), &[], &[("a", "1")]), other.blob(&project(), "text"));
    let names = (1..1_200).map(|number| format!("refs/changes/{:02}/{number}/1", number % 100));
    let mut bad: Vec<_> = names.map(|name| moves(&name, None, one)).collect();
    bad.push(moves("refs/heads/bad", None, blob));
    assert!(other.origin().move_refs(&project(), &bad, &[]).await.is_err());
    assert_eq!(other.origin().list_refs(&project()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_lock_that_passes_is_waited_for() {
    let fixture = volumes(&Settings::default()).await;
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let lock = fixture.origin_dir(&project()).join("refs/heads/main.lock");
    std::fs::write(&lock, b"").unwrap();
    let volume = fixture.origin();
    let batch = [moves("refs/heads/main", None, one)];
    let project = project();
    let moving = volume.move_refs(&project, &batch, &[]);
    let freeing = async {
        let intents = fixture.origin_root().join(".lockstep/intents");
        while std::fs::read_dir(&intents).unwrap().count() == 0 {
            tokio::task::yield_now().await;
        }
        std::fs::remove_file(&lock).unwrap();
    };
    let (moved, ()) = tokio::join!(moving, freeing);
    moved.unwrap();
}

#[tokio::test]
async fn repair_mends_what_a_crash_leaves() {
    for fixture in [LocalFixture::new(), LocalFixture::elsewhere(&Settings::default())] {
        mends_what_a_crash_leaves(&with_project(fixture).await).await;
    }
}

async fn mends_what_a_crash_leaves(fixture: &LocalFixture) {
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let volume = fixture.origin();
    volume.move_refs(&project(), &[moves("refs/heads/main", None, one)], &[]).await.unwrap();
    volume.sync().await.unwrap();
    let (root, dir) = (fixture.origin_root(), fixture.origin_dir(&project()));
    git(&dir, &["repack", "-q", "-a", "-d"]).unwrap();
    let ours = "refs/heads/main.lock";
    let left = [ours, "HEAD.lock", "packed-refs.lock", "refs/heads/foreign.lock", "refs/heads/garbled"];
    let objects = ["objects/pack/tmp_pack_x", "objects/tmp_object_git2_x", "objects/00/tmp_obj_x"];
    std::fs::create_dir_all(dir.join("objects/00")).unwrap();
    for path in left.iter().chain(&objects) {
        std::fs::write(dir.join(path), b"").unwrap();
    }
    let empty = dir.join("objects/00").join("1".repeat(38));
    std::fs::write(&empty, b"").unwrap();
    let garbled = dir.join("objects/00").join("2".repeat(38));
    std::fs::write(&garbled, b"\0\0\0\0").unwrap();
    std::fs::write(root.join(".lockstep/intents/session-x"), format!("{}\nrefs/heads/main", project())).unwrap();

    let torn = dir.join("objects/pack/pack-torn.idx");
    std::fs::write(&torn, [0; 4096]).unwrap();
    std::fs::write(torn.with_extension("pack"), b"PACK").unwrap();

    let report = volume.repair(false).await.unwrap();
    assert_eq!((report.locks, report.temporaries, report.refs, report.objects), (3, 1, 1, 0));
    assert!(dir.join("refs/heads/foreign.lock").exists(), "a lock of another program must stay");
    let report = volume.repair(true).await.unwrap();
    assert_eq!((report.locks, report.temporaries, report.refs, report.objects), (1, 2, 0, 3));
    assert!(!torn.exists() && torn.with_added_extension("garbled").exists());
    assert_eq!(volume.list_refs(&project()).await.unwrap(), vec![(name("refs/heads/main"), one)]);
    fsck(&dir);
}

#[tokio::test]
async fn a_killed_git_is_replaced() {
    let fixture = volumes(&Settings::default()).await;
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    let volume = fixture.origin();
    volume.move_refs(&project(), &[moves("refs/heads/a", None, one)], &[]).await.unwrap();
    let dir = fixture.origin_dir(&project());
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains(dir.to_str().unwrap()) && line.contains("update-ref") {
            let pid = entry.file_name().into_string().unwrap();
            assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
            killed += 1;
        }
    }
    assert_eq!(killed, 1, "one long-lived git per repository");
    volume.move_refs(&project(), &[moves("refs/heads/b", None, one)], &[]).await.unwrap();
    assert_eq!(volume.list_refs(&project()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn repositories_that_cannot_be_kept_safe_are_refused_with_the_reason() {
    let fixture = volumes(&Settings::default()).await;
    let dir = fixture.origin_dir(&project());
    let outside = tempfile::tempdir().unwrap();
    let fresh = LocalFixture::new();
    let asked = |fixture: &LocalFixture| {
        let volume = fixture.origin();
        async move { volume.missing(&project(), &[]).await.unwrap_err().to_string() }
    };
    std::os::unix::fs::symlink(outside.path(), fresh.origin_root().join("tools")).unwrap();
    git2::Repository::init_bare(outside.path().join("build.git")).unwrap();
    assert!(asked(&fresh).await.contains("out of the volume"));
    let created = fresh.origin().create(&"tools/other".parse().unwrap(), &name("refs/heads/main")).await;
    assert!(created.unwrap_err().to_string().contains("out of the volume"));
    let config = std::fs::read_to_string(dir.join("config")).unwrap();
    for (extension, word) in [("refstorage = reftable", "reftable"), ("objectformat = sha256", "sha256")] {
        std::fs::write(dir.join("config"), format!("{config}[extensions]\n\t{extension}\n")).unwrap();
        assert!(asked(&fixture).await.contains(word));
    }
}

/// A killed git cannot remove its locks. The next git succeeds all the same.
#[tokio::test]
async fn the_lock_of_a_killed_git_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (script, marker) = (folder.path().join("git"), folder.path().join("died"));
    let once = "#!/bin/sh\ncase \"$*\" in *update-ref*) if mkdir MARKER 2>/dev/null; then\n\
                for word; do case \"$word\" in /*.git) : > \"$word/refs/heads/main.lock\";; esac; done\n\
                kill -9 $$; fi;; esac\nexec git \"$@\"\n";
    // A child process writes the script. A file that this process has open for writing could not be executed while
    // other tests run.
    let write = [
        "-c",
        "printf %s \"$1\" > \"$2\" && chmod 700 \"$2\"",
        "sh",
        &once.replace("MARKER", marker.to_str().unwrap()),
    ];
    assert!(std::process::Command::new("sh").args(write).arg(&script).status().unwrap().success());
    let fixture = volumes(&Settings { git: script, ..Settings::default() }).await;
    let one = fixture.commit(&project(), &[], &[("a", "1")]);
    fixture.origin().move_refs(&project(), &[moves("refs/heads/main", None, one)], &[]).await.unwrap();
    assert!(marker.exists(), "no git was killed");
    assert_eq!(fixture.origin().read_ref(&project(), &name("refs/heads/main")).await.unwrap(), Some(one));
}

#[tokio::test]
async fn a_kept_value_survives_gits_garbage_collection_until_it_is_released() {
    let fixture = LocalFixture::new();
    let volume = fixture.origin();
    volume.create(&project(), &name("refs/heads/main")).await.unwrap();
    let old = fixture.commit(&project(), &[], &[("a", "1")]);
    volume.move_refs(&project(), &[moves("refs/heads/a", None, old)], &[]).await.unwrap();
    let label = "n-0.1.0.3.00000000000000aa-0".to_owned();
    volume.move_refs(&project(), &[moves("refs/heads/a", old, None)], &[(label.clone(), old)]).await.unwrap();
    for left in [true, false] {
        git(&fixture.origin_dir(&project()), &["gc", "--prune=now", "-q"]).unwrap();
        let there = git(&fixture.origin_dir(&project()), &["cat-file", "-e", &old.to_string()]).is_ok();
        assert_eq!(there, left);
        volume.release(&project(), std::slice::from_ref(&label)).await.unwrap();
    }
}

/// JGit's garbage collection ignores git's index over many packs, and may leave one that names deleted packs.
#[tokio::test]
async fn an_index_over_packs_that_are_gone_is_not_believed() {
    let fixture = volumes(&Settings::default()).await;
    let dir = fixture.origin_dir(&project());
    let mut blobs = Vec::new();
    for content in ["one", "two"] {
        let blob = fixture.blob(&project(), content);
        git(&dir, &["update-ref", &format!("refs/tags/{content}"), &blob.to_string()]).unwrap();
        git(&dir, &["repack", "-d", "-q"]).unwrap();
        blobs.push(blob);
    }
    git(&dir, &["multi-pack-index", "write"]).unwrap();
    let volume = fixture.origin();
    assert_eq!(volume.missing(&project(), &blobs[..1]).await, Ok(vec![]), "a handle is open");
    git(&dir, &["-c", "core.multiPackIndex=false", "repack", "-a", "-d", "-q"]).unwrap();
    assert!(dir.join("objects/pack/multi-pack-index").exists());
    assert_eq!(volume.missing(&project(), &blobs).await, Ok(vec![]));
}
