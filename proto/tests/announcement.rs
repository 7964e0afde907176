//! Announcements: round trips, the view of a release without them, and the records that are bad.

mod common;

use lockstep_proto::announcement::{AnnounceRequest, NextEventsRequest};
use lockstep_proto::{
    Announcement, DecodeError, EventBody, Pack, ProjectKey, Record, RefKey, Transaction, Version, limits,
};
use proptest::prelude::*;
use prost::encoding::{WireType, encode_key, encode_varint};

fn varint(field: u32, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(field, WireType::Varint, &mut bytes);
    encode_varint(value, &mut bytes);
    bytes
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut bytes);
    encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// The small transaction as the carrier of this content.
fn carrying(project: &str, content: &[u8]) -> Vec<u8> {
    let id = common::patch_set().id.to_string().parse().unwrap();
    let carrier = Transaction { id, project: project.parse().unwrap(), pack: Pack::Empty, ..common::small() };
    [&carrier.encode()[..], &field(13, content)].concat()
}

/// The content of the small announcement, followed by more bytes. Later fields replace earlier ones.
fn content_and(more: &[u8]) -> Vec<u8> {
    let content = [
        varint(1, 1),
        field(2, b"e1"),
        field(3, b"patchset-created"),
        field(4, b"p#1"),
        field(6, &[field(1, b"refs/heads/b"), varint(2, 3)].concat()),
        field(7, b"{}"),
    ];
    [&content.concat()[..], more].concat()
}

fn decode(more: &[u8]) -> Result<Record, DecodeError> {
    Record::decode(&carrying("p#0", &content_and(more)))
}

fn assert_bad(read: Result<Record, DecodeError>, words: &str) {
    match read {
        Err(DecodeError::Bad(why)) => assert!(why.contains(words), "{why:?} does not say {words:?}"),
        other => panic!("{words}: {other:?}"),
    }
}

