//! The values of labels: enums, so that no metric has more series than there are variants.

use lockstep_proto::bridge::{Outcome, RefusalCode};

use crate::seams::git::GitError;

/// A label's value.
pub(super) trait Label: Copy {
    /// As `/metrics` writes it: lower case, words joined by underscores.
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
    /// A call of the refdb, by what it is for.
    RefDbOp {
        /// The commit point.
        Commit = "commit",
        /// Locks of a transaction that is more than one write takes: set, and taken away.
        Lock = "lock",
        /// Strong reads of items.
        Read = "read",
        /// Reads of a project's items, or of all projects.
        Scan = "scan",
        /// Reads of a slot.
        Slot = "slot",
        /// Poison for a slot.
        Poison = "poison",
        /// Removal of slots that every node is past.
        Collect = "collect",
        /// An incarnation's marks.
        Mark = "mark",
        /// Births, freezes and ends of incarnations.
        Incarnation = "incarnation",
        /// Records of sites.
        Site = "site",
        /// Records of nodes.
        Node = "node",
    }
);

label!(
    /// How a call of the refdb ended.
    CallEnd {
        /// With an answer.
        Answered = "answered",
        /// With a conflict: another write was under way, this one did nothing.
        Conflict = "conflict",
        /// With "not now": throttled or unreachable, nothing was changed.
        NotNow = "not_now",
        /// Without an answer: it may have taken effect.
        Unknown = "unknown",
        /// With an error that no retry mends.
        Broken = "broken",
    }
);

label!(
    /// What became of a transaction at this node.
    ApplyOutcome {
        /// Applied from the event log.
        Applied = "applied",
        /// Not newer than what is here.
        Skipped = "skipped",
        /// Applied out of band, from journal or refdb, because something was missing.
        CaughtUp = "caught_up",
        /// It waits for something that has not arrived.
        Parked = "parked",
        /// Its content is bad.
        Quarantined = "quarantined",
    }
);

label!(
    /// An operation on a repository.
    GitOp {
        /// Packing objects for other sites.
        Pack = "pack",
        /// Checking packs and letting their objects join.
        Ingest = "ingest",
        /// Moving refs.
        MoveRefs = "move_refs",
        /// Making it durable.
        Sync = "sync",
        /// Mending what a crash left.
        Repair = "repair",
    }
);

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
            GitError::Bad { .. } => "bad",
            GitError::RefMoved { .. } => "ref_moved",
            GitError::Failed { .. } => "failed",
        }
    }
}
