//! Why a record of the journal or the event log cannot be read.

use crate::name::NameError;

/// Why bytes are not a transaction that this release can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer release: wait for an upgrade.
    #[error("transaction needs a newer release of Lockstep: {0}; upgrade this sidecar, the record waits")]
    Newer(String),
    /// Not a valid transaction, and no upgrade will make it one: quarantine.
    #[error("transaction is malformed: {0}")]
    Bad(String),
}

impl From<NameError> for DecodeError {
    fn from(error: NameError) -> Self {
        Self::Bad(error.to_string())
    }
}
