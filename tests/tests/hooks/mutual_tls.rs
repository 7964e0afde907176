//! Mutual TLS between sidecars: real certificates, real listeners, real repositories.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockstep::base::clock::{Clock, SystemClock};
use lockstep::seams::peers::http::{Address, HttpPeer};
use lockstep::seams::peers::{PeerError, Peers};
use lockstep::seams::tls::authority::{self, Pair, Validity};
use lockstep::seams::tls::{Credentials, connect};
use lockstep::stages::api::peer_listener::PeerListenerSettings;
use lockstep::stages::api::server::BoundApi;
use lockstep_proto::Oid;
use lockstep_proto::digests::{DigestsRequest, RefsRequest};
use lockstep_proto::sharing::{RecordsAnswer, RecordsRequest};
use lockstep_tests::contract::repositories::{Fixture, name, project};
use lockstep_tests::e2e::until;
use lockstep_tests::local_git::LocalFixture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::CancellationToken;

use crate::certificates::{DAY, Identity, new_authority, valid};
use crate::fake::Fake;

/// A limit above the size of every pack here.
const MOST: u64 = 1 << 30;

/// A sidecar with the listener for peers, and its repositories.
pub struct Server {
    pub fixture: LocalFixture,
    pub address: SocketAddr,
    pub want: Oid,
    pub home: tempfile::TempDir,
    pub fake: Arc<Fake>,
}

impl Server {
    pub async fn start(home: tempfile::TempDir, credentials: Arc<Credentials>, allow: &[&str]) -> Self {
        Self::start_taking(home, credentials, allow, 4).await
    }

    /// Starts a server that takes so many requests of each entry of `allow` at once.
    pub async fn start_taking(
        home: tempfile::TempDir,
        credentials: Arc<Credentials>,
        allow: &[&str],
        requests: usize,
    ) -> Self {
        let fixture = LocalFixture::new();
        for volume in [fixture.origin(), fixture.replica()] {
            volume.create(&project(), &name("refs/heads/main")).await.unwrap();
        }
        let want = fixture.commit(&project(), &[], &[("a", "1")]);
        let settings = PeerListenerSettings {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            allow: allow.iter().map(|entry| entry.parse().unwrap()).collect(),
            requests: NonZeroUsize::new(requests).unwrap(),
        };
        let bound = BoundApi::bind(&home.path().join("run/api.sock"), None).await.unwrap();
        let bound = bound.peered(settings, credentials).await.unwrap();
        let address = bound.peer_address().unwrap();
        let fake = Arc::new(Fake::default());
        fake.projects.lock().insert(project(), name("refs/heads/main"));
        let bound = bound.giving(fixture.origin()).telling(fake.clone()).sharing(fake.clone());
        let _ = bound.spawn(fake.clone(), fake.clone(), &CancellationToken::new());
        Self { fixture, address, want, home, fake }
    }

    fn peer(&self, credentials: Arc<Credentials>, expected: &str) -> HttpPeer {
        let identity = expected.parse().unwrap();
        let address = Address::Tls { address: self.address.to_string(), identity, credentials };
        HttpPeer::new("origin".into(), address, self.fixture.replica().spill(), MOST)
    }

    pub async fn fetch(&self, credentials: Arc<Credentials>, expected: &str) -> Result<usize, PeerError> {
        let peer = self.peer(credentials, expected);
        peer.objects(&project(), &[self.want], &[]).await.map(|packs| packs.len())
    }
}

pub const SERVER: &str = "spiffe://lockstep/eu-aws/eu-aws-0";
pub const CALLER: &str = "spiffe://lockstep/muc-1/muc-1-0";

