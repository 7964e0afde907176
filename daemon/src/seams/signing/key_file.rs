//! The file with the private key of a site: PKCS#8 in PEM format, as `lockstep keys generate` and `openssl genpkey
//! -algorithm ed25519` make it.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::{KeyPair, PKCS_ED25519};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::SiteSigner;

/// The permissions that the file must not give: others may do nothing, and its group may only read it. Kubernetes gives
/// a secret to the group of the pod.
const FORBIDDEN: u32 = 0o037;

/// Why the key of a site cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signing.key_file {}: {why}", path.display())]
pub struct KeyFileError {
    /// The path of the file, as set.
    pub path: PathBuf,
    /// The reason, and a remedy.
    pub why: String,
}

/// Makes a new private key, in PEM format.
///
/// # Errors
/// The machine gives no randomness.
pub fn generate() -> Result<String, rcgen::Error> {
    Ok(KeyPair::generate_for(&PKCS_ED25519)?.serialize_pem())
}

impl SiteSigner {
    /// Reads the key of a site.
    ///
    /// # Errors
    /// The file cannot be read, others can read it, or it holds no Ed25519 key.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |why: String| KeyFileError { path: path.to_owned(), why };
        let unreadable = |why: &dyn fmt::Display| failed(format!("{why}; give a file that this user can read"));
        let mode = std::fs::metadata(path).map_err(|why| unreadable(&why))?.permissions().mode() & 0o777;
        if mode & FORBIDDEN != 0 {
            let why = format!("its mode is {mode:04o}, so others can read or change it; run chmod 0600");
            return Err(failed(why));
        }
        let text = std::fs::read(path).map_err(|why| unreadable(&why))?;
        Self::of_pem(&text).ok_or_else(|| {
            failed("it holds no Ed25519 key in PEM format (PKCS#8); `lockstep keys generate` makes one".to_owned())
        })
    }

    fn of_pem(text: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).ok()?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok().and_then(Self::of)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    fn file(folder: &Path, text: &str, mode: u32) -> PathBuf {
        use std::io::Write;
        let path = folder.join(format!("key-{mode:o}"));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }

    #[test]
    fn a_new_key_is_read_back_and_signs() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (generate().unwrap(), generate().unwrap());
        let (one, two) = (file(folder.path(), &one, 0o600), file(folder.path(), &two, 0o640));
        let (one, two) = (SiteSigner::load(&one).unwrap(), SiteSigner::load(&two).unwrap());
        assert_ne!(one.id(), two.id());
        let signature = one.sign("r", b"body").unwrap();
        assert!(super::super::verifies(&one.public(), b"body", &signature));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_so_is_a_file_without_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let open = file(folder.path(), &generate().unwrap(), 0o604);
        let why = SiteSigner::load(&open).unwrap_err().to_string();
        assert!(why.contains("signing.key_file") && why.contains("0604") && why.contains("chmod"), "{why}");
        let empty = file(folder.path(), "no key", 0o600);
        assert!(SiteSigner::load(&empty).unwrap_err().why.contains("lockstep keys generate"));
        let absent = SiteSigner::load(&folder.path().join("absent")).unwrap_err();
        assert!(absent.why.contains("No such file"), "{absent}");
    }
}
