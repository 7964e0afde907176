//! A record that is parked or quarantined. Decisions read its kind; people read its reason.
//!
//! The release before stored no kind. Its entries are classified once, when they are read, by the beginnings of the
//! reasons that it wrote. It goes on reading those beginnings, so the reasons keep them.

use std::fmt::Display;

use bytes::Bytes;
use lockstep_proto::TxnId;
use serde::{Deserialize, Serialize};

/// A record that is parked or quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The encoded transaction as received.
    pub bytes: Bytes,
    /// The relation of the record to the journal.
    pub kind: HeldKind,
    /// The name of the project, as far as it could be read.
    pub project: String,
    /// Why the record is held, for people.
    pub reason: String,
    /// The transactions, objects or project that the record waits for. Empty in quarantine.
    pub waits_for: Vec<String>,
    /// When the record was set aside, in milliseconds since 1970.
    pub since_ms: u64,
}

/// The relation of a held record to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldKind {
    /// A transaction that was committed, as far as this node knows. It is parked, or its content is bad.
    Committed,
    /// Bytes that differ from those of the committed transaction.
    Copy,
    /// A record of a stream that cannot be decoded.
    Unreadable,
    /// A transaction that was never committed in this refdb.
    NeverCommitted,
    /// A record without a good signature that the journal does not have.
    Unsigned,
}

/// The beginning of the reason of a record that was never committed.
pub const NEVER_COMMITTED: &str = "the record was never committed: ";
/// The beginning of the reason of a record whose bytes are not those of the committed transaction.
pub const DIFFERS: &str = "the record differs from the committed one: ";
/// The beginning of the reason of a record without a good signature, alone or after one of the others.
const UNSIGNED: &str = "not signed: ";

/// The rest of the reason of a record that was never committed, for one that another refdb may have committed.
const OF_OTHER_REFDB: &str = "it is of the refdb that this one was rebuilt from, and no site had applied it";

/// The reason of a record without a good signature: `why` tells the defect.
#[must_use]
pub fn not_signed(why: &dyn Display) -> String {
    format!("{UNSIGNED}{why}")
}

impl HeldKind {
    /// The kind of an entry that the release before has stored under `id`.
    #[must_use]
    pub(super) fn of_earlier(id: &str, reason: &str) -> Self {
        let never = reason.strip_prefix(NEVER_COMMITTED);
        let differs = reason.strip_prefix(DIFFERS);
        match (never.or(differs), id.parse::<TxnId>()) {
            (Some(doubt), _) if doubt.starts_with(UNSIGNED) => Self::Unsigned,
            (Some(_), _) if never.is_some() => Self::NeverCommitted,
            (Some(_), _) => Self::Copy,
            // Any other reason under the id of a transaction is a defect of a committed one, whatever its words.
            (None, Ok(_)) => Self::Committed,
            (None, Err(_)) if reason.starts_with(UNSIGNED) => Self::Unsigned,
            (None, Err(_)) => Self::Unreadable,
        }
    }
}

impl Held {
    /// The record as one of another refdb, which holds back nothing in this one.
    #[must_use]
    pub(super) fn of_other_refdb(self) -> Self {
        let reason = format!("{NEVER_COMMITTED}{OF_OTHER_REFDB}");
        Self { kind: HeldKind::NeverCommitted, reason, waits_for: Vec::new(), ..self }
    }

    /// Whether a quarantined record is a committed transaction. Only such a record holds back the successors of its
    /// refs, and its slot must not be collected.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        self.kind == HeldKind::Committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those that the release before the kinds has written, as literals.
    #[test]
    fn an_entry_of_the_release_before_is_classified_by_its_text() {
        let txn = "eu-aws-0.2.7.43.9377d49e766adb35";
        let copy = &format!("{txn}/copy-0a1b2c3d");
        let cases = [
            (txn, "predecessor eu-aws-0.2.7.42.9377d49e766adb35", HeldKind::Committed),
            (txn, "pack 3 of 7 is torn", HeldKind::Committed),
            (txn, "objects are missing, although the record was never committed: no", HeldKind::Committed),
            (txn, "not signed: it has no signature", HeldKind::Committed),
            (txn, "the peer says: not signed: it has no signature", HeldKind::Committed),
            (txn, "the record was never committed: torn pack", HeldKind::NeverCommitted),
            (txn, "the record was never committed: not signed: it has no signature", HeldKind::Unsigned),
            (copy, "the record differs from the committed one: predecessor copy", HeldKind::Copy),
            (copy, "the record differs from the committed one: not signed: it has no signature", HeldKind::Unsigned),
            ("eu-aws/0/17", "the record is cut in its header", HeldKind::Unreadable),
            ("eu-aws/0/17", "not signed: the record is cut in its header", HeldKind::Unsigned),
        ];
        for (id, reason, kind) in cases {
            assert_eq!(HeldKind::of_earlier(id, reason), kind, "{reason}");
        }
    }
}
