//! Fetches of git: its protocol over HTTP, version 2, answered by git's own `upload-pack`.
//!
//! So peers, and people with a peer's certificate, clone and fetch with plain git. Pushes are not taken here. A fetch
//! is bounded in number, in the bytes and time of its request, in the memory and time of its git, and by the pace at
//! which its caller takes the answer. Errors are plain text, because git shows such text to its user.

use std::io::{self, Write};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use flate2::write::GzDecoder;
use futures::{StreamExt, stream};
use lockstep_proto::ProjectName;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::admission::{Fetch, Work};
use super::context::Api;
use super::error::{Failure, Told};
use super::extract::Project;
use crate::seams::git::{FetchStep, GitError, UploadPack};

/// The longest request, in bytes: about a million ids of objects.
const REQUEST: usize = 64 * 1024 * 1024;
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(120);
/// How long git may be silent while it answers. It sends a sign of life every five seconds while it packs.
const SILENCE: Duration = Duration::from_secs(120);
/// The longest answer to the first request, in bytes, and how long it may take.
const CAPABILITIES: usize = 16 * 1024;
const SOON: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read and sent at once.
const CHUNK: usize = 64 * 1024;
/// Bytes of a compressed request that are inflated at once. They are at most a thousand times as many then.
const PIECE: usize = 1024;

/// The query of a fetch's first request, as git writes it, and that of a push.
const FETCH: &str = "service=git-upload-pack";
const PUSH: &str = "service=git-receive-pack";

/// Begins a fetch of git: tells the capabilities of this node's git.
#[utoipa::path(get, path = "/v1/projects/{project}/git/info/refs", tag = "peers",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)"),
        ("service" = String, Query, description = "`git-upload-pack`"),
        ("git-protocol" = String, Header, description = "`version=2`")),
    responses(
        (status = 200, description = "The capabilities of git",
            content_type = "application/x-git-upload-pack-advertisement", body = String),
        (status = 400, description = "The caller's git is too old", content_type = "text/plain", body = String),
        (status = 403, description = "The caller wants to push", content_type = "text/plain", body = String),
        (status = 404, description = "This node holds no such project", content_type = "text/plain", body = String),
        (status = 503, description = "The repository cannot be read now, or too many requests are in progress: try \
                                      again", content_type = "text/plain", body = String)))]
pub(super) async fn info_refs(
    State(api): State<Api>,
    permit: Result<Work, Failure>,
    project: Result<Project, Failure>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Told> {
    let (_permit, Project(project)) = (permit?, project?);
    match query.as_deref() {
        Some(FETCH) => {}
        Some(PUSH) => return Err(Failure::no_pushes().into()),
        _ => return Err(Failure::malformed(format!("the query is not {FETCH}: use git 2.29 or later")).into()),
    }
    speaks_version_2(&headers)?;
    let mut git = start(&api, &project, FetchStep::Capabilities).await?;
    drop(git.input());
    let answer = timeout(SOON, whole(git)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = answer.map_err(|error| Failure::unavailable(format!("{project}: {error}; try again")))?;
    Ok(answered("application/x-git-upload-pack-advertisement", answer.into()))
}

/// Answers a command of a fetch of git: lists refs, or sends the wanted objects.
#[utoipa::path(post, path = "/v1/projects/{project}/git/git-upload-pack", tag = "peers",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)"),
        ("git-protocol" = String, Header, description = "`version=2`")),
    request_body(content = String, content_type = "application/x-git-upload-pack-request",
        description = "A command of version 2 of git's protocol, as it is or compressed with gzip"),
    responses(
        (status = 200, description = "The answer of git's `upload-pack`",
            content_type = "application/x-git-upload-pack-result", body = String),
        (status = 400, description = "The caller's git is too old, or the request is damaged",
            content_type = "text/plain", body = String),
        (status = 404, description = "This node holds no such project", content_type = "text/plain", body = String),
        (status = 408, description = "The request did not arrive in time", content_type = "text/plain", body = String),
        (status = 413, description = "The request is too long", content_type = "text/plain", body = String),
        (status = 503, description = "The repository cannot be read now, or too many fetches are in progress: try \
                                      again", content_type = "text/plain", body = String)))]
pub(super) async fn upload_pack(
    State(api): State<Api>,
    permits: (Result<Work, Failure>, Result<Fetch, Failure>),
    project: Result<Project, Failure>,
    request: Request,
) -> Result<Response, Told> {
    let (permits, Project(project)) = ((permits.0?, permits.1?), project?);
    let headers = request.headers();
    speaks_version_2(headers)?;
    let is_gzip = match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => false,
        Some(b"gzip") => true,
        Some(_) => return Err(Failure::malformed("content-encoding is not gzip: send the request as it is").into()),
    };
    let mut git = start(&api, &project, FetchStep::Command).await?;
    if let Some(mut input) = git.input() {
        let fed = timeout(ARRIVAL, feed(request.into_body(), is_gzip, REQUEST, &mut input)).await;
        fed.unwrap_or_else(|_| Err(Failure::too_slow(ARRIVAL)))?;
    }
    let answer = Answering { project, git: Some(git), pace: Pace::begin(), _permits: permits };
    let parts = stream::try_unfold(answer, |mut answer| async move {
        Ok::<_, io::Error>(answer.next().await?.map(|part| (part, answer)))
    });
    Ok(answered("application/x-git-upload-pack-result", Body::from_stream(parts)))
}

