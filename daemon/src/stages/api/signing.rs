//! Signed records: requests that every caller may make, and those of operators.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::keys::{ChangeKeyRequest, RequireSigningRequest, SigningStatus};

use super::admission::Look;
use super::context::{Answer, Api};
use super::extract::Body;
use super::operators::Operator;
use super::sites::desk;

/// Shows whether records must be signed, and the public keys of the sites.
#[utoipa::path(get, path = "/v1/signing", tag = "failover",
    responses((status = 200, description = "The sites and the keys", body = SigningStatus),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn status(State(api): State<Api>, _permit: Look) -> Answer<SigningStatus> {
    Ok(Json(desk(&api)?.signing().await?))
}

/// Requires that records are signed, or no longer requires it. Operators only.
#[utoipa::path(post, path = "/v1/signing", tag = "failover", request_body = RequireSigningRequest,
    responses((status = 200, description = "The sites and the keys after the change", body = SigningStatus),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "A node does not sign, or a failover is in progress", body = ApiError),
        (status = 503, description = "The refdb does not answer: look, then ask again", body = ApiError)))]
pub(super) async fn require(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Body(request): Body<RequireSigningRequest>,
) -> Answer<SigningStatus> {
    Ok(Json(desk(&api)?.require_signing(&operator.to_string(), request).await?))
}

/// Retires a key of a site, or drops one that was retired. Operators only.
#[utoipa::path(post, path = "/v1/signing/keys", tag = "failover", request_body = ChangeKeyRequest,
    responses((status = 200, description = "The sites and the keys after the change", body = SigningStatus),
        (status = 400, description = "The body is malformed, or there is no such key", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "Something still needs the key; nothing was changed", body = ApiError),
        (status = 503, description = "The refdb does not answer: look, then ask again", body = ApiError)))]
pub(super) async fn change_key(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Body(request): Body<ChangeKeyRequest>,
) -> Answer<SigningStatus> {
    Ok(Json(desk(&api)?.change_key(&operator.to_string(), request).await?))
}
