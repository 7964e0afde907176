//! The slots of the journal, in the refdb's own table.

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{Slot, TxnId};

use super::error::RefDbError;

/// The content of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// The slot is empty.
    Empty,
    /// The slot is poisoned. It can never hold a transaction.
    Poisoned,
    /// The slot holds a committed transaction: its id and its encoded bytes.
    Committed(TxnId, Bytes),
}

/// Reads, poisons and collects slots. Only a commit fills them ([`RefStore::commit`](super::RefStore::commit)).
#[async_trait]
pub trait JournalStore: Send + Sync {
    /// Reads a slot with strong consistency.
    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError>;

    /// Poisons a slot if it is empty, and returns the content of the slot, which is never [`SlotState::Empty`].
    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError>;

    /// Removes committed slots that lie below every node's low-water mark. Poison stays.
    async fn collect(&self, slots: &[Slot]) -> Result<(), RefDbError>;
}
