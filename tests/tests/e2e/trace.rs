//! One push is one trace over all sites: the spans of both sidecars have the trace id of the request.

use std::net::SocketAddr;
use std::sync::Arc;

use lockstep::clients::api_client::{Call, Client, project_path};
use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok};
use lockstep_tests::e2e::{PATIENCE, until};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::lockstep;

/// The requests that the collector received, one list entry per request.
type Received = Arc<Mutex<Vec<Vec<u8>>>>;

/// Starts a trace collector that keeps everything that it receives.
async fn collector() -> (SocketAddr, Received) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let received = Received::default();
    let keep = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take(stream, Arc::clone(&keep)));
        }
    });
    (address, received)
}

/// Reads the requests of one connection, each with its content-length.
async fn take(mut stream: TcpStream, keep: Received) {
    let mut read = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut read).await {
        while let Some(length) = length(&read) {
            keep.lock().push(read.drain(..length).collect());
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    }
}

/// The length of the request at the beginning of these bytes, once all of it has arrived.
fn length(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
    let body = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = body.expect("a content-length").trim().parse().expect("a number");
    Some(head + body).filter(|all| read.len() >= *all)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_push_is_one_trace_over_all_sites() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let mut collectors = Vec::new();
    for node in &mut cluster.nodes {
        let (address, received) = collector().await;
        assert!(node.stop().await.success());
        let file = node.home.join("lockstep.toml");
        let text = std::fs::read_to_string(&file).expect("a configuration");
        let line = format!("[telemetry]\notlp_endpoint = \"http://{address}/v1/traces\"");
        std::fs::write(&file, text.replace("[telemetry]", &line)).expect("a configuration");
        node.start(None);
        collectors.push(received);
    }
    cluster.ready().await;

    let clone = Clone::new(&cluster.scratch("clone"));
    let commit = clone.commit(None, "traced");
    let a = cluster.nodes[0].repository("p");
    let _ = ok(clone.push(&a, &[], &[&format!("{commit}:refs/heads/objects")]).await);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = RefTransactionRequest {
        request_id: "traced".into(),
        deadline_ms: None,
        atomic: true,
        commands: vec![RefCommand {
            name: "refs/heads/traced".parse().expect("a name"),
            old: Expected::Absent,
            new: Some(commit.parse().expect("an id")),
            force: false,
        }],
        actor: None,
        traceparent: Some(format!("00-{trace}-00f067aa0ba902b7-01")),
        message: None,
        lock: None,
    };
    let path = project_path(&"p".parse().expect("a name"), "/ref-transactions");
    let call = Call::new(http::Method::POST, path, &request).expect("a body");
    let end = Instant::now() + PATIENCE;
    let socket = cluster.nodes[0].home.join("run/api.sock");
    let answer: RefTransactionResponse = Client::new(&socket).send(&call, end).await.expect("an answer");
    assert_eq!(answer.outcome, Outcome::Committed);
    cluster.show("p", "refs/heads/traced", Some(&commit)).await;

    let id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&trace[2 * at..2 * at + 2], 16).expect("hex")).collect();
    for (node, received) in cluster.nodes.iter().zip(&collectors) {
        let seen = until(async || {
            let bodies = received.lock();
            bodies.iter().any(|body| body.windows(16).any(|part| part == id)).then_some(())
        });
        assert!(seen.await.is_some(), "{} sent no span of the trace\n{}", node.name, node.log_tail());
    }
}
