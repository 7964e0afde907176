//! Why a rebuild was refused, or failed. Each text names the next step.

use lockstep_proto::refdb_move::RefdbPlace;
use lockstep_proto::{NodeId, ProjectKey, RefKey, RefName, SiteId, TxnId};

use crate::seams::peers::PeerError;
use crate::seams::refdb::RefDbError;
use crate::seams::volume::StoreError;

/// Why a rebuild did not end with a new refdb.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RebuildError {
    /// The prefix is not one of table names.
    #[error("into {0:?} is not a prefix of tables: give 3 to 200 letters, digits, `-`, `_` or `.`")]
    BadPrefix(String),
    /// The prefix is that of the lost tables, or of tables before.
    #[error("into {0:?} is, or was, the prefix of a refdb of this installation: give one that was never used")]
    UsedPrefix(String),
    /// The refdb is not lost.
    #[error(
        "the refdb answers, and is not older than this node: nothing is lost. To move it to other tables on purpose, \
         give --move"
    )]
    RefDbLives,
    /// The refdb does not answer, and may live.
    #[error(
        "the refdb in the tables {tables} gives no answer to this node ({why}), but it may live: this node may lack a \
         permission, or ask in another Region or at another endpoint, and sites that reach it may commit there. If it \
         is lost for good, remove its tables or deny every site the access to them, and repeat the command with --lost"
    )]
    RefDbSilent {
        /// The prefix of the tables.
        tables: String,
        /// The failure of the call.
        why: String,
    },
    /// Sites or nodes that were not read may reach the refdb of the time before.
    #[error(
        "not read: {}; they may have the only copy of a commit, and may still commit into the old refdb. Start them \
         and mend the ways to them first. If they are gone, and the old tables too, or no site has access to them any \
         more, repeat the command with --lost",
        unread(.sites, .silent)
    )]
    MayCommit {
        /// The sites of which no node was read.
        sites: Vec<SiteId>,
        /// The peers that did not answer, with the reasons.
        silent: Vec<String>,
    },
    /// A run before has read nodes that this one does not read.
    #[error(
        "an unfinished run before this one has read {}, which this run does not: its writes may be half of a \
         transaction. Start these nodes with their volumes and repeat the command, or give another prefix",
        names(.0)
    )]
    KnowsLess(Vec<NodeId>),
    /// A node gives numbers above which no others fit.
    #[error(
        "node {0} gives numbers that cannot be raised; leave its site out with --from-sites, and repair its volume"
    )]
    BadNumbers(NodeId),
    /// No node that was read has a project.
    #[error("no node that was read has a project: there is nothing to rebuild; start with new tables and new volumes")]
    NothingFound,
    /// A node takes commits, so its refdb lives.
    #[error(
        "node {0} takes commits on the refdb, or did so within the last lease: it is not lost. If its tables were \
         removed just now, wait a moment; if this node alone does not reach it, mend that instead"
    )]
    TakesCommits(NodeId),
    /// Two nodes belong to refdbs neither of which was rebuilt from the other.
    #[error(
        "the volumes of {0} and {1} belong to refdbs that have nothing to do with each other; leave one of them out \
         with --from-sites"
    )]
    NotOneLine(NodeId, NodeId),
    /// No node of the given sites answered.
    #[error("no node of the given sites can be read; `lockstep peers` shows why they do not answer")]
    NoSource,
    /// Every node that answered was reconciling.
    #[error(
        "every node that answers was reconciling, or is new, so none has all refs; if another site can be reached, add \
         it; otherwise restore a backup of the tables"
    )]
    NobodyIsWhole,
    /// The tables hold a refdb that is complete.
    #[error(
        "the tables {table} hold refdb {id}, which is complete; if this rebuild made it, set refdb.prefix to {table:?} \
         at every node and restart them; otherwise give another prefix"
    )]
    Complete {
        /// The prefix of the tables.
        table: String,
        /// The id of the refdb.
        id: String,
    },
    /// The tables hold a refdb without an identity.
    #[error("the tables {0} are not empty, and not of a rebuild: give another prefix")]
    NotEmpty(String),
    /// Another node builds there.
    #[error(
        "node {0} builds the refdb in these tables; look at it with `lockstep refdb status` there. If that node is \
         gone, repeat the command with --take-over"
    )]
    OtherRun(NodeId),
    /// git cannot hold all refs of the result.
    #[error(
        "project {0}: {1} is a ref at one site, and the folder of refs at another one, so the version maps contradict \
         each other; leave one of the sites out with --from-sites"
    )]
    NamesExclude(ProjectKey, RefName),
    /// Another run has taken over.
    #[error("another run has taken over: nothing of this one is written any more")]
    Superseded,
    /// A version map changed while it was read.
    #[error("the version map of {0} changed while it was read: its node still applies; repeat the command")]
    Changed(NodeId),
    /// A node ended to answer.
    #[error("{}; repeat the command, or leave the site out with --from-sites", of_peer(.0))]
    Peer(PeerError),
    /// The refdb cannot move as it is.
    #[error("the refdb cannot move: {0}")]
    NotMovable(String),
    /// Another move is in progress.
    #[error("the refdb moves to the tables {0} already: repeat the command with that target, or abort that move first")]
    OtherMove(RefdbPlace),
    /// There is no move to abort.
    #[error("no move is in progress: there is nothing to abort")]
    NothingMoves,
    /// The point of no return is behind the move.
    #[error(
        "the refdb has moved to the tables {0}, and nodes may have committed there: it cannot be aborted. To go back, \
         move it again"
    )]
    HasMoved(RefdbPlace),
    /// A ref is locked although nothing can be committed any more.
    #[error("{key} of {project} is still locked by transaction {lock}, whose outcome is open; repeat the command")]
    Locked {
        /// The project with its incarnation.
        project: ProjectKey,
        /// The ref or pseudo-ref.
        key: RefKey,
        /// The transaction whose outcome is open.
        lock: TxnId,
    },
    /// The old or the new refdb failed.
    #[error("the refdb did not do its part: {0}; repeat the command")]
    RefDb(RefDbError),
    /// This node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The reason of a peer's silence, without the words about objects.
fn of_peer(error: &PeerError) -> String {
    match error {
        PeerError::NotNow(why) => why.clone(),
        PeerError::Missing(_) => error.to_string(),
    }
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}

fn unread(sites: &[SiteId], silent: &[String]) -> String {
    let sites = sites.iter().map(|site| format!("site {site}"));
    sites.chain(silent.iter().map(|peer| format!("peer {peer}"))).collect::<Vec<_>>().join("; ")
}

impl RebuildError {
    /// Whether the rebuild was refused as it is. A failure may pass, and a repetition goes on.
    pub(super) fn is_refusal(&self) -> bool {
        let may_pass = matches!(self, Self::Changed(_) | Self::Peer(_) | Self::RefDb(_) | Self::Store(_));
        !may_pass && !matches!(self, Self::Superseded | Self::Locked { .. })
    }
}
