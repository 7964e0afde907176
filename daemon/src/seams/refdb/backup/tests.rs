//! Backups of a refdb in memory: complete, and refused when they are cut off or changed.

use std::sync::Arc;

use lockstep_proto::rebuild::{RefdbIdentity, RefdbState};
use lockstep_proto::{Command, Oid, ProjectKey, RefKey, RefValue, Version};
use sha2::{Digest, Sha256};

use super::*;
use crate::base::clock::SeededEntropy;
use crate::seams::refdb::memory::MemoryRefDb;
use crate::seams::refdb::{
    CommitAnswer, Document, DocumentRecord, Freed, GerritRecord, IncarnationRecord, NodeRecord, Part, Rebuilt, RefDb,
    RefItem, Role,
};

fn project(text: &str) -> ProjectKey {
    text.parse().unwrap()
}

fn item(key: &str, version: u64, value: RefValue) -> RefItem {
    let txn = Some("n.1.0.4.00000000000000aa".parse().unwrap());
    RefItem {
        key: key.parse().unwrap(),
        version: Version(version),
        value,
        txn,
        directory: false,
        loosened: None,
        lock: None,
    }
}

async fn identity(refdb: &RefDb, revision: u64, state: RefdbState) {
    let identity = RefdbIdentity { state, ..RefdbIdentity::first("0a".to_owned()) };
    let record = DocumentRecord { revision, body: serde_json::to_string(&identity).unwrap() };
    assert_eq!(refdb.documents.put_document(Document::Identity, &record).await, Ok(record));
}

/// A refdb with something of each kind, and the refs that it has.
async fn filled() -> (RefDb, Vec<(ProjectKey, RefItem)>) {
    let refdb = MemoryRefDb::new().refdb();
    identity(&refdb, 1, RefdbState::Ready).await;
    let oid = |byte| RefValue::Oid(Oid::Sha1([byte; 20]));
    let mut refs = vec![
        (project("gone#3"), item("@state", 9, "state:deleted#3".parse().unwrap())),
        (project("p#1"), item("@state", 1, "state:active#1".parse().unwrap())),
        (project("p#1"), item("@HEAD", 2, RefValue::Symref("refs/heads/main".parse().unwrap()))),
        (project("p#1"), item("refs/heads/old", 7, RefValue::Absent)),
    ];
    let many = (0..1_200_u64).map(|n| (project("p#1"), item(&format!("refs/tags/v{n:04}"), n + 1, oid(7))));
    refs.extend(many);
    let mut items: Vec<Rebuilt> = vec![Rebuilt::Directory(project("p#1"), "refs/heads/a".parse().unwrap())];
    items.extend(refs.iter().map(|(project, item)| Rebuilt::Ref(project.clone(), item.clone())));
    for part in items.chunks(90) {
        refdb.setup.rebuild(part, 1).await.unwrap();
    }
    let locks = DocumentRecord { revision: 1, body: "{\"locks\":[]}".to_owned() };
    refdb.documents.put_document(Document::Locks, &locks).await.unwrap();
    let leases = DocumentRecord { revision: 1, body: "{}".to_owned() };
    refdb.documents.put_document(Document::Readers, &leases).await.unwrap();
    let site = refdb.sites.enroll_site(&"s".parse().unwrap(), Role::Active).await.unwrap();
    let _ = refdb.nodes.put_node(&NodeRecord::first("n", "s"), None).await.unwrap();
    let opened = IncarnationRecord::open("n.41".parse().unwrap(), site.site, site.epoch, 8, 2);
    let _ = refdb.incarnations.open_incarnation(&opened).await.unwrap();
    let (all_projects, all_users) = ("All-Projects".parse().unwrap(), "All-Users".parse().unwrap());
    let gerrit = GerritRecord { server_id: "server".to_owned(), all_projects, all_users };
    refdb.gerrit.enroll_gerrit(&gerrit).await.unwrap();
    refdb.gerrit.claim_instance("one", &"n".parse().unwrap(), None).await.unwrap();
    (refdb, refs)
}

async fn backup(refdb: &RefDb, out: &mut Vec<u8>) -> Result<End, WriteError> {
    BackupWriter::new(refdb.clone(), Arc::new(SeededEntropy::new(1)), 1_000_000, out).run(7_000, |_| {}).await
}

