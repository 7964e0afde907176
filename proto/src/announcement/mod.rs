//! Announcements: stream events of one node's Gerrit, in transit to the Gerrits of the other nodes.
//!
//! *Stream event* is Gerrit's own term for an event that `gerrit stream-events` prints and that listeners receive:
//! `patchset-created`, `comment-added`, `change-merged`, ... The bridge hands such an event to its sidecar
//! ([`AnnounceRequest`]). The sidecar makes an [`Announcement`] of it: the event, and the refs and versions that must
//! be applied at a node before the event is delivered there. The announcement travels in the site's event log, between
//! the transactions. The bridges of the other nodes fetch it from their sidecars ([`NextEventsResponse`]).
//!
//! **Compatibility.** A release without announcements reads one as a transaction on incarnation 0 of a project. Every
//! real incarnation is newer, so that release skips the record (`docs/wire.md`). An announcement of a newer release
//! decodes to [`DecodeError::Newer`]. It waits in the reader's inbox for an upgrade, and holds up nothing.

mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::decode_error::DecodeError;
use crate::limits;
use crate::name::{NameError, NodeId, ProjectKey, ProjectName, RefName, SiteId};
use crate::rule_broken::RuleBroken;
use crate::slot::{Incarnation, IncarnationId, Lane, Seq, TxnId, Version};
use crate::value::RefKey;

/// The format version that this release writes into the announcement inside the envelope.
pub const FORMAT: u32 = 1;

/// The lane in an announcement's id. No journal has that many lanes, so the id never names a real slot.
const LANE: Lane = Lane(u8::MAX);

/// The content of a stream event: a JSON object, whose text is kept as it was written.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct EventBody(Box<RawValue>);

/// Why a text is no [`EventBody`].
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The text is not JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The JSON is another value than an object.
    #[error("it is not a JSON object")]
    NoObject,
}

impl EventBody {
    /// Parses a JSON object.
    ///
    /// # Errors
    /// The text is not JSON, or is not an object.
    pub fn new(text: &str) -> Result<Self, BodyError> {
        let body = Self(serde_json::from_str(text)?);
        if body.is_object() { Ok(body) } else { Err(BodyError::NoObject) }
    }

    /// The JSON text, byte for byte as it arrived.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether the body is an object. A body that was read as part of a request may be any JSON value.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }
}

impl PartialEq for EventBody {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for EventBody {}

/// Stream events that happened at this node's Gerrit: at most 64 in one request, of at most 128 KiB each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnounceRequest {
    /// The events, in the order in which they happened.
    pub events: Vec<StreamEvent>,
}

/// A stream event, as the bridge hands it in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamEvent {
    /// A unique id that the bridge chooses (for example a UUID), 1 to 128 bytes. Two events with the same id are one
    /// event.
    pub id: String,
    /// Gerrit's type of the event (`patchset-created`), 1 to 128 bytes.
    #[serde(rename = "type")]
    #[schema(example = "patchset-created")]
    pub kind: String,
    /// The project that the event is about, if there is one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectName>,
    /// The change that the event is about, if there is one. Events of one change are delivered in order.
    #[serde(default)]
    pub change: Option<u64>,
    /// The refs that the event names, at most 99. The versions that they have here now must be applied at a node before
    /// the event is delivered there.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["refs/changes/12/12/meta"]))]
    pub refs: BTreeSet<RefName>,
    /// The event as Gerrit's JSON.
    pub body: EventBody,
}

impl StreamEvent {
    /// Checks the limits of the event. The error names the field and its value, and says what to do.
    ///
    /// # Errors
    /// The first rule that the event breaks.
    pub fn check(&self) -> Result<(), RuleBroken> {
        check_text("id", &self.id)?;
        check_text("type", &self.kind)?;
        if self.refs.len() > limits::EVENT_REFS {
            return Err(RuleBroken::EventRefs(self.refs.len()));
        }
        if self.project.is_none() && !(self.refs.is_empty() && self.change.is_none()) {
            return Err(RuleBroken::EventProject);
        }
        let is = self.body.as_str().len();
        if is > limits::EVENT_BODY_BYTES {
            return Err(RuleBroken::EventBody(is));
        }
        if self.body.is_object() { Ok(()) } else { Err(RuleBroken::EventBodyKind) }
    }
}

/// Checks the length of a short text of a stream event.
///
/// # Errors
/// The text is empty, or longer than [`limits::EVENT_TEXT_BYTES`].
pub fn check_text(field: &'static str, text: &str) -> Result<(), RuleBroken> {
    if text.is_empty() || text.len() > limits::EVENT_TEXT_BYTES {
        return Err(RuleBroken::TextLength(field, text.len()));
    }
    Ok(())
}

/// A bridge's request for stream events of other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NextEventsRequest {
    /// An id that the bridge chooses once per Gerrit process, 1 to 128 bytes. A new session replaces the one before it,
    /// and receives every unconfirmed event again.
    pub session: String,
    /// The most events to return, 1 to 256.
    pub most: usize,
    /// How long to wait if there are no events, in milliseconds, 0 to 30,000.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Stream events of other nodes. The list is empty if none arrived within the wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NextEventsResponse {
    /// The events, in the order in which listeners must receive them.
    pub events: Vec<ForwardedEvent>,
}

