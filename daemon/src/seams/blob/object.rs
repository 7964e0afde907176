//! The blob store on a backend of the `object_store` crate: a local folder, S3, or a service that speaks S3's protocol.
//!
//! A large blob is sent in parts and received into a file. Memory holds a few parts, never the whole blob. In a local
//! folder a blob appears by rename, after its bytes and the folder were synced.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, Error, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::connected::{self, endpoint_options};
use super::receive::{Expected, receive};
use super::{BlobError, BlobStore, Payload};
use crate::seams::aws::{Link, Service, Way};

/// The size of one part in bytes, and of the largest blob that goes in one request. S3 takes 10,000 parts of at least 5
/// MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// The most parts in flight at once.
const PARTS: usize = 2;

/// Repetitions of one request by the store itself, and the time within which they begin.
const RETRIES: usize = 4;
const RETRY_WITHIN: Duration = Duration::from_secs(30);

/// The configured blob store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("blob store {place:?} {why}; correct the configuration")]
pub struct OpenError {
    /// The folder or URL in the configuration.
    pub place: String,
    /// The problem with it, as the end of a sentence.
    pub why: String,
}

/// Blobs in an object store.
#[derive(Clone)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    /// The endpoint whose circuit the calls mind. None for a local folder.
    link: Option<Arc<Link>>,
}

impl ObjectBlobs {
    /// Blobs in a local folder, which is created if it does not exist.
    pub fn local(folder: &Path) -> Result<Self, OpenError> {
        let refuse = |why: String| OpenError { place: folder.display().to_string(), why };
        std::fs::create_dir_all(folder).map_err(|error| refuse(format!("cannot be created ({error})")))?;
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| refuse(format!("cannot be opened ({error})")))?
            .with_fsync(true);
        Ok(Self { store: Arc::new(store), link: None })
    }

    /// Blobs at `s3://bucket/prefix` or `file:///folder`. For S3, the `AWS_*` variables of the environment apply first,
    /// then `options`, which have the names of `object_store`'s `AmazonS3ConfigKey` (`region`, `endpoint`,
    /// `allow_http`).
    pub fn from_url(url: &str, options: &[(String, String)]) -> Result<Self, OpenError> {
        match url.split_once("://") {
            Some(("file", folder)) if folder.starts_with('/') => Self::local(&PathBuf::from(folder)),
            Some(("s3", rest)) => s3(url, rest, options),
            _ => Err(OpenError {
                place: url.to_owned(),
                why: "is neither s3://bucket/prefix nor file:///folder".to_owned(),
            }),
        }
    }

    /// As [`Self::from_url`], by the way of this process: its kind of endpoints, and its circuits.
    pub fn by(url: &str, way: &Way) -> Result<Self, OpenError> {
        let options = endpoint_options(way.kind);
        let blobs = Self::from_url(url, &options)?;
        let is_s3 = url.starts_with("s3://");
        let link = is_s3.then(|| way.links.to(Service::S3, &connected::place(&options)));
        Ok(Self { link, ..blobs })
    }
}

/// Bounds the calls, where the environment sets no bound. A request is repeated by the store itself, with jitter, and
/// nothing is written twice: a blob never changes.
fn bounded(builder: AmazonS3Builder) -> AmazonS3Builder {
    let bounds = [
        (ClientConfigKey::ConnectTimeout, "AWS_CONNECT_TIMEOUT", "5s"),
        (ClientConfigKey::Timeout, "AWS_TIMEOUT", "30s"),
    ];
    let bounded = bounds.into_iter().fold(builder, |builder, (key, variable, value)| {
        let is_set = std::env::var_os(variable).is_some();
        if is_set { builder } else { builder.with_config(AmazonS3ConfigKey::Client(key), value) }
    });
    bounded.with_retry(RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_WITHIN, ..RetryConfig::default() })
}

fn s3(url: &str, rest: &str, options: &[(String, String)]) -> Result<ObjectBlobs, OpenError> {
    let refuse = |why: String| OpenError { place: url.to_owned(), why };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (name, value) in options {
        let key = name.parse().map_err(|_| refuse(format!("has the option {name:?}, which does not exist")))?;
        builder = builder.with_config(key, value);
    }
    let store = bounded(builder).build().map_err(|error| refuse(format!("cannot be opened ({error})")))?;
    let prefix = Key::parse(prefix).map_err(|error| refuse(format!("has a bad prefix ({error})")))?;
    Ok(ObjectBlobs { store: Arc::new(PrefixStore::new(store, prefix)), link: None })
}

