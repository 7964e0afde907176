//! The facts that the checks look at. A fact that could not be seen says why: it is never taken for "in order".

use std::path::PathBuf;
use std::sync::Arc;

use lockstep_proto::doctor::{GerritSeen, SharedSettings};
use lockstep_proto::peer::PeerAnswer;

use crate::node::config::Settings;

/// Why a fact is not known, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotSeen(pub String);

impl NotSeen {
    /// A reason from any error.
    pub fn because(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// A fact, or why it is not known.
pub type Seen<T> = Result<T, NotSeen>;

/// Everything that the checks look at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The time of the look by this machine's clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// The configuration of the node.
    pub settings: Arc<Settings>,
    /// The user of the process, and the modes of the files that it makes.
    pub process: Seen<Process>,
    /// The folders of the node.
    pub folders: Vec<Folder>,
    /// The owners of files that the sidecar and its git must be able to replace: a sample.
    pub files: Vec<OwnedFile>,
    /// The certificate of the node. None without `[tls]`.
    pub certificate: Option<Seen<Certificate>>,
    /// The hosts that the configuration names.
    pub hosts: Vec<Host>,
    /// The words of `git --version`.
    pub git: Seen<String>,
    /// This machine's clock beside those of servers.
    pub servers: Vec<ServerClock>,
    /// Calls that were tried to see whether they are allowed.
    pub calls: Seen<Vec<CallTried>>,
    /// The changes that streams of sites need.
    pub streams: Seen<Vec<StreamComplaint>>,
    /// The peers, as each answers now.
    pub peers: Seen<Vec<PeerSeen>>,
    /// The programs of all nodes, by their digests in the refdb.
    pub programs: Seen<Vec<NodeProgram>>,
    /// The Gerrit of this node.
    pub gerrit: Seen<GerritSeen>,
    /// The settings of this node that all nodes should share.
    pub shared: SharedSettings,
}

/// The user of a process, and the modes of the files that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The effective user id.
    pub uid: u32,
    /// The mode bits that new files do not get.
    pub umask: u32,
}

/// A folder of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The setting that names it.
    pub setting: &'static str,
    /// The path of the folder.
    pub path: PathBuf,
    /// The mode of the folder, and whether this process may write into it.
    pub access: Seen<Access>,
    /// The space of its file system.
    pub space: Seen<Space>,
}

/// The right of this process to a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The permission bits of the folder.
    pub mode: u32,
    /// Whether this process may make and remove files in it.
    pub writes: bool,
}

/// The space of a file system: what is free and what there is of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free blocks, and all blocks.
    pub blocks: (u64, u64),
    /// Free inodes, and all inodes. A file system that does not count them has none.
    pub inodes: (u64, u64),
}

/// A file or folder with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The user id of its owner.
    pub uid: u32,
}

/// The certificate of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The names in it.
    pub names: Vec<String>,
    /// When it expires, in seconds since 1970.
    pub expires: i64,
    /// When the first of the trusted authorities expires, in seconds since 1970.
    pub trust_expires: i64,
    /// Why newer files cannot be used.
    pub problem: Option<String>,
}

/// A host that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name of the host.
    pub name: String,
    /// The setting that needs it.
    pub setting: String,
    /// Why its name leads to no address. None if it does.
    pub problem: Option<String>,
}

/// This machine's clock beside that of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerClock {
    /// The server, as an operator knows it.
    pub server: String,
    /// How far this machine's clock is ahead, in milliseconds; negative if it is behind. Exact to a second.
    pub ahead_ms: Seen<i64>,
}

/// A call that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallTried {
    /// The call, as an operator knows it.
    pub call: String,
    /// The reason why it failed. None if it is allowed.
    pub problem: Option<String>,
}

/// The change that a stream needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamComplaint {
    /// The site of the stream.
    pub site: String,
    /// The change, with the command that makes it.
    pub complaint: String,
}

/// A peer, as it answers now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSeen {
    /// Its name in the configuration.
    pub name: String,
    /// Its answer, if there is one.
    pub answer: Option<PeerAnswer>,
    /// Why there is none.
    pub problem: Option<String>,
    /// Its settings that all nodes should share.
    pub shared: Seen<SharedSettings>,
}

/// The program of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeProgram {
    /// The name of the node.
    pub node: String,
    /// The version of its program. Empty if its digest does not tell.
    pub program: String,
}

#[cfg(test)]
impl Facts {
    /// The facts of a node at which everything is in order. Tests break one of them.
    pub fn in_order() -> Self {
        use crate::node::config;

        let mut settings = config::parse(config::EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
        settings.gerrit.refresh = config::settings::GerritRefresh::Bridge;
        let access = Ok(Access { mode: 0o750, writes: true });
        let space = Ok(Space { blocks: (500, 1_000), inodes: (500, 1_000) });
        let path = PathBuf::from("/git");
        let shared = super::shared::shared_settings(&settings);
        let peer = PeerSeen { name: "muc-1-0".into(), answer: None, problem: None, shared: Ok(shared.clone()) };
        let own = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            now_ms: 1_800_000_000_000,
            settings: Arc::new(settings),
            process: Ok(Process { uid: 1_000, umask: 0o027 }),
            folders: vec![Folder { setting: "root", path: path.clone(), access, space }],
            files: vec![OwnedFile { path: path.join("p.git"), uid: 1_000 }],
            certificate: Some(Ok(Certificate {
                names: vec!["spiffe://lockstep/muc-1/muc-1-1".into()],
                expires: 1_800_000_000 + 90 * 86_400,
                trust_expires: 1_800_000_000 + 900 * 86_400,
                problem: None,
            })),
            hosts: vec![Host { name: "h".into(), setting: "peers.muc-1-0.url".into(), problem: None }],
            git: Ok("git version 2.47.3".into()),
            servers: vec![ServerClock { server: "DynamoDB".into(), ahead_ms: Ok(300) }],
            calls: Ok(vec![CallTried { call: "read of the table of refs".into(), problem: None }]),
            streams: Ok(Vec::new()),
            peers: Ok(vec![peer]),
            programs: Ok(vec![NodeProgram { node: "muc-1-1".into(), program: own.clone() }]),
            gerrit: Ok(GerritSeen { version: "3.13.5".into(), bridge: own, instance_id: "a".into(), at_ms: 1 }),
            shared,
        }
    }
}
