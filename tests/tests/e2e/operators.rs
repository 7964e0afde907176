//! Operators over the network, set up with the command line as `docs/security.md` describes it.

use lockstep_proto::failover::{Role, SitesStatus};
use lockstep_proto::history::{History, PastChange};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{fails, ok, refuses};
use lockstep_tests::e2e::node::free_port;

use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_changes_a_role_from_elsewhere_by_token_and_by_certificate() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let (home, authority) = (cluster.nodes[0].home.clone(), cluster.scratch("authority"));
    let dir = authority.to_str().expect("text").to_owned();
    let _ = cluster.nodes[0].stop().await;
    let a = &mut cluster.nodes[0];
    let _ = ok(a.cli(&["certs", "init", "--dir", &dir]).await);
    let issue = ["certs", "issue", "--dir", &dir];
    let out = |name: &str| home.join(name).to_str().expect("text").to_owned();
    let tls = out("tls");
    let section = ok(a.cli(&[&issue[..], &["--site", "a", "--node", "a-0", "--out", &tls]].concat()).await);
    let alice = out("alice");
    let made = ok(a.cli(&[&issue[..], &["--operator", "alice", "--out", &alice]].concat()).await);
    assert!(made.starts_with("spiffe://lockstep/operator/alice: valid for 90 days\nlockstep --operator-url"), "{made}");
    let none = fails(a.cli(&[&issue[..], &["--site", "operator", "--node", "x", "--out", &out("x")]].concat()).await);
    assert!(none.contains("--site operator"), "{none}");
    let (token, tokens) = (out("bob.token"), out("operators"));
    let line = ok(a.cli(&["operators", "token", "bob", "--out", &token]).await);
    assert!(line.starts_with("bob sha256:"), "{line}");
    std::fs::write(&tokens, line).expect("a file");
    let (_, section) = section.split_once("[tls]").expect("the lines of the section");
    let port = free_port().port();
    let config = home.join("lockstep.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let operators = format!(
        "[operators]\nlisten = \"127.0.0.1:{port}\"\ntoken_file = \"{tokens}\"\n\
         allow = [\"spiffe://lockstep/operator/alice\"]\n"
    );
    std::fs::write(&config, format!("{text}[tls]{section}\n{operators}")).expect("a configuration");
    a.start(None);
    a.ready().await;

    let (url, ca) = (format!("https://127.0.0.1:{port}"), format!("{tls}/ca.crt"));
    let there = ["--operator-url", &url, "--ca", &ca, "--identity", "spiffe://lockstep/a/a-0"];
    let (cert, key) = (format!("{alice}/tls.crt"), format!("{alice}/tls.key"));
    let by_certificate = [&there[..], &["--cert", &cert, "--key", &key]].concat();
    let by_token = [&there[..], &["--token-file", &token]].concat();
    // The command runs beside b, whose own sockets it does not use.
    let b = &cluster.nodes[1];
    let role = |role, epoch| ["site", "role", "b", role, "--expect-epoch", epoch, "--reason", "from elsewhere"];
    let _ = ok(b.cli(&[&by_certificate[..], &role("standby", "1")].concat()).await);
    let _ = ok(b.cli(&[&by_token[..], &role("active", "2")].concat()).await);
    let seen: SitesStatus =
        serde_json::from_str(&ok(b.cli(&[&by_token[..], &["sites", "--json"]].concat()).await)).expect("JSON");
    assert_eq!(seen.sites[1].role, Role::Active);
    let history: History = serde_json::from_str(&ok(b.cli(&["history", "--json"]).await)).expect("JSON");
    let actors: Vec<&str> = history
        .past
        .iter()
        .filter_map(|one| match one {
            PastChange::Role(change) => Some(change.actor.as_str()),
            PastChange::Failover(_) => None,
        })
        .collect();
    assert_eq!(actors, ["token bob", "certificate spiffe://lockstep/operator/alice"]);
    // The certificate of a node is none of an operator, nor is a token that the file does not list.
    let (node, node_key) = (format!("{tls}/tls.crt"), format!("{tls}/tls.key"));
    let peer = [&there[..], &["--cert", &node, "--key", &node_key], &role("standby", "3")].concat();
    refuses(b.cli(&peer).await, "operators.allow");
    std::fs::write(&token, "lockstep-operator-0").expect("a file");
    let stranger = fails(b.cli(&[&by_token[..], &role("standby", "3")].concat()).await);
    assert!(stranger.contains("operators.token_file"), "{stranger}");
}
