//! The proxy of the environment: every client of AWS goes through it, but to the hosts that `NO_PROXY` names.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::lockstep;

/// The variables that a test machine may have set.
const VARIABLES: [&str; 9] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "AWS_ENDPOINT_URL",
];

const REFUSAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A server that notes the first line of each request, and refuses all of them. It is a proxy, or an endpoint.
struct Listener {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Listener {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&lines);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(refuse(stream, Arc::clone(&noted)));
            }
        });
        Self { address, lines, server }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn refuse(stream: TcpStream, lines: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut line) = (String::new(), String::new());
    if !stream.read_line(&mut first).await.is_ok_and(|bytes| bytes > 0) {
        return;
    }
    lines.lock().push(first.trim_end().to_owned());
    while stream.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) && line != "\r\n" {
        line.clear();
    }
    if stream.get_mut().write_all(REFUSAL).await.is_ok() {
        // Read the body until the caller closes: a reset could overtake the answer.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

/// Runs `lockstep aws check` for tables and streams at this place, with these variables. Every call is refused.
async fn check(place: &str, variables: &[(&str, String)]) {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path().display();
    let text = format!(
        "site = \"muc-1\"\nnode = \"muc-1-0\"\nsites = [\"muc-1\"]\nroot = \"{at}/git\"\nstate = \
         \"{at}/git/.lockstep\"\n[refdb]\n{place}\n[eventlog]\n{place}\n[blobs]\nurl = \"s3://packs/prod\"\n"
    );
    let config = folder.path().join("lockstep.toml");
    std::fs::write(&config, text).expect("a configuration");
    let mut command = Command::new(lockstep());
    command.args(["aws", "check", "--config"]).arg(&config);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.envs([("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
    command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
    let output = command.output().await.expect("it runs");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_of_aws_goes_through_the_proxy_of_the_environment() {
    let proxy = Listener::start().await;
    check("region = \"eu-west-1\"", &[("HTTPS_PROXY", proxy.url())]).await;
    let heard = proxy.heard();
    for service in ["dynamodb", "kinesis", "s3"] {
        let wanted = format!("CONNECT {service}.eu-west-1.amazonaws.com:443 HTTP/1.1");
        assert!(heard.contains(&wanted), "no {wanted:?} in {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_no_proxy_names_is_reached_without_the_proxy() {
    let (proxy, endpoint) = (Listener::start().await, Listener::start().await);
    let place = format!("region = \"eu-west-1\"\nendpoint = \"{}\"", endpoint.url());
    let usual = [("HTTP_PROXY", proxy.url()), ("AWS_ENDPOINT", endpoint.url()), ("AWS_ALLOW_HTTP", "true".to_owned())];
    check(&place, &usual).await;
    let (heard, direct) = (proxy.heard(), endpoint.heard());
    for start in [format!("POST {}/ ", endpoint.url()), format!("HEAD {}/packs", endpoint.url())] {
        assert!(heard.iter().any(|line| line.starts_with(&start)), "no {start:?} in {heard:?}");
    }
    assert!(direct.is_empty(), "{direct:?}");

    check(&place, &[&usual[..], &[("NO_PROXY", "127.0.0.1".to_owned())]].concat()).await;
    let (heard, direct) = (proxy.heard(), endpoint.heard());
    assert!(heard.is_empty(), "{heard:?}");
    for start in ["POST / ", "HEAD /packs"] {
        assert!(direct.iter().any(|line| line.starts_with(start)), "no {start:?} in {direct:?}");
    }
}