#[tokio::test(flavor = "multi_thread")]
async fn objects_arrive_over_mutual_tls_from_a_peer_with_the_expected_name() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let own = Identity::new(home.path(), &[SERVER, "eu-aws-0.example.org"], &ca, &[&ca]).credentials();
    let caller = Identity::new(home.path(), &[CALLER], &ca, &[&ca]).credentials();
    let server = Server::start(home, own, &["spiffe://lockstep/muc-1/*"]).await;
    for expected in [SERVER, "eu-aws-0.example.org"] {
        assert_eq!(server.fetch(Arc::clone(&caller), expected).await, Ok(1), "{expected}");
    }
    let answers = server.peer(Arc::clone(&caller), SERVER).statuses().await;
    assert_eq!(answers[0].answer.as_ref().unwrap().node.as_str(), "eu-aws-0", "{answers:?}");
    for other in ["spiffe://lockstep/eu-aws/eu-aws-1", "eu-aws-1.example.org"] {
        let refused = server.fetch(Arc::clone(&caller), other).await.unwrap_err().to_string();
        assert!(refused.contains(other) && refused.contains(SERVER), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_a_nameless_an_expired_and_an_unlisted_caller_get_nothing() {
    let (home, ca, other) = (tempfile::tempdir().unwrap(), new_authority(), new_authority());
    let own = Identity::new(home.path(), &[SERVER, "eu-aws-0.example.org"], &ca, &[&ca]).credentials();
    let stranger = Identity::new(home.path(), &["spiffe://lockstep/muc-1/x"], &other, &[&ca]).credentials();
    let unlisted = Identity::new(home.path(), &["spiffe://lockstep/muc-10/y"], &ca, &[&ca]).credentials();
    let late = Identity::new(home.path(), &["spiffe://lockstep/muc-1/z"], &ca, &[&ca]);
    let past = Validity { now: Duration::from_millis(SystemClock.now_ms()) - 2 * DAY, lifetime: DAY };
    late.replace(&["spiffe://lockstep/muc-1/z"], &ca, &[&ca], past);
    let server = Server::start(home, own, &["spiffe://lockstep/muc-1/*"]).await;
    for caller in [stranger, late.credentials()] {
        let refused = server.fetch(caller, SERVER).await.unwrap_err().to_string();
        assert!(!refused.contains("tls.allow"), "no answer over HTTP may come: {refused}");
    }
    let refused = server.fetch(unlisted, SERVER).await.unwrap_err().to_string();
    assert!(refused.contains("tls.allow"), "{refused}");
    // With TLS and without a certificate, and without TLS.
    assert!(!nameless(&server, &ca).await.starts_with("HTTP"));
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET /v1/peer HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{:?}", String::from_utf8_lossy(&answer));
}

/// The answer to a caller that trusts the server and has no certificate.
async fn nameless(server: &Server, ca: &Pair) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let host = ServerName::try_from("eu-aws-0.example.org").unwrap();
    let mut tls = TlsConnector::from(Arc::new(config)).connect(host, stream).await.unwrap();
    let _ = tls.write_all(b"GET /v1/peer HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = Vec::new();
    let refused = tls.read_to_end(&mut answer).await;
    assert!(refused.is_err(), "the server must end the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A server whom the caller does not trust gets no request, although it would accept the caller.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_not_asked() {
    let (home, ca, other) = (tempfile::tempdir().unwrap(), new_authority(), new_authority());
    let own = Identity::new(home.path(), &[SERVER], &other, &[&ca]).credentials();
    let caller = Identity::new(home.path(), &[CALLER], &ca, &[&ca]).credentials();
    let server = Server::start(home, own, &[CALLER]).await;
    let refused = server.fetch(caller, SERVER).await.unwrap_err();
    assert!(matches!(refused, PeerError::NotNow(_)), "{refused}");
}

/// Calls a route with a peer's certificate. Returns the status line.
async fn call(server: &Server, credentials: &Credentials, method: &str, path: &str) -> String {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut tls = connect(&credentials.current().client, "127.0.0.1", SERVER.parse().unwrap(), stream).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

/// Every route of the bridge API but those of peers is closed to a peer's certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_may_make_the_calls_of_peers_only() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let own = Identity::new(home.path(), &[SERVER], &ca, &[&ca]).credentials();
    let caller = Identity::new(home.path(), &[CALLER], &ca, &[&ca]).credentials();
    let server = Server::start(home, own, &[CALLER]).await;
    let document: serde_json::Value = serde_json::from_str(&lockstep::stages::api::openapi::document()).unwrap();
    let (mut open, mut closed) = (Vec::new(), 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let answer = call(&server, &caller, &method.to_uppercase(), &path.replace(['{', '}'], "")).await;
            match answer.contains(" 403 ") {
                true => closed += 1,
                false => open.push(format!("{method} {path}")),
            }
        }
    }
    let calls = [
        "get /v1/peer",
        "post /v1/peer/digests",
        "post /v1/peer/explain",
        "post /v1/peer/records",
        "post /v1/peer/refs",
        "get /v1/peer/settings",
        "post /v1/peer/versions",
        "post /v1/projects/{project}/git/git-upload-pack",
        "get /v1/projects/{project}/git/info/refs",
        "post /v1/projects/{project}/objects",
    ];
    assert_eq!(open, calls);
    assert!(closed > 20, "{closed}");
}

/// Digests and refs are answered over TLS. Requests beyond the bound of a peer are refused at once, and keep no other
/// peer out.
#[tokio::test(flavor = "multi_thread")]
async fn digests_and_refs_are_answered_within_the_bound_of_each_peer() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let own = Identity::new(home.path(), &[SERVER], &ca, &[&ca]).credentials();
    let greedy = Identity::new(home.path(), &[CALLER], &ca, &[&ca]).credentials();
    let modest = Identity::new(home.path(), &["spiffe://lockstep/muc-2/b"], &ca, &[&ca]).credentials();
    let server = Server::start(home, own, &[CALLER, "spiffe://lockstep/muc-2/*"]).await;
    let greedy = Arc::new(server.peer(greedy, SERVER));
    let page = greedy.digests("origin", &DigestsRequest::default()).await.unwrap();
    assert_eq!((page.head.node.as_str(), page.next), ("eu-aws-0", None));
    let request = RefsRequest { project: "p#1".parse().unwrap(), keys: Vec::new(), catch_up: true };
    assert!(greedy.refs("origin", &request).await.unwrap().behind.is_some());
    // The four requests that this peer may have wait at the gate.
    let gate = Arc::new(tokio::sync::Notify::new());
    *server.fake.gate.lock() = Some(Arc::clone(&gate));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (greedy, request) = (Arc::clone(&greedy), request.clone());
        waiting.spawn(async move { greedy.refs("origin", &request).await });
    }
    for _ in 0..8 {
        let refused = waiting.join_next().await.unwrap().unwrap().unwrap_err().to_string();
        assert!(refused.contains("already works on 4 requests"), "{refused}");
    }
    assert!(server.peer(modest, SERVER).digests("origin", &DigestsRequest::default()).await.is_ok());
    *server.fake.gate.lock() = None;
    while !waiting.is_empty() {
        gate.notify_waiters();
        if let Ok(Some(answer)) = tokio::time::timeout(Duration::from_millis(50), waiting.join_next()).await {
            assert!(answer.unwrap().is_ok());
        }
    }
}

