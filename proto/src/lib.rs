//! The words of Lockstep as types: what travels between sidecars, and between a sidecar and its bridges.
//!
//! Everything here is a plain value. Names are validated newtypes that are parsed once, at the edge; a value of
//! such a type is proof that the text obeyed git's and Gerrit's rules. The event envelope is protobuf with a
//! format version, a rule for critical fields and caps that are checked before anything is allocated. The
//! bridge and status bodies are JSON. There is no tokio, no AWS and no git in this crate.
//!
//! | module | idea |
//! |---|---|
//! | [`limits`] | every hard cap of the wire, in one file |
//! | [`name`] | projects, refs, sites, nodes |
//! | [`oid`] | object ids, SHA-1 and SHA-256 |
//! | [`slot`] | versions, incarnations, lanes, slots, transaction ids |
//! | [`value`] | what a ref or a pseudo-ref can be |
//! | [`transaction`] | a committed transaction, as the journal and the event log carry it |
//! | [`announcement`] | a stream event of one site on its way to the others, and the bridge's bodies for it |
//! | [`record`] | what a record of the event log is: a transaction or an announcement |
//! | [`bridge`] | bodies of the bridge API |
//! | [`refresh`] | bodies of the refresh API: what a Gerrit must look at again |
//! | [`gerrit`] | a Gerrit that starts |
//! | [`seed`] | an existing repository becomes a project |
//! | [`status`] | bodies of the status API |

pub mod announcement;
pub mod bridge;
mod decode_error;
pub mod gerrit;
pub mod limits;
pub mod name;
pub mod oid;
mod outline;
pub mod record;
pub mod refresh;
pub mod seed;
pub mod slot;
pub mod status;
pub mod transaction;
pub mod value;

pub use announcement::{Announcement, AnnouncementId, EventBody};
pub use decode_error::DecodeError;
pub use name::{NameError, NodeId, ProjectKey, ProjectName, RefName, SiteId};
pub use oid::Oid;
pub use record::Record;
pub use slot::{Incarnation, IncarnationId, Lane, LaneId, Seq, Slot, TxnId, Version};
pub use transaction::{Command, Pack, Transaction};
pub use value::{ProjectPhase, ProjectState, RefKey, RefValue};
