//! The routes of the bridge API: each path with its handlers.

use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post, put};
use lockstep_proto::limits;

use super::context::Api;
use super::error::Failure;
use super::{
    arrivals, doctor, drills, events, fetches, gerrit, inspection, locks, objects, openapi, peers, projects, rebuild,
    refresh, resync, seed, signing, sites, transactions,
};

/// Every route: its path and its methods. A test compares the OpenAPI document with this table.
pub(super) fn table() -> Vec<(&'static str, MethodRouter<Api>)> {
    vec![
        ("/v1/projects/{project}/ref-transactions", post(transactions::ref_transactions)),
        ("/v1/projects/{project}/ref-transactions/look-up", post(transactions::look_up)),
        ("/v1/projects/{project}", put(projects::create_project).delete(projects::delete_project)),
        ("/v1/projects/{project}/head", put(projects::set_head)),
        ("/v1/projects/{project}/objects", post(objects::objects)),
        ("/v1/projects/{project}/git/info/refs", get(fetches::info_refs)),
        ("/v1/projects/{project}/git/git-upload-pack", post(fetches::upload_pack)),
        ("/v1/projects/{project}/strays", get(gerrit::strays).post(gerrit::end_stray)),
        ("/v1/projects/{project}/seed", post(seed::seed)),
        ("/v1/gerrit/hello", post(gerrit::handshake)),
        ("/v1/transactions/{txn}", get(transactions::transaction)),
        ("/v1/await", get(arrivals::await_transaction)),
        ("/v1/refresh", get(refresh::due)),
        ("/v1/refresh/tasks", post(refresh::tasks)),
        ("/v1/refresh/done", post(refresh::done)),
        ("/v1/events", post(events::announce)),
        ("/v1/events/next", post(events::next)),
        ("/v1/events/done", post(events::done)),
        ("/v1/status", get(inspection::status)),
        ("/v1/doctor", get(doctor::diagnose)),
        ("/v1/parked", get(inspection::parked)),
        ("/v1/quarantine", get(inspection::quarantine)),
        ("/v1/peer", get(peers::answer)),
        ("/v1/peer/versions", post(rebuild::versions)),
        ("/v1/peer/digests", post(peers::digests)),
        ("/v1/peer/refs", post(peers::refs)),
        ("/v1/peer/explain", post(peers::ref_here)),
        ("/v1/peer/records", post(peers::records)),
        ("/v1/peer/settings", get(doctor::shared_settings)),
        ("/v1/peers", get(peers::peers)),
        ("/v1/sites", get(sites::sites)),
        ("/v1/overview", get(sites::overview)),
        ("/v1/history", get(sites::history)),
        ("/v1/sites/{site}", put(sites::add_site).delete(sites::remove_site)),
        ("/v1/sites/{site}/role", put(sites::change_role)),
        ("/v1/sites/{site}/mode", put(sites::change_mode)),
        ("/v1/nodes/{node}", delete(sites::remove_node)),
        ("/v1/signing", get(signing::status).post(signing::require)),
        ("/v1/signing/keys", post(signing::change_key)),
        ("/v1/locks", get(locks::list).post(locks::acquire)),
        ("/v1/locks/renew", post(locks::renew)),
        ("/v1/locks/release", post(locks::release)),
        ("/v1/locks/break", post(locks::break_lock)),
        ("/v1/failover", post(sites::execute)),
        ("/v1/failover/plan", post(sites::plan)),
        ("/v1/failover/acts", post(sites::act)),
        ("/v1/refdb/rebuild", get(rebuild::show).post(rebuild::begin)),
        ("/v1/preflight", post(drills::preflight)),
        ("/v1/drills", get(drills::drills).post(drills::drill)),
        ("/v1/drills/silent", get(drills::silent_drills).post(drills::silent_drill)),
        ("/v1/repairs", post(inspection::repair)),
        ("/v1/resync", get(resync::show).post(resync::begin)),
        ("/v1/replay", get(resync::show_replay).post(resync::begin_replay)),
        ("/v1/verification", get(inspection::verification).post(inspection::verify)),
        ("/v1/explain", post(inspection::explain)),
        ("/v1/openapi.json", get(openapi::openapi_json)),
    ]
}

/// Builds the router over [`table`]. Unknown paths answer 404, and unknown methods 405.
pub(super) fn router(api: Api) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    routes
        .fallback(|method: Method, OriginalUri(uri): OriginalUri| async move {
            Failure::no_route(method.as_str(), uri.path())
        })
        .method_not_allowed_fallback(|method: Method, OriginalUri(uri): OriginalUri| async move {
            Failure::no_method(method.as_str(), uri.path())
        })
        .layer(DefaultBodyLimit::max(limits::REQUEST_BODY_BYTES))
        .with_state(api)
}
