//! The protobuf form of a transaction. Field numbers are permanent; see `docs/wire.md`.

use bytes::Bytes;
use prost::Message;

use super::{Command, FORMAT, Locator, Pack, Transaction};
use crate::decode_error::DecodeError;
use crate::name::ProjectKey;
use crate::oid::Oid;
use crate::slot::{TxnId, Version};
use crate::{limits, precheck};

/// The envelope of a transaction, in its long form too.
const ENVELOPE: precheck::Form = precheck::Form {
    format: FORMAT,
    bytes: limits::LONG_FORM_BYTES,
    is_known: |field| matches!(field, 1..=18),
    cap: |field| match field {
        7 => limits::INLINE_PACK_BYTES,
        10..=12 | precheck::CRITICAL | 17 => limits::TEXT_BYTES,
        13 => limits::ANNOUNCEMENT_BYTES,
        18 => limits::MESSAGE_BYTES,
        _ => limits::LONG_FORM_BYTES,
    },
    repeated: [(6, "commands", limits::COMMANDS), (9, "bases", limits::BASES)],
};

/// The envelope of a transaction that travels in a slot and in a record.
const INLINE: precheck::Form = precheck::Form {
    bytes: limits::TRANSACTION_BYTES,
    repeated: [(6, "commands", limits::INLINE_COMMANDS), (9, "bases", limits::INLINE_BASES)],
    ..ENVELOPE
};

/// The field that only a locator has.
const LONG_FORM: u32 = 14;
/// The field that only a transaction that loosens a name has.
const LOOSENS: u32 = 16;

/// A field that is added here must be added to [`ENVELOPE`] too.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(string, tag = "3")]
    site: String,
    #[prost(string, tag = "4")]
    project: String,
    #[prost(uint64, tag = "5")]
    committed_at_ms: u64,
    #[prost(message, repeated, tag = "6")]
    commands: Vec<WireCommand>,
    #[prost(bytes = "bytes", tag = "7")]
    pack: Bytes,
    #[prost(message, optional, tag = "8")]
    blob: Option<WireBlob>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    bases: Vec<Vec<u8>>,
    #[prost(string, tag = "10")]
    request_id: String,
    #[prost(string, tag = "11")]
    actor: String,
    #[prost(string, tag = "12")]
    traceparent: String,
    /// Where the long form is. Only a locator has this field.
    #[prost(message, optional, tag = "14")]
    long_form: Option<WireBlob>,
    /// Numbers of the fields that a reader must understand.
    #[prost(uint32, repeated, tag = "15")]
    critical: Vec<u32>,
    /// Whether the transaction loosens the directory mark of a name. Critical: a reader that does not know it would
    /// say that it has applied the transaction, and go on relying on the mark.
    #[prost(bool, tag = "16")]
    loosens: bool,
    /// The message for reflogs. The signature, which has a lower number, follows it nevertheless.
    #[prost(string, tag = "18")]
    message: String,
}

/// The field of the envelope that only an announcement has.
#[derive(Clone, PartialEq, Message)]
struct Carried {
    #[prost(bytes = "bytes", tag = "13")]
    announcement: Bytes,
}

/// The field of the envelope that only a locator has. All others are skipped.
#[derive(Clone, PartialEq, Message)]
struct Marked {
    #[prost(message, optional, tag = "14")]
    long_form: Option<WireBlob>,
}

