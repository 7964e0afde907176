//! The OpenAPI document, generated from the handlers and the types of their bodies. `lockstep openapi` prints it.
//! `docs/openapi.json` is its copy in the tree, and a test keeps the two equal.

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lockstep bridge API",
        description = "Bridges hand in ref transactions over this API, and operators read the state of the node. It is \
                       served on a Unix socket without a token, and on 127.0.0.1 with `Authorization: Bearer <token>`. \
                       Operators have a socket, and a listener with TLS, of their own.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        super::transactions::ref_transactions,
        super::transactions::look_up,
        super::projects::create_project,
        super::projects::delete_project,
        super::projects::set_head,
        super::seed::seed,
        super::gerrit::handshake,
        super::gerrit::strays,
        super::gerrit::end_stray,
        super::transactions::transaction,
        super::arrivals::await_transaction,
        super::events::announce,
        super::events::next,
        super::events::done,
        super::inspection::status,
        super::inspection::parked,
        super::inspection::quarantine,
        super::inspection::repair,
        super::inspection::verify,
        super::inspection::verification,
        super::inspection::explain,
        super::objects::objects,
        super::fetches::info_refs,
        super::fetches::upload_pack,
        super::peers::answer,
        super::peers::digests,
        super::peers::refs,
        super::peers::ref_here,
        super::peers::records,
        super::peers::peers,
        super::doctor::diagnose,
        super::doctor::shared_settings,
        super::rebuild::versions,
        super::rebuild::begin,
        super::rebuild::show,
        super::resync::begin,
        super::resync::show,
        super::resync::begin_replay,
        super::resync::show_replay,
        super::refresh::due,
        super::refresh::tasks,
        super::refresh::done,
        super::sites::sites,
        super::sites::overview,
        super::sites::history,
        super::sites::plan,
        super::sites::execute,
        super::sites::act,
        super::sites::change_role,
        super::sites::change_mode,
        super::sites::add_site,
        super::sites::remove_site,
        super::sites::remove_node,
        super::signing::status,
        super::signing::require,
        super::signing::change_key,
        super::locks::list,
        super::locks::acquire,
        super::locks::renew,
        super::locks::release,
        super::locks::break_lock,
        super::drills::preflight,
        super::drills::drills,
        super::drills::drill,
        super::drills::silent_drills,
        super::drills::silent_drill,
        openapi_json
    )
)]
struct Document;

/// The document as indented JSON, ending in a newline.
#[must_use]
pub fn document() -> String {
    // The document has only strings, maps and lists, so serialising it cannot fail.
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Returns this OpenAPI document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "status",
    responses((status = 200, description = "The OpenAPI document", content_type = "application/json", body = String)))]
pub(super) async fn openapi_json() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_documented_and_every_documented_route_exists() {
        let document: serde_json::Value = serde_json::from_str(&document()).expect("the document is JSON");
        let documented: BTreeSet<&str> =
            document["paths"].as_object().expect("it has paths").keys().map(String::as_str).collect();
        let served: BTreeSet<&str> = super::super::routes::table().into_iter().map(|(path, _)| path).collect();
        assert_eq!(documented, served);
        let project = &document["paths"]["/v1/projects/{project}"];
        assert!(project["put"].is_object() && project["delete"].is_object(), "{project}");
    }

    #[test]
    fn the_copy_in_the_tree_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let copy = std::fs::read_to_string(path).unwrap_or_default();
        assert!(copy == document(), "docs/openapi.json is out of date: run `lockstep openapi > docs/openapi.json`");
    }
}
