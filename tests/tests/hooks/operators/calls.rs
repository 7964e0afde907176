//! Every call of the API against every identity.

use std::collections::{BTreeMap, BTreeSet};

use super::{ALICE, BOTH, May, PEER, Way, World};

/// The calls that change roles, fences, locks or data. Operators alone may make them.
const OF_OPERATORS: [&str; 17] = [
    "post /v1/signing",
    "post /v1/signing/keys",
    "put /v1/sites/{site}",
    "delete /v1/sites/{site}",
    "put /v1/sites/{site}/role",
    "put /v1/sites/{site}/mode",
    "delete /v1/nodes/{node}",
    "post /v1/failover",
    "post /v1/failover/acts",
    "post /v1/projects/{project}/strays",
    "post /v1/repairs",
    "post /v1/resync",
    "post /v1/replay",
    "post /v1/refdb/rebuild",
    "post /v1/drills",
    "post /v1/drills/silent",
    "post /v1/locks/break",
];

/// Calls of bridges that belong to operators with these bodies: a seed that takes values from refs on the disk of an
/// open project, or sets them aside; maintenance.
const OF_OPERATORS_BY_BODY: [&str; 3] = [
    "post /v1/projects/{project}/seed {\"differences\":\"commit\"}",
    "post /v1/projects/{project}/seed {\"differences\":\"set_aside\"}",
    "post /v1/locks {\"request_id\":\"r\",\"target\":{\"site\":\"s\"},\"owner\":\"o\",\"reason\":\"r\"}",
];

/// The calls that peers may make.
const OF_PEERS: [&str; 10] = [
    "get /v1/peer",
    "post /v1/peer/digests",
    "post /v1/peer/explain",
    "post /v1/peer/records",
    "post /v1/peer/refs",
    "get /v1/peer/settings",
    "post /v1/peer/versions",
    "post /v1/projects/{project}/objects",
    "get /v1/projects/{project}/git/info/refs",
    "post /v1/projects/{project}/git/git-upload-pack",
];

/// All others: the work of bridges and hooks, and what everybody on the machine may see.
const OF_BRIDGES: [&str; 39] = [
    "get /v1/signing",
    "get /v1/locks",
    "post /v1/locks",
    "post /v1/locks/renew",
    "post /v1/locks/release",
    "post /v1/projects/{project}/ref-transactions",
    "post /v1/projects/{project}/ref-transactions/look-up",
    "put /v1/projects/{project}",
    "delete /v1/projects/{project}",
    "put /v1/projects/{project}/head",
    "get /v1/projects/{project}/strays",
    "post /v1/projects/{project}/seed",
    "post /v1/gerrit/hello",
    "get /v1/transactions/{txn}",
    "get /v1/await",
    "get /v1/refresh",
    "post /v1/refresh/tasks",
    "post /v1/refresh/done",
    "post /v1/events",
    "post /v1/events/next",
    "post /v1/events/done",
    "get /v1/status",
    "get /v1/doctor",
    "get /v1/parked",
    "get /v1/quarantine",
    "get /v1/peers",
    "get /v1/sites",
    "get /v1/overview",
    "get /v1/history",
    "post /v1/failover/plan",
    "get /v1/verification",
    "post /v1/verification",
    "post /v1/explain",
    "get /v1/resync",
    "get /v1/replay",
    "get /v1/refdb/rebuild",
    "post /v1/preflight",
    "get /v1/drills",
    "get /v1/drills/silent",
];

/// The calls that a viewer may make: they show the state of the sites, and change nothing.
const OF_VIEWERS: [&str; 21] = [
    "get /v1/status",
    "get /v1/parked",
    "get /v1/quarantine",
    "get /v1/peers",
    "get /v1/sites",
    "get /v1/overview",
    "get /v1/history",
    "get /v1/signing",
    "get /v1/locks",
    "get /v1/doctor",
    "get /v1/resync",
    "get /v1/replay",
    "get /v1/verification",
    "get /v1/drills",
    "get /v1/drills/silent",
    "get /v1/refdb/rebuild",
    "get /v1/projects/{project}/strays",
    "get /v1/openapi.json",
    "post /v1/explain",
    "post /v1/failover/plan",
    "post /v1/preflight",
];

