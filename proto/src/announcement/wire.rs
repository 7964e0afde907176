//! The protobuf form of an announcement: a transaction that does nothing and carries the announcement in a field of its
//! own. Field numbers are permanent; see `docs/wire.md`.

use bytes::Bytes;
use prost::Message;

use super::{Announcement, AnnouncementId, EventBody, FORMAT};
use crate::decode_error::DecodeError;
use crate::name::ProjectKey;
use crate::precheck::Form;
use crate::slot::Version;
use crate::transaction::{Command, Transaction, wire};
use crate::value::{RefKey, RefValue};
use crate::{limits, precheck};

/// The ref in the only command of the carrying transaction.
const REF: &str = "refs/lockstep/announcement";

const FORM: Form = Form {
    format: FORMAT,
    bytes: limits::ANNOUNCEMENT_BYTES,
    is_known: |field| matches!(field, 1..=7 | 15),
    cap: |field| match field {
        2 | 3 => limits::EVENT_TEXT_BYTES,
        7 => limits::EVENT_BODY_BYTES,
        15 => limits::TEXT_BYTES,
        _ => limits::ANNOUNCEMENT_BYTES,
    },
    // One need more than refs, for `@state`.
    repeated: [(6, "needs", limits::EVENT_REFS + 1), (4, "projects", 1)],
};

/// A field that is added here must be added to [`FORM`] too.
#[derive(Clone, PartialEq, Message)]
struct WireAnnouncement {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    event_id: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(string, tag = "4")]
    project: String,
    #[prost(uint64, optional, tag = "5")]
    change: Option<u64>,
    #[prost(message, repeated, tag = "6")]
    needs: Vec<WireNeed>,
    #[prost(string, tag = "7")]
    body: String,
    /// Numbers of the fields that a reader must understand.
    #[prost(uint32, repeated, tag = "15")]
    critical: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct WireNeed {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint64, tag = "2")]
    version: u64,
}

pub(super) fn encode(from: &Announcement) -> Bytes {
    let content = WireAnnouncement {
        format: FORMAT,
        event_id: from.event_id.clone(),
        kind: from.kind.clone(),
        project: from.project.as_ref().map(ToString::to_string).unwrap_or_default(),
        change: from.change,
        needs: from.needs.iter().map(|(key, version)| WireNeed { key: key.to_string(), version: version.0 }).collect(),
        body: from.body.as_str().to_owned(),
        critical: Vec::new(),
    };
    wire::encode_carrying(&carrier(from), content.encode_to_vec())
}

/// The transaction that a release without announcements sees: one command that replaces nothing by nothing, on
/// incarnation 0 of the project. Real incarnations count from 1. A reader that knows the project therefore skips the
/// transaction. A reader that does not know it learns of the project first.
fn carrier(from: &Announcement) -> Transaction {
    let command = Command {
        key: RefKey::Ref(REF.parse().expect("a ref name")),
        old: RefValue::Absent,
        new: RefValue::Absent,
        version: Version(1),
        predecessor: None,
    };
    Transaction {
        committed_at_ms: from.announced_at_ms,
        commands: vec![command],
        ..Transaction::empty(from.id.as_txn(), from.site.clone(), ProjectKey::of_name(&from.carrier))
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Announcement, DecodeError> {
    let content = wire::carried(bytes)?.ok_or_else(|| DecodeError::Bad("it carries no announcement".into()))?;
    let carrier = Transaction::decode(bytes)?;
    if carrier.project.incarnation != 0 {
        return Err(DecodeError::Bad(format!(
            "{} is a real incarnation; an announcement travels under incarnation 0",
            carrier.project
        )));
    }
    precheck::check(&content, &FORM)?;
    let content = WireAnnouncement::decode(content).map_err(|error| DecodeError::Bad(error.to_string()))?;
    let project = if content.project.is_empty() { None } else { Some(content.project.parse()?) };
    let needs: Result<Vec<(RefKey, Version)>, DecodeError> =
        content.needs.iter().map(|need| Ok((need.key.parse()?, Version(need.version)))).collect();
    let bad_body = |why| DecodeError::Bad(format!("its body cannot be read: {why}"));
    Ok(Announcement {
        id: AnnouncementId::of_txn(&carrier.id)?,
        site: carrier.site,
        announced_at_ms: carrier.committed_at_ms,
        carrier: carrier.project.name,
        event_id: content.event_id,
        kind: content.kind,
        project,
        change: content.change,
        needs: needs?,
        body: EventBody::new(&content.body).map_err(bad_body)?,
    })
}