fn entries(bytes: &[u8]) -> Result<(Verified, Vec<Entry>), ReadError> {
    let mut entries = Vec::new();
    let verified = read(bytes, |entry| entries.push(entry))?;
    Ok((verified, entries))
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_is_read_again_has_everything_that_the_refdb_has() {
    let (refdb, expected) = filled().await;
    let mut bytes = Vec::new();
    let end = backup(&refdb, &mut bytes).await.unwrap();
    let (verified, entries) = entries(&bytes).unwrap();
    assert_eq!((verified.head.format, verified.head.refdb.as_str(), verified.head.began_ms), (FORMAT, "0a", 7_000));
    assert_eq!(verified.end, end);
    let Counts { documents, projects, refs, others, locked, sites, nodes, incarnations, gerrit } = end.counts;
    assert_eq!((documents, projects, refs, others, locked), (2, 2, 1_201, 2, 0));
    assert_eq!((sites, nodes, incarnations, gerrit), (1, 1, 1, 2));

    let of_ref = |entry: &Entry| match entry {
        Entry::Ref(one) => Some(one.clone().item()),
        _ => None,
    };
    let (directories, mut found): (Vec<_>, Vec<_>) =
        entries.iter().filter_map(of_ref).partition(|(_, item)| item.directory);
    let mut expected = expected;
    let order = |one: &(ProjectKey, RefItem)| (one.0.to_string(), one.1.key.to_string());
    found.sort_by_key(order);
    expected.sort_by_key(order);
    assert_eq!(found, expected);
    assert_eq!(directories.len(), 1);
    // A second refdb from these lines has the same refs.
    let again = MemoryRefDb::new().refdb();
    identity(&again, 1, RefdbState::Building).await;
    for (project, item) in found {
        again.setup.rebuild(&[Rebuilt::Ref(project, item)], 1).await.unwrap();
    }
    let scan = async |db: &RefDb| db.refs.scan(&project("p#1"), None, 2_000).await.unwrap();
    let without_directories: Vec<RefItem> = scan(&refdb).await.into_iter().filter(|item| !item.directory).collect();
    assert_eq!(scan(&again).await, without_directories);
    let node = Entry::Node {
        node: "n".parse().unwrap(),
        site: "s".parse().unwrap(),
        volume: "v".to_owned(),
        highest: 41,
        expelled: false,
    };
    assert!(entries.contains(&node), "no number of an incarnation is below its floor");
    let locks = Entry::Document { which: Document::Locks, revision: 1, body: "{\"locks\":[]}".to_owned() };
    assert!(entries.contains(&locks));
    let is_of_readers = |entry: &Entry| matches!(entry, Entry::Document { which: Document::Readers, .. });
    assert!(!entries.iter().any(is_of_readers), "leases of readers are of the moment");
}

#[tokio::test(start_paused = true)]
async fn the_creation_of_a_project_that_is_under_way_or_failed_stops_no_backup() {
    let (refdb, _) = filled().await;
    let (txn, new) = ("n.41.0.1.00000000000000aa".parse().unwrap(), project("new#1"));
    let created = Command::creation(RefKey::State, "state:active#1".parse().unwrap());
    let part = Part {
        txn,
        project: new.clone(),
        commands: vec![created],
        directories: Vec::new(),
        freed: Freed::new(),
        loosens: false,
    };
    assert_eq!(refdb.refs.lock(&part).await, Ok(CommitAnswer::Committed));
    let counts = async || {
        let mut bytes = Vec::new();
        let end = backup(&refdb, &mut bytes).await.unwrap();
        assert_eq!(entries(&bytes).unwrap().0.end, end);
        (end.counts.projects, end.counts.others, end.counts.locked)
    };
    assert_eq!(counts().await, (2, 3, 1));
    refdb.refs.release(&new, &part.txn, &[RefKey::State]).await.unwrap();
    assert_eq!(counts().await, (2, 3, 0), "its item stays");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_is_cut_off_anywhere_or_changed_is_refused() {
    let (refdb, _) = filled().await;
    let mut bytes = Vec::new();
    let _ = backup(&refdb, &mut bytes).await.unwrap();
    for end in [1, 40, bytes.len() / 3, bytes.len() / 2, bytes.len() - 2, bytes.len() - 1] {
        let refused = entries(&bytes[..end]).unwrap_err();
        assert!(matches!(refused, ReadError::CutOff(_)), "{end}: {refused}");
    }
    let line_ends: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    let refused = entries(&bytes[..=line_ends[line_ends.len() - 2]]).unwrap_err();
    assert!(refused.to_string().contains("is cut off behind line"), "whole lines without the last one: {refused}");
    assert!(matches!(entries(b""), Err(ReadError::NoBackup)));

    let text = String::from_utf8(bytes.clone()).unwrap();
    let other = text.replacen("\"version\":600,", "\"version\":601,", 1);
    assert_ne!(other, text);
    assert!(matches!(entries(other.as_bytes()), Err(ReadError::Checksum { .. })));
    let damaged = text.replacen("refs/tags/v0003", "refs/tags/v..", 1);
    assert!(matches!(entries(damaged.as_bytes()), Err(ReadError::Damaged(..))));
    let counted = text.replacen("\"nodes\":1", "\"nodes\":2", 1);
    assert!(matches!(entries(counted.as_bytes()), Err(ReadError::Counts)));
    assert!(matches!(entries(format!("{text}\n").as_bytes()), Err(ReadError::Behind)));
    assert!(matches!(entries(b"hello\n"), Err(ReadError::NoBackup)));
    assert!(matches!(entries("x".repeat(5 << 20).as_bytes()), Err(ReadError::Damaged(1, _))), "lines have a bound");
}

/// A backup with its checksum, as another release may write it.
fn sealed(lines: &str) -> String {
    let mut counts = serde_json::to_value(Counts::default()).unwrap();
    counts["branches"] = 1.into();
    let end = serde_json::json!({"end": {"counts": counts, "sha256": hex::encode(Sha256::digest(lines))}});
    format!("{lines}{end}\n")
}

#[test]
fn a_backup_of_a_later_release_is_told_with_both_numbers_and_the_remedy_and_is_never_called_damaged() {
    // The head of a later format has other fields, and a number that this release does not hold.
    let (format, known) = (u64::from(u32::MAX) + 1, format!("formats up to {FORMAT}"));
    let head = serde_json::json!({"head": {"format": format, "release": "9.1.0", "refdb": {"id": "0a"}}});
    let told = entries(sealed(&format!("{head}\n")).as_bytes()).unwrap_err().to_string();
    let this = format!("this release ({})", env!("CARGO_PKG_VERSION"));
    for part in ["from a later release: 9.1.0", &format.to_string(), &this, &known, "with release 9.1.0 or a later"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // A kind of lines was added without another format.
    let head = serde_json::json!({"head": {"format": FORMAT, "release": "9.1.0", "refdb": "0a", "began_ms": 1}});
    let lines = format!("{head}\n{}\n", serde_json::json!({"branch": {"name": "main"}}));
    let told = entries(sealed(&lines).as_bytes()).unwrap_err().to_string();
    for part in ["line 2", "unknown variant `branch`", &this, "release 9.1.0 wrote it", "is whole"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // The same line in a file with another checksum is damage.
    let changed = sealed(&lines).replacen("main", "mair", 1);
    assert!(matches!(entries(changed.as_bytes()), Err(ReadError::Damaged(2, _))));
}

#[test]
fn an_incarnation_has_the_fields_of_the_first_format() {
    let record = IncarnationRecord::open("n.41".parse().unwrap(), "s".parse().unwrap(), 3, 8, 2);
    let json = serde_json::json!({
        "incarnation": {
            "id": "n.41", "site": "s", "epoch": 3, "state": "open", "window": 8, "settled": [0, 0], "published": [0, 0]
        }
    });
    assert_eq!(serde_json::to_value(Entry::Incarnation(record)).unwrap(), json);
}

#[tokio::test]
async fn tables_without_a_whole_refdb_are_refused() {
    let refdb = MemoryRefDb::new().refdb();
    let refused = async |refdb: &RefDb| backup(refdb, &mut Vec::new()).await.unwrap_err().to_string();
    assert!(refused(&refdb).await.contains("no refdb yet"));
    identity(&refdb, 1, RefdbState::Building).await;
    assert!(refused(&refdb).await.contains("still being built"));
    identity(&refdb, 2, RefdbState::Moved).await;
    assert!(refused(&refdb).await.contains("has moved"));
}

#[test]
fn a_file_has_its_name_only_once_it_is_whole_and_replaces_none() {
    use std::io::Write;

    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("backup");
    let count = || std::fs::read_dir(folder.path()).unwrap().count();
    let mut half = NewFile::begin(&path).unwrap();
    half.write_all(b"half").unwrap();
    assert!(!path.exists());
    drop(half);
    assert_eq!(count(), 0, "a run that fails leaves nothing");
    let mut whole = NewFile::begin(&path).unwrap();
    whole.write_all(b"whole").unwrap();
    whole.finish().unwrap();
    assert_eq!((std::fs::read(&path).unwrap(), count()), (b"whole".to_vec(), 1));
    assert!(NewFile::begin(&path).is_err());
}
