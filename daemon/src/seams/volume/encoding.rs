//! The values of the node's store on disk, as bytes.
//!
//! ```text
//! record   version(8) length(2) transaction kind(1) value     kind 0 absent, 1 object id, 2 symref, 3 state
//! held     length(4) note(JSON) bytes
//! others   JSON
//! ```
//!
//! Numbers are big-endian. A change of any of these forms raises [`FORMAT`]. A new field of a JSON form does not raise
//! it, if it has a default for stores without it.

use lockstep_proto::{Oid, RefValue, TxnId, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Held, HeldKind, RefRecord};

/// The version of keys and values together. It is written into every store.
pub const FORMAT: u64 = 1;

/// Bytes in the store that this release cannot read: the file is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} in the store cannot be read: {why}; the file is damaged, restore the volume or start with a new one")]
pub struct FormError {
    /// The name of the form.
    pub what: &'static str,
    /// A description of the defect.
    pub why: String,
}

/// A [`Held`] without its bytes.
#[derive(Serialize, Deserialize)]
struct Note {
    project: String,
    reason: String,
    waits_for: Vec<String>,
    since_ms: u64,
    /// The release before does not write it, and ignores it. A later one may write kinds that this one does not know.
    #[serde(default, deserialize_with = "known_kind")]
    kind: Option<HeldKind>,
}

/// The kind, if this release knows it.
fn known_kind<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HeldKind>, D::Error> {
    let kind = serde_json::Value::deserialize(from)?;
    Ok(HeldKind::deserialize(kind).ok())
}

/// Encodes an entry of the version map.
pub fn record(from: &RefRecord) -> Vec<u8> {
    let txn = from.txn.to_string();
    let length = u16::try_from(txn.len()).expect("a transaction id is under 120 bytes: its node is at most 48");
    let mut bytes = from.version.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(txn.as_bytes());
    match &from.value {
        RefValue::Absent => bytes.push(0),
        RefValue::Oid(oid) => push(&mut bytes, 1, oid.as_bytes()),
        RefValue::Symref(target) => push(&mut bytes, 2, target.as_str().as_bytes()),
        RefValue::State(state) => push(&mut bytes, 3, state.to_string().as_bytes()),
    }
    bytes
}

fn push(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(value);
}

/// Decodes the output of [`record`].
pub fn read_record(bytes: &[u8]) -> Result<RefRecord, FormError> {
    let bad = |why: &str| FormError { what: "version map entry", why: why.into() };
    let (version, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| bad("it ends in the version"))?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(|| bad("it ends in a length"))?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (txn, rest) = rest.split_at_checked(length).ok_or_else(|| bad("it ends in the transaction"))?;
    let (kind, value) = rest.split_first().ok_or_else(|| bad("it has no value"))?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| bad("it has text that is not UTF-8"));
    let name = |error: lockstep_proto::NameError| bad(&error.to_string());
    let txn: TxnId = text(txn)?.parse().map_err(name)?;
    let value = match kind {
        0 if value.is_empty() => RefValue::Absent,
        1 => RefValue::Oid(Oid::from_bytes(value).map_err(name)?),
        2 => RefValue::Symref(text(value)?.parse().map_err(name)?),
        3 => RefValue::State(text(value)?.parse().map_err(name)?),
        _ => return Err(bad("it has an unknown kind of value")),
    };
    Ok(RefRecord { version: Version(u64::from_be_bytes(*version)), value, txn })
}

/// Encodes a parked or quarantined record.
pub fn held(from: &Held) -> Vec<u8> {
    let note = Note {
        project: from.project.clone(),
        reason: from.reason.clone(),
        waits_for: from.waits_for.clone(),
        since_ms: from.since_ms,
        kind: Some(from.kind),
    };
    let note = json(&note);
    let length = u32::try_from(note.len()).expect("a note names a few ids and is far below 4 GiB");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(note.as_bytes());
    bytes.extend_from_slice(&from.bytes);
    bytes
}

/// Decodes the output of [`held`] that is stored under `id`.
pub fn read_held(id: &str, bytes: &[u8]) -> Result<Held, FormError> {
    let bad = |why: &str| FormError { what: "held record", why: why.into() };
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| bad("it ends in a length"))?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| bad("it is too long"))?;
    let (note, bytes) = rest.split_at_checked(length).ok_or_else(|| bad("it ends in its note"))?;
    let note = std::str::from_utf8(note).map_err(|_| bad("its note is not UTF-8"))?;
    let Note { project, reason, waits_for, since_ms, kind } = read_json("held record", note)?;
    let kind = kind.unwrap_or_else(|| HeldKind::of_earlier(id, &reason));
    Ok(Held { bytes: bytes.to_vec().into(), kind, project, reason, waits_for, since_ms })
}

/// Encodes any of the small forms as JSON.
pub fn json<T: Serialize>(from: &T) -> String {
    serde_json::to_string(from).expect("the store's own structs have text keys and no failing field")
}