/// The call that an approver may make in addition: it resumes a failover that is paused for an approval.
const OF_APPROVERS: &str = "post /v1/failover/acts";

/// Open to everybody whom a listener of the bridge lets in.
const DOCUMENT: &str = "get /v1/openapi.json";

/// Every call of the API against every identity. A call that is added to the API must be added to one of the lists.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_open_to_the_right_identities_and_to_no_other() {
    let world = World::start().await;
    let document: serde_json::Value = serde_json::from_str(&lockstep::stages::api::openapi::document()).unwrap();
    let paths: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_value(document["paths"].clone()).unwrap();
    let documented: BTreeSet<String> =
        paths.iter().flat_map(|(path, methods)| methods.keys().map(move |method| format!("{method} {path}"))).collect();
    let listed = OF_OPERATORS.iter().chain(&OF_PEERS).chain(&OF_BRIDGES).chain([&DOCUMENT]);
    assert_eq!(documented, listed.map(|call| (*call).to_owned()).collect());
    let (token, operator) = (world.token(), world.alice.token.clone());
    let none = String::new;
    let peer = || Some(world.holder(PEER));
    let identities = [
        ("a user on the operators' socket", Way::Socket(world.path("run/api-operators.sock")), May::Everything),
        ("an operator's token", Way::Tls(world.operators, None, operator.clone()), May::Everything),
        ("a viewer's token", Way::Tls(world.operators, None, world.vera.token.clone()), May::Looks),
        ("an approver's token", Way::Tls(world.operators, None, world.ada.token.clone()), May::LooksAndApproves),
        ("an operator's certificate", Way::Tls(world.operators, Some(world.holder(ALICE)), none()), May::Everything),
        ("the bridge or a hook on its socket", Way::Socket(world.path("run/api.sock")), May::AllButOperators),
        ("a token of api.listen", Way::Tcp(world.tcp, token.clone()), May::AllButOperators),
        ("a peer's certificate", Way::Tls(world.peers, peer(), none()), May::Peers),
        ("an operator's token at api.listen", Way::Tcp(world.tcp, operator.clone()), May::Nothing),
        ("no token at api.listen", Way::Tcp(world.tcp, none()), May::Nothing),
        (
            "an operator's certificate among peers",
            Way::Tls(world.peers, Some(world.holder(ALICE)), none()),
            May::Nothing,
        ),
        ("a token of api.listen among operators", Way::Tls(world.operators, None, token), May::Nothing),
        ("a peer among operators", Way::Tls(world.operators, peer(), none()), May::Nothing),
        ("a peer with an operator's token", Way::Tls(world.operators, peer(), operator.clone()), May::Nothing),
        (
            "somebody else of the authority, with an operator's token",
            Way::Tls(world.operators, Some(world.holder("spiffe://lockstep/somebody/else")), operator),
            May::Nothing,
        ),
        (
            "a peer whom operators.allow lists",
            Way::Tls(world.operators, Some(world.holder(BOTH)), none()),
            May::Nothing,
        ),
        ("nobody among operators", Way::Tls(world.operators, None, none()), May::Nothing),
        ("a viewer's token at api.listen", Way::Tcp(world.tcp, world.vera.token.clone()), May::Nothing),
        ("the hash of a token", Way::Tls(world.operators, None, world.alice.line.clone()), May::Nothing),
    ];
    for (who, way, may) in &identities {
        for call in documented.iter().map(String::as_str).chain(OF_OPERATORS_BY_BODY) {
            let is_open = match may {
                May::Everything => true,
                May::AllButOperators => !OF_OPERATORS.contains(&call) && !OF_OPERATORS_BY_BODY.contains(&call),
                May::Looks => OF_VIEWERS.contains(&call),
                May::LooksAndApproves => OF_VIEWERS.contains(&call) || call == OF_APPROVERS,
                May::Peers => OF_PEERS.contains(&call),
                May::Nothing => false,
            };
            let status = way.status(&world, call).await;
            let is_refused = matches!(status.as_str(), "401" | "403");
            assert!(!status.is_empty() && is_refused != is_open, "{who}: {call} was answered {status:?}");
        }
    }
}
