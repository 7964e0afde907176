//! Mutual TLS between sites, set up with the command line as `docs/security.md` describes it.

use std::path::Path;
use std::process::Output;

use lockstep::base::clock::{Clock, SystemClock};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, ok, quiet, refs};
use lockstep_tests::e2e::node::{Node, free_port};
use lockstep_tests::e2e::until;
use tokio::process::Command;

use crate::life::get;
use crate::lockstep;

const MAIN: &str = "refs/heads/main";

/// Issues the certificate of a node, and has it listen for the sites in `allow`. Returns the port.
async fn certify(node: &Node, authority: &Path, allow: &str) -> u16 {
    let out = node.home.join("tls");
    let port = free_port().port();
    let (authority, out) = (authority.to_str().expect("text"), out.to_str().expect("text"));
    let args = ["certs", "issue", "--dir", authority, "--site", &node.site, "--node", &node.name];
    let section = ok(node.cli(&[&args[..], &["--host", "127.0.0.1", "--out", out]].concat()).await);
    let (_, section) = section.split_once("[tls]").expect("the lines of the section");
    let path = node.home.join("lockstep.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let listener = format!("listen = \"127.0.0.1:{port}\"\nallow = [\"spiffe://lockstep/{allow}/*\"]\n");
    std::fs::write(&path, format!("{text}[tls]{section}\n{listener}")).expect("a configuration");
    port
}

/// Runs git with the certificate of a node.
async fn git_as(node: &Node, args: &[&str]) -> Output {
    let mut command = quiet(Command::new("git"), &node.home);
    for (name, file) in [("sslCert", "tls.crt"), ("sslKey", "tls.key"), ("sslCAInfo", "ca.crt")] {
        command.arg("-c").arg(format!("http.{name}={}", node.home.join("tls").join(file).display()));
    }
    command.args(args).output().await.expect("git runs")
}

/// Has a node reach its only peer by mutual TLS, in place of its socket.
fn reach(node: &Node, peer: &Node, port: u16, identity: &str) {
    let path = node.home.join("lockstep.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let socket = format!("socket = \"{}\"\n", peer.socket().display());
    assert!(text.contains(&socket), "{text}");
    let url = format!("url = \"https://127.0.0.1:{port}\"\nidentity = \"{identity}\"\n");
    std::fs::write(&path, text.replace(&socket, &url)).expect("a configuration");
}

