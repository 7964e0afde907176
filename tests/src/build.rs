//! Small builders: names from literals, and commits that follow what is there.
//!
//! They panic on names that break the rules: a test's literals are right or the test is wrong.

use lockstep::seams::refdb::{CommitRequest, RefItem};
use lockstep_proto::{
    Command, Incarnation, IncarnationId, Lane, NodeId, Oid, ProjectKey, ProjectName, RefKey, RefName, RefValue, Seq,
    SiteId, Slot, Transaction, TxnId, Version,
};

/// A site.
pub fn site(name: &str) -> SiteId {
    name.parse().expect("a site name")
}

/// A node.
pub fn node(name: &str) -> NodeId {
    name.parse().expect("a node name")
}

/// A project's name.
pub fn project_name(name: &str) -> ProjectName {
    name.parse().expect("a project name")
}

/// A project and its incarnation: `tools/build#1`.
pub fn project(key: &str) -> ProjectKey {
    key.parse().expect("a project key")
}

/// A ref's name.
pub fn ref_name(name: &str) -> RefName {
    name.parse().expect("a ref name")
}

/// A ref or pseudo-ref.
pub fn key(name: &str) -> RefKey {
    name.parse().expect("a ref key")
}

/// A value: an object id that tells the number.
pub fn value(number: u32) -> RefValue {
    let mut bytes = [7; 20];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    RefValue::Oid(Oid::Sha1(bytes))
}

/// An incarnation.
pub fn incarnation(node_name: &str, number: u64) -> IncarnationId {
    IncarnationId { node: node(node_name), number: Incarnation(number) }
}

/// A slot of lane 0 of `node-a`'s first incarnation.
pub fn slot(seq: u64) -> Slot {
    incarnation("node-a", 1).lane(Lane(0)).slot(Seq(seq))
}

/// A commit in the making.
#[derive(Clone, Debug)]
pub struct Commit {
    transaction: Transaction,
    directories: Vec<RefName>,
}

impl Commit {
    /// A commit to `project` under the id `id`.
    pub fn new(project: &ProjectKey, id: TxnId) -> Self {
        let transaction = Transaction {
            committed_at_ms: 1_800_000_000_000,
            request_id: "request".to_owned(),
            actor: "tester".to_owned(),
            ..Transaction::empty(id, site("site-a"), project.clone())
        };
        Self { transaction, directories: Vec::new() }
    }

    /// A commit to `project` in [`slot`] `seq`.
    pub fn at(project: &ProjectKey, seq: u64) -> Self {
        Self::new(project, slot(seq).txn(0xc0ffee + seq))
    }

    /// Moves a ref that was never committed.
    #[must_use]
    pub fn first(mut self, name: &str, new: RefValue) -> Self {
        let (key, old) = (key(name), RefValue::Absent);
        self.transaction.commands.push(Command { key, old, new, version: Version(1), predecessor: None });
        self
    }

    /// Moves a ref on from `item`.
    #[must_use]
    pub fn step(mut self, item: &RefItem, new: RefValue) -> Self {
        self.transaction.commands.push(Command {
            key: item.key.clone(),
            old: item.value.clone(),
            new,
            version: item.version.next(),
            predecessor: item.txn.clone(),
        });
        self
    }

    /// Adds any command.
    #[must_use]
    pub fn command(mut self, command: Command) -> Self {
        self.transaction.commands.push(command);
        self
    }

    /// Marks a name as a directory.
    #[must_use]
    pub fn directory(mut self, name: &str) -> Self {
        self.directories.push(ref_name(name));
        self.directories.sort();
        self
    }

    /// The request, encoded.
    pub fn request(self) -> CommitRequest {
        let encoded = self.transaction.encode();
        CommitRequest { transaction: self.transaction, encoded, directories: self.directories }
    }
}
