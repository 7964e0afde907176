//! Bugs that a test injects on purpose, to prove that the simulator finds them.
//!
//! Each one is at a place where the obvious design goes wrong. Without the feature `failpoints` (in the production
//! image) [`InjectedBugs::has`] is the constant `false`, and the compiler removes every injected bug.

/// A bug that a test can inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InjectedBug {
    /// An attempt whose answer was lost is sent again under another id.
    ResendOtherBytes,
    /// The checkpoint moves before the transactions below it are applied.
    CheckpointBeforeApply,
    /// Refs move before their objects are in the repository.
    RefsBeforeObjects,
    /// A failed read counts as "absent".
    ErrorAsAbsent,
    /// A child shard is read before its parents are read to their ends.
    ChildBeforeParent,
    /// The commit compares values, not versions.
    ValueWithoutVersion,
    /// The settled mark passes a slot whose outcome is unknown.
    SettledOverUnresolved,
    /// Adoption does not poison the window.
    WindowNotPoisoned,
    /// A node does not read its own site's stream.
    OwnStreamSkipped,
    /// Catching up applies only some refs of a transaction.
    BatchCaughtUpInPart,
    /// A pack whose base is missing counts as bad content.
    MissingBaseIsBad,
    /// Names that exclude each other are not checked at commit.
    NameConflictCommitted,
    /// The journal is collected above the low-water mark of a slow node.
    CollectBelowSlowNode,
    /// A deletion forgets the version of the ref.
    TombstoneForgotten,
    /// A pack leaves out objects that another, uncommitted push brought.
    PackAgainstUncommitted,
    /// A node that was paused goes on although it was fenced meanwhile.
    PausedNodeGoesOn,
    /// A fenced node opens an incarnation against the role and epoch of its site.
    FencedReopens,
    /// A commit is answered "refused" while a copy of the attempt is in transit.
    RefusedInFlight,
    /// The version map is durable before the moved refs are.
    MapBeforeRefs,
    /// The move of a ref is durable before its refresh mark is.
    MarkAfterMap,
    /// An acknowledgement also ends refresh marks that were made after the task was handed out.
    AckForgetsNewer,
    /// Commits that come from the node's own Gerrit leave no refresh mark.
    OwnNotRefreshed,
    /// Tasks that a Gerrit acknowledged, and whose work it lost when it died, are not handed out again.
    AckedNotKept,
    /// A stream event is delivered before its refs are applied.
    EventBeforeRefs,
    /// The checkpoint passes a stream event that is not durable.
    CheckpointBeforeEvent,
    /// A lock is released although its transaction may still be committed.
    OpenLockTaken,
    /// A read returns the item of a locked ref, although the lock's transaction is committed and has moved the ref.
    LockNotRead,
    /// A slot is collected although refs still carry its lock.
    LockOutlivesSlot,
    /// Locks are released while the slot of their transaction is empty, and not poisoned.
    ReleasedUnpoisoned,
    /// A name that a lock is about to create as a ref is marked as a directory.
    LockedNameMarked,
    /// The look below a loosened name is taken before every node has forgotten its mark.
    LookBeforeBarrier,
    /// A new incarnation goes by the directory marks that the last one remembered.
    MarksOutliveIncarnation,
    /// The published mark passes records that the event log did not take.
    MarkPassesRefused,
    /// Heartbeats wait until the journals of dead incarnations are published.
    BeatWaitsForPublish,
    /// A transaction that the refdb throttles keeps its slot until its deadline.
    ThrottledKeepsSlot,
    /// The incarnations of a site that is down are left to its own nodes.
    NobodyElseAdopts,
    /// The origin commits objects that git cannot walk.
    OriginJudgesNothing,
    /// Receivers refuse objects that git can walk and somebody dislikes.
    ReceiversJudgeTaste,
    /// A node goes on against a refdb that is older than itself.
    OlderRefdbNotSeen,
    /// A volume that was put back to a snapshot goes on with the low-water marks of its node's record.
    SnapshotKeepsMarks,
    /// Committed requests are kept in memory alone.
    RequestsForgotten,
    /// A slot names a long form that is on its way to the blob store, to save a round trip.
    LongFormAfterSlot,
    /// A long form is deleted when its slot is in the event log, before every node has applied the transaction.
    LongFormDroppedEarly,
    /// A failover promotes its target while the source may still commit.
    PromotedUnsettled,
    /// A site is removed from the list of sites while it is active, and keeps its role.
    RemovedWhileActive,
    /// A slot is collected although a node holds its transaction as bad.
    HeldCollected,
    /// The record of an incarnation is removed although slots of it are left.
    LeftoverForgotten,
    /// A reader takes an answer with few records for the end of the shard.
    ShortReadIsEnd,
    /// A refdb that is being rebuilt lets nodes in before all of it is written.
    ReadyBeforeWhole,
    /// The digest of a project is not kept when a ref is deleted.
    DigestMissesDeletion,
    /// The digest that a node tells leaves out moves that are not durable yet.
    DigestMissesOverlay,
    /// A signature does not cover the objects of a transaction.
    PackNotSigned,
    /// A signature does not cover the versions, old values and predecessors of a transaction.
    VersionsNotSigned,
    /// A node that publishes for a dead one writes the transaction anew, without its signature.
    AdopterSignsNothing,
    /// A node takes records without a good signature although they are required.
    RequirementIgnored,
    /// A reader whose position the stream has forgotten goes on without what it missed.
    TrimSkipped,
    /// A commit is answered only when every node has applied it.
    CommitWaitsForSites,
    /// Refs are read with eventual consistency, so that each item may be as it was before its last change. The
    /// simulator injects this one in place of DynamoDB.
    EventualRead,
    /// A state transfer takes its scan for one moment, although transactions were committed meanwhile.
    TornScanTaken,
    /// A node that is behind the buffer of its sibling goes on at the oldest record there.
    SiblingSkipsGap,
    /// An autoscaler sets the number of shards although its step may not be written, or another node has written.
    ScaledUnwritten,
}

