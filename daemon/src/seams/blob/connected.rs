//! The endpoint of the blob store, and whether it could be reached.

use object_store::Error;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpError, HttpErrorKind};

use crate::seams::aws::{EndpointKind, Link, causes, is_in_chain, unconnected};

/// The options of a blob store in S3 for a kind of endpoints. None if the environment names an endpoint, or AWS's usual
/// ones are wanted.
#[must_use]
pub fn endpoint_options(kind: EndpointKind) -> Vec<(String, String)> {
    if endpoint(&[]).is_some() {
        return Vec::new();
    }
    let region = region();
    let host = match (kind.fips, kind.dual_stack) {
        (false, false) => return Vec::new(),
        (true, false) => format!("s3-fips.{region}"),
        (false, true) => format!("s3.dualstack.{region}"),
        (true, true) => format!("s3-fips.dualstack.{region}"),
    };
    vec![("endpoint".to_owned(), format!("https://{host}.amazonaws.com"))]
}

/// The endpoint of these options or of the environment, if one names it.
fn endpoint(options: &[(String, String)]) -> Option<String> {
    let named = options.iter().find(|(name, _)| name == "endpoint").map(|(_, url)| url.clone());
    let from_env = || {
        let builder = AmazonS3Builder::from_env();
        let keys = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
        keys.iter().find_map(|key| builder.get_config_value(key))
    };
    named.or_else(from_env)
}

/// The place of the buckets that these options reach: a URL, or else a Region.
pub(super) fn place(options: &[(String, String)]) -> String {
    endpoint(options).unwrap_or_else(region)
}

/// The Region of buckets, as the environment has it.
fn region() -> String {
    let found = AmazonS3Builder::from_env().get_config_value(&AmazonS3ConfigKey::Region);
    found.unwrap_or_else(|| "us-east-1".to_owned())
}

/// Tells a circuit how a call failed. Every answer of the endpoint closes the circuit, one that throttles the call or
/// tells of a failure of the service included. An error without an answer says nothing, unless no connection was made.
pub(super) fn tell(link: &Link, error: &Error) {
    match error {
        Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Precondition { .. }
        | Error::NotModified { .. }
        | Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. } => link.answered(),
        error if is_answer(error) => link.answered(),
        error if is_unconnected(error) => link.failed(causes(error)),
        _ => {}
    }
}

/// The beginnings of the errors in which object_store tells an answer that it takes for a failure. Its types for them
/// are private.
const ANSWERS: [&str; 2] = ["Server returned ", "Received redirect "];

/// Whether the last attempt of a call was answered: with any status, 429 and those of 500 and above included.
fn is_answer(error: &Error) -> bool {
    is_in_chain(error, |cause| {
        let told = cause.to_string();
        ANSWERS.iter().any(|answer| told.starts_with(answer))
    })
}

/// Whether no connection was made.
fn is_unconnected(error: &Error) -> bool {
    let is_http = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<HttpError>().is_some_and(|error| error.kind() == HttpErrorKind::Connect)
    };
    unconnected(error) || is_in_chain(error, is_http)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::seams::aws::circuit::OPENS_AFTER;
    use crate::seams::aws::{Links, Service};

    fn generic(kind: HttpErrorKind) -> Error {
        let source = HttpError::new(kind, std::io::Error::other("no way"));
        Error::Generic { store: "S3", source: Box::new(source) }
    }

    #[test]
    fn the_circuit_opens_when_no_connection_is_made_and_never_otherwise() {
        let links = Links::default();
        let link: Arc<Link> = links.to(Service::S3, "eu-west-1");
        for kind in [HttpErrorKind::Timeout, HttpErrorKind::Interrupted, HttpErrorKind::Unknown] {
            (0..2 * OPENS_AFTER).for_each(|_| tell(&link, &generic(kind)));
            assert!(link.admit().is_ok(), "{kind:?} may have been sent");
        }
        (0..OPENS_AFTER).for_each(|_| tell(&link, &generic(HttpErrorKind::Connect)));
        assert!(link.admit().is_err());
        tell(&link, &Error::NotFound { path: "p".to_owned(), source: "absent".into() });
        assert!(link.admit().is_ok(), "an endpoint that answers can be reached");
    }

    #[test]
    fn the_endpoint_of_a_kind_has_the_name_that_aws_gives_it() {
        let of = |fips, dual_stack| endpoint_options(EndpointKind { fips, dual_stack });
        assert!(of(false, false).is_empty());
        for (options, part) in [(of(true, false), "s3-fips."), (of(true, true), "s3-fips.dualstack.")] {
            // A test machine may name an endpoint of its own.
            assert!(options.first().is_none_or(|(name, url)| name == "endpoint" && url.contains(part)), "{options:?}");
        }
    }
}
