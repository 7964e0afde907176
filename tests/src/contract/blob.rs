//! The contract of the blob store as tests for any implementation. Each test quotes the sentences that it checks.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lockstep::seams::blob::{BlobError, BlobStore, Payload};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

/// Test content of `length` bytes, which differs from chunk to chunk.
#[must_use]
pub fn content(length: usize) -> Bytes {
    (0..length).map(|index| u8::try_from((index * 31 + index / 4_099) % 251).unwrap_or(0)).collect()
}

/// The SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn in_file(bytes: &[u8]) -> Payload {
    let mut file = NamedTempFile::new().expect("a temporary file can be made");
    file.write_all(bytes).expect("it can be written");
    Payload::File(Arc::new(file.into_temp_path()), bytes.len() as u64)
}

fn bytes_of(payload: &Payload) -> Bytes {
    match payload {
        Payload::Memory(bytes) => bytes.clone(),
        Payload::File(path, length) => {
            let bytes = std::fs::read(&**path).expect("the file lives as long as the payload");
            assert_eq!(bytes.len() as u64, *length);
            bytes.into()
        }
    }
}

async fn get(store: &dyn BlobStore, key: &str, bytes: &Bytes, spill: &Path) -> Result<Payload, BlobError> {
    store.get(key, bytes.len() as u64, &sha256(bytes), spill).await
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder can be made")
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("the folder is there").count()
}

/// "Once a put is answered, every site can read the blob": from memory and from a file, small and large.
pub async fn round_trip(store: &dyn BlobStore) {
    let spill = folder();
    for length in [0, 1, 1_048_576, 1_048_577, 8_388_608, 8_388_609, 20_000_000] {
        let bytes = content(length);
        for (name, payload) in [("memory", Payload::Memory(bytes.clone())), ("file", in_file(&bytes))] {
            let key = format!("packs/{length}/{name}");
            store.put(&key, &payload).await.expect("the blob can be put");
            let found = get(store, &key, &bytes, spill.path()).await.expect("the blob can be read");
            assert_eq!(bytes_of(&found), bytes, "{key}");
            assert_eq!(matches!(found, Payload::File(..)), length > 1_048_576, "{key}");
            if let Payload::File(path, _) = &found {
                assert!(path.starts_with(spill.path()), "{key}");
            }
        }
    }
    assert_eq!(entries(spill.path()), 0, "a temporary file is deleted with its last user");
}

/// "A key without a blob is `Absent`, never an empty blob." An empty blob can be stored and read.
pub async fn absent(store: &dyn BlobStore) {
    let (spill, empty) = (folder(), Bytes::new());
    let missing = get(store, "packs/none", &empty, spill.path()).await.err();
    assert_eq!(missing, Some(BlobError::Absent("packs/none".to_owned())));
    store.put("packs/empty", &Payload::Memory(empty.clone())).await.expect("an empty blob can be put");
    assert!(get(store, "packs/empty", &empty, spill.path()).await.expect("it is there").is_empty());
}

/// "A second put of the same key and content is harmless." A deletion can be repeated, and the key can be used again.
pub async fn again(store: &dyn BlobStore) {
    let (spill, bytes) = (folder(), content(3_000));
    for _ in 0..2 {
        store.put("packs/again", &Payload::Memory(bytes.clone())).await.expect("the blob can be put");
    }
    assert_eq!(bytes_of(&get(store, "packs/again", &bytes, spill.path()).await.expect("it is there")), bytes);
    for _ in 0..2 {
        store.delete("packs/again").await.expect("a deletion may be repeated");
        let gone = get(store, "packs/again", &bytes, spill.path()).await.err();
        assert_eq!(gone, Some(BlobError::Absent("packs/again".to_owned())));
    }
    store.put("packs/again", &Payload::Memory(bytes.clone())).await.expect("the blob can be put again");
    assert_eq!(bytes_of(&get(store, "packs/again", &bytes, spill.path()).await.expect("it is there")), bytes);
}

/// "The length is checked before the content is stored, and the hash before it is returned." No file is left behind.
pub async fn bad(store: &dyn BlobStore) {
    let spill = folder();
    for length in [1_000, 2_000_000] {
        let (bytes, key) = (content(length), format!("packs/bad/{length}"));
        store.put(&key, &Payload::Memory(bytes.clone())).await.expect("the blob can be put");
        let hash = sha256(&bytes);
        for announced in [0, length as u64 - 1, length as u64 + 1] {
            let refused = store.get(&key, announced, &hash, spill.path()).await.err();
            assert!(matches!(refused, Some(BlobError::Bad { .. })), "{announced} of {length}: {refused:?}");
        }
        let refused = store.get(&key, length as u64, &[0; 32], spill.path()).await.err();
        assert!(matches!(refused, Some(BlobError::Bad { .. })), "{refused:?}");
    }
    assert_eq!(entries(spill.path()), 0, "no file is left of a bad blob");
}
