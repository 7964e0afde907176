//! A committed transaction, as the journal and the event log carry it.
//!
//! One form serves both: the publisher appends to the event log the bytes that the commit wrote into its journal slot.
//! They are encoded once ([`Transaction::encode`]) and resent unchanged.
//!
//! **Compatibility.** `format` is raised only by a change that no older reader can survive. A new field that older
//! readers may ignore is simply added. A field that they must not ignore is also listed, by its number, in `critical`.
//! A reader stops at a format or a critical field that it does not know ([`DecodeError::Newer`]). The record then waits
//! for an upgrade. It is not bad, and it is never skipped.

mod locator;
pub mod signature;
pub(crate) mod wire;

use bytes::Bytes;

use crate::decode_error::DecodeError;
use crate::limits;
use crate::name::{ProjectKey, RefName, SiteId};
use crate::oid::Oid;
use crate::rule_broken::{MessageError, RuleBroken};
use crate::slot::{Seq, TxnId, Version};
use crate::value::{RefKey, RefValue};

pub use locator::Locator;
pub use signature::{KeyId, Signature};

/// The format that this release writes.
pub const FORMAT: u32 = 1;

/// The step of one ref from one version to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The ref or pseudo-ref.
    pub key: RefKey,
    /// The value that the ref must have for the commit. Absent creates it.
    pub old: RefValue,
    /// The value that the commit gives to the ref. Absent deletes it.
    pub new: RefValue,
    /// The version after: the version before, plus one.
    pub version: Version,
    /// The transaction that gave the version before. None for the first version.
    pub predecessor: Option<TxnId>,
}

/// The objects that the new values need beyond the bases, and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pack {
    /// No objects are needed (a deletion, a rewind, a ref on a known commit).
    Empty,
    /// A git pack, version 2, at most [`limits::INLINE_PACK_BYTES`] long.
    Inline(Bytes),
    /// A git pack in the blob store.
    Blob {
        /// The key of the blob.
        key: String,
        /// The length of the pack, in bytes.
        bytes: u64,
        /// The SHA-256 of the pack.
        sha256: [u8; 32],
    },
}

/// A ref transaction, as its commit writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The id: slot and attempt.
    pub id: TxnId,
    /// The site that committed it.
    pub site: SiteId,
    /// The project, with its incarnation.
    pub project: ProjectKey,
    /// The committing node's clock when the commit was sent, in milliseconds since 1970 (UTC). It serves to show lag,
    /// and for people to read. No decision depends on it.
    pub committed_at_ms: u64,
    /// The commands, in the order in which readers may see them: deletions, patch sets, other refs, `meta` refs.
    pub commands: Vec<Command>,
    /// The objects of the transaction.
    pub pack: Pack,
    /// Committed objects that the pack builds on. Together with everything that they reach, the pack is complete.
    pub bases: Vec<Oid>,
    /// The bridge's id of the request, by which a retry is recognised.
    pub request_id: String,
    /// The user who asked for the transaction, for people to read. Empty if unknown.
    pub actor: String,
    /// The W3C trace context of the push. Empty if there is none.
    pub traceparent: String,
    /// The message of the lines that reflogs get, as [`check_message`] allows it. Empty for `push`.
    pub message: String,
    /// Whether the transaction loosens the directory mark of a name. If so, its only command is a step of that name
    /// from absent to absent. A node that knows it no longer relies on the mark (`docs/adr/0027`).
    pub loosens: bool,
}

impl Command {
    /// The first step of a ref: its creation with this value.
    #[must_use]
    pub fn creation(key: RefKey, new: RefValue) -> Self {
        Self { key, old: RefValue::Absent, new, version: Version(1), predecessor: None }
    }
}

impl Transaction {
    /// A transaction without commands, objects and texts, as the start of one that has some of them.
    #[must_use]
    pub fn empty(id: TxnId, site: SiteId, project: ProjectKey) -> Self {
        Self {
            id,
            site,
            project,
            committed_at_ms: 0,
            commands: Vec::new(),
            pack: Pack::Empty,
            bases: Vec::new(),
            request_id: String::new(),
            actor: String::new(),
            traceparent: String::new(),
            message: String::new(),
            loosens: false,
        }
    }

