//! The listeners of the API: tokens, limits, errors, and callers that hang up. Also the health listener.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep::base::clock::SeededEntropy;
use lockstep::stages::api::access::TokenFile;
use lockstep::stages::api::health::{BoundHealth, Health, Writes};
use lockstep::stages::api::readiness::Latches;
use lockstep::stages::api::server::{BindError, BoundApi};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, Site, value};

/// Sends one request, and returns the whole answer as text.
fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn tcp(folder: &std::path::Path) -> (SocketAddr, String) {
    let path = folder.join("token");
    let tokens = TokenFile::ensure(path.clone(), &SeededEntropy::new(7)).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bound = BoundApi::bind(&folder.join("run/api.sock"), Some((any, tokens))).await.unwrap();
    let address = bound.tcp_address().unwrap();
    let fake = Arc::new(Fake::default());
    let _ = bound.spawn(fake.clone(), fake, &CancellationToken::new());
    (address, std::fs::read_to_string(path).unwrap().trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_wants_a_token_of_the_file_as_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let (address, token) = tcp(folder.path()).await;
    let status = |token: &str| ask(address, &format!("GET /v1/status HTTP/1.1\r\nauthorization: Bearer {token}"), "");
    assert_eq!(std::fs::metadata(folder.path().join("token")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(token.len(), 64);
    assert!(status(&token).starts_with("HTTP/1.1 200"));
    for wrong in ["", "x", &token[1..]] {
        let answer = status(wrong);
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("api.token_file"), "{answer}");
    }
    assert!(ask(address, "GET /v1/status HTTP/1.1", "").starts_with("HTTP/1.1 401"));
    std::fs::write(folder.path().join("token"), format!("{token}\nsecond\n")).unwrap();
    assert!(status(&token).starts_with("HTTP/1.1 200") && status("second").starts_with("HTTP/1.1 200"));
    std::fs::write(folder.path().join("token"), "second\n").unwrap();
    assert!(status(&token).starts_with("HTTP/1.1 401"));
    std::fs::remove_file(folder.path().join("token")).unwrap();
    assert!(status("second").starts_with("HTTP/1.1 503"), "an unreadable token file must admit no caller");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_json_that_names_field_value_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (address, token) = tcp(folder.path()).await;
    let head =
        |line: &str| format!("{line} HTTP/1.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json");
    let batch = "POST /v1/projects/tools%2Fbuild/ref-transactions";
    let one = r#"{"ref":"refs/heads/a","new":null}"#;
    let ids = |commands: &str| format!(r#"{{"request_id":"r","commands":[{commands}]}}"#);
    let long = ids(one).replace("\"r\"", "\"r\",\"deadline_ms\":600001");
    let none = ids(one).replace("\"r\"", "\"\"");
    for (line, body, status, parts) in [
        (batch, ids(&format!("{one},{one}")), 400, vec!["commands", "refs/heads/a", "twice"]),
        (batch, ids(""), 400, vec!["commands", "0 entries", "1 to 50000"]),
        (batch, long, 400, vec!["deadline_ms", "600001"]),
        (batch, none, 400, vec!["request_id", "1 to 128 bytes"]),
        ("PUT /v1/projects/p", "x".repeat(2 << 20), 413, vec!["1048576"]),
        ("POST /v1/projects/a..b/ref-transactions", ids(one), 400, vec!["project", "a..b"]),
        ("GET /v1/transactions/nonsense", String::new(), 400, vec!["txn", "nonsense"]),
        ("GET /v1/transactions/n.1.0.0.00c0ffee00c0ffee", String::new(), 503, vec!["starting"]),
        ("GET /v1/await?txn=nonsense", String::new(), 400, vec!["txn", "nonsense"]),
        ("GET /v1/await?site=a", String::new(), 400, vec!["txn", "GET /v1/await?txn=TXN"]),
        ("GET /v1/await?txn=n.1.0.0.00c0ffee00c0ffee&wait_ms=30001", String::new(), 400, vec!["wait_ms", "30001"]),
        ("GET /v1/await?txn=n.1.0.0.00c0ffee00c0ffee", String::new(), 503, vec!["starting"]),
        ("GET /v2/nothing", String::new(), 404, vec!["/v2/nothing", "openapi.json"]),
        ("POST /v1/status", String::new(), 405, vec!["/v1/status", "POST"]),
    ] {
        let answer = ask(address, &head(line), &body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
        let error: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let message = error["message"].as_str().unwrap();
        assert!(parts.iter().all(|part| message.contains(part)), "{line}: {message}");
        assert_eq!(error["retry"], status == 503, "{line}");
    }
}

/// A bridge that hands over three branches, one of them with a name that is none, gets two of them committed.
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_name_refuses_one_ref_of_a_batch() {
    let mut site = Site::unserved();
    site.serve().await;
    let main = value(&site.bare(), "refs/heads/main").unwrap();
    let ask = |atomic: bool| {
        let command = |name: &str| format!(r#"{{"ref":"{name}","new":"{main}"}}"#);
        let names = ["refs/heads/ok1", "refs/heads/a..b", "refs/heads/@", "refs/heads/ok2"].map(command);
        let body = format!(r#"{{"request_id":"r","atomic":{atomic},"commands":[{}]}}"#, names.join(","));
        let mut stream = std::os::unix::net::UnixStream::connect(site.socket()).unwrap();
        let head = "POST /v1/projects/tools%2Fbuild/ref-transactions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                    content-type: application/json";
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str::<serde_json::Value>(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    };
    let outcomes = |answer: &serde_json::Value| {
        let results = answer["results"].as_array().unwrap().clone();
        results.iter().map(|one| one["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let atomic = ask(true);
    assert_eq!(outcomes(&atomic), ["refused"; 4]);
    assert!(site.fake.requests.lock().is_empty());
    let answer = ask(false);
    assert_eq!(outcomes(&answer), ["committed", "refused", "committed", "committed"]);
    assert_eq!(answer["outcome"], "committed");
    let message = answer["results"][1]["refusal"]["message"].as_str().unwrap();
    assert!(message.contains("refs/heads/a..b") && message.contains("choose another name"), "{message}");
    assert!(!message.to_lowercase().contains("json") && !message.contains("openapi"), "{message}");
    assert_eq!(value(&site.bare(), "refs/heads/@"), Some(main.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_documented_methods_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let (address, token) = tcp(folder.path()).await;
    let ask = |line: &str| ask(address, &format!("{line} HTTP/1.1\r\nauthorization: Bearer {token}"), "");
    let served = ask("GET /v1/openapi.json");
    assert_eq!(served.split("\r\n\r\n").nth(1).unwrap(), lockstep::stages::api::openapi::document());
    let document: serde_json::Value = serde_json::from_str(&lockstep::stages::api::openapi::document()).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let real = path.replace("{project}", "p").replace("{txn}", "n.1.0.0.00c0ffee00c0ffee");
        for method in ["get", "put", "post", "delete", "patch"] {
            let refused = ask(&format!("{} {real}", method.to_uppercase())).starts_with("HTTP/1.1 405");
            assert_eq!(refused, methods[method].is_null(), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_when_the_caller_hangs_up() {
    let mut site = Site::new().await;
    let gate = Arc::new(Notify::new());
    *site.fake.gate.lock() = Some(gate.clone());
    let body = r#"{"request_id":"r","commands":[{"ref":"refs/heads/old","new":null}]}"#;
    let mut caller = UnixStream::connect(site.socket()).await.unwrap();
    let head = "POST /v1/projects/tools%2Fbuild/ref-transactions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    caller.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    while site.fake.requests.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(caller);
    site.shutdown.cancel();
    gate.notify_one();
    site.tasks.take().unwrap().finish().await;
    assert_eq!(value(&site.bare(), "refs/heads/old"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/api.sock");
    drop(BoundApi::bind(&socket, None).await.unwrap());
    assert!(socket.exists(), "a closed listener must leave its file");
    let live = BoundApi::bind(&socket, None).await.unwrap();
    assert_eq!(std::fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(matches!(BoundApi::bind(&socket, None).await, Err(BindError::InUse("api.socket", _))));
    drop(live);
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "mine").unwrap();
    assert!(matches!(BoundApi::bind(&socket, None).await, Err(BindError::NotASocket("api.socket", _))));
}

#[test]
fn readiness_names_the_latches_that_are_closed() {
    let bound = BoundHealth::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = bound.address().unwrap();
    let (latches, [joined, drained]) = Latches::new(["joined", "predecessors drained"]);
    let shutdown = CancellationToken::new();
    let (metrics, projects) = (|| "lockstep_up 1\n".to_owned(), || vec!["project p is degraded: bad".to_owned()]);
    let early = || "# early\n".to_owned();
    let health = Health::starting(Arc::new(|| "moving the volume: 3 of 9".to_owned()), Arc::new(early));
    let thread = bound.spawn(health.clone(), shutdown.clone()).unwrap();
    let get = |path: &str| ask(address, &format!("GET {path} HTTP/1.1"), "");
    assert!(get("/livez").starts_with("HTTP/1.1 200"), "a start is no reason for a restart");
    let answer = get("/readyz");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("waiting for: start\nmoving the volume: 3 of 9\n"), "{answer}");
    assert!(get("/startz").starts_with("HTTP/1.1 503") && get("/startz").ends_with(": 3 of 9\n"), "{}", get("/startz"));
    assert!(get("/metrics").ends_with("# early\n"));
    let takes = Arc::new(AtomicBool::new(false));
    let taken = Arc::clone(&takes);
    let writes =
        move || Writes { taken: taken.load(Ordering::Relaxed), role: "standby", active: vec!["a".parse().unwrap()] };
    assert!(get("/writez").starts_with("HTTP/1.1 503"), "nobody knows the role yet");
    health.serve(latches, Arc::new(metrics), Arc::new(projects), Arc::new(writes));
    assert!(get("/startz").starts_with("HTTP/1.1 200"), "it has started, and is not ready");
    joined.open();
    let answer = get("/readyz");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("waiting for: predecessors drained\n"), "{answer}");
    assert!(!answer.contains("joined"));
    drained.open();
    assert!(get("/readyz").starts_with("HTTP/1.1 200"));
    let verbose = get("/readyz?verbose");
    assert!(verbose.starts_with("HTTP/1.1 200"), "a node with a degraded project is ready: {verbose}");
    assert!(verbose.ends_with("latch joined: open\nlatch predecessors drained: open\nproject p is degraded: bad\n"));
    let answer = get("/writez");
    assert!(answer.starts_with("HTTP/1.1 503"), "a standby is ready, and takes no writes: {answer}");
    assert!(answer.ends_with("takes writes: no\nrole: standby\nactive: a\n"), "{answer}");
    takes.store(true, Ordering::Relaxed);
    assert!(get("/writez").starts_with("HTTP/1.1 200"));
    joined.close();
    assert!(get("/readyz").starts_with("HTTP/1.1 503"));
    let answer = get("/writez");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("active: a\nwaiting for: joined\n"), "{answer}");
    assert!(get("/livez").starts_with("HTTP/1.1 200"));
    assert!(get("/metrics").ends_with("lockstep_up 1\n"));
    shutdown.cancel();
    thread.join().unwrap();
}
