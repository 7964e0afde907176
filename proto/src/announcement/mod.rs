//! A stream event of one site's Gerrit on its way to the Gerrits of the others.
//!
//! *Stream event* is Gerrit's word for what `gerrit stream-events` prints and listeners hear: `patchset-created`,
//! `comment-added`, `change-merged`, ... The bridge hands such an event to its sidecar ([`AnnounceRequest`]); the sidecar
//! makes an [`Announcement`] of it: the event, and what must be applied at a node before it may be heard there. It travels
//! in the site's event log between the transactions, and the bridges of the other nodes take it from their
//! sidecars ([`NextEventsResponse`]).
//!
//! **Compatibility.** A release that knows no announcements reads one as a transaction on an incarnation of a project that
//! is always past, and passes it by (`docs/wire.md`). One of a newer release is [`DecodeError::Newer`]: it waits in the
//! reader's inbox for an upgrade, and holds up nothing.

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
use crate::slot::{Incarnation, IncarnationId, Lane, Seq, TxnId, Version};
use crate::value::RefKey;

/// The format that this release writes inside the envelope.
pub const FORMAT: u32 = 1;

/// The lane in an announcement's id. No journal has as many lanes, so no slot is ever taken for it.
const LANE: Lane = Lane(u8::MAX);

/// What a stream event says: a JSON object, kept as it was written.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct EventBody(Box<RawValue>);

impl EventBody {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// It is no JSON, or no object.
    pub fn new(text: &str) -> Result<Self, String> {
        let value: Box<RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let body = Self(value);
        if body.is_object() { Ok(body) } else { Err("it is no JSON object".to_owned()) }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether it is an object: a body that was read inside of a request may be anything.
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

/// Stream events that happened at this node's Gerrit: at most 64, of at most 128 KiB each.
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
    /// Chosen by the bridge, unique (a UUID, say), 1 to 128 bytes. The same id twice is one event.
    pub id: String,
    /// Gerrit's type of it (`patchset-created`), 1 to 128 bytes.
    #[serde(rename = "type")]
    #[schema(example = "patchset-created")]
    pub kind: String,
    /// The project that it is about, if it is about one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectName>,
    /// The change that it is about, if it is about one. Events of one change are heard in their order.
    #[serde(default)]
    pub change: Option<u64>,
    /// The refs that it speaks of, at most 99: what they are here now must be applied at a node before the event is heard
    /// there.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["refs/changes/12/12/meta"]))]
    pub refs: BTreeSet<RefName>,
    /// The event's own JSON.
    pub body: EventBody,
}

impl StreamEvent {
    /// What is wrong with it: the field, its value, what to do.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), String> {
        check_text("id", &self.id)?;
        check_text("type", &self.kind)?;
        if self.refs.len() > limits::EVENT_REFS {
            let (is, most) = (self.refs.len(), limits::EVENT_REFS);
            return Err(format!("refs has {is} entries; name at most {most}, those that a listener needs first"));
        }
        if self.project.is_none() && !(self.refs.is_empty() && self.change.is_none()) {
            return Err("project is missing, but refs or change is given: name the project".to_owned());
        }
        let (is, most) = (self.body.as_str().len(), limits::EVENT_BODY_BYTES);
        if is > most {
            return Err(format!("body is {is} bytes long; at most {most} are forwarded"));
        }
        if self.body.is_object() { Ok(()) } else { Err("body is no JSON object; send the event's own JSON".to_owned()) }
    }
}

/// Checks a short text of a stream event.
///
/// # Errors
/// It is empty, or too long.
pub fn check_text(field: &str, text: &str) -> Result<(), String> {
    let most = limits::EVENT_TEXT_BYTES;
    if text.is_empty() || text.len() > most {
        return Err(format!("{field} is {} bytes long; give 1 to {most}", text.len()));
    }
    Ok(())
}

/// A bridge asks for stream events of other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NextEventsRequest {
    /// Chosen by the bridge for each life of its Gerrit, 1 to 128 bytes. A session that was not seen before takes the place
    /// of the one before it, and gets everything again that is not confirmed.
    pub session: String,
    /// How many to give at most, 1 to 256.
    pub most: usize,
    /// How long to wait when there is none, in milliseconds, 0 to 30,000.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Stream events of other nodes. None when the wait has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NextEventsResponse {
    /// In the order in which listeners shall hear them.
    pub events: Vec<ForwardedEvent>,
}