/// A sibling that waits for records has places of its own, beside those of requests that are work.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_handed_over_while_the_requests_of_a_peer_are_used_up() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let own = Identity::new(home.path(), &[SERVER], &ca, &[&ca]).credentials();
    let caller = Identity::new(home.path(), &[CALLER], &ca, &[&ca]).credentials();
    let server = Server::start_taking(home, own, &[CALLER], 1).await;
    let peer = Arc::new(server.peer(caller, SERVER));
    *server.fake.gate.lock() = Some(Arc::default());
    let busy = Arc::clone(&peer);
    let refs = RefsRequest { project: "p#1".parse().unwrap(), keys: Vec::new(), catch_up: false };
    let busy = tokio::spawn(async move { busy.refs("origin", &refs).await });
    let is_full = async || peer.digests("origin", &DigestsRequest::default()).await.is_err().then_some(());
    until(is_full).await.expect("the only request for work is in progress");
    let request = RecordsRequest {
        reader: "muc-1-0".parse().unwrap(),
        stream: "eu-aws".parse().unwrap(),
        created: "t".to_owned(),
        shard: "0".to_owned(),
        after: Some("7".to_owned()),
        most: 10,
        wait_ms: 1_000,
    };
    let answer = peer.records("origin", &request).await.unwrap();
    let RecordsAnswer::Records { follows, records, .. } = answer else { panic!("no records: {answer:?}") };
    assert_eq!((follows.as_deref(), records[0].sequence.as_str()), (Some("7"), "8"));
    busy.abort();
}

