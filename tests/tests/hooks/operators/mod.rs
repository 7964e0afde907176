//! Operators by token and by certificate: a sidecar with all of its listeners, the actor, and the command line.
//! `calls` holds every call of the API against every identity, `rotation` replaces tokens and certificates, `json`
//! reads the answers of commands.

mod calls;
mod json;
mod rotation;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::base::clock::SeededEntropy;
use lockstep::clients::api_client::{Call, Client, OperatorAccess};
use lockstep::seams::tls::authority::Pair;
use lockstep::seams::tls::{ClientMaterial, Credentials, connect};
use lockstep::stages::api::access::TokenFile;
use lockstep::stages::api::operator_listener::OperatorListenerSettings;
use lockstep::stages::api::operator_tokens::{NewToken, new_token};
use lockstep::stages::api::peer_listener::PeerListenerSettings;
use lockstep::stages::api::server::BoundApi;
use lockstep::stages::ports::{OperatorRole, Operators, check_approval};
use lockstep_proto::bridge::ApiError;
use lockstep_proto::drill::{DrillBegun, DrillReport, DrillRequest, Drills, Preflight, PreflightRequest};
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverPlan, ModeRequest, PlanRequest, RoleRequest, SitesStatus,
};
use lockstep_proto::history::{History, PastChange};
use lockstep_proto::keys::{ChangeKeyRequest, RequireSigningRequest, SigningStatus};
use lockstep_proto::overview::Overview;
use lockstep_proto::silent::{SilentBegun, SilentDrills, SilentReport, SilentRequest};
use lockstep_proto::site_list::{AddSiteRequest, RemoveNodeRequest, RemoveSiteRequest};
use lockstep_proto::status::NodeStatus;
use lockstep_proto::{NodeId, SiteId};
use lockstep_tests::e2e::PATIENCE;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::certificates::{Identity, new_authority};
use crate::fake::{Fake, LOCKSTEP, fails, ok};

const SERVER: &str = "spiffe://lockstep/eu-aws/eu-aws-0";
const PEER: &str = "spiffe://lockstep/muc-1/muc-1-0";
const BOTH: &str = "spiffe://lockstep/muc-1/both";
const ALICE: &str = "spiffe://lockstep/operator/alice";

/// A desk that keeps the identities of those who ask for changes, and knows one failover at most.
#[derive(Default)]
struct Desk(Mutex<Vec<String>>, Mutex<Option<Failover>>);

fn away() -> ApiError {
    ApiError::unavailable("the desk of this test knows nothing")
}

impl Desk {
    fn failover(&self) -> Result<Failover, ApiError> {
        self.1.lock().clone().ok_or_else(away)
    }
}

#[async_trait]
impl Operators for Desk {
    async fn sites(&self) -> Result<SitesStatus, ApiError> {
        let (sites, removed, failover) = (Vec::new(), Vec::new(), self.failover().ok());
        Ok(SitesStatus { sites, removed, failover, waits_for: None, follow_up: None })
    }

    async fn overview(&self) -> Result<Overview, ApiError> {
        Err(away())
    }

    async fn history(&self) -> Result<History, ApiError> {
        Ok(History { past: vec![PastChange::Failover(Box::new(self.failover()?))] })
    }

    async fn plan(&self, _: &PlanRequest) -> Result<FailoverPlan, ApiError> {
        self.failover().map(|_| json::plan())
    }

    async fn execute(&self, _: &str, _: ExecuteRequest) -> Result<Failover, ApiError> {
        self.failover()
    }

    async fn act(&self, _: &str, _: ActRequest) -> Result<Failover, ApiError> {
        self.failover()
    }

    async fn approve(&self, _: &str, request: ActRequest) -> Result<Failover, ApiError> {
        check_approval(self.failover().ok().as_ref(), &request)?;
        self.failover()
    }

    async fn preflight(&self, _: &PreflightRequest) -> Result<Preflight, ApiError> {
        Err(away())
    }

    async fn drills(&self) -> Result<Drills, ApiError> {
        Ok(Drills { running: None, past: vec![json::drill()] })
    }