/// A stream event of another node. Everything that it refers to can be read at this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForwardedEvent {
    /// The id that the bridge at the origin chose.
    pub id: String,
    /// Gerrit's type of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// The project that the event is about, if there is one.
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectName>,
    /// The change that the event is about, if there is one.
    pub change: Option<u64>,
    /// The event as Gerrit's JSON.
    pub body: EventBody,
    /// The node where the event happened.
    #[schema(value_type = String)]
    pub origin: NodeId,
}

/// A bridge confirms events: the listeners of its Gerrit have received them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsDoneRequest {
    /// The session that fetched the events.
    pub session: String,
    /// The ids of the events, at most 256. An id that is unknown, or was confirmed before, is ignored.
    pub done: Vec<String>,
}

/// An empty answer: the request was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {}

/// One run of a node's sidecar, as the origin of announcements. Written `eu-aws-0.7.00c0ffee00c0ffee`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node of the sidecar.
    pub node: NodeId,
    /// The number of the start on the node's volume. A later run on the same volume has a larger number.
    pub start: u64,
    /// Random bits, which tell runs apart when the volume is new or was restored.
    pub life: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{:016x}", self.node, self.start, self.life)
    }
}

impl FromStr for Origin {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| NameError::new("origin", text, why);
        let (start, life) = text.rsplit_once('.').ok_or_else(|| refuse("has no dot"))?;
        let IncarnationId { node, number } = start.parse()?;
        let life = u64::from_str_radix(life, 16).map_err(|_| refuse("does not end in a hexadecimal number"))?;
        let origin = Self { node, start: number.0, life };
        if origin.to_string() == text { Ok(origin) } else { Err(refuse("is not in canonical form")) }
    }
}

/// The id of an announcement: its origin, and its number at this origin. Written like a transaction id, with a lane
/// that no journal has: `eu-aws-0.7.255.41.00c0ffee00c0ffee`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnouncementId {
    /// The run that made the announcement.
    pub origin: Origin,
    /// The number of the announcement at its origin: dense, counted from 0.
    pub seq: u64,
}

impl AnnouncementId {
    pub(crate) fn as_txn(&self) -> TxnId {
        let Origin { node, start, life } = &self.origin;
        let incarnation = IncarnationId { node: node.clone(), number: Incarnation(*start) };
        incarnation.lane(LANE).slot(Seq(self.seq)).txn(*life)
    }

    pub(crate) fn of_txn(id: &TxnId) -> Result<Self, DecodeError> {
        let (lane, incarnation) = (id.slot.lane.lane, &id.slot.lane.incarnation);
        if lane != LANE {
            return Err(DecodeError::Bad(format!("{id}: an announcement always has lane {LANE}")));
        }
        let origin = Origin { node: incarnation.node.clone(), start: incarnation.number.0, life: id.attempt };
        Ok(Self { origin, seq: id.slot.seq.0 })
    }
}

impl fmt::Display for AnnouncementId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_txn(), out)
    }
}

/// A stream event, with the versions that must be applied at a node before the event is delivered there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The announcement's own id.
    pub id: AnnouncementId,
    /// The site where the event happened.
    pub site: SiteId,
    /// The origin's clock when its bridge handed the event in, in milliseconds since 1970 (UTC), for people to read.
    pub announced_at_ms: u64,
    /// A project that every node can learn of. A release without announcements takes the record for a transaction on
    /// it. It is also the partition key of the record in the event log.
    pub carrier: ProjectName,
    /// The id that the bridge chose ([`StreamEvent::id`]).
    pub event_id: String,
    /// Gerrit's name of the event's type ([`StreamEvent::kind`]).
    pub kind: String,
    /// [`StreamEvent::project`], with its incarnation at the origin.
    pub project: Option<ProjectKey>,
    /// The number of the change that the event belongs to, if any ([`StreamEvent::change`]).
    pub change: Option<u64>,
    /// Refs of the project, or its `@state`, each with the version that must be applied. Sorted, each key once.
    pub needs: Vec<(RefKey, Version)>,
    /// The event as Gerrit wrote it, a JSON object ([`StreamEvent::body`]).
    pub body: EventBody,
}

impl Announcement {
    /// Encodes the announcement for the event log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Decodes bytes that came from the event log.
    ///
    /// # Errors
    /// [`DecodeError::Newer`] for a form that only a newer release understands. [`DecodeError::Bad`] for every other
    /// defect, and for a transaction.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let announcement = wire::decode(bytes)?;
        announcement.check()?;
        Ok(announcement)
    }

    /// Checks the rules that every announcement obeys.
    fn check(&self) -> Result<(), RuleBroken> {
        check_text("event id", &self.event_id)?;
        check_text("type", &self.kind)?;
        let is = self.body.as_str().len();
        if is > limits::EVENT_BODY_BYTES {
            return Err(RuleBroken::Body(is));
        }
        if self.project.is_none() && !(self.needs.is_empty() && self.change.is_none()) {
            return Err(RuleBroken::NoProject);
        }
        if self.project.as_ref().is_some_and(|project| project.name != self.carrier) {
            return Err(RuleBroken::Carrier(self.carrier.clone(), self.project.clone()));
        }
        if let Some(pair) = self.needs.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(RuleBroken::Order(pair[1].0.clone(), pair[0].0.clone()));
        }
        match self.needs.iter().find(|(_, version)| *version == Version::NONE) {
            Some((key, _)) => Err(RuleBroken::NeedsNothing(key.clone())),
            None => Ok(()),
        }
    }
}
