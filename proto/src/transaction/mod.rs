//! A committed transaction, as the journal and the event log carry it.
//!
//! One form serves both: the bytes that a commit writes into its journal slot are the bytes that the publisher
//! appends to the event log. They are encoded once ([`Transaction::encode`]) and resent unchanged.
//!
//! **Compatibility.** `format` is raised only by a change that no older reader can survive. A new field that an
//! older reader may ignore is simply added; one that it must not ignore is also listed, by its number, in
//! `critical`. A reader that meets a format or a critical field that it does not know stops there
//! ([`DecodeError::Newer`]): the record waits for an upgrade, it is not bad and it is never skipped.

pub(crate) mod wire;

use bytes::Bytes;

use crate::decode_error::DecodeError;
use crate::limits;
use crate::name::{ProjectKey, SiteId};
use crate::oid::Oid;
use crate::slot::{Seq, TxnId, Version};
use crate::value::{RefKey, RefValue};

/// The format that this release writes.
pub const FORMAT: u32 = 1;

/// One ref's step in its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The ref or pseudo-ref.
    pub key: RefKey,
    /// Its value before.
    pub old: RefValue,
    /// Its value after.
    pub new: RefValue,
    /// Its version after: the version before, plus one.
    pub version: Version,
    /// The transaction that gave the version before; none for the first version.
    pub predecessor: Option<TxnId>,
}

/// Where the objects are that the new values need beyond the bases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pack {
    /// Nothing new is needed (a deletion, a rewind, a ref on a known commit).
    Empty,
    /// A git pack, version 2, at most [`limits::INLINE_PACK_BYTES`] long.
    Inline(Bytes),
    /// A git pack in the blob store.
    Blob {
        /// Its key there.
        key: String,
        /// Its length in bytes.
        bytes: u64,
        /// Its SHA-256.
        sha256: [u8; 32],
    },
}

/// A ref transaction at its commit point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Slot and attempt.
    pub id: TxnId,
    /// The site that committed it.
    pub site: SiteId,
    /// The project, with its incarnation.
    pub project: ProjectKey,
    /// The committing node's clock when the commit was sent, in milliseconds since 1970 (UTC). For lag and for
    /// people; no decision rests on it.
    pub committed_at_ms: u64,
    /// What it does, in the order in which readers may see it: deletions, patch sets, the rest, `meta`.
    pub commands: Vec<Command>,
    /// The objects.
    pub pack: Pack,
    /// Committed objects that the pack builds on: with their closure, the pack is complete.
    pub bases: Vec<Oid>,
    /// The bridge's own id of the request, for its retries.
    pub request_id: String,
    /// Who asked for it, for people; empty when unknown.
    pub actor: String,
    /// W3C trace context of the push; empty when there is none.
    pub traceparent: String,
}

impl Transaction {
    /// The bytes for the journal and the event log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Reads bytes that came from the journal or the event log.
    ///
    /// # Errors
    /// [`DecodeError::Newer`] for what only a newer release understands, [`DecodeError::Bad`] for everything
    /// else that is wrong: sizes above the caps (checked before anything is allocated), bad names, versions that
    /// do not follow their predecessor, a key that occurs twice.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let transaction = wire::decode(bytes)?;
        transaction.check().map_err(DecodeError::Bad)?;
        Ok(transaction)
    }

    /// The new version of a key, if the transaction has a command for it.
    #[must_use]
    pub fn command(&self, key: &RefKey) -> Option<&Command> {
        self.commands.iter().find(|command| command.key == *key)
    }

    /// Rules that hold in every transaction, whoever made it.
    fn check(&self) -> Result<(), String> {
        if self.commands.is_empty() || self.commands.len() > limits::COMMANDS {
            return Err(format!("it has {} commands, 1 to {} are allowed", self.commands.len(), limits::COMMANDS));
        }
        if self.id.slot.seq == Seq(u64::MAX) {
            return Err(format!("{}: no slot can follow its slot", self.id));
        }
        let mut keys: Vec<&RefKey> = self.commands.iter().map(|command| &command.key).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{} occurs twice", twice[0]));
        }
        self.commands.iter().try_for_each(|command| command.check(&self.id))
    }
}

impl Command {
    fn check(&self, id: &TxnId) -> Result<(), String> {
        let first = self.version == Version(1);
        if self.version == Version::NONE || first != self.predecessor.is_none() {
            return Err(format!("{}: version {} does not fit its predecessor", self.key, self.version));
        }
        if self.version == Version(u64::MAX) {
            return Err(format!("{}: no version can follow version {}", self.key, self.version));
        }
        if self.predecessor.as_ref() == Some(id) {
            return Err(format!("{}: the transaction is its own predecessor", self.key));
        }
        if first && !self.old.is_absent() {
            return Err(format!("{}: the first version has an old value", self.key));
        }
        for value in [&self.old, &self.new] {
            let fits = match (&self.key, value) {
                (_, RefValue::Absent)
                | (RefKey::Ref(_), RefValue::Oid(_))
                | (RefKey::Head, RefValue::Symref(_))
                | (RefKey::State, RefValue::State(_)) => true,
                (RefKey::State | RefKey::Head | RefKey::Ref(_), _) => false,
            };
            if !fits {
                return Err(format!("{}: {value} is no value for it", self.key));
            }
        }
        Ok(())
    }
}
