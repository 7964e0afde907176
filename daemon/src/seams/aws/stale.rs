//! The texts for operators when AWS rejects the signature of a call: the credentials have expired, or a clock is wrong.
//! Both pass without a restart, so a call that was rejected for them may be repeated.

use serde::Deserialize;

/// The codes for credentials that have expired.
const EXPIRED: [&str; 2] = ["ExpiredTokenException", "ExpiredToken"];
/// The codes for a signature of another time. The SDK learns the difference of the clocks from the answer, and signs
/// the next call with the time of AWS.
const SKEWED: [&str; 4] =
    ["InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch"];

/// Whether an error code says that the signature is not good now, although nothing was done wrong: a later call may
/// succeed.
#[must_use]
pub fn may_pass(code: &str) -> bool {
    EXPIRED.contains(&code) || SKEWED.contains(&code)
}

/// Adds the remedy to the text of an error with this code.
#[must_use]
pub fn explained(code: &str, why: &str) -> String {
    if EXPIRED.contains(&code) {
        return format!(
            "{why}; the credentials of this node have expired, and it looks for new ones by itself: if this stays, \
             renew them at their source, which `lockstep status` names"
        );
    }
    if SKEWED.contains(&code) {
        return format!(
            "{why}; the clock of this machine may differ from that of AWS, and the next call is signed with the time \
             of AWS: if this stays, set the clock, or renew a secret key that was changed"
        );
    }
    why.to_owned()
}

/// The part of an error's body that tells its code.
#[derive(Deserialize)]
struct Told {
    #[serde(rename = "__type")]
    kind: String,
}

/// Whether the body of an error says that the credentials have expired. Its code alone tells: a failed condition comes
/// with the item, and a ref can have any name.
pub(super) fn says_expired(body: &[u8]) -> bool {
    let told = serde_json::from_slice::<Told>(body);
    told.is_ok_and(|told| told.kind.rsplit('#').next().is_some_and(|code| EXPIRED.contains(&code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_credentials_and_a_wrong_clock_are_told_apart_with_their_remedies() {
        assert!(explained("ExpiredTokenException", "x").contains("renew them at their source"));
        assert!(explained("InvalidSignatureException", "x").contains("set the clock"));
        assert_eq!(explained("ValidationException", "x"), "x");
        assert!(may_pass("RequestTimeTooSkewed") && may_pass("ExpiredToken") && !may_pass("AccessDeniedException"));
        assert!(says_expired(br#"{"__type":"com.amazon.coral.service#ExpiredTokenException"}"#));
        assert!(says_expired(br#"{"__type":"ExpiredToken","message":"x"}"#));
        assert!(!says_expired(b"{}") && !says_expired(b""));
        let item = br#"{"__type":"a#ConditionalCheckFailedException","Item":{"ref":{"S":"refs/heads/ExpiredToken"}}}"#;
        assert!(!says_expired(item), "the name of a ref is no answer of AWS");
    }
}
