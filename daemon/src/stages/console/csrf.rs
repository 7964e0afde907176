//! Whether a request that changes something comes from a page of this console, and not from a page of somebody else
//! which the visitor has open.
//!
//! Two things must be right: the headers by which the browser says where the request comes from, and a random text
//! that the form carries and that other sites cannot read. Cookies with `SameSite=Strict` are a third.

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

/// The header by which a browser says how the page that asks and this site belong together.
const SITE: &str = "sec-fetch-site";

/// Whether the headers say that a page of this host asks. A browser sends at least one of them with a form.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = text(SITE).map(|site| site == "same-origin");
    let host = text(header::HOST.as_str()).unwrap_or_default();
    let origin = text(header::ORIGIN.as_str()).map(|origin| {
        origin.strip_prefix("https://").is_some_and(|name| !host.is_empty() && name.eq_ignore_ascii_case(host))
    });
    (site.is_some() || origin.is_some()) && site.unwrap_or(true) && origin.unwrap_or(true)
}

/// Whether a form carries the text that it was given. The time of the answer reveals nothing about it.
pub(super) fn carries(given: &str, carried: &str) -> bool {
    !given.is_empty() && given.as_bytes().ct_eq(carried.as_bytes()).unwrap_u8() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        lines.iter().map(line).collect::<HeaderMap>()
    }

    #[test]
    fn a_request_counts_only_if_each_header_that_it_has_names_this_host() {
        let host = ("host", "a.example.org:7423");
        let (own, other) = (("origin", "https://a.example.org:7423"), ("origin", "https://evil.example.org"));
        let (same, cross) = ((SITE, "same-origin"), (SITE, "cross-site"));
        for good in [&[host, own][..], &[host, same], &[host, own, same], &[same]] {
            assert!(is_same_origin(&headers(good)), "{good:?}");
        }
        let plain = ("origin", "http://a.example.org:7423");
        for bad in [
            &[host][..],
            &[host, other],
            &[host, plain],
            &[host, ("origin", "null")],
            &[host, cross],
            &[host, own, cross],
            &[host, other, same],
            &[host, (SITE, "same-site")],
            &[host, (SITE, "none")],
            &[own],
            &[("origin", "https://"), ("host", "")],
        ] {
            assert!(!is_same_origin(&headers(bad)), "{bad:?}");
        }
    }

    #[test]
    fn a_form_carries_the_whole_text() {
        assert!(carries("abc", "abc"));
        for (given, carried) in [("", ""), ("abc", ""), ("abc", "ab"), ("abc", "abd")] {
            assert!(!carries(given, carried), "{given} {carried}");
        }
    }
}