impl fmt::Debug for ObjectBlobs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ObjectBlobs({})", self.store)
    }
}

/// The location of a key. A key must be spelled as the store spells it, so that two keys never name one blob.
fn location(key: &str) -> Result<Key, BlobError> {
    let bad = |why: String| BlobError::Bad { key: key.to_owned(), why };
    let at = Key::parse(key).map_err(|error| bad(error.to_string()))?;
    if key.is_empty() || at.as_ref() != key {
        return Err(bad("its key is empty, or begins or ends with '/'".to_owned()));
    }
    Ok(at)
}

/// Translates an error of the store. Only a clear "not found" means that the blob is absent.
fn explain(key: &str, error: Error) -> BlobError {
    match error {
        Error::NotFound { .. } => BlobError::Absent(key.to_owned()),
        error => BlobError::NotNow(format!("blob {key}: {error}")),
    }
}

/// Why a call failed.
enum Failed {
    /// The store's own error.
    Call(Error),
    /// Another reason: the circuit of the endpoint is open, or the local copy cannot be read.
    Other(BlobError),
}

impl From<BlobError> for Failed {
    fn from(error: BlobError) -> Self {
        Self::Other(error)
    }
}

impl Failed {
    fn explained(self, key: &str) -> BlobError {
        match self {
            Self::Call(error) => explain(key, error),
            Self::Other(error) => error,
        }
    }
}

impl ObjectBlobs {
    /// Makes a call, unless the circuit of the endpoint is open, and tells the circuit how it ended.
    async fn minding<T>(&self, call: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
        let Some(link) = &self.link else { return call.await };
        link.admit().map_err(|open| BlobError::NotNow(open.to_string()))?;
        let answer = call.await;
        match &answer {
            Ok(_) => link.answered(),
            Err(Failed::Call(error)) => connected::tell(link, error),
            Err(Failed::Other(_)) => {}
        }
        answer
    }

    async fn put_file(&self, key: &str, at: &Key, path: &Path, length: u64) -> Result<(), Failed> {
        let unreadable = |error: std::io::Error| BlobError::NotNow(format!("the local copy of blob {key}: {error}"));
        let file = File::open(path).await.map_err(unreadable)?;
        if length <= PART_BYTES as u64 {
            let bytes = part(&mut file.take(length + 1)).await.map_err(unreadable)?;
            check_sent(key, bytes.len() as u64, length)?;
            return self.store.put(at, bytes.into()).await.map(drop).map_err(Failed::Call);
        }
        let upload = self.store.put_multipart(at).await.map_err(Failed::Call)?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        match send(key, &mut parts, file, length).await {
            Ok(()) => parts.finish().await.map(drop).map_err(Failed::Call),
            Err(failed) => match parts.abort().await {
                Ok(()) => Err(failed),
                Err(abort) => {
                    let error = failed.explained(key);
                    Err(BlobError::NotNow(format!("{error}; and its parts may be left behind: {abort}")).into())
                }
            },
        }
    }
}

/// Sends the file part by part, with at most `PARTS` in flight.
async fn send(key: &str, parts: &mut WriteMultipart, mut file: File, length: u64) -> Result<(), Failed> {
    let mut sent = 0;
    loop {
        parts.wait_for_capacity(PARTS).await.map_err(Failed::Call)?;
        let unreadable = |error: std::io::Error| BlobError::NotNow(format!("the local copy of blob {key}: {error}"));
        let bytes = part(&mut (&mut file).take(PART_BYTES as u64)).await.map_err(unreadable)?;
        if bytes.is_empty() {
            return check_sent(key, sent, length).map_err(Failed::Other);
        }
        sent += bytes.len() as u64;
        parts.put(bytes);
    }
}

async fn part<R: AsyncReadExt + Unpin>(from: &mut R) -> std::io::Result<Bytes> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await?;
    Ok(bytes.into())
}

fn check_sent(key: &str, found: u64, length: u64) -> Result<(), BlobError> {
    if found == length {
        return Ok(());
    }
    Err(BlobError::Bad { key: key.to_owned(), why: format!("its file has {found} bytes instead of {length}") })
}

