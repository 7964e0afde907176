//! The reason why a page does not know its answer. Only a refdb without an answer is told as one.

use lockstep_proto::bridge::{ApiError, RefusalCode};

use super::context::Context;
use super::trend::is_silence;
use crate::base::time_text::utc;

/// The clause behind "It is not known ...:". A page shows the text of the error below it.
pub(super) fn why(context: &Context, error: &ApiError) -> String {
    let since = context.trend.refdb_silent_since();
    clause(error, since.map(utc).as_deref())
}

fn clause(error: &ApiError, since: Option<&str>) -> String {
    match (is_silence(error), since) {
        (true, Some(since)) => format!("the refdb does not answer since {since}"),
        (true, None) => "no answer came just now".to_owned(),
        (false, _) if error.code == RefusalCode::Unavailable => "the refdb refuses the call".to_owned(),
        (false, _) => "this node refuses the call".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_as_silence_of_the_refdb_only_while_the_refdb_is_silent() {
        let silent = ApiError::unavailable("no answer within 8 s");
        let refused = ApiError::new(RefusalCode::Unavailable, false, "AccessDenied; mend the cause");
        let other = ApiError::new(RefusalCode::NotServing, true, "this node was expelled");
        assert!(is_silence(&silent) && !is_silence(&refused) && !is_silence(&other));
        assert_eq!(clause(&silent, Some("noon")), "the refdb does not answer since noon");
        assert_eq!(clause(&silent, None), "no answer came just now");
        for error in [&refused, &other] {
            assert!(!clause(error, Some("noon")).contains("does not answer"), "{error:?}");
        }
    }
}
