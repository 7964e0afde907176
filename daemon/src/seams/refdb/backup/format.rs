//! The lines of a backup: one JSON object each. The first one is the head, and the last one is the end.
//!
//! A later release may add kinds of lines and fields. It raises [`FORMAT`] if a reader of this release would
//! misunderstand them.

use lockstep_proto::rebuild::KnownSite;
use lockstep_proto::{NodeId, ProjectKey, ProjectName, RefKey, RefValue, SiteId, TxnId, Version};
use serde::{Deserialize, Serialize};

use crate::seams::refdb::{Document, IncarnationRecord, RefItem};

/// The format of the files that this release writes, and the newest one that it reads.
pub const FORMAT: u32 = 1;
/// This release, as the head of a backup names it.
pub(super) const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// The longest line, in bytes. The largest item of DynamoDB is 400 KiB, and JSON in JSON doubles quotes.
pub(super) const LONGEST_LINE: u64 = 4 << 20;

/// A line of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The first line of the file.
    Head(Head),
    /// A document of the installation, as it is stored.
    Document {
        /// The document that was read.
        which: Document,
        /// The number of its writes.
        revision: u64,
        /// Its text, as it is stored.
        body: String,
    },
    /// A ref, a pseudo-ref, or a name that is a directory.
    Ref(BackedUpRef),
    /// A site with its role and epoch.
    Site(KnownSite),
    /// A node of a site.
    Node {
        /// The name of the node.
        node: NodeId,
        /// The site of the node.
        site: SiteId,
        /// The id of its volume.
        volume: String,
        /// The highest number of an incarnation that it has had.
        highest: u64,
        /// Whether it is expelled.
        expelled: bool,
    },
    /// An incarnation that is not forgotten.
    Incarnation(IncarnationRecord),
    /// The identity of the installation's Gerrit.
    Gerrit {
        /// The server id of it.
        server_id: String,
        /// The project from which all others inherit.
        all_projects: ProjectName,
        /// The project of accounts and groups.
        all_users: ProjectName,
    },
    /// An instance id of a Gerrit.
    Instance {
        /// The instance id of it.
        id: String,
        /// The node that has it.
        node: NodeId,
    },
    /// The last line of the file.
    End(End),
}

/// The first line of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The format of the file.
    pub format: u32,
    /// The release that wrote it.
    pub release: String,
    /// The id of the refdb.
    pub refdb: String,
    /// When it was begun, in milliseconds since 1970.
    pub began_ms: u64,
}

/// A ref with its version, as it was read in one read. Two refs may have been read at different moments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUpRef {
    /// The project and its incarnation.
    pub project: ProjectKey,
    /// The ref or pseudo-ref.
    pub key: RefKey,
    /// The version of its value.
    pub version: Version,
    /// The value at that version.
    pub value: RefValue,
    /// The transaction that gave this version. None for a directory alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<TxnId>,
    /// Whether the name is marked as a directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub directory: bool,
    /// The transaction that loosened the mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loosened: Option<TxnId>,
    /// The transaction that had locked the ref, and may be committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<TxnId>,
}

impl BackedUpRef {
    pub(super) fn of(project: &ProjectKey, item: RefItem) -> Self {
        let RefItem { key, version, value, txn, directory, loosened, lock } = item;
        Self { project: project.clone(), key, version, value, txn, directory, loosened, lock }
    }

    /// The item of the refdb, with its project.
    #[must_use]
    pub fn item(self) -> (ProjectKey, RefItem) {
        let Self { project, key, version, value, txn, directory, loosened, lock } = self;
        (project, RefItem { key, version, value, txn, directory, loosened, lock })
    }
}

/// The last line of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The numbers of lines by their kind.
    pub counts: Counts,
    /// The SHA-256 of all bytes before this line, in hexadecimal digits.
    pub sha256: String,
}

/// The numbers of lines by their kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Documents of the installation.
    pub documents: u64,
    /// Projects, deleted ones included.
    pub projects: u64,
    /// Refs and `HEAD`s with a value.
    pub refs: u64,
    /// Deleted refs, names that are directories alone, and projects whose creation is under way or has failed.
    pub others: u64,
    /// Refs that a transaction had locked. They are also among `refs` or `others`.
    pub locked: u64,
    /// Sites, removed ones included.
    pub sites: u64,
    /// Nodes, expelled ones included.
    pub nodes: u64,
    /// Incarnations that are not forgotten.
    pub incarnations: u64,
    /// The identity of the Gerrit, and its instance ids.
    pub gerrit: u64,
}

impl Counts {
    /// Counts a line of the file.
    pub(super) fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::Head(_) | Entry::End(_) => {}
            Entry::Document { .. } => self.documents += 1,
            Entry::Ref(one) => {
                self.locked += u64::from(one.lock.is_some());
                match &one.value {
                    _ if one.key == RefKey::State && one.txn.is_some() => self.projects += 1,
                    RefValue::Absent => self.others += 1,
                    RefValue::Oid(_) | RefValue::Symref(_) | RefValue::State(_) => self.refs += 1,
                }
            }
            Entry::Site(_) => self.sites += 1,
            Entry::Node { .. } => self.nodes += 1,
            Entry::Incarnation(_) => self.incarnations += 1,
            Entry::Gerrit { .. } | Entry::Instance { .. } => self.gerrit += 1,
        }
    }
}
