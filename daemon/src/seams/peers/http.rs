//! Fetches objects from a peer's sidecar over HTTP (`POST /v1/projects/{project}/objects`), and pages of its version
//! map (`POST /v1/peer/versions`). The way to it is the peer's
//! listener for mutual TLS, or its Unix socket, or a TCP address with a token. That last connection is not encrypted:
//! between machines it goes through a tunnel that ends on the loopback interface of both.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lockstep_proto::bridge::{ApiError, ObjectsMissing, ObjectsRequest};
use lockstep_proto::digests::{DigestsPage, DigestsRequest, RefsAnswer, RefsRequest};
use lockstep_proto::doctor::SharedSettings;
use lockstep_proto::explain::{RefAtNode, RefAtNodeRequest};
use lockstep_proto::peer::{PeerAnswer, PeerStatus};
use lockstep_proto::rebuild::{VersionsPage, VersionsRequest};
use lockstep_proto::sharing::{RecordsAnswer, RecordsRequest};
use lockstep_proto::{Oid, ProjectName};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use super::{PeerError, Peers};
use crate::seams::blob::Payload;
use crate::seams::tls::{self, Credentials, PeerName};

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long opening TLS may take: longer than a peer bounds the handshake of another caller.
const HANDSHAKE: Duration = Duration::from_secs(8);
/// How long a peer may send nothing, in the middle of an answer or before one that it has at hand.
const SILENCE: Duration = Duration::from_secs(120);
/// How long a peer may pack, at most. A large project takes minutes.
const PACKING: Duration = Duration::from_secs(6 * 3_600);
/// The pause between two looks at a peer that packs.
const LOOK: Duration = Duration::from_secs(20);
/// So many looks in a row must fail before a peer that packs is given up.
const LOOKS: u32 = 3;
/// Packs above this size, in bytes, are spilled to a file.
const MEMORY_BYTES: usize = 1024 * 1024;
/// Largest answer that is not a pack, in bytes.
const WORDS_BYTES: usize = 1024 * 1024;

/// How long a peer may take to say who it is.
const ANSWER: Duration = Duration::from_secs(5);

/// The address of a peer.
#[derive(Clone)]
pub enum Address {
    /// A Unix socket on this machine.
    Socket(PathBuf),
    /// The address as `host:port`, and the file with the token. The file is read on each use.
    Tcp(String, PathBuf),
    /// The peer's listener for mutual TLS.
    Tls {
        /// `host:port`.
        address: String,
        /// The name that the peer's certificate must have.
        identity: PeerName,
        /// This node's certificate, and whom it trusts.
        credentials: Arc<Credentials>,
    },
}

impl Address {
    /// The address for people, and the name of the way to it.
    fn describe(&self) -> (String, &'static str) {
        match self {
            Self::Socket(path) => (path.display().to_string(), "socket"),
            Self::Tcp(address, _) => (address.clone(), "tunnel"),
            Self::Tls { address, .. } => (address.clone(), "tls"),
        }
    }
}

/// A client of one peer.
pub struct HttpPeer {
    name: String,
    address: Address,
    /// The folder for large packs that arrive.
    spill: PathBuf,
    /// Longest pack that is accepted, in bytes.
    most_bytes: u64,
    /// The pause between two looks at a peer that packs.
    look: Duration,
}

impl HttpPeer {
    /// Creates a client of the peer at `address`. Messages call it `name`. Large packs are written into the folder
    /// `spill`, and packs above `most_bytes` are refused.
    #[must_use]
    pub fn new(name: String, address: Address, spill: PathBuf, most_bytes: u64) -> Self {
        Self { name, address, spill, most_bytes, look: LOOK }
    }

    /// Looks more often or more rarely whether a peer that packs still answers.
    #[must_use]
    pub fn looking_every(self, look: Duration) -> Self {
        Self { look, ..self }
    }

    fn not_now(&self, why: impl std::fmt::Display) -> PeerError {
        PeerError::NotNow(format!("peer {}: {why}", self.name))
    }

