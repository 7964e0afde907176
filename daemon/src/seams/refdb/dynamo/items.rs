//! Converts items of the refs and journal tables to and from the types of the seam.
//!
//! | item | attributes |
//! |---|---|
//! | ref | `ver` N, `val` S, `txn` S (all three or none); `dir`; `lck` S, the transaction that has locked it |
//! | slot | `txn` S and `data` B, or `poison` BOOL |
//!
//! `dir` marks a name as a directory. It is BOOL true, or S, the transaction that loosened the mark. A program of an
//! earlier release that marks the name again replaces either form by true.
//!
//! An item that breaks this form is [`RefDbError::Broken`], which names the attribute. It never counts as "absent".

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use lockstep_proto::{RefKey, RefValue, Slot, TxnId, Version};

use super::keys;
use crate::seams::refdb::{RefDbError, RefItem, SlotState};

/// An item, as the SDK represents it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// An attribute of type S.
pub(super) fn text(value: impl Display) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

/// An attribute of type N.
pub(super) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Reads the attributes of one item. Its errors name the item and the attribute.
pub(super) struct Reader<'a>(pub(super) &'a Item);

impl<'a> Reader<'a> {
    /// A text attribute that may be missing.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, RefDbError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(self.malformed(name, "is not a text")),
        }
    }

    /// A text attribute that must be present and must parse.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, RefDbError> {
        self.parse_optional(name)?.ok_or_else(|| self.malformed(name, "is missing"))
    }

    /// A text attribute that must parse if it is present.
    pub(super) fn parse_optional<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, RefDbError> {
        let parse = |text: &str| text.parse().map_err(|error: T::Err| self.malformed(name, &error.to_string()));
        self.text(name)?.map(parse).transpose()
    }

    /// A number attribute that must be present.
    pub(super) fn number(&self, name: &str) -> Result<u64, RefDbError> {
        self.number_optional(name)?.ok_or_else(|| self.malformed(name, "is missing"))
    }

    /// A number attribute that may be missing.
    pub(super) fn number_optional(&self, name: &str) -> Result<Option<u64>, RefDbError> {
        self.0.get(name).map(|value| self.as_number(name, value)).transpose()
    }

    /// Reads a value as a number. `name` is its attribute, for the error.
    pub(super) fn as_number(&self, name: &str, value: &AttributeValue) -> Result<u64, RefDbError> {
        let digits = value.as_n().map_err(|_| self.malformed(name, "is not a number"))?;
        digits.parse().map_err(|_| self.malformed(name, "is not a whole number of 64 bits"))
    }

    /// A boolean attribute. If it is missing, it is false.
    pub(super) fn flag(&self, name: &str) -> Result<bool, RefDbError> {
        let Some(value) = self.0.get(name) else { return Ok(false) };
        value.as_bool().copied().map_err(|_| self.malformed(name, "is not a boolean"))
    }

    fn bytes(&self, name: &str) -> Result<Bytes, RefDbError> {
        let blob = self.0.get(name).and_then(|value| value.as_b().ok());
        blob.map(|blob| Bytes::copy_from_slice(blob.as_ref())).ok_or_else(|| self.malformed(name, "is not binary"))
    }

    /// The error for an attribute that breaks the form of its item.
    pub(super) fn malformed(&self, name: &str, why: &str) -> RefDbError {
        let key = |name| self.0.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str);
        RefDbError::Broken(format!("item {} {}: attribute {name:?} {why}", key("pk"), key("sk")))
    }
}

/// Reads the item of a ref.
pub(super) fn ref_item(key: &RefKey, item: &Item) -> Result<RefItem, RefDbError> {
    let reader = Reader(item);
    let version = Version(reader.number_optional("ver")?.unwrap_or(0));
    let txn: Option<TxnId> = reader.parse_optional("txn")?;
    let value: Option<RefValue> = reader.parse_optional("val")?;
    if (version != Version::NONE) != txn.is_some() || txn.is_some() != value.is_some() {
        return Err(reader.malformed("ver", "must be present exactly when txn and val are"));
    }
    let loosened = match item.get("dir") {
        Some(AttributeValue::S(_)) => Some(reader.parse("dir")?),
        Some(_) | None => None,
    };
    Ok(RefItem {
        key: key.clone(),
        version,
        value: value.unwrap_or_default(),
        txn,
        directory: loosened.is_some() || reader.flag("dir")?,
        loosened,
        lock: reader.parse_optional("lck")?,
    })
}

/// The item of a slot that holds a transaction.
pub(super) fn committed(id: &TxnId, encoded: &Bytes) -> Item {
    let mut item = keys::slot(&id.slot);
    item.insert("txn".to_owned(), text(id));
    item.insert("data".to_owned(), AttributeValue::B(Blob::new(encoded.to_vec())));
    item
}

/// The item of a poisoned slot.
pub(super) fn poison(slot: &Slot) -> Item {
    let mut item = keys::slot(slot);
    item.insert("poison".to_owned(), AttributeValue::Bool(true));
    item
}

/// Reads the state of a slot from its item.
pub(super) fn slot_state(item: Option<&Item>) -> Result<SlotState, RefDbError> {
    let Some(item) = item else { return Ok(SlotState::Empty) };
    let reader = Reader(item);
    if reader.flag("poison")? {
        return Ok(SlotState::Poisoned);
    }
    Ok(SlotState::Committed(reader.parse("txn")?, reader.bytes("data")?))
}
