//! Objects that are deleted at one site are gone at the other, and their names are free.

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::ADMIN;
use serde_json::json;

use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn branches_changes_and_projects_are_deleted_and_made_again() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    let create = json!({"create_empty_commit": true});
    let delete = "/projects/p/test-plugin~delete";
    let _ = a.rest("PUT", "/projects/p", &create).await.json();
    b.answers(ADMIN, "/projects/p", 200).await;

    // A branch, deleted at one site and then at the other.
    for round in ["one", "two"] {
        let _ = a.rest("PUT", "/projects/p/branches/x", &json!({"revision": "master"})).await.json();
        b.answers(ADMIN, "/projects/p/branches/x", 200).await;
        assert_eq!(b.rest("DELETE", "/projects/p/branches/x", &json!({})).await.status, 204, "{round}");
        a.answers(ADMIN, "/projects/p/branches/x", 404).await;
    }

    // A change.
    let user = sites.user(0, "p").await;
    for n in 0..3 {
        user.at("master").await;
        let _ = user.commit("file", &format!("{n}\n"), &format!("change {n}")).await;
        let _ = user.review("master").await;
    }
    in_lockstep(&sites, "p").await;
    assert_eq!(b.rest("DELETE", "/changes/p~2", &json!({})).await.status, 204);
    a.finds("project:p", &[1, 3]).await;
    in_lockstep(&sites, "p").await;

    // The project, with its changes. Its name is used again at the other site, and then deleted there.
    assert_eq!(a.rest("POST", delete, &json!({})).await.status, 204);
    b.answers(ADMIN, "/projects/p", 404).await;
    b.finds("project:p", &[]).await;
    let _ = b.rest("PUT", "/projects/p", &create).await.json();
    a.answers(ADMIN, "/projects/p", 200).await;
    let again = sites.user(1, "p").await;
    let _ = again.commit("file", "new\n", "A change of the second project").await;
    let number = again.review("master").await;
    let truth = in_lockstep(&sites, "p").await;
    assert!(!truth.refs.contains_key("refs/changes/01/1/meta"), "a ref of the first project came back: {truth:?}");
    assert_eq!(a.find("project:p").await, number);

    // The sidecar is down. The deletion happens when it is back, and then the name is free. Gerrit 3.12 and later
    // report this to the user.
    sites.cluster.nodes[0].kill().await;
    let told = sites.servers[0].rest("POST", delete, &json!({})).await;
    if sites.servers[0].kit.release < (3, 12) {
        assert_eq!(told.status, 204, "{told:?}");
    } else {
        assert_eq!(told.status, 503, "{told:?}");
        assert!(told.text.contains("cannot be reached"), "{told:?}");
    }
    sites.cluster.nodes[0].start(None);
    sites.cluster.ready().await;
    let (a, b) = sites.two();
    b.answers(ADMIN, "/projects/p", 404).await;
    a.answers(ADMIN, "/projects/p", 404).await;
    a.shows("the project can be made", async || a.rest("PUT", "/projects/p", &create).await.status == 201).await;
    b.answers(ADMIN, "/projects/p", 200).await;
    in_lockstep(&sites, "p").await;
}
