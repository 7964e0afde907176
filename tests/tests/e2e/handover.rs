//! The users' traffic follows a failover: a program and a webhook at each site are told about roles, and `/writez`
//! tells a load balancer.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use lockstep_proto::failover::{Role, RoleNotice};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{done, ok};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::failover::fail_over;
use crate::life::get;
use crate::lockstep;

/// A service that answers its first request with 503 and every other one with 204, and keeps what it took.
async fn service() -> (String, Arc<Mutex<Vec<RoleNotice>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}/roles", listener.local_addr().expect("an address"));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut answer = "503 Busy";
        loop {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            // A caller that has something newer to tell, or that was stopped, may hang up.
            let Some(notice) = request(&mut stream).await else { continue };
            let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(text.as_bytes()).await;
            if answer.starts_with('2') {
                notices.lock().push(notice);
            }
            answer = "204 Taken";
        }
    });
    (url, taken)
}

/// Reads one request with a body in JSON. None if the caller hangs up before its end.
async fn request(stream: &mut TcpStream) -> Option<RoleNotice> {
    let mut text = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        let length = stream.read(&mut chunk).await.ok().filter(|length| *length > 0)?;
        text.extend_from_slice(&chunk[..length]);
        let all = String::from_utf8_lossy(&text);
        let body = all.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
        if let Some(body) = body {
            assert!(all.contains("authorization: Bearer secret") && all.starts_with("POST /roles "), "{all}");
            return Some(body);
        }
    }
}

/// Has a node tell a program, which writes what it is told into a file. Returns the file.
fn tell_program(node: &Node, url: &str) -> std::path::PathBuf {
    let (program, told, token) = (node.home.join("program"), node.home.join("told"), node.home.join("secret"));
    let line = "$LOCKSTEP_NOTICE_SITE $LOCKSTEP_NOTICE_ROLE $LOCKSTEP_NOTICE_TAKES_WRITES";
    std::fs::write(&program, format!("#!/bin/sh\necho \"{line}\" >> {}\n", told.display())).expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it can be run");
    std::fs::write(&token, "secret\n").expect("a token");
    node.add_settings(&format!("[handover]\nprogram = {program:?}\nwebhook = {url:?}\ntoken_file = {token:?}\n"));
    told
}

/// Waits until `/writez` of a node has this status and says this. The node is ready in either case.
async fn checks(node: &Node, status: &str, says: &str) {
    let writez = async || get(node.health, "/writez").await;
    let is_so = |answer: &str| answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(says);
    assert!(until(async || is_so(&writez().await).then_some(())).await.is_some(), "{says}: {}", writez().await);
    let readyz = get(node.health, "/readyz").await;
    assert!(readyz.starts_with("HTTP/1.1 200"), "{readyz}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_and_a_webhook_hear_of_a_failover_from_both_sites() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let (url, taken) = service().await;
    let mut files = Vec::new();
    for node in &mut cluster.nodes {
        let _ = node.stop().await;
        files.push(tell_program(node, &url));
        node.start(None);
        node.ready().await;
    }
    let standby = ["site", "role", "b", "standby", "--expect-epoch", "1", "--reason", "one active site"];
    let _ = ok(cluster.nodes[0].cli(&standby).await);
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let told = async |file: &std::path::Path, last: &str| {
        let ended = until(async || {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            (text.lines().last() == Some(last)).then_some(())
        });
        assert!(ended.await.is_some(), "{last}: {:?}\n{}", std::fs::read_to_string(file), b.log_tail());
    };
    told(&files[0], "a active true").await;
    told(&files[1], "b standby false").await;
    checks(a, "200", "takes writes: yes\nrole: active\nactive: a\n").await;
    checks(b, "503", "takes writes: no\nrole: standby\nactive: a\n").await;
    let plan = ok(a.cli(&["failover", "plan", "--json", "--from", "a", "--to", "b"]).await);
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let hash = plan["hash"].as_str().expect("a hash");
    let args = ["failover", "execute", "--from", "a", "--to", "b", "--reason", "t", "--yes", "--plan-hash", hash];
    let _ = done(a.cli(&args).await);
    told(&files[0], "a standby false").await;
    told(&files[1], "b active true").await;
    checks(a, "503", "takes writes: no\nrole: standby\nactive: b\n").await;
    checks(b, "200", "takes writes: yes\nrole: active\nactive: b\n").await;
    // The webhook is told beside the program.
    let last = |site: &str| taken.lock().iter().rfind(|notice| notice.site.as_str() == site).cloned();
    let says = |site, role, writes| last(site).is_some_and(|it| (it.role, it.takes_writes) == (role, writes));
    let heard = until(async || (says("a", Role::Standby, false) && says("b", Role::Active, true)).then_some(()));
    assert!(heard.await.is_some(), "{:?}\n{}", taken.lock(), b.log_tail());
    // The node notes it when the program has ended, and when the webhook's answer has arrived.
    let shown = async || ok(b.cli(&["status"]).await);
    let all_told = "was told: active, epoch 3, takes writes";
    let is_noted = |shown: &str| shown.matches(all_told).count() == 2 && !shown.contains("NOT TAKEN");
    assert!(until(async || is_noted(&shown().await).then_some(())).await.is_some(), "{}", shown().await);
    // Every node can say it, by the digest of b.
    let shown = async || ok(a.cli(&["failover", "status"]).await);
    let all = "  handed over: 2 of 2 receivers of b";
    assert!(until(async || shown().await.contains(all).then_some(())).await.is_some(), "{}", shown().await);

    // A forced failover moves it too, and the old site that wakes does not take it back.
    cluster.nodes[1].kill().await;
    let _ = fail_over(&cluster.nodes[0], "b", "a", &["--forced"]).await;
    checks(&cluster.nodes[0], "200", "takes writes: yes\nrole: active\nactive: a\n").await;
    let woken = &mut cluster.nodes[1];
    woken.start(None);
    woken.ready().await;
    checks(woken, "503", "takes writes: no\nrole: fenced\nactive: a\n").await;
}

/// A program that hangs, and has started another one, does not keep the next sidecar from the volume after SIGKILL.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_program_does_not_outlive_its_sidecar() {
    let mut cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let node = &mut cluster.nodes[0];
    let _ = node.stop().await;
    let (url, _taken) = service().await;
    let told = tell_program(node, &url);
    let script = format!("#!/bin/sh\nsleep 600 &\necho begun >> {}\nwait\n", told.display());
    std::fs::write(node.home.join("program"), script).expect("a program");
    node.start(None);
    node.ready().await;
    let begun = async || std::fs::read_to_string(&told).ok().filter(|text| text.contains("begun"));
    assert!(until(begun).await.is_some(), "the program was not run\n{}", node.log_tail());
    node.kill().await;
    // A sidecar waits for the volume for 15 seconds, and then ends. A leftover of the program would hold it for longer.
    node.start(None);
    node.ready().await;
}
