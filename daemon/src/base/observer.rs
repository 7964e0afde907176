//! What the stages tell whoever watches: metrics, the status board, the simulator's trace.
//!
//! The stages know only this trait; `app` plugs in what listens.

use lockstep_proto::bridge::RefusalCode;
use lockstep_proto::{SiteId, Transaction, TxnId};
use std::time::Duration;

/// Listens to a node. Every method does nothing unless it is overridden, and none may block.
pub trait Observer: Send + Sync {
    /// A transaction was committed here and is (or is not yet) visible; it took so long, from request to answer.
    fn committed(&self, _transaction: &Transaction, _visible: bool, _took: Duration) {}
    /// A command was refused here.
    fn refused(&self, _code: RefusalCode) {}
    /// A transaction's fate was not known when its caller was answered.
    fn unknown(&self, _txn: &TxnId) {}
    /// A transaction from the event log was seen, and is not applied yet.
    fn seen(&self, _origin: &SiteId, _txn: &TxnId, _committed_at_ms: u64) {}
    /// A transaction's refs can be read here.
    fn applied(&self, _transaction: &Transaction) {}
    /// A transaction from the event log was not newer than what is here.
    fn skipped(&self, _origin: &SiteId, _txn: &TxnId) {}
    /// A transaction was fetched from the journal, because something was missing.
    fn caught_up(&self, _txn: &TxnId) {}
    /// A transaction waits.
    fn parked(&self, _txn: &TxnId, _reason: &str) {}
    /// A record was set aside: an alarm.
    fn quarantined(&self, _what: &str, _reason: &str) {}
    /// Slots were moved to the event log; it took so long.
    fn published(&self, _count: usize, _took: Duration) {}
    /// Stream events of this node are in the event log.
    fn forwarded(&self, _count: usize) {}
    /// Stream events of other nodes were heard, and confirmed, by this node's Gerrit.
    fn event_confirmed(&self, _count: usize) {}
    /// A stream event was dropped and will not be heard here: an alarm.
    fn event_dropped(&self, _what: &str, _reason: &str) {}
    /// Gerrit reported so many refresh tasks as done, and so many as failed.
    fn refreshed(&self, _done: u64, _failed: u64) {}
    /// A task failed and will try again.
    fn failed(&self, _stage: &'static str, _why: &str) {}
}

/// Nobody listens.
#[derive(Debug, Default)]
pub struct Nobody;

impl Observer for Nobody {}
