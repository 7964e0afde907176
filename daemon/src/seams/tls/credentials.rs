//! The current certificate, key and trust of a node, and how they are replaced while it runs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::material::{Bytes, Material, TlsFiles};
use super::pem::TlsError;

/// How often the files are read again.
const PERIOD: Duration = Duration::from_secs(10);

/// The credentials of a node. Every handshake takes the current material; one in progress keeps the one it began with.
pub struct Credentials {
    files: TlsFiles,
    current: RwLock<Current>,
}

struct Current {
    bytes: Bytes,
    material: Arc<Material>,
    problem: Option<TlsError>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or the files do not belong together.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let bytes = Bytes::read(&files)?;
        let material = Arc::new(Material::of(&bytes, &files)?);
        // An expired certificate stops no node: commits need no peers.
        let problem = material.expired(&files);
        Ok(Self { files, current: RwLock::new(Current { bytes, material, problem }) })
    }

    /// The material for the next handshake.
    #[must_use]
    pub fn current(&self) -> Arc<Material> {
        Arc::clone(&self.current.read().material)
    }

    /// Why the files cannot be used, or that the certificate has expired. The last usable material is in use.
    #[must_use]
    pub fn problem(&self) -> Option<TlsError> {
        self.current.read().problem.clone()
    }

    /// Reads the files again, and uses what they hold now if it is complete and right. Returns whether something
    /// changed. Blocks while it reads.
    ///
    /// # Errors
    /// The files cannot be used now. The material before them stays in use.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let read = Bytes::read(&self.files).and_then(|bytes| {
            let unchanged = bytes == self.current.read().bytes;
            let material = if unchanged { self.current() } else { Arc::new(Material::of(&bytes, &self.files)?) };
            match material.expired(&self.files) {
                Some(expired) => Err(expired),
                None => Ok((!unchanged).then_some((bytes, material))),
            }
        });
        let mut current = self.current.write();
        match read {
            Ok(replaced) => {
                current.problem = None;
                let changed = replaced.is_some();
                if let Some((bytes, material)) = replaced {
                    (current.bytes, current.material) = (bytes, material);
                }
                Ok(changed)
            }
            Err(error) => {
                current.problem = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Reads the files again and again. A file that cannot be used is reported once, not at each try.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let before = self.problem();
            let this = Arc::clone(&self);
            #[expect(clippy::disallowed_methods, reason = "an adapter to the file system; the simulator has no TLS")]
            let read = tokio::task::spawn_blocking(move || this.refresh()).await;
            match read {
                Ok(Ok(true)) => tracing::info!(material = ?self.current(), "the certificates for TLS were replaced"),
                Ok(Err(error)) if before.as_ref() != Some(&error) => {
                    tracing::error!(%error, "the new certificates for TLS cannot be used; those before them are kept");
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::authority::{self, Validity};
    use super::*;
    use crate::base::clock::{Clock, SystemClock};

    /// Writes a new certificate, and the trust for it.
    fn write(files: &TlsFiles, days: u64) {
        let validity =
            Validity { now: Duration::from_millis(SystemClock.now_ms()), lifetime: Duration::from_secs(days * 86_400) };
        let authority = authority::init("test", validity).unwrap();
        let pair = authority::issue(&authority, &["spiffe://lockstep/a/a-0".parse().unwrap()], validity).unwrap();
        std::fs::write(&files.certificate, pair.certificate).unwrap();
        std::fs::write(&files.key, pair.key).unwrap();
        std::fs::write(&files.trust, authority.certificate).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn new_files_are_taken_while_the_node_runs() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key, trust] = ["c", "k", "t"].map(|name| folder.path().join(name));
        let files = TlsFiles { certificate, key, trust };
        write(&files, 1);
        let credentials = Arc::new(Credentials::load(files.clone()).unwrap());
        let before = credentials.current();
        let watching = tokio::spawn(Arc::clone(&credentials).watch());
        write(&files, 2);
        tokio::time::sleep(PERIOD * 2).await;
        let after = credentials.current();
        assert!((86_400..86_500).contains(&(after.expires - before.expires)));
        assert!((86_400..86_500).contains(&(after.trust_expires - before.trust_expires)));
        watching.abort();
    }
}
