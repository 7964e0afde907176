//! The client's half of the material: the authorities that it trusts, and its own certificate, if it has one. A node
//! has it as a part of its files. The command line of an operator reads it from files of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::pem::{TlsError, certificates, error, private_key, trusted};

/// The files of an operator. All are in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate with the intermediate ones, and its private key. None for an operator with a token.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The certificates of the authorities that are trusted.
    pub trust: PathBuf,
}

/// The options of the command line for certificate, key and trust.
const OPTIONS: [&str; 3] = ["--cert", "--key", "--ca"];

/// Everything that a client needs to open TLS.
pub struct ClientMaterial {
    pub(super) own: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
    pub(super) roots: Arc<RootCertStore>,
}

impl ClientMaterial {
    /// Reads the files of an operator.
    ///
    /// # Errors
    /// A file cannot be read, or does not hold what it should.
    pub fn load(files: &ClientFiles) -> Result<Self, TlsError> {
        let [certificate_option, key_option, trust_option] = OPTIONS;
        let authorities = certificates(trust_option, &files.trust, &read(trust_option, &files.trust)?)?;
        let (roots, _) = trusted(authorities, |why| error(trust_option, &files.trust, why))?;
        let own = match &files.own {
            None => None,
            Some((certificate, key)) => {
                let chain = certificates(certificate_option, certificate, &read(certificate_option, certificate)?)?;
                Some((chain, Arc::new(private_key(key_option, key, &read(key_option, key)?)?)))
            }
        };
        Ok(Self { own, roots })
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|why| error(option, path, why))
}