/// The field of the envelope by which its record is routed to a shard.
#[derive(Clone, PartialEq, Message)]
struct Routed {
    #[prost(string, tag = "4")]
    project: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireCommand {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    old: String,
    #[prost(string, tag = "3")]
    new: String,
    #[prost(uint64, tag = "4")]
    version: u64,
    #[prost(string, tag = "5")]
    predecessor: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireBlob {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(bytes = "vec", tag = "3")]
    sha256: Vec<u8>,
}

pub(crate) fn encode(from: &Transaction) -> Bytes {
    let (pack, blob) = match &from.pack {
        Pack::Empty => (Bytes::new(), None),
        Pack::Inline(pack) => (pack.clone(), None),
        Pack::Blob { key, bytes, sha256 } => {
            (Bytes::new(), Some(WireBlob { key: key.clone(), bytes: *bytes, sha256: sha256.to_vec() }))
        }
    };
    let envelope = Envelope {
        format: FORMAT,
        id: from.id.to_string(),
        site: from.site.to_string(),
        project: from.project.to_string(),
        committed_at_ms: from.committed_at_ms,
        commands: from.commands.iter().map(encode_command).collect(),
        pack,
        blob,
        bases: from.bases.iter().map(|base| base.as_bytes().to_vec()).collect(),
        request_id: from.request_id.clone(),
        actor: from.actor.clone(),
        traceparent: from.traceparent.clone(),
        long_form: None,
        critical: if from.loosens { vec![LOOSENS] } else { Vec::new() },
        loosens: from.loosens,
        message: from.message.clone(),
    };
    envelope.encode_to_vec().into()
}

/// Encodes a locator. A reader that does not know it waits for an upgrade, because its field is critical.
pub(crate) fn encode_locator(from: &Locator) -> Bytes {
    let Locator { id, site, project, committed_at_ms, key, bytes, sha256 } = from;
    let envelope = Envelope {
        format: FORMAT,
        id: id.to_string(),
        site: site.to_string(),
        project: project.to_string(),
        committed_at_ms: *committed_at_ms,
        long_form: Some(WireBlob { key: key.clone(), bytes: *bytes, sha256: sha256.to_vec() }),
        critical: vec![LONG_FORM],
        ..Envelope::default()
    };
    envelope.encode_to_vec().into()
}

/// Whether an encoded transaction fits into a slot and into a record.
pub(crate) fn fits_inline(bytes: &[u8]) -> bool {
    precheck::check(bytes, &INLINE).is_ok()
}

/// The locator that the bytes are. None for a transaction.
pub(crate) fn decode_locator(bytes: &[u8]) -> Result<Option<Locator>, DecodeError> {
    precheck::check(bytes, &INLINE)?;
    let marked = Marked::decode(bytes).map_err(|error| DecodeError::Bad(error.to_string()))?;
    if marked.long_form.is_none() {
        return Ok(None);
    }
    let envelope = Envelope::decode(bytes).map_err(|error| DecodeError::Bad(error.to_string()))?;
    let Some(blob) = envelope.long_form else { return Ok(None) };
    if !envelope.commands.is_empty() || !envelope.pack.is_empty() || envelope.blob.is_some() {
        return Err(DecodeError::Bad("it is a locator and has commands or a pack".into()));
    }
    let (key, bytes, sha256) = decode_blob(blob)?;
    if bytes > limits::LONG_FORM_BYTES as u64 {
        let most = limits::LONG_FORM_BYTES;
        return Err(DecodeError::Bad(format!("its long form is {bytes} bytes long, at most {most} are allowed")));
    }
    let (id, site, project) = (envelope.id.parse()?, envelope.site.parse()?, envelope.project.parse()?);
    Ok(Some(Locator { id, site, project, committed_at_ms: envelope.committed_at_ms, key, bytes, sha256 }))
}

/// Encodes a transaction that carries an announcement.
pub(crate) fn encode_carrying(from: &Transaction, announcement: Vec<u8>) -> Bytes {
    let field = Carried { announcement: announcement.into() };
    // Protobuf fields may stand in any order, so this one may follow the envelope.
    [from.encode(), field.encode_to_vec().into()].concat().into()
}

/// The announcement that an envelope carries. None for a plain transaction.
pub(crate) fn carried(bytes: &[u8]) -> Result<Option<Bytes>, DecodeError> {
    precheck::check(bytes, &ENVELOPE)?;
    let carried = Carried::decode(bytes).map_err(|error| DecodeError::Bad(error.to_string()))?;
    Ok(Some(carried.announcement).filter(|announcement| !announcement.is_empty()))
}

/// The project of an encoded transaction. Commands and pack are checked against their caps, and skipped.
pub(crate) fn project(bytes: &[u8]) -> Result<ProjectKey, DecodeError> {
    precheck::check(bytes, &ENVELOPE)?;
    let routed = Routed::decode(bytes).map_err(|error| DecodeError::Bad(error.to_string()))?;
    Ok(routed.project.parse()?)
}

fn encode_command(from: &Command) -> WireCommand {
    WireCommand {
        key: from.key.to_string(),
        old: from.old.to_string(),
        new: from.new.to_string(),
        version: from.version.0,
        predecessor: from.predecessor.as_ref().map(TxnId::to_string).unwrap_or_default(),
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Transaction, DecodeError> {
    precheck::check(bytes, &ENVELOPE)?;
    let envelope = Envelope::decode(bytes).map_err(|error| DecodeError::Bad(error.to_string()))?;
    if let Some(blob) = envelope.long_form {
        return Err(DecodeError::Elsewhere(blob.key));
    }
    let bases: Result<Vec<Oid>, _> = envelope.bases.iter().map(|base| Oid::from_bytes(base)).collect();
    Ok(Transaction {
        id: envelope.id.parse()?,
        site: envelope.site.parse()?,
        project: envelope.project.parse()?,
        committed_at_ms: envelope.committed_at_ms,
        commands: envelope.commands.iter().map(decode_command).collect::<Result<_, _>>()?,
        pack: decode_pack(envelope.pack, envelope.blob)?,
        bases: bases?,
        request_id: envelope.request_id,
        actor: envelope.actor,
        traceparent: envelope.traceparent,
        loosens: envelope.loosens,
        message: envelope.message,
    })
}

fn decode_command(from: &WireCommand) -> Result<Command, DecodeError> {
    let predecessor = if from.predecessor.is_empty() { None } else { Some(from.predecessor.parse()?) };
    Ok(Command {
        key: from.key.parse()?,
        old: from.old.parse()?,
        new: from.new.parse()?,
        version: Version(from.version),
        predecessor,
    })
}

fn decode_pack(inline: Bytes, blob: Option<WireBlob>) -> Result<Pack, DecodeError> {
    match (inline.is_empty(), blob) {
        (true, None) => Ok(Pack::Empty),
        (false, None) => Ok(Pack::Inline(inline)),
        (true, Some(blob)) => {
            let (key, bytes, sha256) = decode_blob(blob)?;
            Ok(Pack::Blob { key, bytes, sha256 })
        }
        (false, Some(_)) => Err(DecodeError::Bad("it has a pack inline and in the blob store".into())),
    }
}

fn decode_blob(blob: WireBlob) -> Result<(String, u64, [u8; 32]), DecodeError> {
    if blob.key.is_empty() || blob.key.len() > limits::TEXT_BYTES {
        let (is, most) = (blob.key.len(), limits::TEXT_BYTES);
        return Err(DecodeError::Bad(format!("the blob's key is {is} bytes long, 1 to {most} are allowed")));
    }
    let sha256 = blob.sha256.try_into();
    let sha256 = sha256.map_err(|_| DecodeError::Bad("the blob's SHA-256 is not 32 bytes long".into()))?;
    Ok((blob.key, blob.bytes, sha256))
}