/// The days until the gauge says that a certificate of a node expires: its `own`, or the first of its `trust`.
async fn days_left(node: &Node, certificate: &str) -> f64 {
    let series = format!("lockstep_certificate_expires_timestamp_seconds{{certificate=\"{certificate}\"}} ");
    let metrics = get(node.health, "/metrics").await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series.as_str())?.parse::<f64>().ok());
    let expires = value.unwrap_or_else(|| panic!("no {series} in:\n{metrics}"));
    (expires - SystemClock.now_ms() as f64 / 1_000.0) / 86_400.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_repository_is_restored_over_mutual_tls() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);
    cluster.nodes[1].shows("p", MAIN, Some(&first)).await;
    let authority = cluster.scratch("authority");
    let dir = authority.to_str().expect("text").to_owned();
    let made = ok(cluster.nodes[0].cli(&["certs", "init", "--dir", &dir]).await);
    assert!(made.contains("ca.key"), "{made}");
    let again = fails(cluster.nodes[0].cli(&["certs", "init", "--dir", &dir]).await);
    assert!(again.contains("exists and is not replaced"), "{again}");
    for node in &mut cluster.nodes {
        let _ = node.stop().await;
    }
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let ports = [certify(a, &authority, "b").await, certify(b, &authority, "a").await];
    reach(a, b, ports[1], "spiffe://lockstep/b/b-0");
    reach(b, a, ports[0], "spiffe://lockstep/a/a-0");
    let lost = b.repository("p");
    std::fs::remove_dir_all(&lost).expect("it was there");
    for node in &mut cluster.nodes {
        node.start(None);
        node.ready().await;
    }
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    b.shows("p", MAIN, Some(&first)).await;
    let peers = async || String::from_utf8_lossy(&a.cli(&["peers"]).await.stdout).into_owned();
    let is_seen = |peers: &str| peers.contains("b-0 of b (active), ready") && peers.contains("tls");
    assert!(until(async || is_seen(&peers().await).then_some(())).await.is_some(), "{}", peers().await);
    let status = ok(b.cli(&["status"]).await);
    assert!(status.contains("tls: spiffe://lockstep/b/b-0, 127.0.0.1  expires in 89 days"), "{status}");
    // The gauge has the same dates, in seconds: 90 days for the node, ten years for its authority.
    let (own, trust) = (days_left(b, "own").await, days_left(b, "trust").await);
    assert!((89.0..=90.0).contains(&own) && (3_649.0..=3_650.0).contains(&trust), "{own} and {trust} days");
    // Two sites compare themselves over the same way.
    let compared = ok(b.cli(&["verify", "--against", "a"]).await);
    assert!(compared.contains("  a-0 (site a): 1 project, 1 by digest alone: equal"), "{compared}");
    plain_git_fetches(&cluster, ports).await;
    cluster.nodes[0].kill().await;
    let away = cluster.nodes[1].cli(&["peers"]).await;
    assert_eq!(away.status.code(), Some(2), "{away:?}");
    assert!(!String::from_utf8_lossy(&away.stdout).contains("a-0 of a"), "{away:?}");
}

/// Plain git, with the certificate of a node, clones a project from the peer of that node, and fetches a push there.
async fn plain_git_fetches(cluster: &Cluster, ports: [u16; 2]) {
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let _ = ok(a.cli(&["project", "create", "tools/build"]).await);
    cluster.exists("tools/build").await;
    let work = Clone::new(&cluster.scratch("work"));
    let first = work.commit(None, "one");
    let push = async |from: &str, to: &str| {
        let _ = ok(work.push(&a.repository("tools/build"), &[], &[&format!("{from}:{to}")]).await);
        cluster.show("tools/build", to, Some(from)).await;
    };
    push(&first, MAIN).await;
    let url = |port: u16, project: &str| format!("https://127.0.0.1:{port}/v1/projects/{project}/git");
    for (by, port, of) in [(a, ports[1], b), (b, ports[0], a)] {
        let mirror = by.home.join("mirror.git");
        let mirror_text = mirror.to_str().expect("text");
        let _ = ok(git_as(by, &["clone", "-q", "--mirror", &url(port, "tools%2Fbuild"), mirror_text]).await);
        assert_eq!(refs(&mirror).await, refs(&of.repository("tools/build")).await);
        let second = work.commit(Some(&first), &by.name);
        push(&second, &format!("refs/heads/{}", by.name)).await;
        let _ = ok(git_as(by, &["-C", mirror_text, "fetch", "-q"]).await);
        let fetched = refs(&mirror).await;
        assert_eq!(fetched, refs(&of.repository("tools/build")).await);
        assert!(fetched.expect("refs").values().any(|value| *value == second));
        let to_main = format!("{second}:{MAIN}");
        let pushed = fails(git_as(by, &["-C", mirror_text, "push", "-q", &url(port, "tools%2Fbuild"), &to_main]).await);
        assert!(pushed.contains("takes no pushes"), "{pushed}");
    }
    // A project that does not exist, and one that was deleted.
    let _ = ok(a.cli(&["project", "delete", "tools/build", "--yes"]).await);
    for project in ["never", "tools%2Fbuild"] {
        let holds_none = async || {
            let refused = git_as(b, &["ls-remote", &url(ports[0], project)]).await;
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            (!refused.status.success() && said.contains("holds no project")).then_some(())
        };
        assert!(until(holds_none).await.is_some(), "{project}");
    }
}
