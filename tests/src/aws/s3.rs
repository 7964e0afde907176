//! A small S3 in memory: one bucket, with the calls that Lockstep makes. It checks no signature.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use lockstep::seams::aws::calls::On;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::record::Record;

/// The most bytes of a request: a part of an upload is smaller.
const MOST: usize = 64 << 20;

/// A running S3. It ends when this is dropped.
#[derive(Debug)]
pub struct FakeS3 {
    address: SocketAddr,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Bucket {
    exists: bool,
    /// The settings of the bucket, by the part of the URL's query that names them.
    settings: BTreeMap<String, Bytes>,
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
}

#[derive(Clone)]
struct Shared {
    record: Arc<Record>,
    bucket: Arc<Mutex<Bucket>>,
}

impl FakeS3 {
    /// Starts without a bucket, or with one that has no settings.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start(record: &Arc<Record>, exists: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let bucket = Arc::new(Mutex::new(Bucket { exists, ..Bucket::default() }));
        let app = Router::new().fallback(answer).with_state(Shared { record: Arc::clone(record), bucket });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { address, server }
    }

    /// The options with which `object_store` reaches it.
    #[must_use]
    pub fn options(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        let pairs = [
            ("endpoint", endpoint.as_str()),
            ("region", "us-east-1"),
            ("allow_http", "true"),
            ("access_key_id", "test"),
            ("secret_access_key", "test"),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The same as variables of the environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        self.options().into_iter().map(|(name, value)| (format!("AWS_{}", name.to_uppercase()), value)).collect()
    }
}

impl Drop for FakeS3 {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(Shared { record, bucket }): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MOST).await else { return StatusCode::BAD_REQUEST.into_response() };
    let query: BTreeMap<String, String> = parts.uri.query().unwrap_or_default().split('&').map(pair).collect();
    let path = parts.uri.path().trim_start_matches('/');
    match path.split_once('/') {
        Some((_, key)) if !key.is_empty() => object(&record, &bucket, (&parts.method, key, &query), body),
        _ => of_bucket(&record, &bucket, (&parts.method, &query), body),
    }
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

fn error(status: StatusCode, code: &str) -> Response {
    (status, format!("<Error><Code>{code}</Code><Message>as S3 says it</Message></Error>")).into_response()
}

type Query = BTreeMap<String, String>;

fn of_bucket(record: &Record, bucket: &Mutex<Bucket>, (method, query): (&Method, &Query), body: Bytes) -> Response {
    let parts = [
        ("encryption", "BucketEncryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("publicAccessBlock", "PublicAccessBlock", "NoSuchPublicAccessBlockConfiguration"),
        ("tagging", "BucketTagging", "NoSuchTagSet"),
    ];
    let mut bucket = bucket.lock();
    let part = parts.iter().find(|(part, _, _)| query.contains_key(*part));
    let verb = if method == Method::PUT { "Put" } else { "Get" };
    let (operation, on) = match part {
        Some((_, name, _)) => (format!("{verb}{name}"), On::Bucket),
        None if method == Method::HEAD => ("HeadBucket".to_owned(), On::Bucket),
        None if query.contains_key("delete") => ("DeleteObjects".to_owned(), On::Objects),
        None => ("CreateBucket".to_owned(), On::Bucket),
    };
    record.note(&operation, on);
    if record.denies(&operation) {
        return error(StatusCode::FORBIDDEN, "AccessDenied");
    }
    match (part, operation.as_str()) {
        (_, "CreateBucket") => bucket.exists = true,
        _ if !bucket.exists => return error(StatusCode::NOT_FOUND, "NoSuchBucket"),
        (Some((part, ..)), _) if method == Method::PUT => drop(bucket.settings.insert((*part).to_owned(), body)),
        (Some((part, _, absent)), _) => {
            let found = bucket.settings.get(*part).cloned();
            return found.map_or_else(|| error(StatusCode::NOT_FOUND, absent), IntoResponse::into_response);
        }
        (None, "DeleteObjects") => return delete(&mut bucket, &body),
        (None, _) => {}
    }
    StatusCode::OK.into_response()
}

fn delete(bucket: &mut Bucket, body: &[u8]) -> Response {
    let body = String::from_utf8_lossy(body);
    let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>").map(|(key, _)| key));
    let deleted: String = keys
        .map(|key| {
            bucket.objects.remove(key);
            format!("<Deleted><Key>{key}</Key></Deleted>")
        })
        .collect();
    format!("<DeleteResult>{deleted}</DeleteResult>").into_response()
}

fn object(
    record: &Record,
    bucket: &Mutex<Bucket>,
    (method, key, query): (&Method, &str, &Query),
    body: Bytes,
) -> Response {
    let mut bucket = bucket.lock();
    let upload = query.get("uploadId").cloned();
    let operation = match (method.as_str(), &upload) {
        ("GET", _) => "GetObject",
        ("PUT", None) => "PutObject",
        ("PUT", Some(_)) => "UploadPart",
        ("POST", None) => "CreateMultipartUpload",
        ("POST", Some(_)) => "CompleteMultipartUpload",
        ("DELETE", Some(_)) => "AbortMultipartUpload",
        _ => return error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
    };
    record.note(operation, On::Objects);
    let tag = [(header::ETAG, "\"tag\""), (header::LAST_MODIFIED, "Mon, 30 Nov 2026 00:00:00 GMT")];
    let id = upload.unwrap_or_else(|| format!("upload-{}", bucket.uploads.len()));
    match operation {
        "GetObject" => match bucket.objects.get(key).cloned() {
            Some(bytes) => return (tag, bytes).into_response(),
            None => return error(StatusCode::NOT_FOUND, "NoSuchKey"),
        },
        "PutObject" => drop(bucket.objects.insert(key.to_owned(), body)),
        "UploadPart" => {
            let number = query.get("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
            bucket.uploads.entry(id).or_default().insert(number, body);
        }
        "CreateMultipartUpload" => {
            bucket.uploads.insert(id.clone(), BTreeMap::new());
            let result = "InitiateMultipartUploadResult";
            return format!("<{result}><UploadId>{id}</UploadId></{result}>").into_response();
        }
        "CompleteMultipartUpload" => {
            let parts = bucket.uploads.remove(&id).unwrap_or_default();
            let whole: Vec<u8> = parts.into_values().flatten().collect();
            bucket.objects.insert(key.to_owned(), whole.into());
            let result = "CompleteMultipartUploadResult";
            return format!("<{result}><ETag>tag</ETag></{result}>").into_response();
        }
        _ => drop(bucket.uploads.remove(&id)),
    }
    (tag, StatusCode::OK).into_response()
}
