//! One command of a push, as git hands it over.

/// One command of a push, as git hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pushed {
    /// The full name of the ref, not validated yet. It need not be UTF-8.
    pub name: Vec<u8>,
    /// The value that the pusher saw; zeros if the ref did not exist.
    pub old: String,
    /// The new value; zeros delete the ref.
    pub new: String,
}

impl Pushed {
    /// Reads `old new ref`.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let mut oid = || Some(std::str::from_utf8(parts.next()?).ok()?.to_owned());
        let (old, new) = (oid()?, oid()?);
        Some(Self { name: parts.next()?.to_owned(), old, new })
    }

    /// Whether the command deletes the ref.
    pub(super) fn deletes(&self) -> bool {
        is_zero(&self.new)
    }

    /// Whether the ref did not exist when the pusher looked.
    pub(super) fn creates(&self) -> bool {
        is_zero(&self.old)
    }
}

fn is_zero(oid: &str) -> bool {
    oid.bytes().all(|byte| byte == b'0')
}

/// A push from and to values of one byte.
#[cfg(test)]
pub(super) fn push(name: &str, old: u8, new: u8) -> Pushed {
    let oid = |n: u8| format!("{n:040x}");
    Pushed { name: name.as_bytes().to_vec(), old: oid(old), new: oid(new) }
}
