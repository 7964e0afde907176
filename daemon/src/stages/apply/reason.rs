//! Why a transaction is parked, and why a record is quarantined.
//!
//! The store keeps a reason as text, and the status API shows it. Decisions read the [`HeldKind`] beside it. Every text
//! of an earlier release can be read: a text of no known form is the report of a failure.

use std::convert::Infallible;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefValue, TxnId, Version};

use crate::seams::volume::{DIFFERS, HeldKind, NEVER_COMMITTED, RefRecord, not_signed};
use crate::state::signing::NotSigned;

/// Why a transaction is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkReason {
    /// These transactions must be applied first.
    Predecessors(Vec<TxnId>),
    /// The same transaction was planned before it in one unit, and that unit failed.
    Repeated,
    /// The stream delivered a damaged record of it. Its bytes are those of the journal.
    Damaged,
    /// A ref on disk differs from the version map.
    DiskDiffers,
    /// The project lacks these objects.
    Objects(Vec<Oid>),
    /// The project does not exist at this node yet, or no longer does.
    Project(ProjectKey),
    /// It was committed, but contradicts a ref here.
    Contradiction(Contradiction),
    /// It must be compared with the journal, and the journal could not be read.
    Journal(String),
    /// The disk, a store or a peer failed.
    Failed(String),
}

impl ParkReason {
    /// The transactions, objects or project for which the transaction waits. Empty if it waits for another attempt.
    #[must_use]
    pub fn waits_for(&self) -> Vec<String> {
        match self {
            Self::Predecessors(transactions) => texts(transactions).collect(),
            Self::Objects(oids) => texts(oids).collect(),
            Self::Project(project) => vec![project.to_string()],
            Self::Contradiction(contradiction) => texts(contradiction.missing()).collect(),
            Self::Repeated | Self::Damaged | Self::DiskDiffers | Self::Journal(_) | Self::Failed(_) => Vec::new(),
        }
    }

    /// Whether the transaction can be tried again as soon as its predecessors are applied. Any other one is tried again
    /// after a time.
    #[must_use]
    pub fn ends_with_predecessors(&self) -> bool {
        matches!(self, Self::Predecessors(_) | Self::Repeated | Self::Damaged)
    }

    /// Reads a text of a known form.
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "predecessor copy" => Self::Repeated,
            "predecessor copy was damaged" => Self::Damaged,
            "predecessor state on disk differs" => Self::DiskDiffers,
            _ => match text.split_once(' ')? {
                ("predecessor", list) => Self::Predecessors(read_list(list)?),
                ("objects", list) => Self::Objects(read_list(list)?),
                ("project", key) => Self::Project(key.parse().ok()?),
                ("contradiction:", rest) => Self::Contradiction(Contradiction::read(rest)?),
                ("journal:", why) => Self::Journal(why.to_owned()),
                _ => return None,
            },
        })
    }
}

impl Display for ParkReason {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predecessors(transactions) => write!(out, "predecessor {}", list(transactions)),
            Self::Repeated => out.write_str("predecessor copy"),
            Self::Damaged => out.write_str("predecessor copy was damaged"),
            Self::DiskDiffers => out.write_str("predecessor state on disk differs"),
            Self::Objects(oids) => write!(out, "objects {}", list(oids)),
            Self::Project(project) => write!(out, "project {project}"),
            Self::Contradiction(contradiction) => write!(out, "contradiction: {contradiction}"),
            Self::Journal(why) => write!(out, "journal: {why}"),
            Self::Failed(why) => out.write_str(why),
        }
    }
}

impl FromStr for ParkReason {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::read(text).unwrap_or_else(|| Self::Failed(text.to_owned())))
    }
}

/// A transaction brings the next version of a ref, but names another predecessor, or another old value, than the
/// version before it has here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The ref whose versions contradict each other.
    pub key: RefKey,
    /// The old value that the transaction names.
    pub old: RefValue,
    /// The predecessor that the transaction names.
    pub predecessor: Option<TxnId>,
    /// The ref's record here.
    pub here: RefRecord,
}

impl Contradiction {
    /// The predecessor that the transaction names, if another one is applied here.
    fn missing(&self) -> Option<&TxnId> {
        self.predecessor.as_ref().filter(|predecessor| **predecessor != self.here.txn)
    }

    fn read(text: &str) -> Option<Self> {
        let (key, rest) = text.split_once(" continues ")?;
        let (old, rest) = rest.split_once(" by ")?;
        let (predecessor, rest) = rest.split_once(", but version ")?;
        let (version, rest) = rest.split_once(" is ")?;
        let (value, txn) = rest.split_once(" by ")?;
        let predecessor = if predecessor.is_empty() { None } else { Some(predecessor.parse().ok()?) };
        let here =
            RefRecord { version: Version(version.parse().ok()?), value: value.parse().ok()?, txn: txn.parse().ok()? };
        Some(Self { key: key.parse().ok()?, old: old.parse().ok()?, predecessor, here })
    }
}

impl Display for Contradiction {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { key, old, predecessor, here } = self;
        write!(out, "{key} continues {old} by ")?;
        predecessor.iter().try_for_each(|predecessor| write!(out, "{predecessor}"))?;
        write!(out, ", but version {} is {} by {}", here.version, here.value, here.txn)
    }
}

