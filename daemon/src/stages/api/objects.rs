//! Objects for peers: streams a pack of one repository's objects.

use axum::Json;
use axum::body::Body as Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use lockstep_proto::bridge::{ApiError, ObjectsMissing, ObjectsRequest};
use tokio::io::AsyncReadExt;

use super::admission::Work;
use super::context::Api;
use super::error::Failure;
use super::extract::{Body, Project};
use crate::seams::blob::Payload;
use crate::seams::peers::{MOST_OIDS, PeerError, serve};

/// Bytes of a pack file that are read and sent at once.
const CHUNK: usize = 64 * 1024;

/// Packs objects for another node that lacks them.
#[utoipa::path(post, path = "/v1/projects/{project}/objects", tag = "peers",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = ObjectsRequest,
    responses(
        (status = 200,
            description = "A git pack with the wanted objects and all that they need, less what the caller has; with \
                           `alone`, with the wanted objects",
            content_type = "application/x-git-pack", body = String),
        (status = 204, description = "The caller already has everything that it wants"),
        (status = 409, description = "This node lacks some of the wanted objects", body = ObjectsMissing),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 401, description = "There is no valid bearer token (TCP listener only)", body = ApiError),
        (status = 503,
            description = "The repository cannot be read now, or too many requests are in progress: try again",
            body = ApiError)))]
pub(super) async fn objects(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Body(request): Body<ObjectsRequest>,
) -> Result<Response, Failure> {
    let most = request.wants.len().max(request.haves.len());
    if most > MOST_OIDS {
        return Err(Failure::malformed(format!("{most} ids in one list; send at most {MOST_OIDS}, then ask again")));
    }
    let Some(repositories) = api.repositories.clone() else {
        return Err(Failure::unavailable("this sidecar serves no objects; ask another peer"));
    };
    // Packing goes on when its caller hangs up, so the permit stays with it.
    let packing = api.work.spawn(async move {
        let packs = match request.alone {
            true => serve::objects_alone(repositories.as_ref(), &project, &request.wants).await,
            false => serve::objects(repositories.as_ref(), &project, &request.wants, &request.haves).await,
        };
        (packs, permit)
    });
    let (packs, permit) = packing.await.map_err(|error| Failure::unavailable(format!("packing ended: {error}")))?;
    match packs {
        Ok(packs) => match packs.into_iter().next() {
            Some(pack) => {
                Ok(([(header::CONTENT_TYPE, "application/x-git-pack")], stream(pack, permit).await?).into_response())
            }
            None => Ok(StatusCode::NO_CONTENT.into_response()),
        },
        Err(PeerError::Missing(missing)) => {
            Ok((StatusCode::CONFLICT, Json(ObjectsMissing { missing })).into_response())
        }
        Err(PeerError::NotNow(why)) => Err(Failure::unavailable(why)),
    }
}

/// A pack as a response body. A pack on disk is read while it is sent; the file and the permit are kept until then.
async fn stream(pack: Payload, permit: Work) -> Result<Bytes, Failure> {
    let path = match pack {
        Payload::Memory(bytes) => return Ok(Bytes::from(bytes)),
        Payload::File(path, _) => path,
    };
    let file = tokio::fs::File::open(&*path).await;
    let file = file.map_err(|error| Failure::unavailable(format!("the pack cannot be read: {error}; try again")))?;
    Ok(Bytes::from_stream(stream::try_unfold((file, path, permit), |(mut file, path, permit)| async move {
        let mut chunk = vec![0; CHUNK];
        let length = file.read(&mut chunk).await?;
        chunk.truncate(length);
        Ok::<_, std::io::Error>((length > 0).then_some((chunk, (file, path, permit))))
    })))
}
