//! The page docs/bridge-api.md: a sidecar takes its calls, and answers as it shows.

use lockstep::clients::api_client::{Call, Client, ClientError};
use lockstep_tests::e2e::PATIENCE;
use lockstep_tests::e2e::behind;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::documented_text;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::page_calls::{PageCall, page_calls};
use serde_json::Value;
use tokio::time::Instant;

use crate::lockstep;

/// The commit that the page shows.
const SHOWN: &str = "8e61b46ca5eec1b00746d09badd63fc9dd690c10";

async fn send(node: &Node, call: &PageCall, body: &str) -> Result<Value, ClientError> {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let call = Call::new(call.method.parse().expect("a method"), call.path.as_str(), &body).expect("JSON");
    Client::new(&node.socket()).send(&call, Instant::now() + PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_answers_the_calls_of_the_page_as_the_page_shows() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    cluster.create("app").await;
    let node = &cluster.nodes[0];
    let commit = behind::commit(&node.repository("app"), None, "one");
    let calls = page_calls();
    let of_projects = |path: &str| path.contains("/projects/app/") || path.contains("/projects/tools%2Flint");
    let mut answered = 0;
    for call in calls.iter().filter(|call| of_projects(&call.path)) {
        let answer = send(node, call, &call.body.replace(SHOWN, &commit)).await;
        call.is_answered(&answer.unwrap_or_else(|error| panic!("{}: {error}", call.path)));
        answered += 1;
    }
    assert_eq!(answered, 5, "two batches, and three calls on projects");

    let bad = calls[0].body.replace("5000", "0").replace("3f6c1c9e", "another");
    let refused = send(node, &calls[0], &bad).await;
    let Err(ClientError::Answered(error)) = refused else { panic!("{refused:?}") };
    documented_text("bridge-api.md", &serde_json::to_string(&error).expect("JSON"));
}