/// Decodes the output of [`json`].
pub fn read_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, FormError> {
    serde_json::from_str(text).map_err(|error| FormError { what, why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use lockstep_proto::{ProjectPhase, ProjectState};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_facts_keep_the_names_of_earlier_releases() {
        let facts = r#"{"id":"v","starts":3,"boot":"b","clean":true,"reconciles":false,"revives":["p"]}"#;
        let read: crate::seams::volume::VolumeFacts = read_json("facts", facts).unwrap();
        assert_eq!(read.restoring, ["p".parse().unwrap()].into());
        assert_eq!(json(&read), facts);
    }

    /// The note as the release before declared it.
    #[derive(Deserialize)]
    struct Earlier {
        project: String,
        reason: String,
        waits_for: Vec<String>,
        since_ms: u64,
    }

    /// A held record with this note.
    fn noted(note: &str) -> Vec<u8> {
        let length = u32::try_from(note.len()).unwrap();
        [&length.to_be_bytes()[..], note.as_bytes(), b"record"].concat()
    }

    #[test]
    fn a_held_record_is_read_across_two_releases() {
        let id = "eu-aws-0.2.7.43.9377d49e766adb35";
        let never = "the record was never committed: torn pack";
        let earlier = format!(r#"{{"project":"p#1","reason":"{never}","waits_for":[],"since_ms":7}}"#);
        let read = read_held(id, &noted(&earlier)).unwrap();
        assert_eq!((read.kind, read.is_committed()), (HeldKind::NeverCommitted, false));
        let bad = noted(r#"{"project":"p#1","reason":"torn pack","waits_for":[],"since_ms":7}"#);
        assert!(read_held(id, &bad).unwrap().is_committed());
        let written = held(&read);
        let present = format!(r#"{},"kind":"never_committed"}}"#, earlier.strip_suffix('}').unwrap());
        assert_eq!(written, noted(&present), "the form on the disk");
        let Earlier { project, reason, waits_for, since_ms } = read_json("held record", &present).unwrap();
        assert_eq!((project.as_str(), reason.as_str(), waits_for.len(), since_ms), ("p#1", never, 0, 7));
    }

    #[test]
    fn the_kind_decides_and_the_reason_does_not() {
        let note = r#"{"project":"p#1","reason":"torn","waits_for":[],"since_ms":7,"kind":"unsigned"}"#;
        assert_eq!(read_held("eu-aws-0.2.7.43.9377d49e766adb35", &noted(note)).unwrap().kind, HeldKind::Unsigned);
    }

    /// One record of a kind that a later release added must not make the whole quarantine unreadable.
    #[test]
    fn a_kind_of_a_later_release_is_classified_by_its_text() {
        let id = "eu-aws-0.2.7.43.9377d49e766adb35";
        for kind in [r#""of_a_later_release""#, r#"{"of_a_later_release":7}"#, "7", "null"] {
            let read = |reason: &str| {
                let note =
                    format!(r#"{{"project":"p#1","reason":"{reason}","waits_for":[],"since_ms":7,"kind":{kind}}}"#);
                read_held(id, &noted(&note)).map(|held| held.kind)
            };
            assert_eq!(read("torn pack"), Ok(HeldKind::Committed), "{kind}");
            assert_eq!(read("the record was never committed: torn pack"), Ok(HeldKind::NeverCommitted), "{kind}");
        }
    }

    fn any_value() -> impl Strategy<Value = RefValue> {
        prop_oneof![
            Just(RefValue::Absent),
            any::<[u8; 20]>().prop_filter_map("an id", |bytes| Oid::from_bytes(&bytes).ok()).prop_map(RefValue::Oid),
            any::<[u8; 32]>().prop_filter_map("an id", |bytes| Oid::from_bytes(&bytes).ok()).prop_map(RefValue::Oid),
            "refs/heads/[a-zé]{1,9}".prop_map(|text| RefValue::Symref(text.parse().unwrap())),
            any::<u32>().prop_map(|incarnation| {
                RefValue::State(ProjectState { phase: ProjectPhase::ReadOnly, incarnation })
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_comes_back(version in any::<u64>(), value in any_value(), seq in any::<u64>()) {
            let txn = format!("eu-aws-0.7.3.{seq}.00c0ffee00c0ffee").parse().unwrap();
            let from = RefRecord { version: Version(version), value, txn };
            prop_assert_eq!(read_record(&record(&from)).unwrap(), from);
        }

        #[test]
        fn a_held_record_comes_back(
            bytes in prop::collection::vec(any::<u8>(), 0..200), text in any::<[String; 3]>(), since_ms in any::<u64>(),
        ) {
            let [project, reason, waits] = text;
            let kind = HeldKind::NeverCommitted;
            let from = Held { bytes: bytes.into(), kind, project, reason, waits_for: vec![waits], since_ms };
            prop_assert_eq!(read_held("any", &held(&from)).unwrap(), from);
        }

        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(read_held("any", &bytes).is_err());
            prop_assert!(read_record(&bytes).is_err());
        }

        #[test]
        fn a_record_that_was_cut_is_an_error(version in any::<u64>(), cut in 0..40_usize) {
            let txn = "eu-aws-0.7.3.1.00c0ffee00c0ffee".parse().unwrap();
            let bytes = record(&RefRecord { version: Version(version), value: RefValue::Absent, txn });
            prop_assert!(read_record(&bytes[..cut.min(bytes.len() - 1)]).is_err());
        }
    }
}
