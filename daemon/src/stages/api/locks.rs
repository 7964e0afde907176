//! Locks of operators and bridges, and maintenance.
//!
//! A bridge may lock projects and refs for its own long operations. Maintenance, locks of sites, and breaking a lock
//! are for operators alone.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::locks::{AcquireRequest, Acquired, BreakRequest, LockKind, LockList, ReleaseRequest, RenewRequest};

use super::admission::Look;
use super::context::{Answer, Api};
use super::error::Failure;
use super::extract::Body;
use super::operators::{Caller, Operator};
use crate::stages::ports::Locking;

/// Shows all locks, without their tokens.
#[utoipa::path(get, path = "/v1/locks", tag = "locks",
    responses((status = 200, description = "The locks", body = LockList),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn list(State(api): State<Api>, _permit: Look) -> Answer<LockList> {
    Ok(Json(locks(&api)?.list().await?))
}

/// Locks a project, one of its refs, or a site. Maintenance, and locks of sites, are for operators only.
///
/// The answer comes when the lock is held, or after ten seconds. A lock that is not held yet keeps others out already.
/// Repeat the same request until it is held.
#[utoipa::path(post, path = "/v1/locks", tag = "locks", request_body = AcquireRequest,
    responses((status = 200, description = "The lock, with its token", body = Acquired),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "Another lock is in the way; nothing was changed", body = ApiError),
        (status = 503, description = "The refdb does not answer: send the same request again", body = ApiError)))]
pub(super) async fn acquire(
    State(api): State<Api>,
    caller: Caller,
    _permit: Look,
    Body(request): Body<AcquireRequest>,
) -> Answer<Acquired> {
    if request.kind == LockKind::Maintenance || request.target.site.is_some() {
        caller.must_be_operator()?;
    }
    Ok(Json(locks(&api)?.acquire(&caller.to_string(), request).await?))
}

/// Renews a lock: its time to live begins again.
#[utoipa::path(post, path = "/v1/locks/renew", tag = "locks", request_body = RenewRequest,
    responses((status = 200, description = "The locks after the change", body = LockList),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 409, description = "No lock with this token is held; nothing was changed", body = ApiError),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn renew(
    State(api): State<Api>,
    caller: Caller,
    _permit: Look,
    Body(request): Body<RenewRequest>,
) -> Answer<LockList> {
    Ok(Json(locks(&api)?.renew(&caller.to_string(), request).await?))
}

/// Releases a lock by its token. A lock that is gone is released already.
#[utoipa::path(post, path = "/v1/locks/release", tag = "locks", request_body = ReleaseRequest,
    responses((status = 200, description = "The locks after the change", body = LockList),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn release(
    State(api): State<Api>,
    caller: Caller,
    _permit: Look,
    Body(request): Body<ReleaseRequest>,
) -> Answer<LockList> {
    Ok(Json(locks(&api)?.release(&caller.to_string(), request).await?))
}

/// Breaks a lock without its token: its holder commits nothing any more. Operators only.
#[utoipa::path(post, path = "/v1/locks/break", tag = "locks", request_body = BreakRequest,
    responses((status = 200, description = "The locks after the change", body = LockList),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "There is no such lock; nothing was changed", body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the locks, then try again", body = ApiError)))]
pub(super) async fn break_lock(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Body(request): Body<BreakRequest>,
) -> Answer<LockList> {
    Ok(Json(locks(&api)?.break_lock(&operator.to_string(), request).await?))
}

fn locks(api: &Api) -> Result<&dyn Locking, Failure> {
    let locks = api.locks.as_deref();
    locks.ok_or_else(|| Failure::unavailable("this sidecar is starting and takes no locks yet; try again"))
}
