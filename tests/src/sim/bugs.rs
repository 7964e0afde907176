//! Every injected bug and the properties that find it, as `docs/simulator.md` lists them.

use lockstep::base::faults::injected_bug::InjectedBug;

/// An injected bug, and how it is found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The bug, as `--bug` and the docs name it.
    pub bug: InjectedBug,
    /// The conditions under which it does harm.
    pub ingredient: &'static str,
    /// The properties that it may violate first. A violation of any other one is not due to this bug.
    pub properties: &'static [&'static str],
}

/// Every injected bug, in the order of [`InjectedBug::ALL`].
pub const FOUND: [Found; InjectedBug::ALL.len()] = [
    found(InjectedBug::ResendOtherBytes, "lost answers, late copies", &["answers", "slots", "durability"]),
    found(
        InjectedBug::CheckpointBeforeApply,
        "delays between reading and applying, parked predecessors",
        &["checkpoints"],
    ),
    found(InjectedBug::RefsBeforeObjects, "bases on other streams, slow disks", &["objects"]),
    found(InjectedBug::ErrorAsAbsent, "failing reads", &["answers"]),
    found(InjectedBug::ChildBeforeParent, "splits and merges while readers are paused or crashed", &["shards"]),
    found(InjectedBug::ValueWithoutVersion, "forced pushes back to old values, few refs, slow readers", &["chain"]),
    found(InjectedBug::SettledOverUnresolved, "lost requests and late copies past the deadline", &["marks", "forward"]),
    found(
        InjectedBug::WindowNotPoisoned,
        "crash or fence with late copies; a sibling or the successor drains",
        &["fencing"],
    ),
    found(InjectedBug::OwnStreamSkipped, "two nodes in one site", &["convergence"]),
    found(InjectedBug::BatchCaughtUpInPart, "changes (patch set + meta) under contention", &["batches"]),
    found(InjectedBug::MissingBaseIsBad, "commits of several sites on each other, one stream behind", &["held"]),
    found(InjectedBug::NameConflictCommitted, "clients that create `t`, `t/x`, `t/x/y`, `t/z`", &["names"]),
    found(InjectedBug::CollectBelowSlowNode, "pauses, cut links, early collection", &["collection"]),
    found(InjectedBug::TombstoneForgotten, "deletions, old records again", &["forward", "durability"]),
    found(
        InjectedBug::PackAgainstUncommitted,
        "pushes on top of pushes that were refused",
        &["objects", "convergence"],
    ),
    found(
        InjectedBug::PausedNodeGoesOn,
        "a pause longer than the lease, with a sibling awake; then life enough to use up the poisoned window",
        &["slots"],
    ),
    found(InjectedBug::FencedReopens, "fences; restarts while the role is not active", &["slots"]),
    found(InjectedBug::RefusedInFlight, "late copies against names that come and go", &["answers", "projects"]),
    found(InjectedBug::MapBeforeRefs, "any write of the version map", &["durability"]),
    found(
        InjectedBug::MarkAfterMap,
        "sidecars that die before Gerrit has looked; refs that do not move again",
        &["refresh"],
    ),
    found(InjectedBug::AckForgetsNewer, "changes that move while a slow Gerrit looks at them", &["refresh"]),
    found(InjectedBug::OwnNotRefreshed, "Gerrits that die between their commit and their index", &["refresh"]),
    found(InjectedBug::AckedNotKept, "Gerrits that die before their index is on the disk", &["refresh"]),
    found(
        InjectedBug::EventBeforeRefs,
        "transactions that are parked, or on another stream than the event",
        &["events"],
    ),
    found(InjectedBug::CheckpointBeforeEvent, "any durable step while events arrive", &["checkpoints"]),
    found(InjectedBug::OpenLockTaken, "commits under locks that meet each other", &["chain", "convergence"]),
    found(
        InjectedBug::LockNotRead,
        "last steps that fail; a node that reads such a ref before a commit meets its lock",
        &["answers", "chain", "hindsight"],
    ),
    found(
        InjectedBug::LockOutlivesSlot,
        "last steps that fail, on refs that the collector meets first",
        &["collection", "convergence"],
    ),
    found(
        InjectedBug::ReleasedUnpoisoned,
        "locks without an answer, late releases; another commit between the locks and the slot of a later copy",
        &["chain", "convergence", "marks", "hindsight"],
    ),
    found(InjectedBug::LockedNameMarked, "commits under locks against names below theirs", &["names"]),
    found(InjectedBug::LookBeforeBarrier, "clients that empty folders and create their names", &["names"]),
    found(
        InjectedBug::MarksOutliveIncarnation,
        "clients that empty folders and create their names; fences",
        &["names"],
    ),
    found(InjectedBug::MarkPassesRefused, "a shard that throttles for a while", &["marks", "convergence"]),
    found(InjectedBug::BeatWaitsForPublish, "a stream that is away while nodes die", &["availability"]),
    found(InjectedBug::ThrottledKeepsSlot, "a partition that throttles for a while", &["availability"]),
    found(InjectedBug::NobodyElseAdopts, "a site that is down for long", &["availability"]),
    found(InjectedBug::OriginJudgesNothing, "pushes of objects that git cannot walk", &["held"]),
    found(InjectedBug::ReceiversJudgeTaste, "pushes of odd objects that git can walk", &["held"]),
    found(
        InjectedBug::OlderRefdbNotSeen,
        "a refdb that is replaced by a backup while nodes run, crash and start",
        &["hindsight"],
    ),
    found(
        InjectedBug::SnapshotKeepsMarks,
        "volumes that are put back to an earlier state, on the same boot",
        &["marks"],
    ),
    found(
        InjectedBug::RequestsForgotten,
        "clients that repeat a request after a restart, when the journal is collected; values that come back",
        &["answers"],
    ),
    found(
        InjectedBug::LongFormAfterSlot,
        "transactions with a long form; a blob store that is slow, or away",
        &["slots"],
    ),
    found(
        InjectedBug::LongFormDroppedEarly,
        "transactions with a long form; pauses, cut links, early collection",
        &["collection"],
    ),
    found(
        InjectedBug::PromotedUnsettled,
        "failovers away from a node that is paused or cut off, before a lease ends its incarnation",
        &["fencing"],
    ),
    found(InjectedBug::RemovedWhileActive, "a list of sites that changes; operators who remove any site", &["fencing"]),
    found(InjectedBug::HeldCollected, "committed content that every node holds as bad", &["collection"]),
    found(
        InjectedBug::LeftoverForgotten,
        "collections that end in part; the only node that remembers what is left dies before its next try",
        &["collection"],
    ),
    found(InjectedBug::ShortReadIsEnd, "reads that give a few records at a time, crashes", &["readiness"]),
    found(
        InjectedBug::ReadyBeforeWhole,
        "a lost refdb; rebuilds that end early, and nodes that are started with the tables as they are",
        &["rebuild"],
    ),
    found(InjectedBug::DigestMissesDeletion, "deletions of refs", &["digests"]),
    found(InjectedBug::DigestMissesOverlay, "any move between two durable steps", &["digests"]),
    found(InjectedBug::PackNotSigned, "somebody who writes signed records with other objects into a stream", &["held"]),
    found(
        InjectedBug::VersionsNotSigned,
        "somebody who writes old signed records as new steps into a stream",
        &["durability", "forward", "batches"],
    ),
    found(InjectedBug::AdopterSignsNothing, "crashes of nodes whose journal is not published yet", &["held"]),
    found(
        InjectedBug::RequirementIgnored,
        "somebody who writes steps that fit their refs into a stream",
        &["durability", "forward", "batches", "held"],
    ),
    found(
        InjectedBug::TrimSkipped,
        "streams that forget records while nodes are paused, cut off or down",
        &["checkpoints", "readiness"],
    ),
    found(InjectedBug::CommitWaitsForSites, "a site that is down for long", &["availability"]),
    found(
        InjectedBug::EventualRead,
        "reads that show some items as they were a moment ago; clients that are behind",
        &["answers", "hindsight"],
    ),
    found(
        InjectedBug::TornScanTaken,
        "scans that take their time, at nodes that serve; transactions of several refs",
        &["batches"],
    ),
    found(
        InjectedBug::SiblingSkipsGap,
        "siblings that share reads, with small buffers; bursts of records, crashes",
        &["checkpoints", "readiness"],
    ),
    found(
        InjectedBug::ScaledUnwritten,
        "autoscalers whose writes are lost, or meet those of another node that looks",
        &["capacity"],
    ),
];

const fn found(bug: InjectedBug, ingredient: &'static str, properties: &'static [&'static str]) -> Found {
    Found { bug, ingredient, properties }
}

/// The entry of an injected bug.
///
/// # Panics
/// If the table has no entry for it.
#[must_use]
pub fn of(bug: InjectedBug) -> Found {
    FOUND.into_iter().find(|found| found.bug == bug).expect("the table names every bug")
}

/// The table of `docs/simulator.md`, as Markdown.
#[must_use]
pub fn table() -> String {
    let row = |found: &Found| {
        let properties: Vec<String> = found.properties.iter().map(|property| format!("`{property}`")).collect();
        format!("| `{:?}` | {} | {} |\n", found.bug, found.ingredient, properties.join(", "))
    };
    let head = "| injected bug | ingredient | checker |\n|---|---|---|\n".to_owned();
    FOUND.iter().map(row).fold(head, |table, row| table + &row)
}