    /// Encodes the transaction for the journal and the event log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Decodes bytes that came from the journal or the event log.
    ///
    /// # Errors
    /// [`DecodeError::Newer`] for a form that only a newer release understands. [`DecodeError::Bad`] for every other
    /// defect: sizes above the caps (checked before anything is allocated), bad names, versions that do not follow
    /// their predecessor, a key that occurs twice. [`DecodeError::Elsewhere`] for a [`Locator`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let transaction = wire::decode(bytes)?;
        transaction.check()?;
        Ok(transaction)
    }

    /// Decodes bytes of a slot or a record. For a [`Locator`], this is the outline of its transaction, without
    /// commands.
    ///
    /// # Errors
    /// As [`Transaction::decode`].
    pub fn outlined(bytes: &[u8]) -> Result<Self, DecodeError> {
        match Self::decode(bytes) {
            Err(DecodeError::Elsewhere(key)) => {
                let locator = Locator::decode(bytes)?;
                locator.map(|locator| locator.outline()).ok_or(DecodeError::Elsewhere(key))
            }
            end => end,
        }
    }

    /// Whether this is the whole transaction, and not only the outline that a locator gives.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Whether the encoded transaction fits into a journal slot and into a record of the event log. A larger one
    /// travels as its [`Locator`].
    #[must_use]
    pub fn fits_inline(encoded: &[u8]) -> bool {
        wire::fits_inline(encoded)
    }

    /// Reads the project of an encoded transaction, and nothing else of it.
    ///
    /// # Errors
    /// As [`Transaction::decode`], for the sizes and for the name of the project.
    pub fn project_of(bytes: &[u8]) -> Result<ProjectKey, DecodeError> {
        wire::project(bytes)
    }

    /// The command on a key, if the transaction has one.
    #[must_use]
    pub fn command(&self, key: &RefKey) -> Option<&Command> {
        self.commands.iter().find(|command| command.key == *key)
    }

    /// The name whose directory mark the transaction loosens. None for every other transaction.
    #[must_use]
    pub fn loosened(&self) -> Option<&RefName> {
        self.commands.first().filter(|_| self.loosens).and_then(|command| command.key.as_ref_name())
    }

    /// Checks that a transaction that loosens a name does nothing else.
    fn check_loosens(&self) -> Result<(), RuleBroken> {
        let [command] = self.commands.as_slice() else {
            return Err(RuleBroken::LoosensCommands(self.commands.len()));
        };
        let steps_over_nothing = command.old.is_absent() && command.new.is_absent();
        if !steps_over_nothing || command.key.as_ref_name().is_none() || self.pack != Pack::Empty {
            return Err(RuleBroken::Loosens(command.key.clone()));
        }
        Ok(())
    }

    /// Checks the rules that every transaction obeys.
    fn check(&self) -> Result<(), RuleBroken> {
        if self.commands.is_empty() || self.commands.len() > limits::COMMANDS {
            return Err(RuleBroken::Commands(self.commands.len()));
        }
        if self.id.slot.seq == Seq(u64::MAX) {
            return Err(RuleBroken::LastSlot(self.id.clone()));
        }
        let mut keys: Vec<&RefKey> = self.commands.iter().map(|command| &command.key).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(RuleBroken::Twice(twice[0].clone()));
        }
        if self.loosens {
            self.check_loosens()?;
        }
        check_message(&self.message).map_err(RuleBroken::Message)?;
        self.commands.iter().try_for_each(|command| command.check(&self.id))
    }
}

/// Checks the message for reflogs: one line of at most [`limits::MESSAGE_BYTES`].
///
/// # Errors
/// The defect, as the end of a sentence about the message.
pub fn check_message(message: &str) -> Result<(), MessageError> {
    if message.len() > limits::MESSAGE_BYTES {
        return Err(MessageError::Length(message.len()));
    }
    match message.chars().find(|letter| letter.is_control()) {
        Some(letter) => Err(MessageError::Control(letter)),
        None => Ok(()),
    }
}

impl Locator {
    /// Encodes the locator for the journal and the event log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::encode_locator(self)
    }

    /// Reads the locator from bytes of the journal or the event log. None if the bytes are a transaction.
    ///
    /// # Errors
    /// As [`Transaction::decode`], with the caps of a slot.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        wire::decode_locator(bytes)
    }

    /// Decodes the long form, and checks that it is the one that this locator names.
    ///
    /// # Errors
    /// As [`Transaction::decode`]. [`DecodeError::Bad`] if it is another transaction.
    pub fn resolve(&self, long_form: &[u8]) -> Result<Transaction, DecodeError> {
        let found = Transaction::decode(long_form)?;
        let Transaction { id, site, project, committed_at_ms, .. } = &found;
        if (id, site, project, committed_at_ms) != (&self.id, &self.site, &self.project, &self.committed_at_ms) {
            return Err(DecodeError::Bad(format!("blob {} holds {id} instead of {}", self.key, self.id)));
        }
        Ok(found)
    }
}

impl Command {
    fn check(&self, id: &TxnId) -> Result<(), RuleBroken> {
        let key = || self.key.clone();
        let first = self.version == Version(1);
        if self.version == Version::NONE || first != self.predecessor.is_none() {
            return Err(RuleBroken::Predecessor(key(), self.version));
        }
        if self.version == Version(u64::MAX) {
            return Err(RuleBroken::LastVersion(key(), self.version));
        }
        if self.predecessor.as_ref() == Some(id) {
            return Err(RuleBroken::OwnPredecessor(key()));
        }
        if first && !self.old.is_absent() {
            return Err(RuleBroken::OldValue(key()));
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
                return Err(RuleBroken::Value(key(), value.clone()));
            }
        }
        Ok(())
    }
}
