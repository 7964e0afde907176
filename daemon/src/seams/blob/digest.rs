//! The SHA-256 of a payload before it is stored.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::Payload;

/// Content in memory of more bytes than this is hashed on a thread of its own, so that no other task waits for it.
const AT_ONCE: usize = 256 * 1024;
/// Bytes of a file that are read at once.
const CHUNK: usize = 64 * 1024;

impl Payload {
    /// The SHA-256 of the content.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub async fn sha256(&self) -> std::io::Result<[u8; 32]> {
        if let Self::Memory(bytes) = self
            && bytes.len() <= AT_ONCE
        {
            return Ok(Sha256::digest(bytes).into());
        }
        let payload = self.clone();
        #[expect(clippy::disallowed_methods, reason = "a large hash blocks, and so does the disk")]
        let hashed = tokio::task::spawn_blocking(move || hash(&payload)).await;
        hashed.unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)))
    }
}

fn hash(payload: &Payload) -> std::io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    match payload {
        Payload::Memory(bytes) => hasher.update(bytes),
        Payload::File(path, _) => {
            let mut file = std::fs::File::open(path.as_ref())?;
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = file.read(&mut chunk)?;
                if read == 0 {
                    break;
                }
                hasher.update(&chunk[..read]);
            }
        }
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn large_and_small_content_and_a_file_have_the_same_hash_as_their_bytes() {
        for length in [0, 1, AT_ONCE, AT_ONCE + 1, 3 * CHUNK + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&bytes).unwrap();
            let in_file = Payload::File(Arc::new(file.into_temp_path()), length as u64);
            let expected: [u8; 32] = Sha256::digest(&bytes).into();
            assert_eq!(in_file.sha256().await.unwrap(), expected);
            assert_eq!(Payload::Memory(bytes.into()).sha256().await.unwrap(), expected);
        }
    }

    /// The thread that runs the tasks does not hash.
    #[tokio::test]
    async fn a_large_hash_lets_other_tasks_run() {
        let payload = Payload::Memory(vec![7; 4 * AT_ONCE].into());
        tokio::select! {
            biased;
            _ = payload.sha256() => panic!("the hash was made at once"),
            () = std::future::ready(()) => {}
        }
    }
}
