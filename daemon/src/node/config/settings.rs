//! The validated configuration: whoever holds one of these need not check anything again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_proto::{NodeId, ProjectName, SiteId};

use crate::base::base_paths::Roots;

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This site.
    pub site: SiteId,
    /// This node, unique over all sites.
    pub node: NodeId,
    /// All sites; this one is among them.
    pub sites: BTreeSet<SiteId>,
    /// The git volume: below which folder the repository of each project lies.
    pub roots: Roots,
    /// The node's own state; on the git volume's file system.
    pub state: PathBuf,
    /// The bridge API.
    pub api: Api,
    /// Whether new repositories get the git hooks (plain git servers).
    pub install_hooks: bool,
    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub health_listen: SocketAddr,
    /// The refdb.
    pub refdb: Refdb,
    /// The event log.
    pub eventlog: Eventlog,
    /// The blob store's URL (`s3://bucket/prefix`, `file:///folder`).
    pub blobs_url: String,
    /// The commit stage.
    pub commit: Commit,
    /// The apply stage.
    pub apply: Apply,
    /// Who is alive.
    pub lease: Lease,
    /// The Gerrit beside this node.
    pub gerrit: Gerrit,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Other nodes' sidecars, by any name, in the order in which they are asked for objects.
    pub peers: BTreeMap<String, Peer>,
    /// The embedded emulators' folder; with it, nothing outside of this machine is used.
    pub embedded_dir: Option<PathBuf>,
}

/// The bridge API's listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The Unix socket.
    pub socket: PathBuf,
    /// A loopback TCP address and the file with its tokens.
    pub tcp: Option<(SocketAddr, PathBuf)>,
    /// Requests in work at the same time; what comes above is told to try again.
    pub most_requests: NonZeroUsize,
}

/// Where a peer's sidecar is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A Unix socket on this machine.
    Socket(PathBuf),
    /// `host:port`, and the file with its token.
    Tcp(String, PathBuf),
}

/// The refdb's tables and calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refdb {
    /// Begins the names of its tables.
    pub prefix: String,
    /// The Region; the environment's when not set.
    pub region: Option<String>,
    /// Another endpoint than the Region's.
    pub endpoint: Option<String>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one copy of a call may take.
    pub attempt_timeout: Duration,
    /// Reads and writes a second that new tables are ready for.
    pub warm_throughput: Option<(u64, u64)>,
}

/// The event log's streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eventlog {
    /// Begins the names of its streams.
    pub prefix: String,
    /// Where each site's stream is; every site has an entry.
    pub streams: BTreeMap<SiteId, Stream>,
    /// Shards of a stream that is created here.
    pub shards: u32,
    /// The pause between two reads of a shard.
    pub poll_interval: Duration,
}

/// One site's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The Region; the environment's when not set.
    pub region: Option<String>,
    /// Another endpoint than the Region's.
    pub endpoint: Option<String>,
}

/// The commit stage's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Lanes of an incarnation, 1 to 64.
    pub lanes: u8,
    /// Slots above the settled mark that a lane may use.
    pub window: u64,
    /// Largest pack that travels inside a transaction, in bytes.
    pub inline_pack_bytes: usize,
    /// How long a request is worked on whose caller does not say how long.
    pub deadline: Duration,
}

/// The apply stage's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// Projects that are applied at the same time.
    pub workers: usize,
    /// Most transactions between two `syncfs`.
    pub batch: usize,
    /// Most bytes that wait in one project before it jumps to the refdb's state.
    pub parked_bytes: u64,
    /// Longest wait before the same.
    pub parked_age: Duration,
}

/// Who is alive. These decide when something is done, never whether it is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The pause between two heartbeats.
    pub heartbeat: Duration,
    /// A node whose heartbeat stands still for so long may be adopted.
    pub expires_after: Duration,
    /// A node that is away for so long is expelled, and nothing is kept for it.
    pub expelled_after: Duration,
}

/// The Gerrit beside this node, and how its index and caches learn what moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gerrit {
    /// How they learn it.
    pub refresh: GerritRefresh,
    /// The project of accounts and groups.
    pub all_users: ProjectName,
    /// The project that all others inherit from.
    pub all_projects: ProjectName,
    /// How long refreshing after this node's own commits waits: Gerrit does it itself.
    pub hold_own: Duration,
    /// How old may be what Gerrit's index has not written to the disk (its `index.*.commitWithin`).
    pub commit_within: Duration,
}

/// How a Gerrit learns what moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GerritRefresh {
    /// Not at all: there is none.
    None,
    /// The bridge in it asks for it.
    Bridge,
    /// By REST calls: there is no bridge in it.
    Rest(GerritRest),
}

/// Where a Gerrit's REST API is, and as whom it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GerritRest {
    /// `host:port`, on this machine.
    pub address: String,
    /// What its paths begin with: nothing, or `/gerrit`.
    pub prefix: String,
    /// The user.
    pub user: String,
    /// The file with the user's HTTP password or token.
    pub password_file: PathBuf,
    /// How long a call may take.
    pub timeout: Duration,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs and traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Where traces go (OTLP over HTTP); nowhere without it.
    pub otlp_endpoint: Option<String>,
    /// How logs are written.
    pub log_format: LogFormat,
    /// Which logs (`info,lockstep=debug`).
    pub log_filter: String,
}
