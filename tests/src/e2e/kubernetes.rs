//! A small API server of Kubernetes, over TLS: it keeps pods with their labels, and takes merge patches of them. It
//! checks the token, the path and the form of each request, and refuses what a real one refuses.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lockstep::base::clock::{Clock, SystemClock};
use lockstep::seams::tls::authority::{self, Pair, Validity};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// The token of every service account.
pub const TOKEN: &str = "a-projected-token";

/// The way in which the server treats a request that it would otherwise take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It answers with this status and does nothing.
    Refuse(u16),
    /// It never answers.
    Silence,
    /// It takes the request, and an admission policy removes the labels.
    Strip,
}

/// A pod.
#[derive(Clone, Debug, Default)]
struct Pod {
    uid: String,
    labels: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Pod>,
    treatments: VecDeque<Treatment>,
    requests: usize,
}

/// The server. It ends with the test's runtime.
pub struct ApiServer {
    /// Its URL: `https://127.0.0.1:PORT`.
    pub url: String,
    authority: Pair,
    state: Arc<Mutex<State>>,
}

impl ApiServer {
    /// Starts the server with a certificate of a new authority.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start() -> Self {
        let validity =
            Validity { now: Duration::from_millis(SystemClock.now_ms()), lifetime: Duration::from_secs(86_400) };
        let authority = authority::init("cluster", validity).expect("an authority");
        let names = ["127.0.0.1".parse().expect("a name")];
        let pair = authority::issue(&authority, &names, validity).expect("a certificate");
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a configuration")));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &state).await;
                    }
                });
            }
        });
        Self { url, authority, state }
    }

    /// Adds a pod, or replaces it by a newer one of its name, without labels. `path` is `NAMESPACE/NAME`.
    pub fn add_pod(&self, path: &str, uid: &str) {
        let pod = Pod { uid: uid.to_owned(), labels: BTreeMap::new() };
        self.state.lock().pods.insert(path.to_owned(), pod);
    }

    /// The value of a label of a pod.
    #[must_use]
    pub fn label(&self, path: &str, label: &str) -> Option<String> {
        self.state.lock().pods.get(path).and_then(|pod| pod.labels.get(label)).cloned()
    }

    /// Removes the labels of a pod, as a person may do.
    pub fn remove_labels(&self, path: &str) {
        if let Some(pod) = self.state.lock().pods.get_mut(path) {
            pod.labels.clear();
        }
    }

    /// The next requests are treated like this, one after the other.
    pub fn treat(&self, treatments: &[Treatment]) {
        self.state.lock().treatments.extend(treatments);
    }

    /// Number of requests until now.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.lock().requests
    }

    /// Writes the folder of a service account, as the kubelet projects it. Returns its path.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn service_account(&self, home: &Path, token: &str) -> PathBuf {
        let folder = home.join("serviceaccount");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("token"), format!("{token}\n")).expect("a token");
        std::fs::write(folder.join("ca.crt"), &self.authority.certificate).expect("a certificate");
        folder
    }
}

/// Serves one request.
async fn serve(mut stream: TlsStream<TcpStream>, state: &Mutex<State>) {
    let Some((head, body)) = request(&mut stream).await else { return };
    let Some((status, answer)) = answer(&head, &body, &mut state.lock()) else {
        return std::future::pending().await;
    };
    let body = answer.to_string();
    let head = format!("HTTP/1.1 {status} Answer\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    let text = format!("{head}\r\nconnection: close\r\n\r\n{body}");
    // The caller may have given up.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Reads the head of a request, in lower case except for its first line, and its body. None if the caller goes away.
async fn request(stream: &mut TlsStream<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).await.ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(&chunk[..length]);
        let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
        let (first, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
        let fields: Vec<String> = fields.split("\r\n").map(lower_name).collect();
        let length = fields.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if bytes.len() - at - 4 >= length.unwrap_or(0) {
            return Some((format!("{first}\n{}\n", fields.join("\n")), bytes[at + 4..].to_vec()));
        }
    }
}

fn lower_name(line: &str) -> String {
    line.split_once(": ").map_or(line.to_owned(), |(name, value)| format!("{}: {value}", name.to_lowercase()))
}

/// The answer to a request. None: there is no answer.
fn answer(head: &str, body: &[u8], state: &mut State) -> Option<(u16, Value)> {
    state.requests += 1;
    let failed = |status: u16, message: &str| Some((status, json!({ "kind": "Status", "message": message })));
    if !head.contains(&format!("\nauthorization: Bearer {TOKEN}\n")) {
        return failed(401, "Unauthorized");
    }
    let first = head.lines().next().unwrap_or_default();
    let path = first.strip_prefix("PATCH /api/v1/namespaces/").and_then(|rest| rest.split(['?', ' ']).next());
    let path = path.and_then(|path| path.split_once("/pods/")).map(|(namespace, pod)| format!("{namespace}/{pod}"));
    let Some(path) = path else { return failed(404, "the server could not find the requested resource") };
    if !head.contains("\ncontent-type: application/merge-patch+json\n") {
        return failed(415, "the body of the request was in an unknown format");
    }
    let treatment = state.treatments.pop_front();
    match treatment {
        Some(Treatment::Silence) => return None,
        Some(Treatment::Refuse(status)) => return failed(status, "pods is forbidden by the test"),
        Some(Treatment::Strip) | None => {}
    }
    let Some(pod) = state.pods.get_mut(&path) else { return failed(404, "pods not found") };
    let Ok(patch) = serde_json::from_slice::<Value>(body) else { return failed(400, "the body is no JSON") };
    let metadata = &patch["metadata"];
    if metadata["uid"].as_str().is_some_and(|uid| uid != pod.uid) {
        return failed(422, "Pod is invalid: metadata.uid: Invalid value: field is immutable");
    }
    let only = |value: &Value, known: &[&str]| {
        value.as_object().is_some_and(|fields| fields.keys().all(|key| known.contains(&key.as_str())))
    };
    if !only(&patch, &["metadata"]) || !only(metadata, &["labels", "uid"]) {
        return failed(422, "the patch has more than labels");
    }
    for (label, value) in metadata["labels"].as_object().into_iter().flatten() {
        pod.labels.insert(label.clone(), value.as_str().unwrap_or_default().to_owned());
    }
    if treatment == Some(Treatment::Strip) {
        pod.labels.clear();
    }
    Some((200, json!({ "kind": "PartialObjectMetadata", "metadata": { "labels": pod.labels, "uid": pod.uid } })))
}
