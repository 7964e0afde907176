//! Object ids of git, SHA-1 (20 bytes) and SHA-256 (32 bytes).

use std::fmt;
use std::str::FromStr;

use crate::name::NameError;

/// The id of a git object. It is never the zero id: "no object" is [`crate::RefValue::Absent`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Oid {
    /// 20 bytes, 40 hexadecimal digits.
    Sha1([u8; 20]),
    /// 32 bytes, 64 hexadecimal digits.
    Sha256([u8; 32]),
}

impl Oid {
    /// Takes 20 or 32 bytes that are not all zero.
    ///
    /// # Errors
    /// The length is another one, or all bytes are zero.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        let refuse = |why| NameError::new("object id", hex::encode(&bytes[..bytes.len().min(40)]), why);
        let oid = if let Ok(sha1) = <[u8; 20]>::try_from(bytes) {
            Self::Sha1(sha1)
        } else if let Ok(sha256) = <[u8; 32]>::try_from(bytes) {
            Self::Sha256(sha256)
        } else {
            return Err(refuse("is not 20 or 32 bytes long"));
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(refuse("is the zero id, which names no object"));
        }
        Ok(oid)
    }

    /// The raw bytes, 20 or 32 of them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        }
    }
}

impl FromStr for Oid {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| NameError::new("object id", text, why);
        if text.len() != 40 && text.len() != 64 {
            return Err(refuse("is not 40 or 64 hexadecimal digits long"));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refuse("has upper-case digits; git writes lower case"));
        }
        let bytes = hex::decode(text).map_err(|_| refuse("has a character that is not a hexadecimal digit"))?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

crate::name::serde_as_text!(Oid);
