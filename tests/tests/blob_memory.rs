//! The blob store never holds a whole blob in memory, only a few parts of it. This test is alone in its process,
//! because it reads the peak memory of the process.

use std::io::Write;
use std::sync::Arc;

use lockstep::seams::blob::object::ObjectBlobs;
use lockstep::seams::blob::{BlobStore, Payload};
use sha2::{Digest, Sha256};

const PIECE: usize = 1024 * 1024;
const PIECES: usize = 96;

/// The peak memory of this process, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc has the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the status has the peak");
    line.trim().trim_end_matches("kB").trim().parse::<usize>().expect("in kB") * 1024
}

#[tokio::test]
async fn a_large_blob_passes_through_little_memory() {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let store = ObjectBlobs::local(&folder.path().join("blobs")).expect("the folder can be used");
    let mut file = tempfile::NamedTempFile::new_in(folder.path()).expect("a temporary file can be made");
    let mut hash = Sha256::new();
    for piece in 0..PIECES {
        let bytes = vec![u8::try_from(piece % 251).unwrap_or(0); PIECE];
        hash.update(&bytes);
        file.write_all(&bytes).expect("it can be written");
    }
    let length = (PIECES * PIECE) as u64;
    let payload = Payload::File(Arc::new(file.into_temp_path()), length);
    let before = peak();
    store.put("packs/large", &payload).await.expect("the blob can be put");
    let found = store.get("packs/large", length, &hash.finalize().into(), folder.path()).await;
    assert!(matches!(found, Ok(Payload::File(..))), "{found:?}");
    let grown = peak() - before;
    assert!(grown < 48 * PIECE, "{grown} bytes for a blob of {length}");
}