proptest! {
    #[test]
    fn an_encoded_announcement_is_decoded_unchanged(announcement in common::announcement()) {
        let bytes = announcement.encode();
        prop_assert_eq!(Announcement::decode(&bytes), Ok(announcement.clone()));
        prop_assert_eq!(Record::decode(&bytes), Ok(Record::Announcement(Box::new(announcement))));
    }

    #[test]
    fn a_transaction_is_no_announcement(transaction in common::transaction()) {
        let bytes = transaction.encode();
        prop_assert!(Announcement::decode(&bytes).is_err());
        prop_assert_eq!(Record::decode(&bytes), Ok(Record::Transaction(Box::new(transaction))));
    }

    /// Releases without announcements ignore field 13. They see this transaction, and skip it.
    #[test]
    fn an_older_reader_sees_nothing_done_to_an_incarnation_that_never_was(announcement in common::announcement()) {
        let seen = Transaction::decode(&announcement.encode()).unwrap();
        prop_assert_eq!(&seen.project, &ProjectKey::of_name(&announcement.carrier));
        prop_assert_eq!(&seen.pack, &Pack::Empty);
        let [command] = &seen.commands[..] else { panic!("{seen:?}") };
        prop_assert!(command.old.is_absent() && command.new.is_absent());
        prop_assert!(matches!(command.key, RefKey::Ref(_)), "neither HEAD nor the state");
        prop_assert_eq!(seen.id.slot.lane.lane.0, 255, "a lane that no journal has");
        prop_assert_eq!(seen.site, announcement.site);
    }

    #[test]
    fn changed_bytes_never_panic_and_what_is_read_obeys_the_rules(
        announcement in common::announcement(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = announcement.encode().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(Record::Announcement(read)) = Record::decode(bytes) {
                prop_assert_eq!(Announcement::decode(&read.encode()), Ok(*read));
            }
        }
    }

    #[test]
    fn an_unknown_field_is_ignored(number in 16..1_000_u32, content in any::<Vec<u8>>()) {
        prop_assert_eq!(decode(&field(number, &content)), decode(&[]));
    }

    #[test]
    fn a_body_stays_as_it_was_written(body in common::body()) {
        let request = format!(r#"{{"events":[{{"id":"1","type":"t","body": {} }}]}}"#, body.as_str());
        let read: AnnounceRequest = serde_json::from_str(&request).unwrap();
        prop_assert_eq!(&read.events[0].body, &body);
        let again: AnnounceRequest = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        prop_assert_eq!(again, read);
    }
}

#[test]
fn an_announcement_of_a_newer_release_waits_and_is_known_by_its_id() {
    let id = common::patch_set().id;
    for (more, words) in [(varint(1, 2), "format 2"), (varint(15, 8), "critical field 8")] {
        match decode(&more) {
            Ok(Record::Later(of, why)) => assert!(of == id && why.contains(words), "{of}: {why}"),
            other => panic!("{other:?}"),
        }
    }
    let envelope = [carrying("p#0", &content_and(&[])), varint(15, 99)].concat();
    assert!(matches!(Record::decode(&envelope), Err(DecodeError::Newer(_))), "the envelope's own rule comes first");
}

#[test]
fn caps_and_rules_are_checked() {
    let need = |key: &[u8], version| field(6, &[field(1, key), varint(2, version)].concat());
    assert!(matches!(decode(&[]), Ok(Record::Announcement(_))));
    assert_bad(decode(&varint(1, 0)), "no format version");
    assert_bad(decode(&field(2, &[b'x'; 129])), "field 2 is 129 bytes long");
    assert_bad(decode(&field(2, b"")), "event id is 0 bytes long");
    assert_bad(decode(&field(3, &[b'x'; 129])), "field 3 is 129 bytes long");
    assert_bad(decode(&field(7, &vec![b' '; limits::EVENT_BODY_BYTES + 1])), "field 7 is 131073 bytes long");
    assert_bad(decode(&field(99, &vec![0; limits::ANNOUNCEMENT_BYTES])), "bytes long, at most 262144");
    assert_bad(decode(&need(b"refs/heads/c", 1).repeat(limits::EVENT_REFS + 1)), "it has 101 needs");
    assert_bad(decode(&need(b"refs/heads/b", 1)), "does not sort after");
    assert_bad(decode(&need(b"refs/heads/a", 1)), "does not sort after");
    assert_bad(decode(&need(b"refs/heads/c", 0)), "the needed version is 0");
    assert_bad(decode(&need(b"heads", 1)), "ref name");
    assert_bad(decode(&field(7, b"[]")), "not a JSON object");
    assert_bad(decode(&field(7, b"{")), "body cannot be read");
    assert_bad(decode(&field(4, b"q#1")), "it has 2 projects");
    assert_bad(decode(&[0xff]), "");
    let alone = [varint(1, 1), field(2, b"e"), field(3, b"t"), field(7, b"{}")].concat();
    assert!(Record::decode(&carrying("p#0", &alone)).is_ok());
    assert_bad(Record::decode(&carrying("p#0", &[&alone[..], &varint(5, 1)].concat())), "and no project");
    assert_bad(Record::decode(&carrying("q#0", &content_and(&[]))), "carries an event of");
    assert_bad(Record::decode(&carrying("p#1", &content_and(&[]))), "is a real incarnation");
    let of_a_slot = [&common::small().encode()[..], &field(4, b"p#0"), &field(13, &content_and(&[]))].concat();
    assert_bad(Record::decode(&of_a_slot), "has lane 255");
}

#[test]
fn the_largest_announcement_fits_its_cap_and_the_envelopes() {
    let part = "p".repeat(limits::NAME_COMPONENT_BYTES);
    let project: ProjectKey = format!("{part}/{part}/{}#4294967295", "p".repeat(10)).parse().unwrap();
    let key = |index: usize| format!("refs/{part}/{part}/{part}/{index:010}").parse::<RefKey>().unwrap();
    assert_eq!((project.name.as_str().len(), key(0).to_string().len()), (512, limits::REF_NAME_BYTES));
    let body = format!("{{\"x\":\"{}\"}}", "y".repeat(limits::EVENT_BODY_BYTES - 8));
    assert_eq!(body.len(), limits::EVENT_BODY_BYTES);
    let largest = Announcement {
        carrier: project.name.clone(),
        project: Some(project),
        needs: (0..=limits::EVENT_REFS).map(|index| (key(index), Version(u64::MAX))).collect(),
        body: EventBody::new(&body).unwrap(),
        event_id: "e".repeat(limits::EVENT_TEXT_BYTES),
        kind: "k".repeat(limits::EVENT_TEXT_BYTES),
        ..common::patch_set()
    };
    let bytes = largest.encode();
    assert!(bytes.len() <= limits::TRANSACTION_BYTES, "{}", bytes.len());
    assert_eq!(Announcement::decode(&bytes), Ok(largest));
}

#[test]
fn requests_of_a_bridge_are_read_strictly() {
    let read = |text: &str| serde_json::from_str::<AnnounceRequest>(text).map_err(|error| error.to_string());
    let whole = r#"{"events":[{"id":"1","type":"t","project":"p","change":3,"refs":["refs/heads/a"],"body":{"a":1}}]}"#;
    assert!(read(whole).unwrap().events[0].check().is_ok());
    assert!(read(&whole.replace("change", "chnage")).unwrap_err().contains("unknown field"));
    assert!(read(&whole.replace("\"p\"", "\"../p\"")).unwrap_err().contains("project name"));
    let broken =
        |from: &str, to: &str| read(&whole.replace(from, to)).unwrap().events[0].check().unwrap_err().to_string();
    assert!(broken("{\"a\":1}", "[1]").contains("body is not a JSON object"));
    assert!(broken("\"id\":\"1\"", "\"id\":\"\"").contains("id is 0 bytes long"));
    assert!(broken("\"p\"", "null").contains("project is missing"));
    assert!(broken("{\"a\":1}", &format!("{{\"a\":\"{}\"}}", "x".repeat(131_072))).contains("body is 131080 bytes"));
    assert!(serde_json::from_str::<NextEventsRequest>(r#"{"session":"s","most":1,"wait":2}"#).is_err());
}
