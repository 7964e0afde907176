//! Fetches objects from a peer's sidecar over HTTP: `POST /v1/projects/{project}/objects` on its Unix socket, or on a
//! TCP address with a token. The connection is not encrypted. Between machines it goes through a tunnel that ends on
//! the loopback interface of both.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lockstep_proto::bridge::{ApiError, ObjectsMissing, ObjectsRequest};
use lockstep_proto::{Oid, ProjectName};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::{PeerError, Peers};
use crate::seams::blob::Payload;

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a peer may send nothing. It packs during that time.
const SILENCE: Duration = Duration::from_secs(120);
/// Packs above this size, in bytes, are spilled to a file.
const MEMORY_BYTES: usize = 1024 * 1024;
/// Largest answer that is not a pack, in bytes.
const WORDS_BYTES: usize = 1024 * 1024;

/// The address of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket on this machine.
    Socket(PathBuf),
    /// The address as `host:port`, and the file with the token. The file is read on each use.
    Tcp(String, PathBuf),
}

/// A client of one peer.
pub struct HttpPeer {
    name: String,
    address: Address,
    /// The folder for large packs that arrive.
    spill: PathBuf,
    /// Longest pack that is accepted, in bytes.
    most_bytes: u64,
}

impl HttpPeer {
    /// Creates a client of the peer at `address`. Messages call it `name`. Large packs are written into the folder
    /// `spill`, and packs above `most_bytes` are refused.
    #[must_use]
    pub fn new(name: String, address: Address, spill: PathBuf, most_bytes: u64) -> Self {
        Self { name, address, spill, most_bytes }
    }

    fn not_now(&self, why: impl std::fmt::Display) -> PeerError {
        PeerError::NotNow(format!("peer {}: {why}", self.name))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, PeerError> {
        let late = |_| self.not_now("it did not accept the connection in time");
        match &self.address {
            Address::Socket(path) => {
                let stream = timeout(CONNECT, UnixStream::connect(path)).await.map_err(late)?;
                self.exchange(stream.map_err(|error| self.not_now(error))?, request).await
            }
            Address::Tcp(address, _) => {
                let stream = timeout(CONNECT, TcpStream::connect(address)).await.map_err(late)?;
                self.exchange(stream.map_err(|error| self.not_now(error))?, request).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, PeerError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.not_now(error))?;
        // The task ends with the sender. An error of the connection also shows in the answer.
        tokio::spawn(async move { drop(connection.await) });
        let answer = timeout(SILENCE, sender.send_request(request)).await;
        answer.map_err(|_| self.not_now("it did not answer in time"))?.map_err(|error| self.not_now(error))
    }

    async fn request(&self, project: &ProjectName, body: &ObjectsRequest) -> Result<Request<Full<Bytes>>, PeerError> {
        let project = utf8_percent_encode(project.as_str(), NON_ALPHANUMERIC);
        let mut request = Request::post(format!("/v1/projects/{project}/objects"))
            .header(header::HOST, "lockstep")
            .header(header::CONTENT_TYPE, "application/json");
        if let Address::Tcp(_, token_file) = &self.address {
            let text = tokio::fs::read_to_string(token_file).await;
            let text = text.map_err(|error| self.not_now(format!("token_file {}: {error}", token_file.display())))?;
            let token = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = serde_json::to_vec(body).map_err(|error| self.not_now(error))?;
        request.body(Full::new(body.into())).map_err(|error| self.not_now(error))
    }

    /// Receives a pack, in memory while it is small. A pack that is too long is dropped as soon as it exceeds the
    /// limit.
    async fn receive(&self, mut body: Incoming) -> Result<Payload, PeerError> {
        let (mut head, mut length) = (Vec::new(), 0);
        let mut file: Option<(tokio::fs::File, tempfile::TempPath)> = None;
        while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| self.not_now("it went silent"))? {
            let Ok(chunk) = frame.map_err(|error| self.not_now(error))?.into_data() else { continue };
            length += chunk.len() as u64;
            if length > self.most_bytes {
                let most = self.most_bytes;
                return Err(self.not_now(format!("its pack is longer than {most} bytes, the limit for packs")));
            }
            if file.is_none() && head.len() + chunk.len() > MEMORY_BYTES {
                let made = tempfile::NamedTempFile::new_in(&self.spill).map_err(|error| self.not_now(error))?;
                let (spilled, path) = made.into_parts();
                let mut spilled = tokio::fs::File::from_std(spilled);
                spilled.write_all(&head).await.map_err(|error| self.not_now(error))?;
                head = Vec::new();
                file = Some((spilled, path));
            }
            match &mut file {
                Some((file, _)) => file.write_all(&chunk).await.map_err(|error| self.not_now(error))?,
                None => head.extend_from_slice(&chunk),
            }
        }
        let Some((mut file, path)) = file else { return Ok(Payload::Memory(head.into())) };
        file.flush().await.map_err(|error| self.not_now(error))?;
        Ok(Payload::File(Arc::new(path), length))
    }

    async fn words<T: serde::de::DeserializeOwned>(&self, answer: Response<Incoming>) -> Result<T, PeerError> {
        let status = answer.status();
        let body = timeout(SILENCE, Limited::new(answer.into_body(), WORDS_BYTES).collect()).await;
        let body = body.map_err(|_| self.not_now("it went silent"))?.map_err(|error| self.not_now(error))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| self.not_now(format!("bad answer, HTTP {status}: {error}")))
    }
}

#[async_trait]
impl Peers for HttpPeer {
    async fn objects(&self, project: &ProjectName, wants: &[Oid], haves: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        let body = ObjectsRequest { wants: wants.to_vec(), haves: haves.to_vec() };
        let answer = self.send(self.request(project, &body).await?).await?;
        match answer.status() {
            StatusCode::OK => Ok(vec![self.receive(answer.into_body()).await?]),
            StatusCode::NO_CONTENT => Ok(Vec::new()),
            StatusCode::CONFLICT => Err(PeerError::Missing(self.words::<ObjectsMissing>(answer).await?.missing)),
            _ => Err(self.not_now(self.words::<ApiError>(answer).await?.message)),
        }
    }
}
