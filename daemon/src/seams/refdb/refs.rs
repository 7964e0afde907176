//! Refs and their commits: the part of the refdb that decides the value of a ref.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{
    Command, ProjectKey, ProjectName, RefKey, RefName, RefValue, Transaction, TxnId, Version, limits,
};

use super::error::RefDbError;
use super::journal::SlotState;

/// The item of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefItem {
    /// The ref or pseudo-ref.
    pub key: RefKey,
    /// The version. [`Version::NONE`] if only a directory mark or a lock created the item.
    pub version: Version,
    /// The value. Absent for a tombstone.
    pub value: RefValue,
    /// The transaction that gave this version. None for [`Version::NONE`].
    pub txn: Option<TxnId>,
    /// Whether the name is marked as a directory. If so, no ref of this very name can be created, unless the mark was
    /// loosened.
    pub directory: bool,
    /// The transaction that loosened the mark, if nobody has marked the name again since then. It is the latest
    /// transaction of the ref.
    pub loosened: Option<TxnId>,
    /// The transaction that has locked the ref, if there is one. If it is committed, it decides the value of the ref.
    pub lock: Option<TxnId>,
}

/// A transaction on its way to the refdb. Its bytes are encoded once.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// The transaction to commit.
    pub transaction: Transaction,
    /// The bytes for the slot: `transaction.encode()`.
    pub encoded: Bytes,
    /// Names that must not be live and become directories: the proper prefixes of created refs that this node has not
    /// seen marked yet. Sorted, no duplicates, none of them a command's own ref.
    pub directories: Vec<RefName>,
    /// Created refs whose names may be marked as directories, each with the transaction that loosened its mark. The
    /// caller knows that no node relies on that mark any more, and that no ref below the name is live or locked.
    pub freed: Freed,
    /// The token of the operator lock under which the transaction is committed, if there is one. The lock must be held
    /// at the commit point: the document [`Document::Locks`](super::Document::Locks) contains it.
    pub lock_token: Option<String>,
}

/// Names whose marks end with a commit, each with the transaction that loosened its mark.
pub type Freed = BTreeMap<RefName, TxnId>;

/// A part of a transaction that is committed under locks. It has at most as many items as one write takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The id of the transaction.
    pub txn: TxnId,
    /// The project of the transaction.
    pub project: ProjectKey,
    /// Some commands of the transaction.
    pub commands: Vec<Command>,
    /// Some directories of the transaction, as in [`CommitRequest`].
    pub directories: Vec<RefName>,
    /// The freed names of the transaction, as in [`CommitRequest`].
    pub freed: Freed,
    /// Whether the only command of the transaction loosens the mark of its name.
    pub loosens: bool,
}

/// The answer to one copy of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// The write took effect. It is true everywhere.
    Committed,
    /// This copy did nothing, because of every obstacle in the list, which is never empty.
    Refused(Vec<Obstacle>),
    /// This copy did nothing, because another write to one of the items was in progress. Try again.
    Conflict,
}

/// An obstacle that a commit met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The slot is occupied: by this very transaction (an earlier copy landed), by another one, or by poison.
    Slot(SlotState),
    /// The ref does not have the version, value and transaction that the command builds on. This is final: versions
    /// never go back.
    Stale(RefItem),
    /// The item is locked by another transaction.
    Locked(RefItem),
    /// The ref's own name is marked as a directory: refs exist, or existed, below it. Nobody has freed the name for
    /// this commit.
    IsDirectory(RefName),
    /// A proper prefix of a created name is a live ref.
    PrefixIsLive(RefName),
    /// The operator lock under whose token the commit was sent is not held. This is final: a token never comes back.
    LockNotHeld,
}

/// Reads refs, and commits transactions.
#[async_trait]
pub trait RefStore: Send + Sync {
    /// The most items that one write takes. A store without transactions takes one, and then every transaction is
    /// committed under locks: [`RefStore::commit`] fails, and a part has one item.
    fn write_items(&self) -> usize {
        limits::WRITE_COMMANDS + 1
    }

    /// Whether a write can check that an operator lock is held. If not, no transaction is committed under a lock, and
    /// nobody acquires one.
    fn checks_locks(&self) -> bool {
        self.write_items() > 1
    }

    /// The commit point: one round trip, for any number of refs.
    ///
    /// It succeeds if all of this holds: for every command the item has version `command.version - 1`, value
    /// `command.old`, transaction `command.predecessor` and no lock; no created ref (`old` absent, `new` not) is marked
    /// as a directory, unless the transaction that `freed` names has loosened the mark; no name in `directories` is
    /// live; the operator lock of `lock_token` is held, if there is a token; and the slot is empty. Then every item of
    /// a command gets its new value, version and transaction, every directory its mark, no longer loosened, and the
    /// slot the bytes. A created ref loses its mark. If the transaction loosens its name, the name is marked, and the
    /// mark is loosened.
    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError>;

    /// Whether this transaction is committed in several steps. If so, an attempt that did not succeed may have left
    /// locks. Its slot must then be committed or poisoned; it is not free for another transaction.
    fn commits_in_steps(&self, _transaction: &Transaction) -> bool {
        false
    }

    /// Locks the refs of a part for its transaction, and marks its directories, all or nothing. The obstacles are those
    /// of a commit, except for the slot and for a lock of this very transaction.
    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError>;

    /// The commit point of a transaction under locks. Writes it into its slot if the slot is empty, and returns the
    /// content of the slot, which is never [`SlotState::Empty`].
    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError>;

    /// The commit point of a transaction under ref locks that is committed under an operator lock. As
    /// [`RefStore::seal`], if the lock with this token is held. If it is not, nothing is written, and an empty slot is
    /// returned as [`SlotState::Empty`]. So it is if the store checks no locks.
    async fn seal_held(&self, txn: &TxnId, encoded: &Bytes, token: &str) -> Result<SlotState, RefDbError>;

    /// Moves the refs of a part that carry the lock of its transaction, and removes the locks. The transaction must be
    /// committed. Once this is answered, none of the refs carries the lock. If the transaction loosens its name, the
    /// name is marked, and the mark is loosened.
    async fn flip(&self, part: &Part) -> Result<(), RefDbError>;

    /// Removes the locks of a transaction from these refs. The transaction must be one that can never be committed.
    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError>;

    /// Reads items with strong consistency, in the order of `keys`. `None` where there is no item.
    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError>;

    /// Reads the items of a project with strong consistency, in key order, tombstones included: at most `limit` items,
    /// after `after`. Fewer than `limit` items mean that there are no more. The `@state` item is not among them: it
    /// belongs to the name, not to the incarnation ([`RefStore::projects`], [`RefStore::read`]).
    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError>;

    /// The `@state` items of all projects after `after`, in the order of their names, at most `limit`.
    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError>;
}

/// Ends the locks of committed transactions.
#[async_trait]
pub trait FinishLocks: Send + Sync {
    /// Makes sure that no ref carries the lock of a committed transaction any more. Called before the slot of the
    /// transaction is collected.
    ///
    /// # Errors
    /// An error of the refdb. The slot must then stay.
    async fn finish(&self, transaction: &Transaction) -> Result<(), RefDbError>;
}
