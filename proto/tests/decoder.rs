//! The decoder reads untrusted bytes: it never panics, keeps to its caps, and separates newer records from bad ones.

mod common;

use lockstep_proto::{Command, DecodeError, Locator, Oid, Pack, Record, RefValue, Transaction, Version, limits};
use proptest::prelude::*;
use prost::encoding::{WireType, encode_key, encode_varint};

fn varint(field: u32, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(field, WireType::Varint, &mut bytes);
    encode_varint(value, &mut bytes);
    bytes
}

/// A length-delimited field that declares `length` bytes and has `content`.
fn declared(field: u32, length: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(field, WireType::LengthDelimited, &mut bytes);
    encode_varint(length, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    declared(number, content.len() as u64, content)
}

/// The small transaction, followed by more bytes. Later fields replace earlier ones.
fn small_and(more: &[u8]) -> Vec<u8> {
    [&common::small().encode()[..], more].concat()
}

fn assert_bad(bytes: &[u8], words: &str) {
    match Transaction::decode(bytes) {
        Err(DecodeError::Bad(why)) => assert!(why.contains(words), "{why:?} does not say {words:?}"),
        other => panic!("{words}: {other:?}"),
    }
}

fn assert_newer(bytes: &[u8], words: &str) {
    match Transaction::decode(bytes) {
        Err(DecodeError::Newer(why)) => assert!(why.contains(words), "{why:?} does not say {words:?}"),
        other => panic!("{words}: {other:?}"),
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Transaction::decode(&bytes);
    }

    #[test]
    fn changed_bytes_never_panic_and_what_is_read_obeys_the_rules(
        transaction in common::transaction(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = transaction.encode().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(read) = Transaction::decode(bytes) {
                prop_assert_eq!(Transaction::decode(&read.encode()), Ok(read));
            }
        }
    }

    #[test]
    fn an_unknown_field_is_ignored(
        transaction in common::transaction(), number in 19..1_000_u32, content in any::<Vec<u8>>(),
    ) {
        let bytes = [&transaction.encode()[..], &field(number, &content), &varint(number + 1, 7)].concat();
        prop_assert_eq!(Transaction::decode(&bytes), Ok(transaction));
    }
}

#[test]
fn unknown_fields_of_a_command_are_ignored() {
    let command = [field(1, b"refs/heads/new"), field(2, b"absent"), field(3, b"absent"), varint(4, 1), field(9, b"?")];
    let read = Transaction::decode(&small_and(&field(6, &command.concat()))).unwrap();
    assert_eq!(read.commands.len(), 2);
}

#[test]
fn a_critical_field_that_is_unknown_waits_for_an_upgrade() {
    for unknown in [0, 19, 99, u64::MAX] {
        assert_newer(&small_and(&varint(15, unknown)), &format!("critical field {unknown}"));
    }
    assert_newer(&small_and(&field(15, &[1, 12, 99])), "critical field 99");
    for known in (1..=13).chain([15, 16, 17]) {
        assert!(Transaction::decode(&small_and(&varint(15, known))).is_ok(), "{known}");
    }
}

#[test]
fn a_transaction_that_loosens_a_name_does_nothing_else() {
    let good = common::loosening();
    let read = Transaction::decode(&good.encode()).unwrap();
    assert_eq!(read.loosened(), good.commands[0].key.as_ref_name());
    assert_eq!(Transaction { loosens: false, ..good.clone() }.loosened(), None);
    let command = good.commands[0].clone();
    let other = Command { key: "refs/heads/b".parse().unwrap(), ..command.clone() };
    let two = vec![command.clone(), other];
    assert_bad(&Transaction { commands: two, ..good.clone() }.encode(), "it must have one");
    let creates = Command { new: RefValue::Oid(Oid::Sha1([1; 20])), ..command.clone() };
    let head = Command { key: "@HEAD".parse().unwrap(), ..command };
    for bad in [creates, head] {
        assert_bad(&Transaction { commands: vec![bad], ..good.clone() }.encode(), "from absent to absent");
    }
    assert_bad(&Transaction { commands: vec![], ..good }.encode(), "it has 0 commands");
}

#[test]
fn a_newer_format_waits_for_an_upgrade_whatever_else_is_in_it() {
    assert_newer(&small_and(&varint(1, 2)), "format 2");
    assert_newer(&small_and(&varint(1, (1 << 32) + 1)), "format 4294967297");
    let other_types = [varint(2, 7), field(5, b"now"), varint(6, 1)].concat();
    assert_newer(&small_and(&[varint(1, 2), other_types.clone()].concat()), "format 2");
    assert_newer(&small_and(&[other_types, varint(15, 20)].concat()), "critical field 20");
    let larger = field(7, &vec![0; limits::TRANSACTION_BYTES]);
    assert_newer(&small_and(&[larger, varint(1, 2)].concat()), "format 2");
}

#[test]
fn a_transaction_without_a_format_is_bad() {
    assert_bad(&[], "no format version");
    assert_bad(&small_and(&varint(1, 0)), "no format version");
}

#[test]
fn caps_are_checked() {
    let inline = |bytes: &[u8]| Transaction::fits_inline(bytes) && Record::decode(bytes).is_ok();
    let beyond = small_and(&field(99, &vec![0; limits::TRANSACTION_BYTES]));
    assert!(inline(&common::small().encode()) && !inline(&beyond) && Transaction::decode(&beyond).is_ok());
    assert!(!inline(&small_and(&field(9, &[1; 20]).repeat(limits::INLINE_BASES))), "4,097 bases");
    assert_bad(&small_and(&field(99, &vec![0; limits::LONG_FORM_BYTES])), "bytes long, at most 67108864");
    assert_bad(&small_and(&field(7, &vec![0; limits::INLINE_PACK_BYTES + 1])), "field 7 is 131073 bytes long");
    for text in 10..=12 {
        let long = "x".repeat(limits::TEXT_BYTES + 1);
        assert_bad(&small_and(&field(text, long.as_bytes())), &format!("field {text} is 1025 bytes long"));
    }
    assert_bad(&small_and(&field(15, &[1; limits::TEXT_BYTES + 1])), "field 15 is 1025 bytes long");
    assert_bad(&small_and(&field(6, b"").repeat(limits::COMMANDS)), "it has 50001 commands");
    assert_bad(&small_and(&field(9, &[1; 20]).repeat(limits::BASES)), "it has 100001 bases");
    let blob = |key: &[u8]| {
        let no_pack = Transaction { pack: Pack::Empty, ..common::small() };
        [&no_pack.encode()[..], &field(8, &[field(1, key), field(3, &[0; 32])].concat())].concat()
    };
    assert!(Transaction::decode(&blob(&[b'k'; limits::TEXT_BYTES])).is_ok());
    assert_bad(&blob(&[b'k'; limits::TEXT_BYTES + 1]), "blob's key is 1025 bytes long");
    assert_bad(&blob(b""), "blob's key is 0 bytes long");
}

#[test]
fn a_huge_declared_length_is_refused_and_not_believed() {
    for length in [5, 1 << 20, u64::from(u32::MAX), 1 << 62, u64::MAX] {
        for number in [2, 6, 7, 9, 15, 99] {
            assert!(matches!(
                Transaction::decode(&small_and(&declared(number, length, b"1234"))),
                Err(DecodeError::Bad(_))
            ));
        }
        let command = declared(1, length, b"1234");
        assert!(matches!(Transaction::decode(&small_and(&field(6, &command))), Err(DecodeError::Bad(_))));
    }
}

#[test]
fn deeply_nested_groups_are_refused() {
    let mut bytes = Vec::new();
    for _ in 0..100_000 {
        encode_key(99, WireType::StartGroup, &mut bytes);
    }
    assert!(matches!(Transaction::decode(&small_and(&bytes)), Err(DecodeError::Bad(_))));
}

#[test]
fn packs_and_ids_that_contradict_themselves_are_bad() {
    let blob = field(8, &[field(1, b"k"), field(3, &[0; 32])].concat());
    assert_bad(&small_and(&blob), "inline and in the blob store");
    let no_pack = Transaction { pack: Pack::Empty, ..common::small() }.encode();
    assert_bad(&[&no_pack[..], &field(8, &[field(1, b"k"), field(3, &[0; 31])].concat())].concat(), "32 bytes");
    assert_bad(&small_and(&field(9, &[1; 21])), "20 or 32 bytes");
    assert_bad(&small_and(&field(9, &[0; 20])), "zero id");
    assert_bad(&small_and(&field(2, b"eu-aws-0.7")), "transaction id");
    assert_bad(&small_and(&field(3, b"EU")), "site name");
    assert_bad(&small_and(&field(4, b"../etc#1")), "project name");
    assert_bad(&small_and(&field(2, b"eu-aws-0.7.3.18446744073709551615.00c0ffee00c0ffee")), "no slot can follow");
}

#[test]
fn commands_that_break_the_chain_are_bad() {
    let with = |change: &dyn Fn(&mut Command)| {
        let mut transaction = common::small();
        change(&mut transaction.commands[0]);
        transaction.encode()
    };
    let own = common::small().id;
    let symref = RefValue::Symref("refs/heads/x".parse().unwrap());
    assert_bad(&with(&|it| it.version = Version::NONE), "does not fit its predecessor");
    assert_bad(&with(&|it| it.version = Version(1)), "does not fit its predecessor");
    assert_bad(&with(&|it| it.predecessor = None), "does not fit its predecessor");
    assert_bad(&with(&|it| (it.version, it.predecessor) = (Version(1), None)), "first version has an old value");
    assert_bad(&with(&|it| it.version = Version(u64::MAX)), "no version can follow");
    assert_bad(&with(&|it| it.predecessor = Some(own.clone())), "its own predecessor");
    assert_bad(&with(&|it| it.new = symref.clone()), "cannot have the value");
    assert_bad(&with(&|it| it.key = "@HEAD".parse().unwrap()), "cannot have the value");
    assert_bad(&with(&|it| it.key = "@state".parse().unwrap()), "cannot have the value");
}

#[test]
fn a_key_occurs_once_and_there_is_a_command() {
    let mut twice = common::small();
    twice.commands.push(Command { new: RefValue::Oid(Oid::Sha1([3; 20])), ..twice.commands[0].clone() });
    assert_bad(&twice.encode(), "refs/heads/main occurs twice");
    assert_bad(&Transaction { commands: vec![], ..common::small() }.encode(), "it has 0 commands");
    let says = |message: &str| Transaction { message: message.to_owned(), ..common::small() };
    assert_bad(&says("two\nlines").encode(), "its message contains '\\n'");
    assert_bad(&says(&"x".repeat(513)).encode(), "field 18 is 513 bytes long");
    assert_eq!(Transaction::decode(&says("an edit").encode()), Ok(says("an edit")));
}

#[test]
fn a_locator_that_contradicts_itself_is_bad() {
    let bytes = common::located().encode();
    assert_eq!(Transaction::decode(&bytes), Err(DecodeError::Elsewhere(common::located().key)));
    let command = field(6, &field(1, b"refs/heads/x"));
    for (more, words) in [
        (command, "is a locator and has commands"),
        (field(7, b"PACK"), "is a locator and has commands or a pack"),
        (field(14, &[field(3, &[0; 31])].concat()), "32 bytes"),
        (field(14, &varint(2, limits::LONG_FORM_BYTES as u64 + 1)), "67108865 bytes long"),
    ] {
        match Locator::decode(&[&bytes[..], &more].concat()) {
            Err(DecodeError::Bad(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{words}: {other:?}"),
        }
    }
}

#[test]
fn a_locator_resolves_to_its_own_transaction_only() {
    let (locator, own) = (common::located(), common::small());
    assert_eq!(locator.resolve(&own.encode()), Ok(own.clone()));
    for other in [
        Transaction { id: "eu-aws-0.7.3.1234.00c0ffee00c0ffef".parse().unwrap(), ..own.clone() },
        Transaction { project: "tools/build#3".parse().unwrap(), ..own.clone() },
    ] {
        assert!(matches!(locator.resolve(&other.encode()), Err(DecodeError::Bad(_))));
    }
    assert!(locator.resolve(&locator.encode()).is_err(), "a locator leads to a transaction");
}
