//! The answers to operators whose request cannot be taken.

use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::history::MOST_REASON_BYTES;

use crate::seams::refdb::RefDbError;

/// Checks that an operator gave a field of text, such as the reason, within its bound.
pub(super) fn given(field: &str, value: &str) -> Result<(), ApiError> {
    match value.trim().is_empty() {
        true => Err(invalid(&format!("{field} is empty; say why, for the audit trail"))),
        false if value.len() > MOST_REASON_BYTES => Err(invalid(&format!(
            "{field} has {} bytes; at most {MOST_REASON_BYTES} are kept in the audit trail",
            value.len()
        ))),
        false => Ok(()),
    }
}

/// The answer to a malformed request.
pub(super) fn invalid(message: &str) -> ApiError {
    ApiError::new(RefusalCode::Invalid, false, message)
}

/// A refusal: it would not be safe, or another state was expected. Nothing was changed.
pub(super) fn refused(message: &str) -> ApiError {
    ApiError::new(RefusalCode::Stale, false, format!("{message}; nothing was changed"))
}

/// The answer when the refdb fails.
pub(super) fn unanswered(error: RefDbError) -> ApiError {
    ApiError::unavailable(format!("the refdb does not answer: {error}"))
}