    async fn drill(&self, _: &str, _: DrillRequest) -> Result<DrillBegun, ApiError> {
        let DrillReport { number, by, at_ms, .. } = json::drill();
        Ok(DrillBegun { number, by, at_ms })
    }

    async fn silent_drills(&self) -> Result<SilentDrills, ApiError> {
        Ok(SilentDrills { running: None, past: vec![json::silent()] })
    }

    async fn silent_drill(&self, _: &str, _: SilentRequest) -> Result<SilentBegun, ApiError> {
        let SilentReport { id, node, at_ms, .. } = json::silent();
        Ok(SilentBegun { id, node, at_ms, doing: String::new() })
    }

    async fn add_site(&self, actor: &str, _: &SiteId, _: AddSiteRequest) -> Result<SitesStatus, ApiError> {
        self.0.lock().push(actor.to_owned());
        self.sites().await
    }

    async fn remove_site(&self, actor: &str, _: &SiteId, _: RemoveSiteRequest) -> Result<SitesStatus, ApiError> {
        self.0.lock().push(actor.to_owned());
        self.sites().await
    }

    async fn change_mode(&self, actor: &str, _: &SiteId, _: ModeRequest) -> Result<SitesStatus, ApiError> {
        self.0.lock().push(actor.to_owned());
        self.sites().await
    }

    async fn remove_node(&self, actor: &str, _: &NodeId, _: RemoveNodeRequest) -> Result<SitesStatus, ApiError> {
        self.0.lock().push(actor.to_owned());
        self.sites().await
    }

    async fn signing(&self) -> Result<SigningStatus, ApiError> {
        Err(away())
    }

    async fn require_signing(&self, _: &str, _: RequireSigningRequest) -> Result<SigningStatus, ApiError> {
        Ok(SigningStatus { sites: Vec::new(), unsigned_nodes: Vec::new(), keys: Vec::new() })
    }

    async fn change_key(&self, _: &str, _: ChangeKeyRequest) -> Result<SigningStatus, ApiError> {
        Ok(SigningStatus { sites: Vec::new(), unsigned_nodes: Vec::new(), keys: Vec::new() })
    }

    async fn change_role(&self, actor: &str, _: &SiteId, _: RoleRequest) -> Result<SitesStatus, ApiError> {
        self.0.lock().push(actor.to_owned());
        self.sites().await
    }
}

/// A sidecar with all of its listeners.
struct World {
    home: tempfile::TempDir,
    ca: Pair,
    own: Arc<Credentials>,
    serving: Identity,
    desk: Arc<Desk>,
    tcp: SocketAddr,
    peers: SocketAddr,
    operators: SocketAddr,
    alice: NewToken,
    /// The token of a viewer.
    vera: NewToken,
    /// The token of an approver.
    ada: NewToken,
}

