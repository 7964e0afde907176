//! The cookies of the console. Their names begin with `__Host-`, so a browser takes them from this host alone, by
//! TLS alone, and for every path. No script can read them. No other site can have them sent, but for the one of a
//! login by OpenID Connect, with which the provider sends the browser back.

use std::time::Duration;

use axum::http::{HeaderMap, header};

/// The cookie with the id of a session.
pub(super) const SESSION: &str = "__Host-lockstep";
/// The cookie with the text that the login form repeats.
pub(super) const LOGIN: &str = "__Host-lockstep-login";

/// The cookie with the secret of a login by OpenID Connect.
pub(super) const OIDC: &str = "__Host-lockstep-oidc";

/// The header that sets a cookie which is sent, too, when another site leads to a page here.
pub(super) fn set_lax(name: &str, value: &str, lasts: Duration) -> (header::HeaderName, String) {
    cookie(name, value, lasts, "Lax")
}

/// The header that sets a cookie for some time. No time removes it.
pub(super) fn set(name: &str, value: &str, lasts: Duration) -> (header::HeaderName, String) {
    cookie(name, value, lasts, "Strict")
}

fn cookie(name: &str, value: &str, lasts: Duration, same_site: &str) -> (header::HeaderName, String) {
    let seconds = lasts.as_secs();
    let cookie = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}; Max-Age={seconds}");
    (header::SET_COOKIE, cookie)
}

/// The value of a cookie of a request.
pub(super) fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let headers = HeaderMap::from_iter([
            (header::COOKIE, "a=1; __Host-lockstep-login=two; b".parse().unwrap()),
            (header::COOKIE, "__Host-lockstep=one=1".parse().unwrap()),
        ]);
        assert_eq!((get(&headers, SESSION), get(&headers, LOGIN)), (Some("one=1"), Some("two")));
        assert_eq!(get(&headers, "b"), None);
    }

    #[test]
    fn a_cookie_is_for_this_host_by_tls_and_no_script_reads_it() {
        let (_, cookie) = set(SESSION, "x", Duration::from_secs(7));
        assert_eq!(cookie, "__Host-lockstep=x; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=7");
    }
}
