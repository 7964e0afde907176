//! The wire types of Lockstep: the data that travels between sidecars, and between a sidecar and its bridges.
//!
//! Every type here is a plain value. Names are validated newtypes that are parsed once, at the edge. A value of such a
//! type proves that its text obeys the rules of git and Gerrit. The event envelope is protobuf. It has a format
//! version, a rule for critical fields, and caps that are checked before anything is allocated. The bridge and status
//! bodies are JSON. This crate uses no tokio, no AWS and no git.
//!
//! | module | content |
//! |---|---|
//! | [`limits`] | every hard cap of the wire, in one file |
//! | [`name`] | names of projects, refs, sites and nodes |
//! | [`named_batch`] | a batch before its names are checked, and its answer |
//! | [`oid`] | object ids, SHA-1 and SHA-256 |
//! | [`slot`] | versions, incarnations, lanes, slots, transaction ids |
//! | [`value`] | values of refs and pseudo-refs |
//! | [`transaction`] | a committed transaction, as the journal and the event log carry it |
//! | [`announcement`] | a stream event in transit to the other nodes, and the bridge's bodies for it |
//! | `precheck`, `decode_error` | the caps before anything is decoded; the reasons why a record cannot be read |
//! | `rule_broken` | the rules that a record or a stream event can break |
//! | [`record`] | a record of the event log: a transaction or an announcement |
//! | [`bridge`] | bodies of the bridge API |
//! | [`arrival`] | whether a site shows a transaction |
//! | [`capacity`] | the capacity of streams: the document of the autoscalers, and its part of the status |
//! | [`aws`] | how a node reaches AWS, as the status API tells it |
//! | [`rebuild`] | the identity of a refdb, and bodies for the rebuilding of a lost one |
//! | [`replay`] | bodies of the call that reads streams again |
//! | [`resync`] | bodies of the call that brings refs and objects of a node to the refdb's state |
//! | [`refdb_move`] | bodies for the move of a running refdb to other tables |
//! | [`refresh`] | bodies of the refresh API: the subjects that a Gerrit must look at again |
//! | [`gerrit`] | bodies for the handshake of a Gerrit, and for strays |
//! | [`seed`] | bodies for seeding: an existing repository becomes a project |
//! | [`failover`] | bodies of the failover API, and the state of a failover |
//! | [`drill`] | drills of a failover, their trend, and the preflight |
//! | [`sharing`] | reads of the streams that the nodes of a site share |
//! | [`silent`] | silent drills: a standby on a copy of its volume |
//! | [`overview`] | all sites with the digests of their nodes, and the answers for a failover |
//! | [`locks`] | locks of operators and bridges: the document in the refdb, and bodies of the API for them |
//! | [`keys`] | the keys of sites that sign records, and bodies of the API for them |
//! | [`history`] | past failovers and changes of role |
//! | [`site_list`] | sites that join and leave, and the progress of a node that takes everything from others |
//! | [`debt`] | projects that a node cannot bring up to date, as the status API shows them |
//! | [`peer`] | bodies of calls between peers |
//! | [`digests`] | bodies of the calls by which two sites compare their refs |
//! | [`explain`] | bodies of the calls that explain one ref at every site |
//! | [`doctor`] | the checks of a node with their findings, and the settings that all nodes should share |
//! | [`status`] | bodies of the status API |
//! | [`verify`] | bodies of the verification API |

pub mod announcement;
pub mod arrival;
pub mod aws;
pub mod bridge;
pub mod capacity;
pub mod debt;
mod decode_error;
pub mod digests;
pub mod doctor;
pub mod drill;
pub mod explain;
pub mod failover;
pub mod gerrit;
pub mod history;
pub mod keys;
pub mod limits;
pub mod locks;
pub mod name;
pub mod named_batch;
pub mod oid;
pub mod overview;
pub mod peer;
mod precheck;
pub mod rebuild;
pub mod record;
pub mod refdb_move;
pub mod refresh;
pub mod replay;
pub mod resync;
mod rule_broken;
pub mod seed;
pub mod sharing;
pub mod silent;
pub mod site_list;
pub mod slot;
pub mod status;
pub mod transaction;
pub mod value;
pub mod verify;

pub use announcement::{Announcement, AnnouncementId, EventBody};
pub use decode_error::DecodeError;
pub use name::{NameError, NodeId, ProjectKey, ProjectName, RefName, SiteId};
pub use oid::Oid;
pub use record::Record;
pub use rule_broken::{MessageError, RuleBroken};
pub use slot::{Incarnation, IncarnationId, Lane, LaneId, Seq, Slot, TxnId, Version};
pub use transaction::{Command, KeyId, Locator, Pack, Signature, Transaction};
pub use value::{ProjectPhase, ProjectState, RefKey, RefValue};
