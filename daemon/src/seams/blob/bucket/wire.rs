//! One signed call on a bucket, and its answer.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpErrorKind, HttpRequestBody, ReqwestConnector};
use sha2::{Digest, Sha256};

use super::xml;

/// The bounds of one call.
const CONNECT: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_secs(30);

/// The Region of buckets if nothing names one, as `object_store` has it.
const REGION: &str = "us-east-1";

/// An answer of S3.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
}

/// A call without an answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// It was not sent.
    Before(String),
    /// It may have been done.
    Unknown(String),
}

/// Why there is no way to a bucket.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("has the option {0:?}, which does not exist")]
    NoOption(String),
    #[error("cannot be opened ({0})")]
    Unusable(#[from] object_store::Error),
}

impl Answer {
    /// The code of an error.
    pub(super) fn code(&self) -> Option<&str> {
        xml::text(&self.text, "Code")
    }

    /// Status, code and message.
    pub(super) fn told(&self) -> String {
        let message = xml::text(&self.text, "Message").unwrap_or_default();
        format!("HTTP status {} {} {message}", self.status, self.code().unwrap_or_default()).trim_end().to_owned()
    }
}

/// The way to one bucket.
#[derive(Debug)]
pub(super) struct Wire {
    http: HttpClient,
    credentials: AwsCredentialProvider,
    region: String,
    url: String,
}

fn builder(options: &[(String, String)]) -> Result<AmazonS3Builder, WireError> {
    options.iter().try_fold(AmazonS3Builder::from_env(), |builder, (name, value)| {
        let key: AmazonS3ConfigKey = name.parse().map_err(|_| WireError::NoOption(name.clone()))?;
        Ok(builder.with_config(key, value))
    })
}

/// The Region that the options or the environment name.
pub(super) fn region(options: &[(String, String)]) -> String {
    let found = builder(options).ok().and_then(|builder| builder.get_config_value(&AmazonS3ConfigKey::Region));
    found.unwrap_or_else(|| REGION.to_owned())
}

impl Wire {
    /// Opens no connection yet.
    pub(super) fn open(bucket: &str, options: &[(String, String)]) -> Result<Self, WireError> {
        let builder = builder(options)?.with_bucket_name(bucket);
        let region = region(options);
        let of = |key: AmazonS3ConfigKey| builder.get_config_value(&key);
        let endpoint = of(AmazonS3ConfigKey::S3Endpoint).or_else(|| of(AmazonS3ConfigKey::Endpoint));
        let url = match &endpoint {
            Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
            None => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        };
        let credentials = std::sync::Arc::clone(builder.build()?.credentials());
        let bounds = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(CALL);
        let http = ReqwestConnector::default().connect(&bounds.with_allow_http(url.starts_with("http://")));
        Ok(Self { http: http?, credentials, region, url })
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    pub(super) async fn head(&self) -> Result<Answer, Lost> {
        self.call(Method::HEAD, "", String::new()).await
    }

    pub(super) async fn get(&self, part: &str) -> Result<Answer, Lost> {
        self.call(Method::GET, part, String::new()).await
    }

    pub(super) async fn put(&self, part: &str, body: String) -> Result<Answer, Lost> {
        self.call(Method::PUT, part, body).await
    }

    async fn call(&self, method: Method, part: &str, body: String) -> Result<Answer, Lost> {
        let before = |error: String| Lost::Before(error);
        let url = if part.is_empty() { self.url.clone() } else { format!("{}?{part}", self.url) };
        let mut request = Request::builder().method(method).uri(url);
        if !body.is_empty() {
            // S3 insists on a checksum of these requests.
            let sum = STANDARD.encode(Sha256::digest(body.as_bytes()));
            request = request.header("content-type", "application/xml").header("x-amz-checksum-sha256", sum);
        }
        let request = request.body(HttpRequestBody::from(Bytes::from(body)));
        let mut request = request.map_err(|error| before(error.to_string()))?;
        let credential = self.credentials.get_credential().await.map_err(|error| before(error.to_string()))?;
        let signer = AwsAuthorizer::new(&credential, "s3", &self.region);
        signer.try_authorize(&mut request, None).map_err(|error| before(error.to_string()))?;
        let answer = self.http.execute(request).await.map_err(|error| match error.kind() {
            HttpErrorKind::Connect => before(error.to_string()),
            _ => Lost::Unknown(error.to_string()),
        })?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|error| Lost::Unknown(error.to_string()))?;
        Ok(Answer { status, text: String::from_utf8_lossy(&body.to_bytes()).into_owned() })
    }
}
