//! The rules that a record or a stream event can break, beyond those of its encoding.

use crate::limits;
use crate::name::{ProjectKey, ProjectName};
use crate::slot::{TxnId, Version};
use crate::value::{RefKey, RefValue};

/// The defect of a message for reflogs, as the end of a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The message has this length in bytes, which is too long.
    #[error("is {0} bytes long; give at most {max}", max = limits::MESSAGE_BYTES)]
    Length(usize),
    /// The message contains this control character.
    #[error("contains {0:?}; give one line without control characters")]
    Control(char),
}

/// The first rule that a transaction, an announcement or a stream event breaks. No retry helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleBroken {
    /// A field by its number: its length in bytes, and the longest that is allowed.
    #[error("field {0} is {1} bytes long, at most {2} are allowed")]
    FieldLength(u32, u64, usize),
    /// The number of entries of a repeated field, its name, and the most that are allowed.
    #[error("it has {0} {1}, at most {2} are allowed")]
    Entries(usize, &'static str, usize),
    /// A transaction has this number of commands: none, or too many.
    #[error("it has {0} commands, 1 to {max} are allowed", max = limits::COMMANDS)]
    Commands(usize),
    /// A transaction is in the last slot of its lane.
    #[error("{0}: no slot can follow its slot")]
    LastSlot(TxnId),
    /// Two commands of a transaction are about this key.
    #[error("{0} occurs twice")]
    Twice(RefKey),
    /// A transaction that loosens a name has this number of commands.
    #[error("it loosens a name and has {0} commands; it must have one")]
    LoosensCommands(usize),
    /// A transaction that loosens a name changes this key, or has objects.
    #[error("it loosens {0}, and is no step of a ref from absent to absent")]
    Loosens(RefKey),
    /// The first version of a key has a predecessor, or a later one has none.
    #[error("{0}: version {1} does not fit its predecessor")]
    Predecessor(RefKey, Version),
    /// A key has the last version of all.
    #[error("{0}: no version can follow version {1}")]
    LastVersion(RefKey, Version),
    /// The predecessor of a key is the transaction that holds it.
    #[error("{0}: the transaction is its own predecessor")]
    OwnPredecessor(RefKey),
    /// The first version of a key has an old value.
    #[error("{0}: the first version has an old value")]
    OldValue(RefKey),
    /// A key has a value of another kind than its own.
    #[error("{0}: it cannot have the value {1}")]
    Value(RefKey, RefValue),
    /// The message of a transaction has a defect.
    #[error("its message {0}")]
    Message(MessageError),
    /// A text of a stream event, by its field: its length in bytes. It is empty or too long.
    #[error("{0} is {1} bytes long; give 1 to {max}", max = limits::EVENT_TEXT_BYTES)]
    TextLength(&'static str, usize),
    /// A stream event names this number of refs, which is too many.
    #[error("refs has {0} entries; name at most {max}: the ones that a listener needs first", max = limits::EVENT_REFS)]
    EventRefs(usize),
    /// A stream event has refs or a change, and no project.
    #[error("project is missing, but refs or change is given: name the project")]
    EventProject,
    /// The body of a stream event has this length in bytes, which is too long.
    #[error("body is {0} bytes long; at most {max} are forwarded", max = limits::EVENT_BODY_BYTES)]
    EventBody(usize),
    /// The body of a stream event is JSON of another kind.
    #[error("body is not a JSON object; send the event's JSON")]
    EventBodyKind,
    /// The body of an announcement has this length in bytes, which is too long.
    #[error("its body is {0} bytes long, at most {max} are allowed", max = limits::EVENT_BODY_BYTES)]
    Body(usize),
    /// An announcement has needs or a change, and no project.
    #[error("it has needs or a change, and no project")]
    NoProject,
    /// The carrier of an announcement has another name than its project.
    #[error("{0} carries an event of {1:?}")]
    Carrier(ProjectName, Option<ProjectKey>),
    /// The first key of an announcement stands behind the second, and does not sort after it.
    #[error("{0} does not sort after {1}")]
    Order(RefKey, RefKey),
    /// An announcement needs version 0 of a key.
    #[error("{0}: the needed version is 0, versions count from 1")]
    NeedsNothing(RefKey),
}