    /// Sends a request, whose answer must begin within `limit`.
    async fn send(&self, request: Request<Full<Bytes>>, limit: Duration) -> Result<Response<Incoming>, PeerError> {
        match &self.address {
            Address::Socket(path) => {
                let stream = self.in_time(CONNECT, UnixStream::connect(path)).await?;
                self.exchange(stream, request, limit).await
            }
            Address::Tcp(address, _) => self.exchange(self.dial(address).await?, request, limit).await,
            Address::Tls { address, identity, credentials } => {
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                let stream = self.dial(address).await?;
                let material = credentials.current();
                let stream =
                    self.in_time(HANDSHAKE, tls::connect(&material.client, host, identity.clone(), stream)).await?;
                self.exchange(stream, request, limit).await
            }
        }
    }

    /// Sends a request for which the peer has to pack. Gives up when the peer no longer answers other requests.
    async fn send_and_look(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, PeerError> {
        tokio::select! {
            biased;
            answer = self.send(request, PACKING) => answer,
            why = self.silence() => Err(why),
        }
    }

    /// Looks at the peer until it has not answered for some time. Any answer shows that it lives.
    async fn silence(&self) -> PeerError {
        let mut failed = 0;
        loop {
            sleep(self.look).await;
            match timeout(ANSWER, self.look()).await {
                Ok(Ok(())) => failed = 0,
                Ok(Err(_)) | Err(_) => failed += 1,
            }
            if failed == LOOKS {
                return self.not_now("it was packing, and no longer answers");
            }
        }
    }

    async fn look(&self) -> Result<(), PeerError> {
        let request = self.request(Method::GET, "/v1/peer".to_owned(), Bytes::new()).await?;
        self.send(request, ANSWER).await.map(drop)
    }

    async fn dial(&self, address: &str) -> Result<TcpStream, PeerError> {
        self.in_time(CONNECT, TcpStream::connect(address)).await
    }

    /// Opens a connection, or a layer of it, within `limit`.
    async fn in_time<S>(&self, limit: Duration, open: impl Future<Output = io::Result<S>>) -> Result<S, PeerError> {
        match timeout(limit, open).await {
            Ok(stream) => stream.map_err(|error| self.not_now(error)),
            Err(_) => Err(self.not_now("it did not accept the connection in time")),
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, PeerError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.not_now(error))?;
        // The task ends with the sender. An error of the connection also shows in the answer.
        tokio::spawn(async move { drop(connection.await) });
        let answer = timeout(limit, sender.send_request(request)).await;
        answer.map_err(|_| self.not_now("it did not answer in time"))?.map_err(|error| self.not_now(error))
    }

    /// A request with its head: the token is in it if the address needs one.
    async fn request(&self, method: Method, path: String, body: Bytes) -> Result<Request<Full<Bytes>>, PeerError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "lockstep")
            .header(header::CONTENT_TYPE, "application/json");
        if let Address::Tcp(_, token_file) = &self.address {
            let text = tokio::fs::read_to_string(token_file).await;
            let text = text.map_err(|error| self.not_now(format!("token_file {}: {error}", token_file.display())))?;
            let token = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Full::new(body)).map_err(|error| self.not_now(error))
    }

    /// Posts a body, and reads the answer. A peer of an earlier release has no such route, and says so.
    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, PeerError> {
        let body = serde_json::to_vec(body).map_err(|error| self.not_now(error))?;
        let answer = self.send(self.request(Method::POST, path.to_owned(), body.into()).await?, SILENCE).await?;
        self.answer(path, answer).await
    }

    /// Reads the answer of a call that a peer of an earlier release may not have.
    async fn answer<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        answer: Response<Incoming>,
    ) -> Result<T, PeerError> {
        match answer.status() {
            StatusCode::OK => self.words(answer).await,
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => {
                let why = self.words::<ApiError>(answer).await?.message;
                Err(self.not_now(format!("{why}; a peer of an earlier release does not serve {path}: upgrade it")))
            }
            _ => Err(self.not_now(self.words::<ApiError>(answer).await?.message)),
        }
    }

    async fn introduction(&self) -> Result<PeerAnswer, PeerError> {
        let request = self.request(Method::GET, "/v1/peer".to_owned(), Bytes::new()).await?;
        let answer = self.send(request, SILENCE).await?;
        match answer.status() {
            StatusCode::OK => self.words(answer).await,
            _ => Err(self.not_now(self.words::<ApiError>(answer).await?.message)),
        }
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

    /// Asks for objects, and receives the pack of the answer.
    async fn packs(&self, project: &ProjectName, request: &ObjectsRequest) -> Result<Vec<Payload>, PeerError> {
        let body = serde_json::to_vec(request).map_err(|error| self.not_now(error))?;
        let path = format!("/v1/projects/{}/objects", utf8_percent_encode(project.as_str(), NON_ALPHANUMERIC));
        let answer = self.send_and_look(self.request(Method::POST, path, body.into()).await?).await?;
        match answer.status() {
            StatusCode::OK => Ok(vec![self.receive(answer.into_body()).await?]),
            StatusCode::NO_CONTENT => Ok(Vec::new()),
            StatusCode::CONFLICT => Err(PeerError::Missing(self.words::<ObjectsMissing>(answer).await?.missing)),
            _ => Err(self.not_now(self.words::<ApiError>(answer).await?.message)),
        }
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
        let (wants, haves) = (wants.to_vec(), haves.to_vec());
        self.packs(project, &ObjectsRequest { wants, haves, alone: false }).await
    }

    /// A peer of an earlier release refuses the request as malformed, which reads as "not now".
    async fn objects_alone(&self, project: &ProjectName, wants: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        self.packs(project, &ObjectsRequest { wants: wants.to_vec(), haves: Vec::new(), alone: true }).await
    }

    async fn statuses(&self) -> Vec<PeerStatus> {
        let began = Instant::now();
        let asked = timeout(ANSWER, self.introduction()).await;
        let asked = asked.unwrap_or_else(|_| Err(self.not_now("it did not answer in time")));
        let (address, way) = self.address.describe();
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (answer, problem) = match asked {
            Ok(answer) => (Some(answer), None),
            Err(error) => (None, Some(error.to_string())),
        };
        vec![PeerStatus { name: self.name.clone(), address, way: way.to_owned(), answer, problem, took_ms }]
    }

    fn is(&self, peer: &str) -> bool {
        self.name == peer
    }

    async fn versions(&self, _peer: &str, request: &VersionsRequest) -> Result<VersionsPage, PeerError> {
        self.call("/v1/peer/versions", request).await
    }

    async fn digests(&self, _peer: &str, request: &DigestsRequest) -> Result<DigestsPage, PeerError> {
        self.call("/v1/peer/digests", request).await
    }

    async fn refs(&self, _peer: &str, request: &RefsRequest) -> Result<RefsAnswer, PeerError> {
        self.call("/v1/peer/refs", request).await
    }

    async fn explain(&self, _peer: &str, request: &RefAtNodeRequest) -> Result<RefAtNode, PeerError> {
        self.call("/v1/peer/explain", request).await
    }

    async fn records(&self, _peer: &str, request: &RecordsRequest) -> Result<RecordsAnswer, PeerError> {
        self.call("/v1/peer/records", request).await
    }

    async fn shared_settings(&self, _peer: &str) -> Result<SharedSettings, PeerError> {
        const PATH: &str = "/v1/peer/settings";
        let request = self.request(Method::GET, PATH.to_owned(), Bytes::new()).await?;
        let answered = async { self.answer(PATH, self.send(request, ANSWER).await?).await };
        timeout(ANSWER, answered).await.unwrap_or_else(|_| Err(self.not_now("it did not answer in time")))
    }
}