impl World {
    async fn start() -> Self {
        let (home, ca) = (tempfile::tempdir().unwrap(), new_authority());
        let serving = Identity::new(home.path(), &[SERVER, "127.0.0.1"], &ca, &[&ca]);
        let own = serving.credentials();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let token = |name: &str, role, seed| new_token(&name.parse().unwrap(), role, &SeededEntropy::new(seed));
        let alice = token("alice", OperatorRole::Operator, 1);
        let vera = token("vera", OperatorRole::Viewer, 2);
        let ada = token("ada", OperatorRole::Approver, 3);
        let lines = format!("{}\n{}\n{}\n", alice.line, vera.line, ada.line);
        std::fs::write(home.path().join("operators"), lines).unwrap();
        let tokens = TokenFile::ensure(home.path().join("token"), &SeededEntropy::new(7)).unwrap();
        let bound = BoundApi::bind(&home.path().join("run/api.sock"), Some((any, tokens))).await.unwrap();
        let uids = vec![rustix::process::geteuid().as_raw()];
        let bound = bound.operated(&home.path().join("run/api-operators.sock"), uids).await.unwrap();
        let names = vec!["spiffe://lockstep/muc-1/*".parse().unwrap()];
        let settings = OperatorListenerSettings {
            address: any,
            token_file: Some(home.path().join("operators")),
            // The check of the configuration refuses the second name, because it is one of a peer.
            allow: vec!["spiffe://lockstep/operator/*".parse().unwrap(), BOTH.parse().unwrap()],
            peers: names.clone(),
        };
        let bound = bound.operated_remotely(settings, Arc::clone(&own)).await.unwrap();
        let requests = NonZeroUsize::new(4).unwrap();
        let settings = PeerListenerSettings { address: any, allow: names, requests };
        let bound = bound.peered(settings, Arc::clone(&own)).await.unwrap();
        let [tcp, peers, operators] =
            [bound.tcp_address(), bound.peer_address(), bound.operators_address()].map(Option::unwrap);
        let (fake, desk) = (Arc::new(Fake::default()), Arc::new(Desk::default()));
        *fake.refdb.lock() = Some(BTreeMap::new());
        let bound = bound.obeying(Arc::clone(&desk) as _).guarded(Arc::clone(&desk) as _);
        let _ = bound.spawn(fake.clone(), fake, &CancellationToken::new());
        Self { home, ca, own, serving, desk, tcp, peers, operators, alice, vera, ada }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.path("token")).unwrap().trim().to_owned()
    }

    /// The files of a caller with a certificate of this name.
    fn holder(&self, name: &str) -> Identity {
        Identity::operator(self.home.path(), name, &self.ca, &[&self.ca])
    }

    /// A client over the network.
    fn client(&self, tls: ClientMaterial, token: Option<&str>) -> Client {
        let (address, identity) = (self.operators.to_string(), SERVER.parse().unwrap());
        Client::remote(OperatorAccess { address, identity, tls, token: token.map(str::to_owned) })
    }
}

/// A way to the sidecar.
enum Way {
    Socket(PathBuf),
    Tcp(SocketAddr, String),
    Tls(SocketAddr, Option<Identity>, String),
}

/// The calls that an identity may make.
#[derive(Clone, Copy, PartialEq)]
enum May {
    Everything,
    AllButOperators,
    Looks,
    LooksAndApproves,
    Peers,
    Nothing,
}

impl Way {
    /// The status code of the answer to a call: method, path and, if there is one, the body. Empty if there is none.
    async fn status(&self, world: &World, call: &str) -> String {
        let (method, path) = call.split_once(' ').unwrap();
        let (path, body) = path.split_once(' ').unwrap_or((path, ""));
        let path = path.replace("{project}", "p").replace("{site}", "a");
        let path = path.replace("{txn}", "n.1.0.0.00c0ffee00c0ffee");
        let token = match self {
            Self::Socket(_) => "",
            Self::Tcp(_, token) | Self::Tls(_, _, token) => token,
        };
        let token = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        let (method, length) = (method.to_uppercase(), body.len());
        let body = match length {
            0 => "\r\n".to_owned(),
            _ => format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"),
        };
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{token}{body}");
        match self {
            Self::Socket(path) => exchange(UnixStream::connect(path).await.unwrap(), &request).await,
            Self::Tcp(address, _) => exchange(TcpStream::connect(address).await.unwrap(), &request).await,
            Self::Tls(address, identity, _) => {
                let tls = identity.as_ref().map_or_else(|| world.serving.client(false), |one| one.client(true));
                let stream = TcpStream::connect(address).await.unwrap();
                match connect(&tls, "127.0.0.1", SERVER.parse().unwrap(), stream).await {
                    Ok(stream) => exchange(stream, &request).await,
                    Err(_) => String::new(),
                }
            }
        }
    }
}

