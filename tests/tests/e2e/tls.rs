//! Mutual TLS between sites, set up with the command line as `docs/security.md` describes it.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockstep::base::clock::{Clock, SystemClock};
use lockstep_proto::drill::Preflight;
use lockstep_proto::status::NodeStatus;
use lockstep_proto::verify::Verification;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, ok, quiet, refs};
use lockstep_tests::e2e::node::{Node, free_port};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

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
    days_until(value.unwrap_or_else(|| panic!("no {series} in:\n{metrics}")))
}

/// The days until a time in seconds since 1970.
fn days_until(seconds: f64) -> f64 {
    (seconds - SystemClock.now_ms() as f64 / 1_000.0) / 86_400.0
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

/// Puts a file in the place of another one, as Kubernetes and cert-manager do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("a file");
    std::fs::rename(new, path).expect("a file");
}

/// Issues another certificate of a node, and replaces its certificate and key.
async fn renew(node: &Node, authority: &Path, days: &str) {
    let out = node.home.join(format!("renewed-{days}"));
    let (authority, out_text) = (authority.to_str().expect("text"), out.to_str().expect("text"));
    let args = ["certs", "issue", "--dir", authority, "--site", &node.site, "--node", &node.name];
    let _ = ok(node.cli(&[&args[..], &["--host", "127.0.0.1", "--days", days, "--out", out_text]].concat()).await);
    for file in ["tls.crt", "tls.key"] {
        std::fs::rename(out.join(file), node.home.join("tls").join(file)).expect("a file");
    }
}

/// Replaces the authorities that a node trusts.
fn trust(node: &Node, authorities: &[PathBuf]) {
    let read = |dir: &PathBuf| std::fs::read_to_string(dir.join("ca.crt")).expect("a certificate");
    replace(&node.home.join("tls/ca.crt"), &authorities.iter().map(read).collect::<String>());
}

/// Waits until nodes say, in the status and by the gauge, that certificate and trust expire in so many days.
async fn expire_in(nodes: [&Node; 2], own: f64, trust: f64) {
    let are_so =
        |[found_own, found_trust]: [f64; 2]| (found_own - own).abs() < 1.5 && (found_trust - trust).abs() < 1.5;
    for node in nodes {
        let shows = |status: &NodeStatus| {
            let tls = status.tls.as_ref();
            tls.is_some_and(|tls| are_so([tls.expires, tls.trust_expires].map(|seconds| days_until(seconds as f64))))
        };
        node.reports(shows).await;
        let measures = async || are_so([days_left(node, "own").await, days_left(node, "trust").await]).then_some(());
        assert!(until(measures).await.is_some(), "{}: {} days", node.name, days_left(node, "own").await);
    }
}

/// The preflight of a node is green about its certificate, until it gets one that expires in six days.
async fn turns_red(node: &Node, authority: &Path) {
    let red = async || {
        let output = node.cli(&["preflight", "--to", "b", "--json"]).await;
        let found: Preflight = serde_json::from_slice(&output.stdout).ok()?;
        let tls = found.checks.into_iter().find(|one| one.check == "tls").expect("a node with a certificate");
        Some((output.status.code(), tls.red))
    };
    let Some((_, before)) = until(red).await else { panic!("no preflight\n{}", node.log_tail()) };
    assert_eq!(before, Vec::<String>::new());
    renew(node, authority, "6").await;
    let soon = async || red().await.filter(|(_, red)| !red.is_empty());
    let Some((code, why)) = until(soon).await else { panic!("it stays green: {:?}", red().await) };
    assert_eq!(code, Some(2), "{why:?}");
    assert!(why[0].starts_with("the certificate of this node is valid for 14") && why.len() == 1, "{why:?}");
}

