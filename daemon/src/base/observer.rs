//! Reports of the stages to metrics, the status board and the simulator's trace.
//!
//! The stages know only this trait. `node/assembly` plugs in the receivers.

use lockstep_proto::bridge::RefusalCode;
use lockstep_proto::sharing::RecordOrigin;
use lockstep_proto::status::UncommittedUpdate;
use lockstep_proto::{SiteId, Transaction, TxnId};
use std::fmt::{Debug, Display};
use std::time::Duration;

/// Receives the reports of a node. Each method does nothing unless it is overridden. None may block.
pub trait Observer: Send + Sync {
    /// A transaction was committed here. `visible`: the local refs show it already. `took`: the time from request to
    /// answer.
    fn committed(&self, _transaction: &Transaction, _visible: bool, _took: Duration) {}
    /// A command was refused here.
    fn refused(&self, _code: RefusalCode) {}
    /// The outcome of a transaction was unknown when its caller was answered.
    fn unknown(&self, _txn: &TxnId) {}
    /// An update of a ref was begun here, and nobody committed it, because the site was fenced meanwhile.
    fn uncommitted(&self, _update: &UncommittedUpdate) {}
    /// Records of a shard were read from the stream, or handed over by a sibling.
    fn records_from(&self, _origin: RecordOrigin, _count: usize) {}
    /// The lease of a shard was taken, handed over or lost. `change`: a label of the metric.
    fn reader_lease(&self, _change: &'static str) {}
    /// A sibling that reads a shard gave no records, so this node reads the stream. `reason`: a label of the metric.
    fn read_alone(&self, _reason: &'static str) {}
    /// A transaction from the event log was seen, and is not applied yet.
    fn seen(&self, _origin: &SiteId, _txn: &TxnId, _committed_at_ms: u64) {}
    /// The refs of a transaction can be read here.
    fn applied(&self, _transaction: &Transaction) {}
    /// A transaction from the event log was skipped, because it was not newer than the local refs.
    fn skipped(&self, _origin: &SiteId, _txn: &TxnId) {}
    /// A transaction was fetched from the journal, because something was missing.
    fn caught_up(&self, _txn: &TxnId) {}
    /// A transaction was parked.
    fn parked(&self, _txn: &TxnId, _reason: &dyn Display) {}
    /// A record was quarantined: an alarm.
    fn quarantined(&self, _what: &str, _reason: &dyn Display) {}
    /// A record of a stream had no good signature. `end`: its fate, a label of the metric.
    fn unsigned(&self, _end: &'static str) {}
    /// Slots were moved to the event log. `took`: the time that this needed.
    fn published(&self, _count: usize, _took: Duration) {}
    /// The event log did not take some records of an append. `repeats`: the number of records that it took, and that
    /// must be appended a second time behind a refused one.
    fn publish_refused(&self, _refused: usize, _repeats: usize) {}
    /// Stream events of this node are in the event log.
    fn forwarded(&self, _count: usize) {}
    /// This node's Gerrit confirmed stream events of other nodes.
    fn event_confirmed(&self, _count: usize) {}
    /// A stream event was dropped and will not be delivered here: an alarm.
    fn event_dropped(&self, _what: &str, _reason: &str) {}
    /// Gerrit reported refresh tasks: the number that were done, and the number that failed.
    fn refreshed(&self, _done: u64, _failed: u64) {}
    /// This node has completed or aborted a failover.
    fn failover_ended(&self, _number: u64, _outcome: &dyn Debug) {}
    /// This node has driven a drill to its end. `red` says why it is red. It is empty if the drill is green.
    fn drill_ended(&self, _number: u64, _red: &[String]) {}
    /// A silent drill of this node has ended. `red` says why it is red. It is empty if the drill is green.
    fn silent_drill_ended(&self, _id: &str, _red: &[String]) {}
    /// All repositories were looked at: the number of strays in them.
    fn strays(&self, _count: u64) {}
    /// The node starts: the present step, for people. The last one is followed by the stages' own reports.
    fn starting(&self, _step: &dyn Display) {}
    /// A stage failed and will try again.
    fn failed(&self, _stage: &'static str, _why: &dyn Display) {}
}

/// An observer that ignores all reports.
#[derive(Debug, Default)]
pub struct Nobody;

impl Observer for Nobody {}
