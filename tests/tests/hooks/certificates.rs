//! Certificates of nodes and operators, in folders of a test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lockstep::base::clock::{Clock, SystemClock};
use lockstep::seams::tls::authority::{self, Pair, Validity};
use lockstep::seams::tls::{ClientFiles, ClientMaterial, Credentials, PeerName, TlsFiles};

pub const DAY: Duration = Duration::from_secs(86_400);

/// The folder of a certificate, its key, and trust.
pub struct Identity(pub PathBuf);

impl Identity {
    /// A node in a folder below `home`, with a certificate for these names, that trusts these authorities.
    pub fn new(home: &Path, names: &[&str], signer: &Pair, trusted: &[&Pair]) -> Self {
        let identity = Self(home.join(names[0].rsplit('/').next().unwrap()));
        std::fs::create_dir_all(&identity.0).unwrap();
        identity.replace(names, signer, trusted, valid(DAY));
        identity
    }

    /// An operator in a folder below `home`.
    pub fn operator(home: &Path, name: &str, signer: &Pair, trusted: &[&Pair]) -> Self {
        let identity = Self(home.join(name.rsplit('/').next().unwrap()));
        std::fs::create_dir_all(&identity.0).unwrap();
        identity.replace_operator(name, signer, trusted);
        identity
    }

    /// Replaces the three files, each atomically, as a Kubernetes secret or cert-manager does.
    pub fn replace(&self, names: &[&str], signer: &Pair, trusted: &[&Pair], validity: Validity) {
        let names: Vec<PeerName> = names.iter().map(|name| name.parse().unwrap()).collect();
        self.put(&authority::issue(signer, &names, validity).unwrap(), trusted);
    }

    /// Does the same for an operator.
    pub fn replace_operator(&self, name: &str, signer: &Pair, trusted: &[&Pair]) {
        self.put(&authority::issue_operator(signer, &name.parse().unwrap(), valid(DAY)).unwrap(), trusted);
    }

    fn put(&self, pair: &Pair, trusted: &[&Pair]) {
        let trust: String = trusted.iter().map(|authority| authority.certificate.as_str()).collect();
        for (file, text) in [("ca.crt", &trust), ("tls.crt", &pair.certificate), ("tls.key", &pair.key)] {
            std::fs::write(self.0.join("new"), text).unwrap();
            std::fs::rename(self.0.join("new"), self.0.join(file)).unwrap();
        }
    }

    pub fn files(&self) -> TlsFiles {
        let [certificate, key, trust] = ["tls.crt", "tls.key", "ca.crt"].map(|file| self.0.join(file));
        TlsFiles { certificate, key, trust }
    }

    pub fn credentials(&self) -> Arc<Credentials> {
        Arc::new(Credentials::load(self.files()).unwrap())
    }

    /// The client's half. Without its certificate, it trusts the same authorities.
    pub fn client(&self, with_certificate: bool) -> ClientMaterial {
        let TlsFiles { certificate, key, trust } = self.files();
        ClientMaterial::load(&ClientFiles { own: with_certificate.then_some((certificate, key)), trust }).unwrap()
    }
}

pub fn valid(lifetime: Duration) -> Validity {
    Validity { now: Duration::from_millis(SystemClock.now_ms()), lifetime }
}

pub fn new_authority() -> Pair {
    authority::init("test", valid(DAY)).unwrap()
}