/// The errors of a caller that asks again and again until it is told to end. It counts how often it has asked.
async fn again(
    end: &CancellationToken,
    asked: &AtomicUsize,
    call: impl AsyncFn() -> Result<(), String>,
) -> Vec<String> {
    let mut errors = Vec::new();
    while !end.is_cancelled() {
        errors.extend(call().await.err());
        asked.fetch_add(1, Ordering::Relaxed);
        // Callers of this kind leave the machine to others.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    errors
}

/// Waits until callers have asked some times more. At least two requests of each then began after this call.
async fn more(callers: &[AtomicUsize]) {
    for asked in callers {
        let enough = asked.load(Ordering::Relaxed) + 3;
        until(async || (asked.load(Ordering::Relaxed) >= enough).then_some(())).await.expect("it goes on asking");
    }
}

fn succeeded(output: &Output) -> Result<(), String> {
    output.status.success().then_some(()).ok_or_else(|| format!("{output:?}"))
}

/// Compares a node with site b. Every ref may be on its way, and every project must be compared.
async fn compare(node: &Node) -> Result<(), String> {
    let output = node.cli(&["verify", "--against", "b", "--json"]).await;
    let found: Verification = serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {output:?}"))?;
    let is_compared = found.failures == 0 && found.peers.len() == 1;
    is_compared.then_some(()).ok_or_else(|| format!("{found:?}"))
}

/// Asks the listener for holders of tokens.
async fn ask(port: u16, token: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let head = "GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close";
    let request = format!("{head}\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    answer.starts_with("HTTP/1.1 200").then_some(()).ok_or(answer)
}

/// Two nodes that reach each other by mutual TLS, with listeners for holders of tokens and for operators at the first.
/// Returns the ports of these two, and two lines for the file with the tokens of operators.
async fn set_up(cluster: &mut Cluster, authorities: &[PathBuf; 2]) -> ([u16; 2], [String; 2]) {
    for (dir, days) in authorities.iter().zip(["3650", "5000"]) {
        let dir = dir.to_str().expect("text");
        let _ = ok(cluster.nodes[0].cli(&["certs", "init", "--dir", dir, "--days", days]).await);
    }
    for node in &mut cluster.nodes {
        let _ = node.stop().await;
    }
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let ports = [certify(a, &authorities[0], "b").await, certify(b, &authorities[0], "a").await];
    reach(a, b, ports[1], "spiffe://lockstep/b/b-0");
    reach(b, a, ports[0], "spiffe://lockstep/a/a-0");
    let (home, listeners) = (a.home.clone(), [free_port().port(), free_port().port()]);
    let mut lines = [const { String::new() }; 2];
    for (line, out) in lines.iter_mut().zip(["bob.1", "bob.2"]) {
        let out = home.join(out);
        *line = ok(a.cli(&["operators", "token", "bob", "--out", out.to_str().expect("text")]).await);
    }
    replace(&home.join("bob"), &std::fs::read_to_string(home.join("bob.1")).expect("a token"));
    replace(&home.join("operators"), &lines[0]);
    replace(&home.join("tokens"), "first\n");
    let [api, operators] = listeners;
    let listen = format!("[api]\nlisten = \"127.0.0.1:{api}\"\ntoken_file = {:?}\n", home.join("tokens"));
    a.replace_setting("[api]\n", &listen);
    let file = home.join("operators");
    a.add_settings(&format!("[operators]\nlisten = \"127.0.0.1:{operators}\"\ntoken_file = {file:?}\n"));
    for node in &mut cluster.nodes {
        node.start(None);
        node.ready().await;
    }
    (listeners, lines)
}

/// Certificates, their authority and all tokens are replaced at running nodes, in the steps of docs/security.md, while
/// users push and peers, operators and holders of tokens ask. Nobody gets an error, and no node is restarted.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_an_authority_and_tokens_are_replaced_and_no_request_is_lost() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let authorities = [cluster.scratch("old"), cluster.scratch("new")];
    let ([api, operators], lines) = set_up(&mut cluster, &authorities).await;
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let path = |name: &str| a.home.join(name).to_str().expect("text").to_owned();
    let (url, ca, bob) = (format!("https://127.0.0.1:{operators}"), path("tls/ca.crt"), path("bob"));
    let there = ["--operator-url", &url, "--ca", &ca, "--identity", "spiffe://lockstep/a/a-0", "--token-file", &bob];
    let as_bob = [&there[..], &["sites"]].concat();
    let (clone, pushes, token) =
        (Clone::new(&cluster.scratch("clone")), AtomicUsize::new(0), Mutex::new("first".to_owned()));
    let push = async || {
        let number = pushes.fetch_add(1, Ordering::Relaxed);
        let value = clone.commit(None, &number.to_string());
        succeeded(&clone.push(&a.repository("p"), &[], &[&format!("{value}:refs/heads/{number}")]).await)
    };
    let hold_token = async || {
        let token = token.lock().clone();
        ask(api, &token).await
    };
    let (end, asked): (_, [AtomicUsize; 5]) = (CancellationToken::new(), Default::default());
    let replaced = async {
        // The comparison with a peer is the last one: it takes long, and nothing waits for it.
        let callers = &asked[..4];
        more(callers).await;
        for node in [a, b] {
            trust(node, &authorities);
            renew(node, &authorities[0], "60").await;
        }
        replace(Path::new(&path("tokens")), "first\nsecond\n");
        replace(Path::new(&path("operators")), &format!("{}\n{}\n", lines[0].trim(), lines[1].trim()));
        more(callers).await;
        *token.lock() = "second".to_owned();
        replace(Path::new(&bob), &std::fs::read_to_string(path("bob.2")).expect("a token"));
        more(callers).await;
        replace(Path::new(&path("tokens")), "second\n");
        replace(Path::new(&path("operators")), &lines[1]);
        expire_in([a, b], 60.0, 3_650.0).await;
        for node in [a, b] {
            renew(node, &authorities[1], "50").await;
        }
        expire_in([a, b], 50.0, 3_650.0).await;
        [a, b].into_iter().for_each(|node| trust(node, &authorities[1..]));
        expire_in([a, b], 50.0, 5_000.0).await;
        more(callers).await;
        end.cancel();
    };
    let (pushed, peers, operator, holder, compared, ()) = tokio::join!(
        again(&end, &asked[0], push),
        again(&end, &asked[1], async || succeeded(&a.cli(&["peers"]).await)),
        again(&end, &asked[2], async || succeeded(&b.cli(&as_bob).await)),
        again(&end, &asked[3], hold_token),
        again(&end, &asked[4], async || compare(a).await),
        replaced
    );
    let errors = [pushed, peers, operator, holder, compared].concat();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(asked[4].load(Ordering::Relaxed) > 1, "the sites were compared meanwhile");
    let truth = converged(&cluster, "p").await;
    assert_eq!(truth.refs.len(), pushes.load(Ordering::Relaxed));
    turns_red(a, &authorities[1]).await;
    assert!(ask(api, "first").await.is_err_and(|answer| answer.starts_with("HTTP/1.1 401")));
    replace(Path::new(&bob), &std::fs::read_to_string(path("bob.1")).expect("a token"));
    let refused = fails(b.cli(&as_bob).await);
    assert!(refused.contains("operators.token_file"), "{refused}");
}
