//! The validated configuration. Code that has one of these values does not need to check it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_proto::{NodeId, ProjectName, SiteId};

use crate::base::base_paths::BasePaths;
use crate::seams::git::FsckObjects;

/// All settings of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of this site.
    pub site: SiteId,
    /// The name of this node, unique over all sites.
    pub node: NodeId,
    /// The names of all sites, this one included.
    pub sites: BTreeSet<SiteId>,
    /// The git volume: the root, and the base paths of projects that lie elsewhere.
    pub base_paths: BasePaths,
    /// The folder of the node's own state, on the git volume's file system.
    pub state: PathBuf,
    /// The listeners of the bridge API.
    pub api: Api,
    /// Whether new repositories get the git hooks (plain git servers).
    pub install_hooks: bool,
    /// Which pushes are held against the rules of git's `fsck`.
    pub fsck_objects: FsckObjects,
    /// The address that serves `/livez`, `/readyz` and `/metrics`.
    pub health_listen: SocketAddr,
    /// The tables of the refdb, and the timeouts of its calls.
    pub refdb: Refdb,
    /// The streams of the event log.
    pub eventlog: Eventlog,
    /// The blob store's URL (`s3://bucket/prefix`, `file:///folder`).
    pub blobs_url: String,
    /// The limits of the commit stage.
    pub commit: Commit,
    /// The limits of the apply stage.
    pub apply: Apply,
    /// Heartbeats, and the periods after which a silent node is adopted or expelled.
    pub lease: Lease,
    /// The Gerrit on this machine.
    pub gerrit: Gerrit,
    /// The format and filter of logs, and the collector of traces.
    pub telemetry: Telemetry,
    /// Other nodes' sidecars by name. Objects are requested from them in the order of their names.
    pub peers: BTreeMap<String, Peer>,
    /// The folder of the embedded emulators. If it is set, the node uses nothing outside of this machine.
    pub embedded_dir: Option<PathBuf>,
}

/// The listeners of the bridge API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The path of the Unix socket.
    pub socket: PathBuf,
    /// The path of the operators' Unix socket.
    pub operators_socket: PathBuf,
    /// The ids of the users that the operators' socket serves.
    pub operators: Vec<u32>,
    /// A loopback TCP address and the file with its tokens.
    pub tcp: Option<(SocketAddr, PathBuf)>,
    /// Number of requests in progress at most. Excess requests are refused, and may be retried.
    pub most_requests: NonZeroUsize,
}

/// The address of a peer's sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A Unix socket on this machine.
    Socket(PathBuf),
    /// `host:port`, and the file with a token of the peer.
    Tcp(String, PathBuf),
}

/// The tables of the refdb, and the timeouts of its calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refdb {
    /// Prefix of the tables' names.
    pub prefix: String,
    /// The AWS Region. If it is not set, the environment decides.
    pub region: Option<String>,
    /// The endpoint, if it is not the one of the Region.
    pub endpoint: Option<String>,
    /// Timeout of a connection attempt.
    pub connect_timeout: Duration,
    /// Timeout of one attempt of a call. A commit without an answer is then sent once more.
    pub attempt_timeout: Duration,
    /// Reads and writes per second for which new tables are prepared (DynamoDB's warm throughput).
    pub warm_throughput: Option<(u64, u64)>,
}

/// The streams of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eventlog {
    /// Prefix of the streams' names.
    pub prefix: String,
    /// Region and endpoint of each site's stream. Every site has an entry.
    pub streams: BTreeMap<SiteId, Stream>,
    /// Number of shards of a stream that this node creates.
    pub shards: u32,
    /// The pause between two reads of a shard.
    pub poll_interval: Duration,
    /// How long the streams should keep records. The sidecar checks it, and does not change it.
    pub retention: Duration,
}

/// Region and endpoint of one site's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The AWS Region. If it is not set, the environment decides.
    pub region: Option<String>,
    /// The endpoint, if it is not the one of the Region.
    pub endpoint: Option<String>,
}

/// The limits of the commit stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Number of lanes of an incarnation, 1 to 64.
    pub lanes: u8,
    /// Number of slots above its settled mark that a lane may use.
    pub window: u64,
    /// Size of the largest pack that travels inside a transaction, in bytes.
    pub inline_pack_bytes: usize,
    /// Deadline of a request whose caller gives none.
    pub deadline: Duration,
}

/// The limits of the apply stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// Number of projects that are applied concurrently.
    pub workers: usize,
    /// Number of transactions between two calls of `syncfs` at most.
    pub batch: usize,
    /// Bytes of parked transactions per project. Above this limit, the project gets a state transfer.
    pub parked_bytes: u64,
    /// How long a transaction may be parked. After that, its project gets a state transfer.
    pub parked_age: Duration,
}

/// Heartbeats and leases. These values decide when a step is taken. Safety never depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The pause between two heartbeats.
    pub heartbeat: Duration,
    /// A node without a heartbeat for this long may be adopted by another node of its site.
    pub expires_after: Duration,
    /// A node without a heartbeat for this long may be adopted by a node of any site.
    pub adopted_elsewhere_after: Duration,
    /// A node without a heartbeat for this long is expelled: nothing is kept for it any more.
    pub expelled_after: Duration,
}

/// The Gerrit on this machine, and the way in which its index and caches are refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gerrit {
    /// The way in which Gerrit's index and caches are refreshed.
    pub refresh: GerritRefresh,
    /// The project of accounts and groups.
    pub all_users: ProjectName,
    /// The project from which all others inherit.
    pub all_projects: ProjectName,
    /// The delay before a refresh after this node's own commits, because Gerrit refreshes these itself.
    pub hold_own: Duration,
    /// How long Gerrit may keep index updates in memory only (the longest `index.*.commitWithin`).
    pub commit_within: Duration,
}

/// The ways in which Gerrit's index and caches are refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GerritRefresh {
    /// There is no Gerrit, so nothing is refreshed.
    None,
    /// The bridge inside Gerrit asks the sidecar for refresh tasks.
    Bridge,
    /// The sidecar refreshes a Gerrit without the bridge by REST calls.
    Rest(GerritRest),
}

/// The REST API of a Gerrit, and the user of the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GerritRest {
    /// `host:port` on this machine.
    pub address: String,
    /// Prefix of the paths: empty, or for example `/gerrit`.
    pub prefix: String,
    /// The name of the user.
    pub user: String,
    /// The file with the user's HTTP password or token.
    pub password_file: PathBuf,
    /// Timeout of one call.
    pub timeout: Duration,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text that is easy to read.
    Text,
    /// One JSON object per line.
    Json,
}

/// The format and filter of logs, and the collector of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The address of the trace collector (OTLP over HTTP). Without it, no traces are sent.
    pub otlp_endpoint: Option<String>,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The filter of log lines (`info,lockstep=debug`).
    pub log_filter: String,
}
