//! When this node was last ready and reached the refdb: the age of the refs that it serves while it does not.
//!
//! The time is kept in a file beside the store, so that a node that starts without AWS knows it too. The file is not
//! synced: after a power cut the time may be older than the truth, never newer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The name of the file in the node's state folder. It holds milliseconds since 1970, as text.
const FILE: &str = "last-contact";

/// The time of the last contact.
#[derive(Debug)]
pub(super) struct LastContact {
    file: PathBuf,
    /// In milliseconds since 1970. 0 if it is not known.
    at_ms: AtomicU64,
}

impl LastContact {
    /// Reads the time that the sidecar before this one has left. A file that is missing or garbled tells nothing.
    pub(super) async fn read(state: &Path) -> Self {
        let file = state.join(FILE);
        let text = tokio::fs::read_to_string(&file).await.unwrap_or_default();
        Self { file, at_ms: AtomicU64::new(text.trim().parse().unwrap_or(0)) }
    }

    /// Notes that the node is ready and has just reached the refdb.
    ///
    /// # Errors
    /// The file cannot be written. The time is noted in memory nevertheless.
    pub(super) async fn note(&self, now_ms: u64) -> std::io::Result<()> {
        self.at_ms.store(now_ms, Ordering::Relaxed);
        tokio::fs::write(&self.file, format!("{now_ms}\n")).await
    }

    /// The time, in milliseconds since 1970. None if the node never had contact, or if it is not known.
    pub(super) fn at_ms(&self) -> Option<u64> {
        Some(self.at_ms.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_later_sidecar_knows_the_time_and_a_garbled_file_tells_nothing() {
        let state = tempfile::tempdir().unwrap();
        let first = LastContact::read(state.path()).await;
        assert_eq!(first.at_ms(), None);
        first.note(1_700_000_000_123).await.unwrap();
        assert_eq!(first.at_ms(), Some(1_700_000_000_123));
        assert_eq!(LastContact::read(state.path()).await.at_ms(), Some(1_700_000_000_123));
        std::fs::write(state.path().join(FILE), "17000\0").unwrap();
        assert_eq!(LastContact::read(state.path()).await.at_ms(), None);
    }
}
