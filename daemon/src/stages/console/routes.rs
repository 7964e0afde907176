//! The table of paths, and the headers of every answer.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{MethodRouter, get, post};

use super::context::Context;
use super::denied::Denied;
use super::pages::{audit, drills, failover, overview, plan, projects, quarantine, strays, time_line, topology};
use super::submitted::MOST_BYTES;
use super::{assets, headers, login, oidc};

/// Every path with its methods.
pub(super) fn table() -> Vec<(&'static str, MethodRouter<Context>)> {
    vec![
        ("/console", get(overview::show)),
        ("/console/", get(overview::show)),
        ("/console/topology", get(topology::show)),
        ("/console/projects", get(projects::show)),
        ("/console/ref", get(time_line::show)),
        ("/console/failover", get(failover::show)),
        ("/console/failover/plan", get(plan::show)),
        ("/console/drills", get(drills::show)),
        ("/console/quarantine", get(quarantine::show)),
        ("/console/strays", get(strays::show)),
        ("/console/audit", get(audit::show)),
        ("/console/login", get(login::show).post(login::begin)),
        ("/console/login/oidc", get(oidc::begin)),
        ("/console/login/callback", get(oidc::end)),
        ("/console/logout", post(login::end)),
        ("/console/failover/execute", post(plan::execute)),
        ("/console/failover/act", post(failover::act)),
        ("/console/drills/begin", post(drills::begin)),
        ("/console/drills/silent", post(drills::begin_silent)),
        ("/console/quarantine/repair", post(quarantine::repair)),
        ("/console/strays/end", post(strays::end)),
        ("/console/assets/console.css", get(assets::style)),
        ("/console/assets/icon.svg", get(assets::icon)),
        ("/console/assets/htmx.min.js", get(assets::script)),
        ("/console/assets/live.js", get(assets::live)),
        ("/console/{*rest}", get(nothing)),
    ]
}

/// Builds the router over [`table`].
pub(super) fn router(context: Context) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    routes.layer(DefaultBodyLimit::max(MOST_BYTES)).layer(middleware::from_fn(headers::protect)).with_state(context)
}

async fn nothing() -> Denied {
    Denied::NoPage
}