impl InjectedBug {
    /// Every bug that can be injected.
    pub const ALL: [Self; 61] = [
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
        Self::FencedReopens,
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
        Self::LookBeforeBarrier,
        Self::MarksOutliveIncarnation,
        Self::MarkPassesRefused,
        Self::BeatWaitsForPublish,
        Self::ThrottledKeepsSlot,
        Self::NobodyElseAdopts,
        Self::OriginJudgesNothing,
        Self::ReceiversJudgeTaste,
        Self::OlderRefdbNotSeen,
        Self::SnapshotKeepsMarks,
        Self::RequestsForgotten,
        Self::LongFormAfterSlot,
        Self::LongFormDroppedEarly,
        Self::PromotedUnsettled,
        Self::RemovedWhileActive,
        Self::HeldCollected,
        Self::LeftoverForgotten,
        Self::ShortReadIsEnd,
        Self::ReadyBeforeWhole,
        Self::DigestMissesDeletion,
        Self::DigestMissesOverlay,
        Self::PackNotSigned,
        Self::VersionsNotSigned,
        Self::AdopterSignsNothing,
        Self::RequirementIgnored,
        Self::TrimSkipped,
        Self::CommitWaitsForSites,
        Self::EventualRead,
        Self::TornScanTaken,
        Self::SiblingSkipsGap,
        Self::ScaledUnwritten,
    ];
}

/// The bug that a test has injected, if any. Outside of tests there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct InjectedBugs {
    #[cfg(feature = "failpoints")]
    injected: Option<InjectedBug>,
}

impl InjectedBugs {
    /// Switches one bug on, for the node that gets this set.
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

    /// Always `false` in this build.
    #[cfg(not(feature = "failpoints"))]
    #[inline(always)]
    #[must_use]
    pub fn has(self, _bug: InjectedBug) -> bool {
        false
    }
}
