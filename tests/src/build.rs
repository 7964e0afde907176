//! Builders for tests: names from literals, and commits that follow an item.
//!
//! They panic on invalid names: such a literal is a mistake in the test.

use bytes::Bytes;
use lockstep::seams::refdb::{CommitRequest, Freed, RefItem};
use lockstep_proto::{
    Command, Incarnation, IncarnationId, Lane, NodeId, Oid, Pack, ProjectKey, ProjectName, RefKey, RefName, RefValue,
    Seq, SiteId, Slot, Transaction, TxnId,
};

/// Parses the name of a site.
pub fn site(name: &str) -> SiteId {
    name.parse().expect("a site name")
}

/// Parses the name of a node.
pub fn node(name: &str) -> NodeId {
    name.parse().expect("a node name")
}

/// Parses the name of a project.
pub fn project_name(name: &str) -> ProjectName {
    name.parse().expect("a project name")
}

/// Parses a project with its incarnation, such as `tools/build#1`.
pub fn project(key: &str) -> ProjectKey {
    key.parse().expect("a project key")
}

/// Parses the name of a ref.
pub fn ref_name(name: &str) -> RefName {
    name.parse().expect("a ref name")
}

/// Parses a key: the name of a ref, or a pseudo-ref.
pub fn key(name: &str) -> RefKey {
    name.parse().expect("a ref key")
}

/// A ref value for tests: an object id that contains the number.
pub fn value(number: u32) -> RefValue {
    let mut bytes = [7; 20];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    RefValue::Oid(Oid::Sha1(bytes))
}

/// The id of an incarnation of a node.
pub fn incarnation(node_name: &str, number: u64) -> IncarnationId {
    IncarnationId { node: node(node_name), number: Incarnation(number) }
}

/// The slot `seq` of lane 0 of `node-a`'s first incarnation.
pub fn slot(seq: u64) -> Slot {
    incarnation("node-a", 1).lane(Lane(0)).slot(Seq(seq))
}

/// A builder of commit requests.
#[derive(Clone, Debug)]
pub struct Commit {
    transaction: Transaction,
    directories: Vec<RefName>,
    freed: Freed,
    lock_token: Option<String>,
}

impl Commit {
    /// Begins a commit to `project` with the transaction id `id`.
    pub fn new(project: &ProjectKey, id: TxnId) -> Self {
        let transaction = Transaction {
            committed_at_ms: 1_800_000_000_000,
            request_id: "request".to_owned(),
            actor: "tester".to_owned(),
            ..Transaction::empty(id, site("site-a"), project.clone())
        };
        Self { transaction, directories: Vec::new(), freed: Freed::new(), lock_token: None }
    }

    /// Begins a commit to `project` in the [`slot`] `seq`.
    pub fn at(project: &ProjectKey, seq: u64) -> Self {
        Self::new(project, slot(seq).txn(0xc0ffee + seq))
    }

    /// Adds the first step of a ref, which was never committed before.
    #[must_use]
    pub fn first(mut self, name: &str, new: RefValue) -> Self {
        self.transaction.commands.push(Command::creation(key(name), new));
        self
    }

    /// Adds the next step of the ref of `item`.
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

    /// Adds any command, even one that does not fit.
    #[must_use]
    pub fn command(mut self, command: Command) -> Self {
        self.transaction.commands.push(command);
        self
    }

    /// Adds an inline pack of these bytes, which are no objects.
    #[must_use]
    pub fn pack(mut self, bytes: Vec<u8>) -> Self {
        self.transaction.pack = Pack::Inline(Bytes::from(bytes));
        self
    }

    /// Adds a name to be marked as a directory.
    #[must_use]
    pub fn directory(mut self, name: &str) -> Self {
        self.directories.push(ref_name(name));
        self.directories.sort();
        self
    }

    /// Adds a step of `item` from absent to absent, which loosens the mark of its name.
    #[must_use]
    pub fn loosen(mut self, item: &RefItem) -> Self {
        self.transaction.loosens = true;
        self.step(item, RefValue::Absent)
    }

    /// Takes a name for freed from the mark that `by` loosened.
    #[must_use]
    pub fn freed(mut self, name: &str, by: &TxnId) -> Self {
        self.freed.insert(ref_name(name), by.clone());
        self
    }

    /// Commits under the operator lock with this token.
    #[must_use]
    pub fn under(mut self, token: &str) -> Self {
        self.lock_token = Some(token.to_owned());
        self
    }

    /// Builds the request, with its encoded transaction.
    pub fn request(self) -> CommitRequest {
        let encoded = self.transaction.encode();
        let Self { transaction, directories, freed, lock_token } = self;
        CommitRequest { transaction, encoded, directories, freed, lock_token }
    }
}
