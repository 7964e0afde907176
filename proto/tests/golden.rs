//! The bytes of the wire are permanent: every later release reads the records that a release wrote.
//!
//! A file of `golden/` never changes. If a change of the encoding makes these tests fail, it needs a new format or a
//! new field (`docs/wire.md`), and new files beside the old ones.

mod common;

use std::path::Path;

use lockstep_proto::transaction::signature::{SIGNATURE_BYTES, split};
use lockstep_proto::{
    Announcement, Command, DecodeError, KeyId, Oid, Pack, Record, RefValue, Signature, Transaction, Version,
};

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

/// A message for reflogs, which earlier releases ignore.
#[test]
fn a_message() {
    let message = "commit: Tell what it is".to_owned();
    check("transaction-v1-message.hex", &Transaction { message, ..common::small() });
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

/// The records with a signature are the records without one, and one field behind them.
#[test]
fn a_signature_stands_behind_the_record_that_it_covers() {
    let refdb = "00112233445566778899aabbccddeeff".to_owned();
    let signature = Signature { key: KeyId([1, 2, 3, 4, 5, 6, 7, 8]), refdb, bytes: [0x5a; 64] };
    assert!(signature.append_to(&[]).len() <= SIGNATURE_BYTES);
    let small = common::small();
    let bytes = golden("transaction-v1-signed.hex");
    assert_eq!(lines(&signature.append_to(&small.encode())), lines(&bytes));
    assert_eq!(split(&bytes), Ok((small.encode().as_ref(), Some(signature.clone()))));
    assert_eq!(Record::decode(&bytes), Ok(Record::Transaction(Box::new(small.clone()))));
    assert_eq!(split(&small.encode()), Ok((small.encode().as_ref(), None)));
    let locator = common::located();
    let bytes = golden("locator-v1-signed.hex");
    assert_eq!(lines(&signature.append_to(&locator.encode())), lines(&bytes));
    assert_eq!(split(&bytes), Ok((locator.encode().as_ref(), Some(signature))));
    assert_eq!(Record::decode(&bytes), Ok(Record::Located(Box::new(locator))));
}

/// The release before signatures knew the fields 1 to 16. It applied signed transactions like all others: the field is
/// not critical, and the fields that it knew are unchanged.
#[test]
fn the_release_before_signatures_reads_signed_records() {
    for (signed, plain) in
        [("transaction-v1-signed.hex", "transaction-v1.hex"), ("locator-v1-signed.hex", "locator-v1.hex")]
    {
        let (signed, plain) = (fields(&golden(signed)), fields(&golden(plain)));
        let critical = signed.iter().filter(|field| field.0 == 15).flat_map(|field| field.1.iter());
        assert!(critical.clone().all(|number| *number <= 16), "it would wait for its upgrade");
        let (last, rest) = signed.split_last().unwrap();
        assert_eq!((last.0, rest), (17, plain.as_slice()));
    }
}

#[test]
fn a_field_behind_a_signature_and_a_short_signature_are_no_signature() {
    let bytes = golden("transaction-v1-signed.hex");
    // The field `committed_at_ms` again.
    let longer = [bytes.as_slice(), &[0x28, 1]].concat();
    assert_eq!(split(&longer), Ok((longer.as_slice(), None)));
    // A signature of one byte.
    let short = [common::small().encode().as_ref(), &[0x8a, 0x01, 3, 0x12, 1, 7]].concat();
    assert!(matches!(split(&short), Err(DecodeError::Bad(_))));
    assert!(split(&[0xff]).is_err());
}
