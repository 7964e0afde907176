//! Bugs that a test injects on purpose, to prove that the simulator finds them.
//!
//! Each is a place where the obvious design goes wrong. Without the feature `failpoints` (the production image)
//! [`InjectedBugs::has`] is the constant `false` and the compiler removes every injected bug.

/// A bug that a test can inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InjectedBug {
    /// An attempt whose answer was lost is sent again under another id.
    ResendOtherBytes,
    /// The checkpoint moves before what it covers is applied.
    CheckpointBeforeApply,
    /// Refs move before their objects are there.
    RefsBeforeObjects,
    /// A failed read counts as "there is nothing".
    ErrorAsAbsent,
    /// A child shard is read before its parents are.
    ChildBeforeParent,
    /// The commit compares values, not versions.
    ValueWithoutVersion,
    /// The settled mark passes a slot whose fate is unknown.
    SettledOverUnresolved,
    /// Adoption does not poison the window.
    WindowNotPoisoned,
    /// A node does not read its own site's stream.
    OwnStreamSkipped,
    /// Catching up fetches one ref of a batch alone.
    BatchCaughtUpInPart,
    /// A pack whose base is missing counts as bad content.
    MissingBaseIsBad,
    /// Names that exclude each other are not checked at commit.
    NameConflictCommitted,
    /// The journal is collected below a node that is behind.
    CollectBelowSlowNode,
    /// A deletion forgets the version.
    TombstoneForgotten,
    /// A pack leaves out objects that another, uncommitted push brought.
    PackAgainstUncommitted,
    /// A node that was paused goes on without looking whether it was fenced.
    PausedNodeGoesOn,
    /// A fenced node opens an incarnation without asking for the site's epoch.
    FencedReborn,
    /// "Refused" is said while a copy of the attempt is in flight.
    RefusedInFlight,
    /// The version map is durable before the refs are.
    MapBeforeRefs,
    /// That a ref moved is durable before it is that Gerrit has to look at it.
    MarkAfterMap,
    /// An acknowledgement takes what moved meanwhile for done.
    AckForgetsNewer,
    /// What Gerrit did itself is not looked at again.
    OwnNotRefreshed,
    /// What a Gerrit acknowledged, and lost when it died, is not given to it again.
    AckedNotKept,
    /// A stream event is heard before its refs are applied.
    EventBeforeRefs,
    /// The checkpoint passes a stream event that is not durable.
    CheckpointBeforeEvent,
    /// A lock whose transaction may be committed yet is taken away.
    OpenLockTaken,
    /// A read takes a locked ref for what its item says, although the lock's transaction is committed.
    LockNotRead,
    /// A slot is collected although refs carry its lock.
    LockOutlivesSlot,
    /// Locks are taken away while the slot of their transaction is empty.
    ReleasedUnpoisoned,
    /// A name that is about to be a ref becomes a directory.
    LockedNameMarked,
}

impl InjectedBug {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::ResendOtherBytes,
        Self::CheckpointBeforeApply,
        Self::RefsBeforeObjects,
        Self::ErrorAsAbsent,
        Self::ChildBeforeParent,
        Self::ValueWithoutVersion,
        Self::SettledOverUnresolved,
        Self::WindowNotPoisoned,
        Self::OwnStreamSkipped,
        Self::BatchCaughtUpInPart,
        Self::MissingBaseIsBad,
        Self::NameConflictCommitted,
        Self::CollectBelowSlowNode,
        Self::TombstoneForgotten,
        Self::PackAgainstUncommitted,
        Self::PausedNodeGoesOn,
        Self::FencedReborn,
        Self::RefusedInFlight,
        Self::MapBeforeRefs,
        Self::MarkAfterMap,
        Self::AckForgetsNewer,
        Self::OwnNotRefreshed,
        Self::AckedNotKept,
        Self::EventBeforeRefs,
        Self::CheckpointBeforeEvent,
        Self::OpenLockTaken,
        Self::LockNotRead,
        Self::LockOutlivesSlot,
        Self::ReleasedUnpoisoned,
        Self::LockedNameMarked,
    ];
}

/// Which bugs are injected: none, outside of tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct InjectedBugs {
    #[cfg(feature = "failpoints")]
    injected: Option<InjectedBug>,
}

impl InjectedBugs {
    /// Injects one bug.
    #[cfg(feature = "failpoints")]
    #[must_use]
    pub fn only(bug: InjectedBug) -> Self {
        Self { injected: Some(bug) }
    }

    /// Whether this bug is injected.
    #[cfg(feature = "failpoints")]
    #[must_use]
    pub fn has(self, bug: InjectedBug) -> bool {
        self.injected == Some(bug)
    }

    /// Whether this bug is injected: never, in this build.
    #[cfg(not(feature = "failpoints"))]
    #[inline(always)]
    #[must_use]
    pub fn has(self, _bug: InjectedBug) -> bool {
        false
    }
}