/// Waits until a caller that asks without a pause has asked some times more. At least two of its requests then began
/// after this call.
pub async fn more(asked: &AtomicUsize) {
    let enough = asked.load(Ordering::Relaxed) + 3;
    until(async || (asked.load(Ordering::Relaxed) >= enough).then_some(())).await.expect("the caller goes on asking");
}

/// Both sides move to a new authority, one step at a time, while a caller asks without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_replaced_and_no_request_fails() {
    let (home, old, new) = (tempfile::tempdir().unwrap(), new_authority(), new_authority());
    let serving = Identity::new(home.path(), &[SERVER], &old, &[&old]);
    let calling = Identity::new(home.path(), &[CALLER], &old, &[&old]);
    let (own, caller) = (serving.credentials(), calling.credentials());
    let server = Arc::new(Server::start(home, Arc::clone(&own), &[CALLER]).await);
    let (asked, end) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let asking = {
        let (server, caller) = (Arc::clone(&server), Arc::clone(&caller));
        let (asked, end) = (Arc::clone(&asked), end.clone());
        tokio::spawn(async move {
            let mut failed = Vec::new();
            while !end.is_cancelled() {
                failed.extend(server.fetch(Arc::clone(&caller), SERVER).await.err());
                asked.fetch_add(1, Ordering::Relaxed);
            }
            failed
        })
    };
    let both = [&old, &new];
    for (signer, trusted) in [(&old, &both[..]), (&new, &both[..]), (&new, &both[1..])] {
        for (identity, credentials, name) in [(&serving, &own, SERVER), (&calling, &caller, CALLER)] {
            identity.replace(&[name], signer, trusted, valid(DAY));
            assert!(credentials.refresh().unwrap());
            // A step may follow when no request of the step before it is on its way.
            more(&asked).await;
        }
    }
    end.cancel();
    assert_eq!(asking.await.unwrap(), Vec::new());
    let stale = Identity::new(server.home.path(), &["spiffe://lockstep/muc-1/old"], &old, &[&new]).credentials();
    assert!(server.fetch(stale, SERVER).await.is_err(), "the old authority is trusted no more");
}

/// Files that do not belong together are reported, and those before them stay in use.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_replaced_set_of_files_is_not_used() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let identity = Identity::new(home.path(), &[SERVER], &ca, &[&ca]);
    let credentials = identity.credentials();
    let before = credentials.current().expires;
    let key = authority::issue(&ca, &[SERVER.parse().unwrap()], valid(2 * DAY)).unwrap().key;
    std::fs::write(identity.files().key, key).unwrap();
    let error = credentials.refresh().unwrap_err();
    assert_eq!(error.field, "tls.key_file", "{error}");
    assert_eq!((credentials.current().expires, credentials.problem()), (before, Some(error)));
    identity.replace(&[SERVER], &ca, &[&ca], valid(3 * DAY));
    assert_eq!((credentials.refresh(), credentials.problem()), (Ok(true), None));
    assert!(credentials.current().expires > before);
    for (file, field) in [("tls.crt", "tls.certificate_file"), ("ca.crt", "tls.trust_file")] {
        identity.replace(&[SERVER], &ca, &[&ca], valid(DAY));
        std::fs::write(identity.0.join(file), "no certificate").unwrap();
        let error = Credentials::load(identity.files()).err().unwrap();
        assert_eq!(error.field, field, "{error}");
    }
}

/// Opens TLS to a server. It holds the connection and sends nothing.
async fn hold(server: &Server, credentials: &Credentials) -> impl Sized + use<> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    connect(&credentials.current().client, "127.0.0.1", SERVER.parse().unwrap(), stream).await.unwrap()
}

