//! The content of a node's three files: its certificate chain, its key, and the authorities that it trusts. It is
//! checked as a whole, so that a half-written set is never used.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;

use super::client::ClientMaterial;
use super::name::PeerName;
use super::pem::{Described, TlsError, certificates, describe, error, private_key, trusted};

/// The files of a node. All are in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the node, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// The private key of that certificate.
    pub key: PathBuf,
    /// The certificates of the authorities that are trusted: one, or two while they are replaced.
    pub trust: PathBuf,
}

/// The bytes of the three files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bytes {
    certificate: Vec<u8>,
    key: Vec<u8>,
    trust: Vec<u8>,
}

impl Bytes {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |field, path: &Path| std::fs::read(path).map_err(|why| error(field, path, why));
        Ok(Self {
            certificate: read(CERTIFICATE, &files.certificate)?,
            key: read(KEY, &files.key)?,
            trust: read(TRUST, &files.trust)?,
        })
    }
}

const CERTIFICATE: &str = "tls.certificate_file";
const KEY: &str = "tls.key_file";
const TRUST: &str = "tls.trust_file";

/// Certificate, key and trust of a node, ready for handshakes.
pub struct Material {
    /// The names in the node's certificate.
    pub names: Vec<PeerName>,
    /// When the node's certificate expires, in seconds since 1970.
    pub expires: i64,
    /// When the first of the trusted authorities expires, in seconds since 1970.
    pub trust_expires: i64,
    /// The material for connections that this node opens.
    pub client: ClientMaterial,
    /// For callers who must present a certificate.
    pub(super) server: Arc<rustls::ServerConfig>,
    /// For callers who may have none. One that is presented is checked all the same.
    pub(super) open_server: Arc<rustls::ServerConfig>,
}

impl fmt::Debug for Material {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Material").field("names", &self.names).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The one provider of cryptography in this process.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl Material {
    pub(super) fn of(bytes: &Bytes, files: &TlsFiles) -> Result<Self, TlsError> {
        let at_certificate = |why: String| error(CERTIFICATE, &files.certificate, why);
        let chain = certificates(CERTIFICATE, &files.certificate, &bytes.certificate)?;
        let authorities = certificates(TRUST, &files.trust, &bytes.trust)?;
        let key = private_key(KEY, &files.key, &bytes.key)?;
        let Described { names, expires, serves_both_sides } =
            describe(&chain[0]).map_err(|why| at_certificate(why.to_string()))?;
        if names.is_empty() {
            let why = "the certificate has no name: issue it with one SPIFFE id, a DNS name or an IP address";
            return Err(at_certificate(why.to_owned()));
        }
        if !serves_both_sides {
            let why = "the certificate must be usable by a TLS server and by a TLS client (extended key usage)";
            return Err(at_certificate(why.to_owned()));
        }
        let (roots, trust_expires) = trusted(authorities, |why| error(TRUST, &files.trust, why))?;
        let server = |callers: Callers| -> Result<_, TlsError> {
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
            let builder = if callers == Callers::Anyone { builder.allow_unauthenticated() } else { builder };
            let verifier = builder.build().map_err(|why| error(TRUST, &files.trust, why))?;
            let mut server = rustls::ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&TLS13])
                .map_err(|why| at_certificate(why.to_string()))?
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain.clone(), key.clone_key())
                .map_err(|why| error(KEY, &files.key, format!("{why}; is it the key of tls.certificate_file?")))?;
            // A resumed session would not present its certificate again.
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
            Ok(Arc::new(server))
        };
        let (closed, open_server) = (server(Callers::Certified)?, server(Callers::Anyone)?);
        let client = ClientMaterial { own: Some((chain, Arc::new(key))), roots };
        Ok(Self { names, expires, trust_expires, client, server: closed, open_server })
    }
}

/// The callers with whom a listener ends a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Those with a certificate of a trusted authority.
    Certified,
    /// Those, and callers without any certificate.
    Anyone,
}

impl Material {
    /// Why the certificate cannot be used now, if it has expired.
    pub(super) fn expired(&self, files: &TlsFiles) -> Option<TlsError> {
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let why = "the certificate has expired: peers refuse it; replace it, and its key";
        (self.expires <= now).then(|| error(CERTIFICATE, &files.certificate, why))
    }
}