/// A stream event of another node. Whatever it speaks of can be read here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForwardedEvent {
    /// The id that its bridge chose.
    pub id: String,
    /// Gerrit's type of it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The project that it is about.
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectName>,
    /// The change that it is about.
    pub change: Option<u64>,
    /// The event's own JSON.
    pub body: EventBody,
    /// The node where it happened.
    #[schema(value_type = String)]
    pub origin: NodeId,
}

/// A bridge confirms events: their listeners have heard them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsDoneRequest {
    /// The session that took them.
    pub session: String,
    /// Their ids, at most 256. One that is not known, or was confirmed before, is no error.
    pub done: Vec<String>,
}

/// An answer that says nothing but "done".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {}

/// One life of a node's sidecar, as the origin of announcements. Written `eu-aws-0.7.00c0ffee00c0ffee`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// Counts the starts on its volume: of two lives of one volume the later one has the larger number.
    pub start: u64,
    /// Random: tells lives apart when the volume is a new one, or was restored.
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
        if origin.to_string() == text { Ok(origin) } else { Err(refuse("is not as it would be written")) }
    }
}

/// The id of an announcement: who made it, and the how manieth of that life it is. Written like a transaction's id, with a
/// lane that no journal has: `eu-aws-0.7.255.41.00c0ffee00c0ffee`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnouncementId {
    /// Who made it.
    pub origin: Origin,
    /// Dense, from 0.
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
            return Err(DecodeError::Bad(format!("{id}: an announcement has lane {LANE}")));
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

/// A stream event, and what must be applied at a node before it is heard there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Its own id.
    pub id: AnnouncementId,
    /// The site where it happened.
    pub site: SiteId,
    /// The origin's clock when its bridge handed it in, in milliseconds since 1970 (UTC). For people.
    pub announced_at_ms: u64,
    /// A project that every node can learn of: what a release without announcements takes the record to be about, and
    /// the key by which the event log keeps records together.
    pub carrier: ProjectName,
    /// [`StreamEvent::id`].
    pub event_id: String,
    /// [`StreamEvent::kind`].
    pub kind: String,
    /// [`StreamEvent::project`], with its incarnation at the origin.
    pub project: Option<ProjectKey>,
    /// [`StreamEvent::change`].
    pub change: Option<u64>,
    /// Refs of the project, or its `@state`, each with the version that must be applied. Each once, in their order.
    pub needs: Vec<(RefKey, Version)>,
    /// [`StreamEvent::body`].
    pub body: EventBody,
}

impl Announcement {
    /// The bytes for the event log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Reads bytes that came from the event log.
    ///
    /// # Errors
    /// [`DecodeError::Newer`] for what only a newer release understands, [`DecodeError::Bad`] for everything else that is
    /// wrong, a transaction included.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let announcement = wire::decode(bytes)?;
        announcement.check().map_err(DecodeError::Bad)?;
        Ok(announcement)
    }

    /// Rules that hold in every announcement, whoever made it.
    fn check(&self) -> Result<(), String> {
        check_text("event id", &self.event_id)?;
        check_text("type", &self.kind)?;
        let (is, most) = (self.body.as_str().len(), limits::EVENT_BODY_BYTES);
        if is > most {
            return Err(format!("its body is {is} bytes long, at most {most} are allowed"));
        }
        if self.project.is_none() && !(self.needs.is_empty() && self.change.is_none()) {
            return Err("it has needs or a change, and no project".to_owned());
        }
        if self.project.as_ref().is_some_and(|project| project.name != self.carrier) {
            return Err(format!("{} carries an event of {:?}", self.carrier, self.project));
        }
        if let Some(pair) = self.needs.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("{} does not stand behind {}", pair[1].0, pair[0].0));
        }
        match self.needs.iter().find(|(_, version)| *version == Version::NONE) {
            Some((key, _)) => Err(format!("{key}: nothing needs version 0")),
            None => Ok(()),
        }
    }
}
