//! The label on the pod of a node: it follows a failover, and each refusal of the API server has a reason and a remedy.

use std::time::Duration;

use lockstep::seams::handover::Receiver;
use lockstep::seams::handover::pod_label::{PodLabel, PodLabelSettings};
use lockstep_proto::failover::{Role, RoleNotice};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{done, ok};
use lockstep_tests::e2e::kubernetes::{ApiServer, TOKEN, Treatment};
use lockstep_tests::e2e::until;
use tempfile::TempDir;

use crate::lockstep;

const LABEL: &str = "lockstep/role";
const POD: &str = "gerrit/gerrit-0";

fn notice(role: Role, takes_writes: bool) -> RoleNotice {
    let (site, node) = ("a".parse().expect("a site"), "a-0".parse().expect("a node"));
    RoleNotice { site, node, role, epoch: 1, takes_writes, start: 1, number: 1 }
}

/// A label on the pod with this uid, set with this token.
fn label(api: &ApiServer, home: &TempDir, token: &str, uid: &str) -> PodLabel {
    let settings = PodLabelSettings {
        label: LABEL.to_owned(),
        namespace: "gerrit".to_owned(),
        pod: "gerrit-0".to_owned(),
        uid: Some(uid.to_owned()),
        url: api.url.clone(),
        service_account: api.service_account(home.path(), token),
    };
    PodLabel::new(settings, Duration::from_secs(2)).expect("a label")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_api_server_has_a_reason_and_a_remedy() {
    let (api, home) = (ApiServer::start().await, TempDir::new().expect("a folder"));
    let own = label(&api, &home, TOKEN, "uid-1");
    let active = notice(Role::Active, true);
    let missing = own.tell(&active).await.expect_err("there is no pod").to_string();
    assert!(missing.contains("404") && missing.contains("correct handover.pod"), "{missing}");
    api.add_pod(POD, "uid-1");
    let refusals = [403, 409, 422, 503].map(Treatment::Refuse);
    api.treat(&[&refusals[..], &[Treatment::Strip]].concat());
    let remedies = [
        "a Role with `get` and `patch`",
        "changed meanwhile",
        "correct handover.pod_label",
        "503",
        "an admission policy",
    ];
    for part in remedies {
        let error = own.tell(&active).await.expect_err("it is refused").to_string();
        assert!(error.contains(part), "no {part:?} in {error}");
        assert_eq!(api.label(POD, LABEL), None);
    }
    api.treat(&[Treatment::Silence]);
    let silent = own.tell(&active).await.expect_err("nobody answers").to_string();
    assert!(silent.contains("no answer in time"), "{silent}");
    own.tell(&active).await.expect("it is taken");
    assert_eq!(api.label(POD, LABEL).as_deref(), Some("active"));
    own.tell(&notice(Role::Active, false)).await.expect("it is taken");
    assert_eq!(api.label(POD, LABEL).as_deref(), Some("waiting"));
    // A newer pod of the same name belongs to another sidecar.
    api.add_pod(POD, "uid-2");
    let other = own.tell(&active).await.expect_err("the pod is another one").to_string();
    assert!(other.contains("422") && other.contains("a newer pod has this name"), "{other}");
    assert_eq!(api.label(POD, LABEL), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_and_authority_are_checked_and_read_on_each_use() {
    let (api, home) = (ApiServer::start().await, TempDir::new().expect("a folder"));
    api.add_pod(POD, "uid-1");
    let own = label(&api, &home, "a-stale-token", "uid-1");
    let active = notice(Role::Active, true);
    let stale = own.tell(&active).await.expect_err("the token is wrong").to_string();
    assert!(stale.contains("401") && stale.contains("it does not know the token"), "{stale}");
    assert!(!stale.contains("a-stale-token"), "the token is a secret: {stale}");
    let _ = api.service_account(home.path(), TOKEN);
    own.tell(&active).await.expect("the new token is read");
    // Another server with the same address would have a certificate of another authority.
    let (another, before) = (ApiServer::start().await, api.requests());
    let _ = another.service_account(home.path(), TOKEN);
    let foreign = own.tell(&active).await.expect_err("the authority is another one").to_string();
    assert!(foreign.contains("no connection"), "{foreign}");
    assert_eq!(api.requests(), before, "the token was sent to a server that is not trusted");
    std::fs::remove_file(home.path().join("serviceaccount/ca.crt")).expect("a file");
    let none = own.tell(&active).await.expect_err("there is no authority").to_string();
    assert!(none.contains("handover.service_account") && none.contains("ca.crt"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_label_moves_with_a_failover() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let api = ApiServer::start().await;
    for node in &mut cluster.nodes {
        let _ = node.stop().await;
        let path = format!("gerrit/{}", node.name);
        api.add_pod(&path, "uid");
        let account = api.service_account(&node.home, TOKEN);
        node.add_settings(&format!(
            "[handover]\npod_label = {LABEL:?}\npod = {path:?}\npod_uid = \"uid\"\nkubernetes_url = {:?}\n\
             service_account = {account:?}\n",
            api.url
        ));
        // Refusals at first: the notice is repeated until it is taken.
        api.treat(&[Treatment::Refuse(403)]);
        node.start(None);
        node.ready().await;
    }
    let standby = ["site", "role", "b", "standby", "--expect-epoch", "1", "--reason", "one active site"];
    let _ = ok(cluster.nodes[0].cli(&standby).await);
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let labels = || [a, b].map(|node| api.label(&format!("gerrit/{}", node.name), LABEL));
    let says = async |first: &str, second: &str| {
        let want = [Some(first.to_owned()), Some(second.to_owned())];
        let reached = until(async || (labels() == want).then_some(())).await;
        assert!(reached.is_some(), "{:?} instead of {want:?}\n{}", labels(), b.log_tail());
    };
    says("active", "standby").await;
    let plan = ok(a.cli(&["failover", "plan", "--json", "--from", "a", "--to", "b"]).await);
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let hash = plan["hash"].as_str().expect("a hash");
    let args = ["failover", "execute", "--from", "a", "--to", "b", "--reason", "t", "--yes", "--plan-hash", hash];
    let _ = done(a.cli(&args).await);
    says("standby", "active").await;
    let shown = ok(b.cli(&["status"]).await);
    assert!(shown.contains("hand-over: label lockstep/role of pod gerrit/b-0 was told: active, epoch 3"), "{shown}");
    assert!(!shown.contains("NOT TAKEN"), "{shown}");
}
