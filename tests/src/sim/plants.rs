//! Which property finds which planted bug: what `docs/simulator.md` says, in one place.

use lockstep::base::faults::injected_bug::Plant;

/// A planted bug, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The bug.
    pub plant: Plant,
    /// What must happen for it to do harm.
    pub ingredient: &'static str,
    /// The properties that it may violate first; any other one is not its own.
    pub properties: &'static [&'static str],
}

/// Every planted bug, in the order of [`Plant::ALL`].
pub const FOUND: [Found; Plant::ALL.len()] = [
    found(Plant::ResendOtherBytes, "lost answers, late copies", &["answers", "slots", "durability"]),
    found(Plant::CheckpointBeforeApply, "delays between reading and applying, parked predecessors", &["checkpoints"]),
    found(Plant::RefsBeforeObjects, "bases on other streams, slow disks", &["objects"]),
    found(Plant::ErrorAsAbsent, "failing reads", &["answers"]),
    found(Plant::ChildBeforeParent, "splits and merges while readers are paused or crashed", &["shards"]),
    found(Plant::ValueWithoutVersion, "forced pushes back to old values, few refs, slow readers", &["chain"]),
    found(Plant::SettledOverUnresolved, "lost requests and late copies past the deadline", &["marks", "forward"]),
    found(Plant::WindowNotPoisoned, "crash or fence with late copies; a sibling or the successor drains", &["fencing"]),
    found(Plant::OwnStreamSkipped, "two nodes in one site", &["convergence"]),
    found(Plant::BatchCaughtUpInPart, "changes (patch set + meta) under contention", &["batches"]),
    found(Plant::MissingBaseIsBad, "commits of several sites on each other, one stream behind", &["held"]),
    found(Plant::NameConflictCommitted, "clients that create `t`, `t/x`, `t/x/y`, `t/z`", &["names"]),
    found(Plant::CollectBelowSlowNode, "pauses, cut links, early collection", &["collection"]),
    found(Plant::TombstoneForgotten, "deletions, old records again", &["forward"]),
    found(Plant::PackAgainstUncommitted, "pushes on top of pushes that were refused", &["objects", "convergence"]),
    found(Plant::PausedNodeGoesOn, "pause longer than the lease, or a fence meanwhile; the sibling drains", &["slots"]),
    found(Plant::FencedReborn, "fences; restarts while the role is not active", &["slots"]),
    found(Plant::RefusedInFlight, "late copies against names that come and go", &["answers", "projects"]),
    found(Plant::MapBeforeRefs, "any write of the version map", &["durability"]),
    found(Plant::MarkAfterMap, "sidecars that die; a Gerrit that is slow", &["refresh"]),
    found(Plant::AckForgetsNewer, "changes that move while a slow Gerrit looks at them", &["refresh"]),
    found(Plant::OwnNotRefreshed, "Gerrits that die between their commit and their index", &["refresh"]),
    found(Plant::AckedNotKept, "Gerrits that die before their index is on the disk", &["refresh"]),
    found(Plant::EventBeforeRefs, "transactions that are parked, or on another stream than the event", &["events"]),
    found(Plant::CheckpointBeforeEvent, "any durable step while events arrive", &["checkpoints"]),
    found(Plant::OpenLockTaken, "commits under locks that meet each other", &["chain"]),
    found(Plant::LockNotRead, "commits under locks whose last step fails; cut links", &["answers", "chain"]),
    found(Plant::LockOutlivesSlot, "commits under locks whose last step fails", &["collection"]),
    found(
        Plant::ReleasedUnpoisoned,
        "commits under locks that meet each other; late releases; last steps that fail",
        &["chain", "convergence", "marks"],
    ),
    found(Plant::LockedNameMarked, "commits under locks against names below theirs", &["names"]),
];

const fn found(plant: Plant, ingredient: &'static str, properties: &'static [&'static str]) -> Found {
    Found { plant, ingredient, properties }
}

/// What is said of a planted bug.
///
/// # Panics
/// When the table does not name it.
#[must_use]
pub fn of(plant: Plant) -> Found {
    FOUND.into_iter().find(|found| found.plant == plant).expect("the table names every plant")
}

/// The table of `docs/simulator.md`.
#[must_use]
pub fn table() -> String {
    let row = |found: &Found| {
        let properties: Vec<String> = found.properties.iter().map(|property| format!("`{property}`")).collect();
        format!("| `{:?}` | {} | {} |\n", found.plant, found.ingredient, properties.join(", "))
    };
    let head = "| planted bug | ingredient | checker |\n|---|---|---|\n".to_owned();
    FOUND.iter().map(row).fold(head, |table, row| table + &row)
}
