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

/// The loosening of a name, which no earlier release passes.
#[test]
fn a_loosening() {
    check("transaction-v1-loosens.hex", &common::loosening());
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

/// The top-level fields of an envelope, as any protobuf reader finds them: the number, and the content of a field with
/// a length or the value of a varint.
fn fields(bytes: &[u8]) -> Vec<(u64, Vec<u8>, u64)> {
    let varint = |at: &mut usize| {
        let mut value = 0_u64;
        for shift in (0..).step_by(7) {
            let byte = bytes[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
        }
        unreachable!("a varint ends")
    };
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let tag = varint(&mut at);
        match tag & 7 {
            0 => found.push((tag >> 3, Vec::new(), varint(&mut at))),
            2 => {
                let length = usize::try_from(varint(&mut at)).unwrap();
                found.push((tag >> 3, bytes[at..at + length].to_vec(), 0));
                at += length;
            }
            other => panic!("wire type {other}"),
        }
    }
    found
}

/// The release before locators knew the fields 1 to 13, and 15 with the numbers of critical fields. It read the format,
/// the id, the site and the project of a record whose critical field it did not know, and kept the record for its
/// upgrade.
#[test]
fn the_release_before_locators_keeps_them_for_its_upgrade() {
    let fields = fields(&golden("locator-v1.hex"));
    let text = |number| fields.iter().find(|field| field.0 == number).map(|field| String::from_utf8(field.1.clone()));
    let format = fields.iter().find(|field| field.0 == 1).map(|field| field.2);
    assert_eq!(format, Some(1), "it does not take it for damage");
    let locator = common::located();
    assert_eq!(text(2), Some(Ok(locator.id.to_string())));
    assert_eq!(text(3), Some(Ok(locator.site.to_string())));
    assert_eq!(text(4), Some(Ok(locator.project.to_string())));
    let mut critical = fields.iter().filter(|field| field.0 == 15).flat_map(|field| field.1.iter());
    assert!(critical.any(|number| !matches!(number, 1..=13 | 15)), "it would take it for an empty transaction");
    assert!(fields.iter().all(|field| !matches!(field.0, 6..=9)), "nothing that it could apply is in it");
}
