//! The values of labels. They are enums, so that a metric has at most as many series as there are variants.

use lockstep_proto::bridge::{Outcome, RefusalCode};
use lockstep_proto::status::{CallerClass, ShedReason};

use crate::seams::git::GitError;

/// A value of a label.
pub(super) trait Label: Copy {
    /// The value in `/metrics`: lower case, words joined by underscores.
    fn text(self) -> &'static str;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl Label for $name {
            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

label!(
    /// The purpose of a refdb call.
    RefDbOp {
        /// The commit point: one conditional write of refs and slot.
        Commit = "commit",
        /// Setting and removing the ref locks of a transaction that is too large for one write.
        Lock = "lock",
        /// Strongly consistent reads of items.
        Read = "read",
        /// Reads of a project's items, or of all projects.
        Scan = "scan",
        /// Reads of a slot.
        Slot = "slot",
        /// Poisoning of a slot.
        Poison = "poison",
        /// Removal of slots that every node has applied.
        Collect = "collect",
        /// Writes of an incarnation's marks.
        Mark = "mark",
        /// Reads and changes of incarnation records: opening, freezing, draining, forgetting.
        Incarnation = "incarnation",
        /// Reads and changes of site records and of the Gerrit installation's record.
        Site = "site",
        /// Reads and changes of node records and of instance ids.
        Node = "node",
    }
);

label!(
    /// The end of a refdb call.
    CallEnd {
        /// The refdb answered. The answer "the condition does not hold" counts as one.
        Answered = "answered",
        /// Another write to the same items was in progress. This call changed nothing.
        Conflict = "conflict",
        /// The refdb was throttled or unreachable. Nothing was changed.
        NotNow = "not_now",
        /// No answer came. The call may have taken effect.
        Unknown = "unknown",
        /// The refdb refused the call. A retry does not help.
        Broken = "broken",
    }
);

label!(
    /// A call of the blob store.
    BlobCall {
        /// A blob was stored.
        Put = "put",
        /// A blob was fetched.
        Get = "get",
        /// A blob was removed.
        Delete = "delete",
    }
);

label!(
    /// The outcome of a transaction at this node.
    ApplyOutcome {
        /// Applied from the event log.
        Applied = "applied",
        /// Skipped, because it is not newer than the local state.
        Skipped = "skipped",
        /// Applied out of the event log's order, from the journal or the refdb, because something was missing.
        CaughtUp = "caught_up",
        /// Parked: it waits for something that has not arrived.
        Parked = "parked",
        /// Quarantined: its content is bad.
        Quarantined = "quarantined",
    }
);

label!(
    /// An operation on a repository.
    GitOp {
        /// Packing objects for other sites.
        Pack = "pack",
        /// Checking packs and adding their objects.
        Ingest = "ingest",
        /// Moving refs to committed values.
        MoveRefs = "move_refs",
        /// Making the repositories durable.
        Sync = "sync",
        /// Repairing the leftovers of a crash.
        Repair = "repair",
    }
);

impl Label for CallerClass {
    fn text(self) -> &'static str {
        self.name()
    }
}

impl Label for ShedReason {
    fn text(self) -> &'static str {
        self.name()
    }
}

impl Label for Outcome {
    fn text(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::CommittedNotYetVisible => "committed_not_yet_visible",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

impl Label for RefusalCode {
    fn text(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::NonFastForward => "non_fast_forward",
            Self::MissingObject => "missing_object",
            Self::NameConflict => "name_conflict",
            Self::Locked => "locked",
            Self::Transaction => "transaction",
            Self::Project => "project",
            Self::NotServing => "not_serving",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Label for &GitError {
    fn text(self) -> &'static str {
        match self {
            GitError::NoRepository(_) => "no_repository",
            GitError::Missing { .. } => "missing",
            GitError::Damaged { .. } => "damaged",
            GitError::Bad { .. } => "bad",
            GitError::Flawed { .. } => "flawed",
            GitError::RefMoved { .. } => "ref_moved",
            GitError::Failed { .. } => "failed",
        }
    }
}
