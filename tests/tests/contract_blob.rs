//! Runs the contract of the blob store over the store in memory and over a local folder.

use std::sync::Arc;

use lockstep::seams::blob::memory::MemoryBlobs;
use lockstep::seams::blob::object::ObjectBlobs;
use lockstep::seams::blob::{BlobError, BlobStore, Payload};
use lockstep_tests::contract::blob as suite;

/// One test per sentence and implementation.
macro_rules! contract {
    ($($sentence:ident),*) => {
        mod memory {
            $(#[tokio::test]
            async fn $sentence() {
                super::suite::$sentence(&super::MemoryBlobs::default()).await;
            })*
        }

        mod folder {
            $(#[tokio::test]
            async fn $sentence() {
                let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
                let store = super::ObjectBlobs::local(&folder.path().join("blobs")).expect("the folder can be used");
                super::suite::$sentence(&store).await;
            })*
        }
    };
}

contract!(round_trip, absent, again, bad);

#[tokio::test]
async fn a_url_names_a_folder_and_a_second_store_reads_what_the_first_put() {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let url = format!("file://{}/blobs", folder.path().display());
    let bytes = suite::content(100);
    let open = || ObjectBlobs::from_url(&url, &[]).expect("the folder can be used");
    open().put("packs/x", &Payload::Memory(bytes.clone())).await.expect("the blob can be put");
    let found = open().get("packs/x", 100, &suite::sha256(&bytes), folder.path()).await;
    assert!(matches!(found, Ok(Payload::Memory(found)) if found == bytes));
}

#[test]
fn a_wrong_url_or_option_is_named() {
    let message = |url: &str, options: &[(String, String)]| match ObjectBlobs::from_url(url, options) {
        Ok(store) => panic!("{store:?}"),
        Err(error) => error.to_string(),
    };
    assert!(message("ftp://x/y", &[]).contains("ftp://x/y"));
    let option = ("regoin".to_owned(), "eu-west-1".to_owned());
    assert!(message("s3://bucket/prefix", &[option]).contains("regoin"));
    let region = ("region".to_owned(), "eu-west-1".to_owned());
    ObjectBlobs::from_url("s3://bucket/prefix", &[region]).expect("an S3 store needs no call to be opened");
}

#[tokio::test]
async fn a_key_cannot_leave_the_folder() {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let store = ObjectBlobs::local(&folder.path().join("blobs")).expect("the folder can be used");
    for key in ["", "../x", "a/../../x", "/x", "x/", "a//b"] {
        let refused = store.put(key, &Payload::Memory(suite::content(1))).await;
        assert!(matches!(refused, Err(BlobError::Bad { .. })), "{key:?}: {refused:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder is there").count(), 1);
}

#[tokio::test]
async fn a_file_that_is_not_as_long_as_announced_is_not_stored() {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let store = ObjectBlobs::local(&folder.path().join("blobs")).expect("the folder can be used");
    for (length, announced) in [(10, 9), (10, 11), (9_000_000, 9_000_001), (9_000_001, 9_000_000)] {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), suite::content(length)).expect("it can be written");
        let payload = Payload::File(Arc::new(file.into_temp_path()), announced);
        let refused = store.put("packs/short", &payload).await;
        assert!(matches!(refused, Err(BlobError::Bad { .. })), "{length}, {announced}: {refused:?}");
        let missing = store.get("packs/short", announced, &[0; 32], folder.path()).await.err();
        assert_eq!(missing, Some(BlobError::Absent("packs/short".to_owned())));
    }
}
