//! Reads the top-level fields of an encoded record, without decoding or allocating anything.
//!
//! It answers two questions before the content is trusted: does only a newer release understand the record, and is the
//! record within the caps? The first question comes first. A newer release may have other caps and other types, and a
//! record that waits for an upgrade must not be taken for a bad one.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::decode_error::DecodeError;
use crate::rule_broken::RuleBroken;

/// The number of the field in which every form lists the fields that a reader must understand.
pub(crate) const CRITICAL: u32 = 15;

/// The properties of a form that this release knows. Field 1 of every form is its format version.
pub(crate) struct Form {
    /// The latest format that this release reads.
    pub(crate) format: u32,
    /// The longest encoding that is allowed, in bytes.
    pub(crate) bytes: usize,
    /// Whether this release understands the field of this number.
    pub(crate) is_known: fn(u64) -> bool,
    /// The longest content that is allowed for a field, in bytes.
    pub(crate) cap: fn(u32) -> usize,
    /// Repeated fields: number, name, and the most entries that are allowed.
    pub(crate) repeated: [(u32, &'static str, usize); 2],
}

/// The result of the walk over the fields.
struct Outline<'a> {
    form: &'a Form,
    format: u64,
    unknown_critical: Option<u64>,
    counts: [usize; 2],
    /// The first field that is longer than its cap: number, length, cap.
    too_long: Option<(u32, u64, usize)>,
}

/// Checks that this release may decode `bytes` as this form.
///
/// # Errors
/// [`DecodeError::Newer`] for a format or a critical field of a newer release. [`DecodeError::Bad`] for bytes that are
/// not protobuf, have no format version, or exceed a cap.
pub(crate) fn check(bytes: &[u8], form: &Form) -> Result<(), DecodeError> {
    let outline = Outline::walk(bytes, form).map_err(|error| DecodeError::Bad(error.to_string()))?;
    outline.check_understood()?;
    if bytes.len() > form.bytes {
        let (is, cap) = (bytes.len(), form.bytes);
        return Err(DecodeError::Bad(format!("it is {is} bytes long, at most {cap} are allowed")));
    }
    outline.check_caps().map_err(DecodeError::from)
}

impl<'a> Outline<'a> {
    fn walk(bytes: &[u8], form: &'a Form) -> Result<Self, prost::DecodeError> {
        let mut outline = Self { form, format: 0, unknown_critical: None, counts: [0; 2], too_long: None };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (tag, kind) = decode_key(&mut rest)?;
            let content = rest;
            skip_field(kind, tag, &mut rest, DecodeContext::default())?;
            outline.see(tag, kind, &content[..content.len() - rest.len()])?;
        }
        Ok(outline)
    }

    /// Records one field; `content` is the bytes after its key.
    fn see(&mut self, tag: u32, kind: WireType, mut content: &[u8]) -> Result<(), prost::DecodeError> {
        for (count, (number, ..)) in self.counts.iter_mut().zip(&self.form.repeated) {
            *count += usize::from(tag == *number);
        }
        match (tag, kind) {
            (1, WireType::Varint) => self.format = decode_varint(&mut content)?,
            (CRITICAL, WireType::Varint) => self.see_critical(content)?,
            (_, WireType::LengthDelimited) => {
                let length = decode_varint(&mut content)?;
                let cap = (self.form.cap)(tag);
                if length > cap as u64 {
                    self.too_long.get_or_insert((tag, length, cap));
                }
                if tag == CRITICAL {
                    self.see_critical(content)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Records the numbers of critical fields, which stand one after the other.
    fn see_critical(&mut self, mut content: &[u8]) -> Result<(), prost::DecodeError> {
        while !content.is_empty() {
            let field = decode_varint(&mut content)?;
            if !(self.form.is_known)(field) {
                self.unknown_critical.get_or_insert(field);
            }
        }
        Ok(())
    }

    fn check_understood(&self) -> Result<(), DecodeError> {
        if self.format == 0 {
            return Err(DecodeError::Bad("it has no format version".into()));
        }
        if self.format > u64::from(self.form.format) {
            let text = format!("format {}, but this release reads only up to {}", self.format, self.form.format);
            return Err(DecodeError::Newer(text));
        }
        match self.unknown_critical {
            Some(field) => Err(DecodeError::Newer(format!("critical field {field} is not known here"))),
            None => Ok(()),
        }
    }

    fn check_caps(&self) -> Result<(), RuleBroken> {
        if let Some((tag, length, cap)) = self.too_long {
            return Err(RuleBroken::FieldLength(tag, length, cap));
        }
        for (count, (_, name, most)) in self.counts.iter().zip(&self.form.repeated) {
            if count > most {
                return Err(RuleBroken::Entries(*count, name, *most));
            }
        }
        Ok(())
    }
}
