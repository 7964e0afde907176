//! A look at the top-level fields of an encoded transaction, without decoding or allocating anything.
//!
//! It answers two questions before anything else is believed: does only a newer release understand this, and is it
//! within the caps. The first comes first: a newer release may have other caps and other types, and a record
//! that waits for an upgrade must not be taken for a bad one.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::limits;
use crate::transaction::{DecodeError, FORMAT};

/// Whether this release understands the field of this number.
fn is_known(field: u64) -> bool {
    matches!(field, 1..=12 | 15)
}

/// What the walk saw.
#[derive(Default)]
struct Outline {
    format: u64,
    unknown_critical: Option<u64>,
    commands: usize,
    bases: usize,
    /// The first field that is longer than its cap: number, length, cap.
    too_long: Option<(u32, u64, usize)>,
}

/// Checks that this release may decode `bytes`.
///
/// # Errors
/// [`DecodeError::Newer`] for a format or a critical field of a newer release, [`DecodeError::Bad`] for bytes that
/// are no protobuf, without a format, or above a cap.
pub(crate) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let outline = Outline::walk(bytes).map_err(|error| DecodeError::Bad(error.to_string()))?;
    outline.check_understood()?;
    if bytes.len() > limits::TRANSACTION_BYTES {
        let (is, cap) = (bytes.len(), limits::TRANSACTION_BYTES);
        return Err(DecodeError::Bad(format!("it is {is} bytes long, at most {cap} are allowed")));
    }
    outline.check_caps().map_err(DecodeError::Bad)
}

impl Outline {
    fn walk(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        let (mut outline, mut rest) = (Self::default(), bytes);
        while !rest.is_empty() {
            let (tag, kind) = decode_key(&mut rest)?;
            let content = rest;
            skip_field(kind, tag, &mut rest, DecodeContext::default())?;
            outline.see(tag, kind, &content[..content.len() - rest.len()])?;
        }
        Ok(outline)
    }

    /// Takes in one field; `content` is what follows its key.
    fn see(&mut self, tag: u32, kind: WireType, mut content: &[u8]) -> Result<(), prost::DecodeError> {
        self.commands += usize::from(tag == 6);
        self.bases += usize::from(tag == 9);
        match (tag, kind) {
            (1, WireType::Varint) => self.format = decode_varint(&mut content)?,
            (15, WireType::Varint) => self.see_critical(content)?,
            (_, WireType::LengthDelimited) => {
                let length = decode_varint(&mut content)?;
                let cap = cap(tag);
                if length > cap as u64 {
                    self.too_long.get_or_insert((tag, length, cap));
                }
                if tag == 15 {
                    self.see_critical(content)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes in numbers of critical fields, one behind the other.
    fn see_critical(&mut self, mut content: &[u8]) -> Result<(), prost::DecodeError> {
        while !content.is_empty() {
            let field = decode_varint(&mut content)?;
            if !is_known(field) {
                self.unknown_critical.get_or_insert(field);
            }
        }
        Ok(())
    }

    fn check_understood(&self) -> Result<(), DecodeError> {
        if self.format == 0 {
            return Err(DecodeError::Bad("it has no format version".into()));
        }
        if self.format > u64::from(FORMAT) {
            let text = format!("format {}, this release reads up to {FORMAT}", self.format);
            return Err(DecodeError::Newer(text));
        }
        match self.unknown_critical {
            Some(field) => Err(DecodeError::Newer(format!("critical field {field}"))),
            None => Ok(()),
        }
    }

    fn check_caps(&self) -> Result<(), String> {
        if let Some((tag, length, cap)) = self.too_long {
            return Err(format!("field {tag} is {length} bytes long, at most {cap} are allowed"));
        }
        if self.commands > limits::COMMANDS {
            return Err(format!("it has {} commands, at most {} are allowed", self.commands, limits::COMMANDS));
        }
        if self.bases > limits::BASES {
            return Err(format!("it has {} bases, at most {} are allowed", self.bases, limits::BASES));
        }
        Ok(())
    }
}

/// The longest content of a field, in bytes.
fn cap(tag: u32) -> usize {
    match tag {
        7 => limits::INLINE_PACK_BYTES,
        10..=12 | 15 => limits::TEXT_BYTES,
        _ => limits::TRANSACTION_BYTES,
    }
}
