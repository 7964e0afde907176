//! The bytes of the wire are permanent: every later release reads the records that a release wrote.
//!
//! A file of `golden/` never changes. If a change of the encoding makes these tests fail, it needs a new format or a
//! new field (`docs/wire.md`), and new files beside the old ones.

mod common;

use std::path::Path;

use lockstep_proto::{Announcement, Command, Oid, Pack, Record, RefValue, Transaction, Version};

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

/// Bytes as hexadecimal lines, as in the golden files.
fn lines(bytes: &[u8]) -> String {
    bytes.chunks(32).map(hex::encode).collect::<Vec<_>>().join("\n")
}

fn check(name: &str, transaction: &Transaction) {
    let bytes = golden(name);
    assert_eq!(lines(&transaction.encode()), lines(&bytes), "{name}: the encoding has changed");
    assert_eq!(Transaction::decode(&bytes).as_ref(), Ok(transaction), "{name}: old bytes decode to another value");
}

#[test]
fn a_push() {
    check("transaction-v1.hex", &common::small());
}

/// A project's creation: pseudo-refs, first versions, no objects, empty texts.
#[test]
fn a_creation() {
    let command = |key: &str, new: &str| Command {
        key: key.parse().unwrap(),
        old: RefValue::Absent,
        new: new.parse().unwrap(),
        version: Version(1),
        predecessor: None,
    };
    let creation = Transaction {
        commands: vec![command("@state", "state:active#2"), command("@HEAD", "ref:refs/heads/main")],
        pack: Pack::Empty,
        bases: vec![],
        request_id: String::new(),
        actor: String::new(),
        traceparent: String::new(),
        ..common::small()
    };
    check("transaction-v1-creation.hex", &creation);
}

/// A deletion and an update in a SHA-256 repository, with the pack in the blob store.
#[test]
fn a_large_pack() {
    let command = common::small().commands.remove(0);
    let deletion = Command { key: "refs/heads/é".parse().unwrap(), new: RefValue::Absent, ..command.clone() };
    let update = Command { new: RefValue::Oid(Oid::Sha256([9; 32])), version: Version(1 << 40), ..command };
    let large = Transaction {
        commands: vec![deletion, update],
        pack: Pack::Blob { key: "packs/ab/cd".into(), bytes: 5_000_000_000, sha256: [7; 32] },
        bases: vec![Oid::Sha256([1; 32]), Oid::Sha256([2; 32])],
        ..common::small()
    };
    check("transaction-v1-blob.hex", &large);
}

fn check_announcement(name: &str, announcement: &Announcement) {
    let bytes = golden(name);
    assert_eq!(lines(&announcement.encode()), lines(&bytes), "{name}: the encoding has changed");
    let record = Record::Announcement(Box::new(announcement.clone()));
    assert_eq!(Record::decode(&bytes), Ok(record), "{name}: old bytes decode to another value");
}

#[test]
fn a_stream_event() {
    check_announcement("announcement-v1.hex", &common::patch_set());
}

/// A stream event without a project, from a Gerrit whose sidecar knows a project.
#[test]
fn a_stream_event_about_nothing_in_git() {
    let announcement =
        Announcement { project: None, change: None, needs: vec![], kind: "plugin-ran".into(), ..common::patch_set() };
    check_announcement("announcement-v1-no-project.hex", &announcement);
}

/// The locator of a transaction that is too long for a slot.
#[test]
fn a_locator() {
    let (name, locator) = ("locator-v1.hex", common::located());
    let bytes = golden(name);
    assert_eq!(lines(&locator.encode()), lines(&bytes), "{name}: the encoding has changed");
    assert_eq!(Record::decode(&bytes), Ok(Record::Located(Box::new(locator))), "{name}: old bytes decode otherwise");
}