/// Why a transaction is compared with the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Its content is bad: a description of the defect.
    Bad(String),
    /// It contradicts a ref here.
    Contradiction(Contradiction),
    /// It is parked for too long, or too much is parked.
    Parked(ParkReason),
    /// Its signature is not good.
    Unsigned(NotSigned),
}

impl Display for Doubt {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(why) => out.write_str(why),
            Self::Contradiction(contradiction) => write!(out, "{contradiction}"),
            Self::Parked(reason) => write!(out, "{reason}"),
            Self::Unsigned(why) => out.write_str(&not_signed(why)),
        }
    }
}

/// Why a transaction is quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuarantineReason {
    /// It was committed, and its content is bad: a description of the defect.
    Bad(String),
    /// Its slot holds no transaction.
    NeverCommitted(Doubt),
    /// Its slot holds other bytes.
    Differs(Doubt),
}

impl QuarantineReason {
    /// The kind under which the record is stored.
    #[must_use]
    pub fn kind(&self) -> HeldKind {
        match self {
            Self::Bad(_) => HeldKind::Committed,
            Self::NeverCommitted(Doubt::Unsigned(_)) | Self::Differs(Doubt::Unsigned(_)) => HeldKind::Unsigned,
            Self::NeverCommitted(_) => HeldKind::NeverCommitted,
            Self::Differs(_) => HeldKind::Copy,
        }
    }
}

impl Display for QuarantineReason {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(why) => out.write_str(why),
            Self::NeverCommitted(doubt) => write!(out, "{NEVER_COMMITTED}{doubt}"),
            Self::Differs(doubt) => write!(out, "{DIFFERS}{doubt}"),
        }
    }
}

fn texts<'a, T: Display + 'a>(items: impl IntoIterator<Item = &'a T>) -> impl Iterator<Item = String> {
    items.into_iter().map(ToString::to_string)
}

fn list<T: Display>(items: &[T]) -> String {
    texts(items).collect::<Vec<_>>().join(", ")
}

fn read_list<T: FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(", ").map(|one| one.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EARLIER: &str = "eu-aws-0.2.7.43.9377d49e766adb35";
    const HERE: &str = "blr-1-0.2.1.3.162ca81452d939bc";
    const OID: &str = "7d469a98a26d65b6fe386254140dd54c718240a9";

    fn read(text: &str) -> ParkReason {
        let Ok(reason) = text.parse();
        reason
    }

    /// The texts are those that the release before the types has written.
    #[test]
    fn every_stored_text_is_read_and_written_again() {
        let (earlier, oid): (TxnId, Oid) = (EARLIER.parse().unwrap(), OID.parse().unwrap());
        let two = |one: &str, other: &str| vec![one.to_owned(), other.to_owned()];
        let contradiction = |old: RefValue, predecessor: Option<TxnId>| {
            let here = RefRecord { version: Version(3), value: RefValue::Oid(oid), txn: HERE.parse().unwrap() };
            ParkReason::Contradiction(Contradiction { key: "refs/heads/b1".parse().unwrap(), old, predecessor, here })
        };
        let here = format!("but version 3 is {OID} by {HERE}");
        let unreadable = "the refdb did not answer (timeout); the outcome is not known yet";
        let cases = [
            (
                format!("predecessor {HERE}, {EARLIER}"),
                ParkReason::Predecessors(vec![HERE.parse().unwrap(), earlier.clone()]),
                two(HERE, EARLIER),
            ),
            ("predecessor copy".to_owned(), ParkReason::Repeated, vec![]),
            ("predecessor copy was damaged".to_owned(), ParkReason::Damaged, vec![]),
            ("predecessor state on disk differs".to_owned(), ParkReason::DiskDiffers, vec![]),
            (format!("objects {OID}"), ParkReason::Objects(vec![oid]), vec![OID.to_owned()]),
            (format!("objects {OID}, {OID}"), ParkReason::Objects(vec![oid, oid]), two(OID, OID)),
            (
                "project tools/build#2".to_owned(),
                ParkReason::Project("tools/build#2".parse().unwrap()),
                vec!["tools/build#2".to_owned()],
            ),
            (
                format!("contradiction: refs/heads/b1 continues {OID} by {EARLIER}, {here}"),
                contradiction(RefValue::Oid(oid), Some(earlier.clone())),
                vec![EARLIER.to_owned()],
            ),
            (
                format!("contradiction: refs/heads/b1 continues absent by {HERE}, {here}"),
                contradiction(RefValue::Absent, Some(HERE.parse().unwrap())),
                vec![],
            ),
            (
                format!("contradiction: refs/heads/b1 continues absent by , {here}"),
                contradiction(RefValue::Absent, None),
                vec![],
            ),
            (format!("journal: {unreadable}"), ParkReason::Journal(unreadable.to_owned()), vec![]),
            (
                "any: use the disk failed: simulated fault".to_owned(),
                ParkReason::Failed("any: use the disk failed: simulated fault".to_owned()),
                vec![],
            ),
            (
                "project p#1 does not answer".to_owned(),
                ParkReason::Failed("project p#1 does not answer".to_owned()),
                vec![],
            ),
        ];
        for (text, reason, waits_for) in cases {
            assert_eq!(read(&text), reason);
            assert_eq!(reason.to_string(), text);
            assert_eq!(reason.waits_for(), waits_for, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_changed_by_reading_it(
            text in "(predecessor|objects|project|contradiction:|journal:|)[ -~]{0,40}",
        ) {
            prop_assert_eq!(read(&text).to_string(), text);
        }
    }
}
