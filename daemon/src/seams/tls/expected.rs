//! The client's check of a server's certificate: its chain leads to a trusted authority, and it has the name that the
//! configuration expects of that peer.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use super::material::provider;
use super::name::PeerName;
use super::pem::describe;

/// Accepts one peer: the one with this name.
#[derive(Debug)]
pub(super) struct Expected {
    name: PeerName,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

/// The certificate has other names.
#[derive(Debug, thiserror::Error)]
#[error("its certificate names {found}, and {expected} was expected (setting identity of the peer, or --identity)")]
struct OtherName {
    expected: PeerName,
    found: String,
}

impl Expected {
    pub(super) fn new(name: PeerName, roots: Arc<RootCertStore>) -> Self {
        Self { name, roots, provider: provider() }
    }

    /// Checks that the certificate has the expected name, letter by letter: a wildcard names nobody.
    fn is_named(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let names = describe(leaf).map(|described| described.names).unwrap_or_default();
        if names.contains(&self.name) {
            return Ok(());
        }
        let names: Vec<String> = names.iter().map(PeerName::to_string).collect();
        let found = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        let other = OtherName { expected: self.name.clone(), found };
        Err(CertificateError::Other(OtherError(Arc::new(other))).into())
    }
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        self.is_named(leaf)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
