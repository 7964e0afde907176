//! The locator of a transaction that is too long for a journal slot and for a record of the event log.
//!
//! The long form is the encoded transaction, in the blob store. The slot and the record hold the locator in its place.
//! The locator names the transaction, so that it can be ordered, routed and told from others without the long form.

use super::Transaction;
use crate::name::{ProjectKey, SiteId};
use crate::slot::TxnId;

/// Where the long form of a transaction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// The id of the transaction.
    pub id: TxnId,
    /// The site that committed it.
    pub site: SiteId,
    /// The project, with its incarnation.
    pub project: ProjectKey,
    /// As in [`Transaction::committed_at_ms`].
    pub committed_at_ms: u64,
    /// The key of the blob.
    pub key: String,
    /// The length of the long form, in bytes.
    pub bytes: u64,
    /// The SHA-256 of the long form.
    pub sha256: [u8; 32],
}

impl Locator {
    /// The locator of a transaction whose encoding has this length and this SHA-256. The key of the blob follows from
    /// the id, so all copies of a commit name the same blob.
    #[must_use]
    pub fn of(transaction: &Transaction, bytes: u64, sha256: [u8; 32]) -> Self {
        let Transaction { id, site, project, committed_at_ms, .. } = transaction.clone();
        Self { key: format!("transactions/{id}"), id, site, project, committed_at_ms, bytes, sha256 }
    }

    /// The transaction without its commands and objects.
    #[must_use]
    pub fn outline(&self) -> Transaction {
        let empty = Transaction::empty(self.id.clone(), self.site.clone(), self.project.clone());
        Transaction { committed_at_ms: self.committed_at_ms, ..empty }
    }
}
