//! The answers to operators whose request cannot be taken.

use std::time::Duration;

use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::history::MOST_REASON_BYTES;
use tokio::time::timeout;

use crate::seams::refdb::RefDbError;

/// How long a plan, and the reads of an execution, wait for the refdb.
const PLAN: Duration = Duration::from_secs(8);
/// The consequence of a refdb that does not answer.
const NO_PROMOTION: &str = "no promotion can help: the refdb is the authority on every ref; if it is lost for good, \
                            rebuild it from the sites with `lockstep refdb rebuild`";

/// The remedy when the refdb refuses a call.
const MEND: &str = "mend the cause that it names: permissions, the tables in [refdb], or the release of this node";

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

/// The answer when the refdb fails. A refdb that refuses a call does answer: no retry helps, and no rebuild.
pub(super) fn unanswered(error: RefDbError) -> ApiError {
    match error.retry_helps() {
        true => ApiError::unavailable(error),
        false => ApiError::new(RefusalCode::Unavailable, false, format!("{error}; {MEND}")),
    }
}

/// The answer when a read of the refdb fails. A read has no outcome that could be unknown.
pub(super) fn unread(error: RefDbError) -> ApiError {
    match error {
        RefDbError::Unknown(why) | RefDbError::NotNow(why) => {
            ApiError::unavailable(format!("the refdb does not answer ({why})"))
        }
        broken @ RefDbError::Broken(_) => unanswered(broken),
    }
}

/// The answer of `reads`, or a failure that explains the meaning of a silent refdb for a failover. One that refuses a
/// call is not silent.
///
/// # Errors
/// The refdb does not answer, or not in time.
pub(super) async fn in_time<T>(reads: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let late = || unread(RefDbError::NotNow(format!("no answer within {} s", PLAN.as_secs())));
    let answer = timeout(PLAN, reads).await.unwrap_or_else(|_| Err(late()));
    answer.map_err(|error| match error.retry {
        true => {
            let message =
                format!("{}; nothing was changed, try again. While it is silent, {NO_PROMOTION}", error.message);
            ApiError { message, ..error }
        }
        false => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refdb_that_refuses_a_call_is_not_taken_for_one_that_is_lost() {
        let plan = async |error: RefDbError| in_time(async { Err::<(), _>(unread(error)) }).await.unwrap_err();
        let broken = plan(RefDbError::Broken("no permission to read".to_owned())).await;
        let text = format!("the refdb refuses the call (no permission to read); a retry does not help; {MEND}");
        assert_eq!((broken.code, broken.retry, broken.message), (RefusalCode::Unavailable, false, text));
        let why = || "a timeout".to_owned();
        for silent in [RefDbError::NotNow(why()), RefDbError::Unknown(why())] {
            let silent = plan(silent).await;
            let head = "the refdb does not answer (a timeout); nothing was changed, try again. While it is silent, ";
            assert!(silent.retry, "{silent:?}");
            assert_eq!(silent.message, format!("{head}{NO_PROMOTION}"));
        }
    }
}