/// One peer holds every connection that it may have, a caller that is not listed holds hundreds, and another address
/// never begins its handshakes. A modest peer is served all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_peer_does_not_keep_others_out() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let own = Identity::new(home.path(), &[SERVER], &ca, &[&ca]).credentials();
    let greedy = Identity::new(home.path(), &[CALLER], &ca, &[&ca]).credentials();
    let modest = Identity::new(home.path(), &["spiffe://lockstep/muc-2/b"], &ca, &[&ca]).credentials();
    let unlisted = Identity::new(home.path(), &["spiffe://lockstep/muc-9/c"], &ca, &[&ca]).credentials();
    let server = Server::start(home, own, &[CALLER, "spiffe://lockstep/muc-2/*"]).await;
    let mut held: Vec<Box<dyn std::any::Any + Send>> = Vec::new();
    for _ in 0..600 {
        held.push(Box::new(hold(&server, &unlisted).await));
    }
    // The server ends a silent connection after a minute, so these come late.
    for _ in 0..310 {
        held.push(Box::new(hold(&server, &greedy).await));
    }
    for _ in 0..400 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        held.push(Box::new(socket.connect(server.address).await.unwrap()));
    }
    assert_eq!(server.fetch(modest, SERVER).await, Ok(1));
    assert!(server.fetch(greedy, SERVER).await.is_err(), "its places are taken");
}

/// A connection ends with its request. So nobody keeps one open beyond the life of a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_one_request() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let own = Identity::new(home.path(), &[SERVER], &ca, &[&ca]).credentials();
    let caller = Identity::new(home.path(), &[CALLER], &ca, &[&ca]).credentials();
    let server = Server::start(home, own, &[CALLER]).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut tls = connect(&caller.current().client, "127.0.0.1", SERVER.parse().unwrap(), stream).await.unwrap();
    let twice = "GET /v1/peer HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2);
    tls.write_all(twice.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await;
    assert_eq!(String::from_utf8_lossy(&answer).matches("HTTP/1.1 200").count(), 1);
}

/// An address is a name, too, and TLS 1.2 is refused although the certificate is good.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_a_name_and_tls_1_2_is_refused() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let own = Identity::new(home.path(), &["127.0.0.1"], &ca, &[&ca]).credentials();
    let calling = Identity::new(home.path(), &["127.0.0.9"], &ca, &[&ca]);
    let server = Server::start(home, own, &["127.0.0.9"]).await;
    assert_eq!(server.fetch(calling.credentials(), "127.0.0.1").await, Ok(1));
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    let files = calling.files();
    let chain = vec![CertificateDer::from_pem_slice(&read(files.certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&read(files.key)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap()).unwrap();
    for (version, is_taken) in [(&TLS12, false), (&TLS13, true)] {
        let config = ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots.clone());
        let config = config.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap();
        let stream = TcpStream::connect(server.address).await.unwrap();
        let host = ServerName::try_from("127.0.0.1").unwrap();
        let shaken = TlsConnector::from(Arc::new(config)).connect(host, stream).await;
        assert_eq!(shaken.is_ok(), is_taken, "{version:?}: {shaken:?}");
    }
}

/// An expired certificate replaces no good one.
#[tokio::test]
async fn an_expired_certificate_is_reported_and_not_taken() {
    let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
    let identity = Identity::new(home.path(), &[SERVER], &ca, &[&ca]);
    let credentials = identity.credentials();
    let before = credentials.current().expires;
    let past = Validity { now: Duration::from_millis(SystemClock.now_ms()) - 2 * DAY, lifetime: DAY };
    identity.replace(&[SERVER], &ca, &[&ca], past);
    let error = credentials.refresh().unwrap_err();
    assert!(error.why.contains("expired"), "{error}");
    assert_eq!((credentials.current().expires, credentials.problem()), (before, Some(error)));
    let late = Credentials::load(identity.files()).unwrap();
    assert!(late.problem().is_some_and(|problem| problem.why.contains("expired")), "the node starts, and says so");
}
