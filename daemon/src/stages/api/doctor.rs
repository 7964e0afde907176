//! The checks of this node, and its settings that all nodes should share.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::doctor::{Diagnosis, SharedSettings};

use super::admission::Look;
use super::context::{Answer, Api};
use super::error::Failure;
use crate::stages::ports::Doctor;

/// Runs the checks of this node: names, certificates, permissions, clocks, disks, settings, and known traps of its
/// Gerrit. Changes nothing.
#[utoipa::path(get, path = "/v1/doctor", tag = "status",
    responses((status = 200, description = "The checks with their findings", body = Diagnosis),
        (status = 503, description = "The sidecar is starting, or too many status calls are in progress: try again",
            body = ApiError)))]
pub(super) async fn diagnose(State(api): State<Api>, _permit: Look) -> Answer<Diagnosis> {
    Ok(Json(doctor(&api)?.diagnose().await))
}

/// Tells a peer the settings of this node that all nodes should share. They have no credentials.
#[utoipa::path(get, path = "/v1/peer/settings", tag = "peers",
    responses((status = 200, description = "The settings of this node", body = SharedSettings),
        (status = 503, description = "The sidecar is starting, or too many status calls are in progress: try again",
            body = ApiError)))]
pub(super) async fn shared_settings(State(api): State<Api>, _permit: Look) -> Answer<SharedSettings> {
    Ok(Json(doctor(&api)?.shared_settings()))
}

fn doctor(api: &Api) -> Result<&dyn Doctor, Failure> {
    api.doctor.as_deref().ok_or_else(|| Failure::unavailable("this sidecar is starting; try again"))
}
