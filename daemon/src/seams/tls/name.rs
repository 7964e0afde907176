//! Names of peers, as certificates carry them: a SPIFFE id (a URI) or a host name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::ServerName;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

const SCHEME: &str = "spiffe://";
/// Longest SPIFFE id, in bytes. Source: the SPIFFE standard, section 2.3.
const LONGEST: usize = 2_048;
/// The end of a pattern that stands for every id below a path.
const BELOW: &str = "/*";

/// Why a text is neither a [`PeerName`] nor a [`NamePattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerNameError {
    /// The text begins as a SPIFFE id, or must be one.
    #[error("write a SPIFFE id: spiffe://domain/path, without an empty segment, `?`, `#` or `%`")]
    Spiffe,
    /// The text is of neither kind.
    #[error("write a SPIFFE id (spiffe://domain/path) or a host name")]
    Neither,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerName {
    /// A SPIFFE id: `spiffe://<trust domain>/<path>`.
    Spiffe(String),
    /// A host name, or an IP address.
    Host(String),
}

impl PeerName {
    /// The names of a certificate: its SPIFFE id, its DNS names and its IP addresses. A certificate with several SPIFFE
    /// ids has none: the SPIFFE standard allows one.
    pub(super) fn all(certificate: &X509Certificate<'_>) -> Vec<Self> {
        let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
        let mut names: Vec<Self> = extension.value.general_names.iter().filter_map(Self::one).collect();
        if names.iter().filter(|name| matches!(name, Self::Spiffe(_))).count() > 1 {
            names.retain(|name| matches!(name, Self::Host(_)));
        }
        names
    }

    fn one(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => uri.parse().ok(),
            GeneralName::DNSName(host) => Some(Self::Host(host.to_ascii_lowercase())),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| Self::Host(address.to_string())),
            _ => None,
        }
    }
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        if text.starts_with(SCHEME) {
            return spiffe(text).map(Self::Spiffe);
        }
        match ServerName::try_from(text) {
            Ok(_) => Ok(Self::Host(text.to_ascii_lowercase())),
            Err(_) => Err(PeerNameError::Neither),
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Spiffe(text) | Self::Host(text)) = self;
        out.write_str(text)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Checks a SPIFFE id: a trust domain in lower case, and path segments that are neither empty nor dots.
fn spiffe(text: &str) -> Result<String, PeerNameError> {
    let rest = text.strip_prefix(SCHEME).ok_or(PeerNameError::Spiffe)?;
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
    let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(in_path);
    let fits = text.len() <= LONGEST
        && !domain.is_empty()
        && domain.bytes().all(in_domain)
        && path.is_none_or(|path| path.split('/').all(segment));
    if fits { Ok(text.to_owned()) } else { Err(PeerNameError::Spiffe) }
}

/// Names that are allowed: one name, or every SPIFFE id below a path (`spiffe://lockstep/muc-1/*`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamePattern {
    /// This name, and no other.
    Exact(PeerName),
    /// Every SPIFFE id that begins with this text, which ends with a slash.
    Below(String),
}

impl NamePattern {
    /// Whether the pattern stands for `name`.
    #[must_use]
    pub fn matches(&self, name: &PeerName) -> bool {
        match (self, name) {
            (Self::Exact(allowed), name) => allowed == name,
            (Self::Below(start), PeerName::Spiffe(id)) => id.starts_with(start.as_str()),
            (Self::Below(_), PeerName::Host(_)) => false,
        }
    }

    /// Whether some name matches both patterns.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (pattern, Self::Exact(name)) | (Self::Exact(name), pattern) => pattern.matches(name),
            (Self::Below(one), Self::Below(other)) => {
                one.starts_with(other.as_str()) || other.starts_with(one.as_str())
            }
        }
    }
}

impl FromStr for NamePattern {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        match text.strip_suffix(BELOW) {
            Some(path) => spiffe(path).map(|path| Self::Below(format!("{path}/"))),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(out),
            Self::Below(start) => write!(out, "{start}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_spiffe_ids_or_hosts() {
        assert_eq!(name("spiffe://lockstep/muc-1/a"), PeerName::Spiffe("spiffe://lockstep/muc-1/a".into()));
        assert_eq!(name("Gerrit-0.Example.org"), PeerName::Host("gerrit-0.example.org".into()));
        assert_eq!(name("10.0.0.7"), PeerName::Host("10.0.0.7".into()));
        for text in [
            "",
            "spiffe://",
            "spiffe:///a",
            "spiffe://A/b",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/",
            "spiffe://a/b?c",
            "spiffe://a/%2e",
            "http://a",
            "a b",
        ] {
            assert!(text.parse::<PeerName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_stands_for_whole_path_segments() {
        let below: NamePattern = "spiffe://lockstep/muc-1/*".parse().unwrap();
        assert!(below.matches(&name("spiffe://lockstep/muc-1/muc-1-0")));
        for other in ["spiffe://lockstep/muc-10/a", "spiffe://lockstep/muc-1", "spiffe://other/muc-1/a", "muc-1"] {
            assert!(!below.matches(&name(other)), "{other}");
        }
        let exact: NamePattern = "muc-1.example.org".parse().unwrap();
        assert!(exact.matches(&name("MUC-1.example.org")) && !exact.matches(&name("muc-10.example.org")));
        assert!("*".parse::<NamePattern>().is_err() && "spiffe://*".parse::<NamePattern>().is_err());
        assert_eq!(below.to_string(), "spiffe://lockstep/muc-1/*");
    }
}
