//! Reads PEM files and certificates. Each error names the setting or the option with the path of the file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::parse_x509_certificate;

use super::name::PeerName;

/// Why the files cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {}: {why}", path.display())]
pub struct TlsError {
    /// The setting, as in the configuration file, or the option of a command.
    pub field: &'static str,
    /// The path of the file.
    pub path: PathBuf,
    /// The reason, and a remedy.
    pub why: String,
}

/// The trusted authorities, and when the first of them expires, in seconds since 1970.
pub(super) fn trusted(
    authorities: Vec<CertificateDer<'static>>,
    failed: impl Fn(String) -> TlsError,
) -> Result<(Arc<RootCertStore>, i64), TlsError> {
    let mut roots = RootCertStore::empty();
    let mut expires = i64::MAX;
    for authority in authorities {
        expires = expires.min(describe(&authority).map_err(|why| failed(why.to_string()))?.expires);
        roots.add(authority).map_err(|why| failed(why.to_string()))?;
    }
    Ok((Arc::new(roots), expires))
}

/// The error about a file.
pub(super) fn error(field: &'static str, path: &Path, why: impl fmt::Display) -> TlsError {
    TlsError { field, path: path.to_owned(), why: why.to_string() }
}

/// The certificates of a file in PEM format: at least one.
pub(super) fn certificates(
    field: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|why| error(field, path, why))?;
    if found.is_empty() {
        return Err(error(field, path, "it holds no certificate in PEM format"));
    }
    Ok(found)
}

/// The private key of a file in PEM format.
pub(super) fn private_key(field: &'static str, path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|why| error(field, path, format!("{why}; it must hold one private key in PEM format")))
}

/// The parts of a certificate that decide here.
pub(super) struct Described {
    pub(super) names: Vec<PeerName>,
    /// When it expires, in seconds since 1970.
    pub(super) expires: i64,
    /// Whether it may be used by a server and by a client.
    pub(super) serves_both_sides: bool,
}

/// A certificate that cannot be read: the words of the parser.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is damaged: {0}")]
pub(super) struct Damaged(String);

/// Reads the deciding parts of a certificate.
pub(super) fn describe(certificate: &CertificateDer<'_>) -> Result<Described, Damaged> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|why| Damaged(why.to_string()))?;
    let usage = parsed.extended_key_usage().map_err(|why| Damaged(why.to_string()))?.map(|usage| usage.value);
    Ok(Described {
        names: PeerName::all(&parsed),
        expires: parsed.validity().not_after.timestamp(),
        serves_both_sides: usage.is_none_or(|usage| usage.any || usage.server_auth && usage.client_auth),
    })
}
