//! The signature of a transaction or of a locator: the last field of its bytes.
//!
//! It is field 17 of the envelope, and it stands behind everything that it covers. So the signed bytes are a prefix of
//! the record, exactly as they were written, with fields that only a newer release knows. A reader that does not know
//! the field ignores it.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use crate::decode_error::DecodeError;
use crate::name::{NameError, serde_as_text};

/// The number of the field.
const FIELD: u32 = 17;

/// The most bytes that a signature adds to a transaction.
pub const SIGNATURE_BYTES: usize = 160;

/// The most bytes of the id of a refdb in a signature.
const REFDB_BYTES: usize = 64;

/// The name of a site's public key: the first 8 bytes of its SHA-256, in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl FromStr for KeyId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut id = [0; 8];
        let is_lower = text.bytes().all(|byte| !byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut id) {
            Ok(()) if is_lower => Ok(Self(id)),
            _ => Err(NameError::new("key id", text, "is not 16 lower-case hexadecimal digits")),
        }
    }
}

serde_as_text!(KeyId);

/// The signature of a record, and the key by which it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key.
    pub key: KeyId,
    /// The id of the refdb in which the record was committed. The signature covers it.
    pub refdb: String,
    /// The signature by Ed25519.
    pub bytes: [u8; 64],
}

#[derive(Clone, PartialEq, Message)]
struct WireSignature {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
    #[prost(string, tag = "3")]
    refdb: String,
}

/// The field of the envelope. Others are skipped.
#[derive(Clone, PartialEq, Message)]
struct Signed {
    #[prost(message, optional, tag = "17")]
    signature: Option<WireSignature>,
}

impl Signature {
    /// Appends the signature to the bytes that it covers.
    #[must_use]
    pub fn append_to(&self, body: &[u8]) -> Bytes {
        let (key, signature) = (self.key.0.to_vec(), self.bytes.to_vec());
        let signature = WireSignature { key, signature, refdb: self.refdb.clone() };
        let field = Signed { signature: Some(signature) }.encode_to_vec();
        [body, &field].concat().into()
    }
}

/// The bytes that a record's signature covers, and the signature. None if the record ends without one: then the bytes
/// are the whole record.
///
/// # Errors
/// The bytes are not protobuf, or the signature has another form.
pub fn split(record: &[u8]) -> Result<(&[u8], Option<Signature>), DecodeError> {
    let bad = |why: String| DecodeError::Bad(why);
    let (mut rest, mut last) = (record, None);
    while !rest.is_empty() {
        let begin = record.len() - rest.len();
        let (tag, kind) = decode_key(&mut rest).map_err(|error| bad(error.to_string()))?;
        skip_field(kind, tag, &mut rest, DecodeContext::default()).map_err(|error| bad(error.to_string()))?;
        last = Some((tag, kind, begin));
    }
    let Some((FIELD, WireType::LengthDelimited, begin)) = last else { return Ok((record, None)) };
    let (body, field) = record.split_at(begin);
    let signed = Signed::decode(field).map_err(|error| bad(error.to_string()))?;
    let Some(WireSignature { key, signature, refdb }) = signed.signature else { return Ok((record, None)) };
    let (key, bytes) = (<[u8; 8]>::try_from(key), <[u8; 64]>::try_from(signature));
    let (Ok(key), Ok(bytes), true) = (key, bytes, refdb.len() <= REFDB_BYTES) else {
        let what = format!("8 bytes of a key, 64 bytes of a signature and at most {REFDB_BYTES} of a refdb's id");
        return Err(bad(format!("its signature has not {what}")));
    };
    Ok((body, Some(Signature { key: KeyId(key), refdb, bytes })))
}
