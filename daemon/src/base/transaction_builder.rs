//! The builder of transactions in unit tests. A test names the fields that it is about. The others are those of a node
//! `n` of site `s` that commits to project `p#1`.

use lockstep_proto::{Command, RefValue, Transaction, TxnId};

/// A transaction whose fields a test may still name.
pub(crate) struct TransactionBuilder(Transaction);

impl TransactionBuilder {
    /// Begins the transaction of a slot in the only lane of the node's first incarnation.
    pub(crate) fn in_slot(seq: u64) -> Self {
        Self::of(format!("n.1.0.{seq}.00000000000000aa").parse().unwrap())
    }

    /// Begins a transaction with this id.
    pub(crate) fn of(id: TxnId) -> Self {
        Self(Transaction::empty(id, "s".parse().unwrap(), "p#1".parse().unwrap()))
    }

    /// Names the site that commits.
    pub(crate) fn site(self, site: &str) -> Self {
        Self(Transaction { site: site.parse().unwrap(), ..self.0 })
    }

    /// Names the project, with its incarnation: `p#1`.
    pub(crate) fn project(self, project: &str) -> Self {
        Self(Transaction { project: project.parse().unwrap(), ..self.0 })
    }

    /// Adds the creation of a branch. No repository has its value.
    pub(crate) fn creates(mut self, branch: &str) -> Self {
        let key = format!("refs/heads/{branch}").parse().unwrap();
        self.0.commands.push(Command::creation(key, RefValue::Oid("1".repeat(40).parse().unwrap())));
        self
    }

    /// The transaction. Struct update syntax names further fields.
    pub(crate) fn build(self) -> Transaction {
        self.0
    }
}
