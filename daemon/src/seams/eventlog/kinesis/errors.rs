//! Translates failed calls: whether a retry helps. An answer that is not understood never means "absent".

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::seams::aws::{denied, stale};
use crate::seams::eventlog::EventLogError;

/// Error codes of calls that may succeed later, although nobody changes anything.
const LATER: [&str; 12] = [
    "ProvisionedThroughputExceededException",
    LIMIT,
    "ResourceInUseException",
    "ExpiredIteratorException",
    "KMSThrottlingException",
    "InternalFailure",
    "InternalFailureException",
    "InternalServerError",
    "ServiceUnavailable",
    "ThrottlingException",
    "Throttling",
    "RequestTimeout",
];

/// Translates a failed call on `what` (a stream, a shard).
pub(super) fn explain<E>(error: &SdkError<E, HttpResponse>, what: &str) -> EventLogError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => EventLogError::Broken(format!("{what}: {}", DisplayErrorContext(error))),
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            match error.code() {
                Some(code) if status < 500 => by_code(code, error.message().unwrap_or_default(), what),
                _ if status < 500 => EventLogError::Broken(format!("{what}: HTTP status {status}")),
                code => EventLogError::NotNow(format!("{what}: HTTP status {status} {}", code.unwrap_or_default())),
            }
        }
        _ => EventLogError::NotNow(format!("{what}: {}", DisplayErrorContext(error))),
    }
}

/// Translates the code and message of an answer about `what`.
pub(super) fn by_code(code: &str, message: &str, what: &str) -> EventLogError {
    if code == "ResourceNotFoundException" {
        return EventLogError::Absent(what.to_owned());
    }
    let text = format!("{what}: {code}: {message}");
    match code {
        code if LATER.contains(&code) => EventLogError::NotNow(text),
        code if stale::may_pass(code) => EventLogError::NotNow(stale::explained(code, &text)),
        code if denied::is_denied(Some(code)) => EventLogError::Broken(denied::in_use(&text)),
        _ => EventLogError::Broken(text),
    }
}

/// The code of an answer that a limit refuses a call. The call has changed nothing.
const LIMIT: &str = "LimitExceededException";

/// The error of a call that sets the number of shards of `what`, if Kinesis refused it by one of its limits.
pub(super) fn limited(code: Option<&str>, message: &str, what: &str) -> Option<EventLogError> {
    (code == Some(LIMIT)).then(|| {
        EventLogError::Limited(format!(
            "{what}: kinesis:UpdateShardCount: {LIMIT}: {message}. Kinesis takes ten such calls per stream in any 24 \
             hours, and has a limit of shards per account. A retry helps once the first of the ten calls is 24 hours \
             old, or the limit was raised"
        ))
    })
}

/// AWS's message, if it denied the call because the caller has no right to it.
pub(super) fn denial<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    denied::is_denied(error.code()).then(|| error.message().unwrap_or("AWS gives no reason").to_owned())
}

/// Whether the call was rejected for its arguments: an iterator that is too old or unknown, or a sequence number that
/// the stream does not keep.
pub(super) fn is_argument<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    matches!(error.code(), Some("InvalidArgumentException" | "ValidationException"))
}

/// Whether the iterator is too old or unknown. If so, a new one helps.
pub(super) fn is_stale_iterator<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.code() == Some("ExpiredIteratorException") || is_argument(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_refuses_a_change_of_shards_and_tells_when_a_retry_helps() {
        let told = limited(Some("LimitExceededException"), "too many calls", "stream s").unwrap();
        assert!(matches!(told, EventLogError::Limited(_)), "{told:?}");
        for part in ["stream s", "too many calls", "nothing changed", "A retry helps once", "24 hours"] {
            assert!(told.to_string().contains(part), "{part}: {told}");
        }
        for code in [None, Some("ResourceInUseException"), Some("ThrottlingException")] {
            assert_eq!(limited(code, "", "stream s"), None, "its own meaning stays");
        }
    }

    #[test]
    fn only_a_missing_resource_is_absent() {
        assert_eq!(by_code("ResourceNotFoundException", "", "stream x"), EventLogError::Absent("stream x".to_owned()));
        assert!(matches!(by_code("ProvisionedThroughputExceededException", "", "x"), EventLogError::NotNow(_)));
        assert!(matches!(by_code("InternalFailure", "", "x"), EventLogError::NotNow(_)));
        let skewed = by_code("InvalidSignatureException", "", "x");
        assert!(matches!(&skewed, EventLogError::NotNow(why) if why.contains("set the clock")), "{skewed}");
        assert!(matches!(by_code("ExpiredTokenException", "", "x"), EventLogError::NotNow(_)));
        assert!(matches!(by_code("AccessDeniedException", "", "x"), EventLogError::Broken(_)));
        assert!(matches!(by_code("SomethingNew", "", "x"), EventLogError::Broken(_)));
    }
}
