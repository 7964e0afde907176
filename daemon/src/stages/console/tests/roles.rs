//! The role that each form needs, and the bound on requests in progress, which strangers do not use up.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;
use tokio::time::sleep;

use super::{CHANGES, World, location, text};
use crate::stages::console::context::REQUESTS;
use crate::stages::console::routes;

/// The forms that an approver may send. A form that is not among these, and is added later, needs an operator.
const OF_APPROVERS: [&str; 1] = ["/console/failover/act"];

/// Every route with every role. A route that is added later cannot be forgotten: it must be in the list of changes.
#[tokio::test]
async fn every_route_that_takes_a_form_refuses_lower_roles_than_it_needs() {
    let world = World::new(true);
    let forms: BTreeSet<&str> = CHANGES.iter().map(|(path, ..)| *path).collect();
    for (who, open) in
        [("viewer", BTreeSet::new()), ("approver", BTreeSet::from(OF_APPROVERS)), ("operator", forms.clone())]
    {
        let (mut refused, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for (path, _) in routes::table() {
            match world.post(who, &path.replace("{*rest}", "nowhere"), "").await.status() {
                // Everybody lacks the text of the login form.
                StatusCode::FORBIDDEN if path == "/console/login" => {}
                StatusCode::FORBIDDEN => {
                    refused.insert(path);
                }
                StatusCode::METHOD_NOT_ALLOWED => {}
                StatusCode::SEE_OTHER if path == "/console/logout" => world.begin(who),
                status if status.is_client_error() => {
                    taken.insert(path);
                }
                status => panic!("{who}: {path}: {status}"),
            }
        }
        assert_eq!((taken, refused), (open.clone(), forms.difference(&open).copied().collect()), "{who}");
    }
    assert_eq!(world.changes(), [""; 0]);
}

/// The failover of the fakes is paused before `stop`, for an approval.
#[tokio::test]
async fn an_approver_resumes_a_failover_that_waits_for_an_approval_and_makes_no_other_act() {
    let world = World::new(true);
    let path = "/console/failover/act";
    let page = text(world.get("approver", "/console/failover").await).await;
    assert!(page.contains("value=\"resume\"") && !page.contains("value=\"abort\""), "{page}");
    let page = text(world.get("viewer", "/console/failover").await).await;
    assert!(!page.contains("value=\"resume\""), "{page}");
    for act in ["pause", "abort"] {
        let response = world.post("approver", path, &format!("act={act}&number=7&reason=r")).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{act}");
    }
    for fields in ["number=7&step=promote", "number=8&step=stop", "number=7"] {
        let response = world.post("approver", path, &format!("act=resume&reason=r&{fields}")).await;
        assert_eq!(response.status(), StatusCode::CONFLICT, "{fields}");
        assert!(text(response).await.contains("ask an operator"), "{fields}");
    }
    assert_eq!(world.changes(), [""; 0]);
    let response = world.post("approver", path, "act=resume&number=7&step=stop&reason=r").await;
    assert_eq!(location(&response), "/console/failover");
    assert_eq!(world.changes(), ["token approver: act resume 7 r"]);
    let read_only = World::new(false);
    let response = read_only.post("approver", path, "act=resume&number=7&step=stop&reason=r").await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN, "console.changes is false");
}

/// The step is one of `pause_before` each time.
#[tokio::test]
async fn an_approver_ends_no_pause_of_a_guard_and_none_of_an_operator() {
    let (world, path) = (World::new(true), "/console/failover/act");
    let act = |name: &str| json!({"at_ms": 1, "actor": "alice", "act": name, "reason": "r"});
    let begun = json!([{"step": "stop", "began_ms": 3, "ended_ms": null, "by": null, "note": ""}]);
    for (field, value) in [
        ("held", json!("b lacks 3 transactions")),
        ("audit", json!([act("execute"), act("pause")])),
        ("audit", json!([act("resume"), act("pause")])),
        ("aborting", json!(true)),
        ("paused", json!(false)),
        ("steps", begun),
    ] {
        let told = format!("{field} {value}");
        *world.fakes.others.lock() = vec![(field, value)];
        let page = text(world.get("approver", "/console/failover").await).await;
        assert!(!page.contains("value=\"resume\""), "{told}: {page}");
        let response = world.post("approver", path, "act=resume&number=7&step=stop&reason=r").await;
        assert_eq!(response.status(), StatusCode::CONFLICT, "{told}");
        assert_eq!(world.changes(), [""; 0], "{told}");
    }
    *world.fakes.others.lock() = vec![("audit", json!([act("pause"), act("resume")]))];
    let _ = world.post("approver", path, "act=resume&number=7&step=stop&reason=r").await;
    assert_eq!(world.changes(), ["token approver: act resume 7 r"], "an operator has ended that pause");
}

/// Forms of strangers that never arrive take no permit, and end after ten seconds.
#[tokio::test(start_paused = true)]
async fn logins_that_never_end_keep_no_visitor_out() {
    let world = World::new(true);
    let slow = (0..3 * REQUESTS).map(|_| {
        let request = Request::post("/console/login")
            .header("host", "a.example.org")
            .header("origin", "https://a.example.org")
            .header("content-type", "application/x-www-form-urlencoded");
        let body = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let (router, request) = (world.router.clone(), request.body(body).unwrap());
        tokio::spawn(async move { tower::ServiceExt::oneshot(router, request).await.unwrap() })
    });
    let slow: Vec<_> = slow.collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.get("viewer", "/console").await.status(), StatusCode::OK);
    assert_eq!(world.get("nobody", "/console/login").await.status(), StatusCode::OK);
    assert!(slow.iter().all(|login| !login.is_finished()));
    for login in slow {
        assert_eq!(login.await.unwrap().status(), StatusCode::BAD_REQUEST);
    }
}

#[tokio::test(start_paused = true)]
async fn a_visitor_waits_for_a_turn_and_the_login_and_the_assets_need_none() {
    let world = World::new(true);
    let mut held = Vec::new();
    for _ in 0..REQUESTS {
        held.push(world.context.permit().await.unwrap());
    }
    for path in ["/console/login", "/console/assets/console.css", "/console/assets/live.js"] {
        assert_eq!(world.get("viewer", path).await.status(), StatusCode::OK, "{path}");
    }
    let response = world.get("viewer", "/console").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(text(response).await.contains("Too many requests"));
    let turn = async {
        sleep(Duration::from_secs(2)).await;
        drop(held.pop());
    };
    let (response, ()) = futures::join!(world.get("viewer", "/console"), turn);
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(world.context.room.available_permits(), 1, "the answer is made, and the permit is free");
}