/// The status code of the answer. Empty if there is none.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_actor_is_the_authenticated_identity() {
    let world = World::start().await;
    let role = RoleRequest { role: lockstep_proto::failover::Role::Standby, expect_epoch: 1, reason: "x".into() };
    let call = Call::new(http::Method::PUT, "/v1/sites/a/role", &role).unwrap();
    let clients = [
        Client::new(&world.path("run/api-operators.sock")),
        world.client(world.serving.client(false), Some(&world.alice.token)),
        world.client(world.holder(ALICE).client(true), None),
    ];
    for client in clients {
        let _: SitesStatus = client.send(&call, soon()).await.unwrap();
    }
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(*world.desk.0.lock(), [format!("uid {uid}"), "token alice".into(), format!("certificate {ALICE}")]);
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Strangers, or browsers, that hold every place of an address and ask nothing keep no operator out.
#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_request_keep_no_operator_out() {
    let world = World::start().await;
    let (mut held, mut held_silent) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let stream = TcpStream::connect(world.operators).await.unwrap();
        held.push(connect(&world.serving.client(false), "127.0.0.1", SERVER.parse().unwrap(), stream).await);
    }
    let token = world.client(world.serving.client(false), Some(&world.alice.token));
    let asked = token.send::<NodeStatus>(&Call::get("/v1/status"), soon()).await;
    assert!(asked.is_ok(), "{asked:?}");
    // More than the bound, from one address and in all. They never send a byte.
    for _ in 0..300 {
        held_silent.push(TcpStream::connect(world.operators).await.unwrap());
    }
    let alice = world.client(world.holder(ALICE).client(true), None);
    assert!(alice.send::<NodeStatus>(&Call::get("/v1/status"), soon()).await.is_ok());
}

/// The command line over the network, by token and by certificate.
#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_a_sidecar_over_the_network() {
    let world = World::start().await;
    let (url, ca) = (format!("https://{}", world.operators), world.serving.files().trust);
    let run = |args: &[&str]| {
        let mut command = crate::fake::quiet(std::process::Command::new(LOCKSTEP), world.home.path());
        command.args(["--operator-url", &url, "--ca", ca.to_str().unwrap()]).args(args).output().unwrap()
    };
    let made = run(&["operators", "token", "carol", "--out", "carol.token"]);
    let line = ok(made);
    let file = world.path("operators");
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + &line).unwrap();
    let alice = world.holder(ALICE).files();
    let certificate = ["--cert", alice.certificate.to_str().unwrap(), "--key", alice.key.to_str().unwrap()];
    let role = ["site", "role", "a", "standby", "--expect-epoch", "1", "--reason", "test"];
    for (identity, actor) in
        [(&["--token-file", "carol.token"][..], "token carol"), (&certificate[..], &format!("certificate {ALICE}"))]
    {
        assert!(ok(run(&[identity, &["status"]].concat())).contains("eu-aws-0"));
        let _ = ok(run(&[identity, &role].concat()));
        assert_eq!(world.desk.0.lock().last().map(String::as_str), Some(actor));
        let other = fails(run(&[identity, &["--identity", "spiffe://lockstep/muc-1/x", "status"]].concat()));
        assert!(other.contains(SERVER), "{other}");
    }
    for (args, part) in [
        (&["status"][..], "give either --token-file, or --cert and --key"),
        (&["--token-file", "nothing", "status"], "--token-file nothing"),
        (&["--cert", "c", "status"], "--cert and --key belong together"),
        (&["--token-file", "carol.token", "status", "--socket", "s"], "--socket names another sidecar"),
        (&["--token-file", "carol.token", "sites", "--socket", "s"], "--socket names another sidecar"),
        (&["--token-file", "carol.token", "seed"], "the repositories of this machine"),
    ] {
        let wrong = fails(run(args));
        assert!(wrong.contains(part), "{wrong}");
    }
    for option in [&["--token-file", "carol.token"][..], &["--ca", "c"], &["--identity", "a.example.org"]] {
        let mut command = crate::fake::quiet(std::process::Command::new(LOCKSTEP), world.home.path());
        command.env("LOCKSTEP_SOCKET", world.path("run/api.sock"));
        let wrong = fails(command.args(option).arg("status").output().unwrap());
        assert!(wrong.contains(option[0]) && wrong.contains("LOCKSTEP_OPERATOR_URL"), "{wrong}");
    }
}