#[async_trait]
impl BlobStore for ObjectBlobs {
    async fn put(&self, key: &str, payload: &Payload) -> Result<(), BlobError> {
        let at = location(key)?;
        self.minding(async {
            match payload {
                Payload::Memory(bytes) => {
                    self.store.put(&at, bytes.clone().into()).await.map(drop).map_err(Failed::Call)
                }
                Payload::File(path, length) => self.put_file(key, &at, path, *length).await,
            }
        })
        .await
        .map_err(|failed| failed.explained(key))
    }

    async fn get(&self, key: &str, bytes: u64, sha256: &[u8; 32], spill: &Path) -> Result<Payload, BlobError> {
        let (expected, at) = (Expected { key, bytes, sha256 }, location(key)?);
        let found = self.minding(async { self.store.get(&at).await.map_err(Failed::Call) }).await;
        let found = found.map_err(|failed| failed.explained(key))?;
        expected.check_length(found.meta.size)?;
        let chunks = found.into_stream().map_err(|error| explain(key, error));
        receive(&expected, spill, chunks.boxed()).await
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        let at = location(key)?;
        match self.minding(async { self.store.delete(&at).await.map_err(Failed::Call) }).await {
            Ok(()) | Err(Failed::Call(Error::NotFound { .. })) => Ok(()),
            Err(failed) => Err(failed.explained(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use tokio::net::TcpListener;

    use super::*;
    use crate::seams::aws::Links;
    use crate::seams::aws::circuit::OPENS_AFTER;

    /// A bucket at an endpoint that answers every call with this status. The client repeats no call.
    async fn answering(status: StatusCode, link: &Arc<Link>) -> ObjectBlobs {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(move || async move { status });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let builder = AmazonS3Builder::new().with_bucket_name("b").with_region("eu-west-1").with_endpoint(url);
        let builder = builder.with_allow_http(true).with_access_key_id("a").with_secret_access_key("b");
        let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let store = Arc::new(builder.with_retry(once).build().unwrap());
        ObjectBlobs { store, link: Some(Arc::clone(link)) }
    }

    #[tokio::test]
    async fn throttling_and_failures_of_the_service_never_open_the_circuit_and_they_close_it() {
        let payload = Payload::Memory(Bytes::from_static(b"pack"));
        for status in
            [StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE]
        {
            let link = Arc::new(Link::new(Service::S3, "eu-west-1"));
            let blobs = answering(status, &link).await;
            for _ in 0..=OPENS_AFTER {
                assert!(matches!(blobs.put("a", &payload).await, Err(BlobError::NotNow(_))));
                assert!(link.admit().is_ok(), "{status} is an answer");
            }
            // The circuit is one failure short of being open: the answer begins the count again.
            (1..OPENS_AFTER).for_each(|_| link.failed("refused".to_owned()));
            assert!(blobs.put("a", &payload).await.is_err());
            link.failed("refused".to_owned());
            assert!(link.admit().is_ok(), "{status} did not count as an answer");
            // A call that was sent before the circuit opened is answered behind that moment.
            (1..OPENS_AFTER).for_each(|_| link.failed("refused".to_owned()));
            assert!(link.admit().is_err());
            let unminding = ObjectBlobs { link: None, ..blobs };
            let Err(error) = unminding.store.head(&Key::from("a")).await else { panic!("{status}") };
            connected::tell(&link, &error);
            assert!(link.admit().is_ok(), "{status} closes the circuit");
        }
    }

    #[tokio::test]
    async fn no_call_is_made_while_the_circuit_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let link = Links::default().to(Service::S3, "eu-west-1");
        let blobs = ObjectBlobs { link: Some(Arc::clone(&link)), ..ObjectBlobs::local(folder.path()).unwrap() };
        (0..OPENS_AFTER).for_each(|_| link.failed("refused".to_owned()));
        let payload = Payload::Memory(Bytes::from_static(b"pack"));
        let refused = blobs.put("a", &payload).await.unwrap_err();
        assert!(matches!(&refused, BlobError::NotNow(why) if why.contains("s3 at eu-west-1")), "{refused}");
        assert!(!folder.path().join("a").exists());
        link.answered();
        blobs.put("a", &payload).await.unwrap();
        assert!(folder.path().join("a").exists());
    }
}
