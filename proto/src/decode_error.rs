//! Why a record of the journal or the event log cannot be read.

use crate::name::NameError;
use crate::rule_broken::RuleBroken;

/// Why this release cannot act on some bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer release wrote the record. It must wait for an upgrade.
    #[error("the record needs a newer release of Lockstep ({0}); upgrade this sidecar, until then the record waits")]
    Newer(String),
    /// The bytes are not a valid transaction, and no upgrade makes them one. They go to quarantine.
    #[error("transaction is malformed: {0}")]
    Bad(String),
    /// The bytes are a locator: the transaction itself is in the blob store, under this key.
    #[error("the transaction's long form is in the blob store, under {0}")]
    Elsewhere(String),
}

impl From<NameError> for DecodeError {
    fn from(error: NameError) -> Self {
        Self::Bad(error.to_string())
    }
}

impl From<RuleBroken> for DecodeError {
    fn from(error: RuleBroken) -> Self {
        Self::Bad(error.to_string())
    }
}
