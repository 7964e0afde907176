//! Versions of refs, and positions in the journal.
//!
//! A position is a [`Slot`]: the node, the incarnation of its journal, a lane and a dense sequence number. A [`TxnId`]
//! is a slot and an attempt. After a refusal the lowest empty slot of a lane is used again, so the slot alone does not
//! identify a transaction.

use std::fmt;
use std::str::FromStr;

use crate::name::{NameError, NodeId, serde_as_text};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, out)
            }
        }
    };
}

number!(
    /// The counter of a ref. Each commit raises it by one, a deletion included. Zero means "never committed".
    Version,
    u64
);
number!(
    /// The number of an incarnation: one life of a node's journal, counted from 1.
    Incarnation,
    u64
);
number!(
    /// The number of a lane: one sequence of slots in an incarnation. A project always uses the same lane.
    Lane,
    u8
);
number!(
    /// The position of a slot in its lane: dense, counted from 0.
    Seq,
    u64
);

impl Lane {
    /// The lane of an entry of a list that has one entry per lane.
    #[must_use]
    pub fn at(index: usize) -> Self {
        Self(u8::try_from(index).unwrap_or(u8::MAX))
    }

    /// The index of this lane in a list that has one entry per lane.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Version {
    /// The version of a ref that was never committed.
    pub const NONE: Self = Self(0);

    /// The version after the next commit.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Seq {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The id of an incarnation: `eu-aws-0.7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncarnationId {
    /// The node whose journal it is.
    pub node: NodeId,
    /// The number of the incarnation at this node.
    pub number: Incarnation,
}

/// The id of a lane: `eu-aws-0.7.3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The incarnation that the lane belongs to.
    pub incarnation: IncarnationId,
    /// The number of the lane.
    pub lane: Lane,
}

/// A journal position: `eu-aws-0.7.3.1234`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The lane that the slot belongs to.
    pub lane: LaneId,
    /// The position in the lane.
    pub seq: Seq,
}

/// The id of a transaction: its slot and its attempt, `eu-aws-0.7.3.1234.00c0ffee00c0ffee`.
///
/// The attempt is 64 random bits. Two transactions may aim at one slot, one after the other. At most one of them is
/// ever in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId {
    /// The only slot in which the transaction can be.
    pub slot: Slot,
    /// Random bits that separate it from other transactions that aimed at the same slot.
    pub attempt: u64,
}

impl IncarnationId {
    /// A lane of this incarnation.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> LaneId {
        LaneId { incarnation: self.clone(), lane }
    }

    /// Pairs each entry of a list that has one entry per lane with the id of its lane.
    pub fn lanes<T>(&self, entries: impl IntoIterator<Item = T>) -> impl Iterator<Item = (LaneId, T)> {
        entries.into_iter().enumerate().map(|(index, entry)| (self.lane(Lane::at(index)), entry))
    }
}

impl LaneId {
    /// A slot of this lane.
    #[must_use]
    pub fn slot(&self, seq: Seq) -> Slot {
        Slot { lane: self.clone(), seq }
    }
}

impl Slot {
    /// The id of a transaction that aims at this slot.
    #[must_use]
    pub fn txn(&self, attempt: u64) -> TxnId {
        TxnId { slot: self.clone(), attempt }
    }
}

impl fmt::Display for IncarnationId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.node, self.number)
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.incarnation, self.lane)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.lane, self.seq)
    }
}

impl fmt::Display for TxnId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{:016x}", self.slot, self.attempt)
    }
}

/// Reads a canonical decimal number: no sign, no leading zero, no overflow.
fn decimal<T: FromStr>(what: &'static str, whole: &str, digits: &str) -> Result<T, NameError> {
    let refuse = || NameError::new(what, whole, "has a part that is not a plain decimal number");
    let canonical = digits == "0" || !digits.starts_with('0');
    if !canonical || digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse());
    }
    digits.parse().map_err(|_| refuse())
}

/// Splits a text into exactly `N` parts at its dots.
fn parts<'a, const N: usize>(what: &'static str, text: &'a str) -> Result<[&'a str; N], NameError> {
    let parts: Vec<&str> = text.splitn(N + 1, '.').collect();
    parts.try_into().map_err(|_| NameError::new(what, text, "has the wrong number of dot-separated parts"))
}

impl FromStr for IncarnationId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let [node, number] = parts("incarnation", text)?;
        Ok(Self { node: node.parse()?, number: Incarnation(decimal("incarnation", text, number)?) })
    }
}

impl FromStr for LaneId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let [node, number, lane] = parts("lane", text)?;
        let incarnation = IncarnationId { node: node.parse()?, number: Incarnation(decimal("lane", text, number)?) };
        Ok(incarnation.lane(Lane(decimal("lane", text, lane)?)))
    }
}

impl FromStr for Slot {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (lane, seq) = text.rsplit_once('.').ok_or_else(|| NameError::new("slot", text, "has no dot"))?;
        Ok(lane.parse::<LaneId>()?.slot(Seq(decimal("slot", text, seq)?)))
    }
}

impl FromStr for TxnId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| NameError::new("transaction id", text, why);
        let (slot, attempt) = text.rsplit_once('.').ok_or_else(|| refuse("has no dot"))?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if attempt.len() != 16 || !attempt.bytes().all(lower_hex) {
            return Err(refuse("does not end in 16 lower-case hexadecimal digits"));
        }
        let attempt = u64::from_str_radix(attempt, 16).map_err(|_| refuse("has a bad attempt"))?;
        Ok(slot.parse::<Slot>()?.txn(attempt))
    }
}

serde_as_text!(IncarnationId);
serde_as_text!(LaneId);
serde_as_text!(Slot);
serde_as_text!(TxnId);
