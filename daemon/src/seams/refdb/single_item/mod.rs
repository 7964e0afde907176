//! Writes with conditions on several items, for a store without transactions, as writes of one item each.
//!
//! A commit is one of them; [`staged`](super::staged) makes it of locks. The others are here: the opening of an
//! incarnation ([`open`]), and the changes of a site and of the failover document, which exclude each other
//! ([`change_site`], [`begin_failover`], [`put_failover`]). Each may end after any of its writes, and each write may
//! arrive late. `tests` runs them in every order beside each other.
//!
//! They rest on strong reads: a read sees every write that was answered before it began, from any Region.

mod change;
mod open;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use lockstep_proto::SiteId;
use lockstep_proto::rebuild::KnownSite;
use serde::{Deserialize, Serialize};

use super::{DocumentRecord, IncarnationRecord, RefDbError, SiteAnswer, SiteRecord};

pub(super) use change::{begin_failover, change_site, put_failover};
pub(super) use open::open;

/// A change of a site that is announced on the failover document, and then written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SiteChange {
    /// The record before. None: there is none.
    pub(super) from: Option<KnownSite>,
    /// The record after the change.
    pub(super) to: KnownSite,
}

/// The state of the failover document, with the changes of sites that were announced on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// The document. None if it was never written.
    pub(super) record: Option<DocumentRecord>,
    /// The number of announcements so far.
    pub(super) number: u64,
    /// The announced change that is perhaps not written yet.
    pub(super) announced: Option<SiteChange>,
}

impl Turn {
    /// The revision of the document. Zero if it was never written.
    pub(super) fn revision(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.revision)
    }
}

/// The reads and writes of one item of which the larger ones are made. Every read is strong.
#[async_trait]
pub(super) trait SingleItem: Send + Sync {
    /// The record of a site. None if there is none.
    async fn site(&self, site: &SiteId) -> Result<Option<SiteRecord>, RefDbError>;

    /// Whether the identity says that no incarnation may be opened: the refdb moves, or has moved.
    async fn is_closed(&self) -> Result<bool, RefDbError>;

    /// Raises the highest number of a node to that of the record. Returns false if it is not below.
    async fn raise_highest(&self, record: &IncarnationRecord) -> Result<bool, RefDbError>;

    /// Writes the record of an incarnation. Returns false if there is one.
    async fn put_incarnation(&self, record: &IncarnationRecord) -> Result<bool, RefDbError>;

    /// Ends an incarnation that was written, but not opened, in any state.
    async fn withdraw(&self, record: &IncarnationRecord) -> Result<(), RefDbError>;

    /// Writes the record of a site, if the stored one still has the epoch of `from`.
    async fn put_site(&self, from: Option<&SiteRecord>, to: &SiteRecord) -> Result<SiteAnswer, RefDbError>;

    /// Reads the failover document with its announcement.
    async fn turn(&self) -> Result<Turn, RefDbError>;

    /// Announces a change, if the document is still as in `turn`, and none is announced. Raises the number of
    /// announcements. Returns whether it was done.
    async fn announce(&self, turn: &Turn, change: &SiteChange) -> Result<bool, RefDbError>;

    /// Removes the announcement with this number, if it is still there.
    async fn end_announcement(&self, number: u64) -> Result<(), RefDbError>;

    /// Replaces the document, if it is still as in `turn`, and no change is announced. Returns whether it was done.
    async fn put_record(&self, turn: &Turn, record: &DocumentRecord) -> Result<bool, RefDbError>;
}