fn answered(content_type: &'static str, body: Body) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], body).into_response()
}

/// Starts git for a project that this node holds.
async fn start(api: &Api, project: &ProjectName, step: FetchStep) -> Result<UploadPack, Failure> {
    let (Some(repositories), Some(peer_refs)) = (&api.repositories, &api.peer_refs) else {
        return Err(Failure::unavailable("this sidecar is starting, or serves no objects; try again"));
    };
    peer_refs.holds(project).await?;
    repositories.upload_pack(project, step).await.map_err(|error| match error {
        GitError::NoRepository(_) => Failure::unavailable(format!(
            "the repository of {project} is missing at this node, which restores it from peers; ask another node, or \
             try again"
        )),
        error => Failure::unavailable(error.to_string()),
    })
}

/// Git lists all refs at once to a caller that speaks an older version.
fn speaks_version_2(headers: &HeaderMap) -> Result<(), Failure> {
    let versions = headers.get("git-protocol").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if versions.split(':').any(|version| version == "version=2") {
        return Ok(());
    }
    Err(Failure::malformed("version 2 of git's protocol is served alone: use git -c protocol.version=2"))
}

/// The whole answer, if it is short.
async fn whole(mut git: UploadPack) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    loop {
        let part = git.read(CHUNK).await?;
        if part.is_empty() {
            git.end().await?;
            return Ok(answer);
        }
        answer.extend(part);
        if answer.len() > CAPABILITIES {
            return Err(io::Error::other("git lists more capabilities than it can have"));
        }
    }
}

/// Hands the request to git, up to `most` bytes.
async fn feed(body: Body, is_gzip: bool, most: usize, input: &mut (impl AsyncWrite + Unpin)) -> Result<(), Failure> {
    let (mut body, mut length) = (body.into_data_stream(), 0);
    let mut inflater = is_gzip.then(|| GzDecoder::new(Vec::new()));
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| Failure::malformed(format!("the request broke off: {error}")))?;
        for piece in chunk.chunks(if is_gzip { PIECE } else { CHUNK }) {
            let inflated = inflater.as_mut().map(|inflater| inflate(inflater, piece)).transpose()?;
            let plain = inflated.as_deref().unwrap_or(piece);
            length += plain.len();
            if length > most {
                return Err(Failure::too_large_fetch(most));
            }
            if input.write_all(plain).await.is_err() {
                // Git has ended. Its answer says why.
                return Ok(());
            }
        }
    }
    let Some(inflater) = inflater else { return Ok(()) };
    let rest = inflater.finish().map_err(|error| damaged(&error))?;
    // If git has ended, its answer says why.
    let _ = input.write_all(&rest).await;
    Ok(())
}

fn inflate(inflater: &mut GzDecoder<Vec<u8>>, piece: &[u8]) -> Result<Vec<u8>, Failure> {
    inflater.write_all(piece).and_then(|()| inflater.flush()).map_err(|error| damaged(&error))?;
    Ok(std::mem::take(inflater.get_mut()))
}

fn damaged(error: &io::Error) -> Failure {
    Failure::malformed(format!("the request is no gzip: {error}"))
}

/// An answer of git on its way. Dropping it ends git.
struct Answering {
    project: ProjectName,
    /// Git; none when it has ended.
    git: Option<UploadPack>,
    pace: Pace,
    _permits: (Work, Fetch),
}

impl Answering {
    /// The next part of the answer; none at its end. An error ends the connection, so that the caller takes half an
    /// answer for no whole one.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let part = self.part().await;
        if let Err(error) = &part {
            tracing::warn!(project = %self.project, %error, "a fetch of git was ended");
        }
        part
    }

    async fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.pace.asked()?;
        let Some(git) = &mut self.git else { return Ok(None) };
        let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "git went silent");
        let part = timeout(SILENCE, git.read(CHUNK)).await.map_err(silent)??;
        if !part.is_empty() {
            self.pace.gave(part.len());
            return Ok(Some(part));
        }
        match self.git.take() {
            Some(git) => timeout(SILENCE, git.end()).await.map_err(silent)?.map(|()| None),
            None => Ok(None),
        }
    }
}

/// The pace at which a caller takes an answer. The time in which git works is not counted.
struct Pace {
    /// When the caller got the last part.
    gave: Instant,
    /// How long the caller has taken in all.
    taken: Duration,
    bytes: u64,
}

/// The slowest average pace of a caller, in bytes per second, after [`SLACK`].
const SLOWEST: u64 = 16 * 1024;
const SLACK: Duration = Duration::from_secs(60);

impl Pace {
    fn begin() -> Self {
        Self { gave: Instant::now(), taken: Duration::ZERO, bytes: 0 }
    }

    fn gave(&mut self, bytes: usize) {
        self.gave = Instant::now();
        self.bytes += bytes as u64;
    }

    /// The caller asks for the next part. Fails if it is too slow.
    fn asked(&mut self) -> io::Result<()> {
        self.taken += self.gave.elapsed();
        if self.taken > SLACK + Duration::from_secs(self.bytes / SLOWEST) {
            let message = format!("its caller takes less than {SLOWEST} bytes per second");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
