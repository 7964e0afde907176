//! Decides whether a stream gets more or fewer shards: a pure function of the state, the last look, and now.
//!
//! - **It grows fast.** One look above the target is enough. A step adds half of the shards at least, so that a rising
//!   load does not use up the changes of a day.
//! - **It shrinks slowly.** The load must have been low for a whole `settle_ms`: so low that a quarter of the shards
//!   can go, and that a fifth of the target stays free at the highest load of that time. So a step back is never
//!   followed by a step forth under the same load.
//! - **It keeps the rules of Kinesis**: at most to the double, at least to the half, ten changes in 24 hours. It
//!   shrinks only while [`FOR_GROWTH`] changes are left for growth afterwards.

#[cfg(test)]
mod tests;

use std::fmt;

use lockstep_proto::capacity::StreamCapacity;

/// The changes of the number of shards that Kinesis allows in 24 hours.
const CHANGES: usize = 10;
/// The changes that shrinking leaves for growth.
const FOR_GROWTH: usize = 6;
/// The time for which a change counts, with a minute for the clocks of two nodes.
const DAY_MS: u64 = 24 * 3_600_000 + 60_000;
/// The bytes and records per second that a shard takes.
const SHARD: (u64, u64) = (1 << 20, 1_000);
/// The looks that may be missed before the time of low load begins anew.
const MISSED: u64 = 5;

/// The bounds and times of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The share of its writes that a shard should take, in percent: 1 to 100.
    pub target: u32,
    /// The fewest shards of the stream.
    pub least: u32,
    /// The most shards of the stream.
    pub most: u32,
    /// How long the load must be low before the stream shrinks.
    pub settle_ms: u64,
    /// The interval of the looks. After a change, two of them pass before the next one.
    pub interval_ms: u64,
}

/// The writes to a stream between two looks, of all nodes of its site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes per second, with the keys of the records.
    pub bytes: u64,
    /// Records that the stream took, per second.
    pub records: u64,
    /// Records that a shard did not take at once, since the last look.
    pub refused: u64,
}

impl Load {
    /// The load in thousandths of the writes that one shard takes.
    #[must_use]
    pub fn thousandths(&self) -> u64 {
        let share = |of: u64, most: u64| of.saturating_mul(1_000).div_ceil(most);
        share(self.bytes, SHARD.0).max(share(self.records, SHARD.1))
    }
}

/// The stream as one look saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of open shards.
    pub shards: u32,
    /// Whether the stream is being changed.
    pub is_changing: bool,
    /// The load since the last look. None: it is not known.
    pub load: Option<Load>,
    /// The fewest shards now, because a peak of the configuration is expected. 0 if none is.
    pub floor: u32,
}

/// The next step of an autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave the stream alone until the next look.
    Hold(Why),
    /// Set the number of open shards.
    Set {
        /// The number of open shards afterwards.
        to: u32,
        /// The reason of the change.
        why: Why,
    },
}

/// The reason of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The last change goes on.
    Changing,
    /// The load is not known yet, or no longer.
    Unknown,
    /// The load fits the shards, or has not been low for long enough. The share of the shards' writes, in percent.
    Fits(u64),
    /// Fewer shards than the configuration asks for.
    Floor(u32),
    /// The load is above the target: the share of the shards' writes, in percent.
    Busy(u64),
    /// Shards refused so many records, at half of the target or more.
    Refused(u64),
    /// Shards refused so many records far below the target: one project has most of them, or they came in bursts.
    Uneven(u64),
    /// The load has been low for long: its highest share of the shards' writes, in percent.
    Quiet(u64),
    /// More shards are needed, and the stream has the most.
    AtMost(u32),
    /// More shards are needed, and all changes of the day are used up.
    NoChangeLeft,
    /// Fewer shards are enough, and the changes that are left are kept for growth.
    KeepsChanges,
    /// A change is due, and the last one was a moment ago.
    Waits,
}

impl Why {
    /// Whether the stream needs more shards, and cannot get them without an operator.
    #[must_use]
    pub fn is_stuck(self) -> bool {
        matches!(self, Self::AtMost(_) | Self::NoChangeLeft)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changing => write!(out, "the stream is being changed"),
            Self::Unknown => {
                write!(out, "the load is not known: not every node of the site has told its writes twice")
            }
            Self::Fits(percent) => write!(out, "the load is {percent} % of the shards' writes"),
            Self::Floor(least) => write!(out, "the configuration asks for {least} shards now"),
            Self::Busy(percent) => write!(out, "the load is {percent} % of the shards' writes, above the target"),
            Self::Refused(count) => write!(out, "shards refused {count} records since the last look"),
            Self::Uneven(count) => write!(
                out,
                "shards refused {count} records although the load is low: one busy project, or a burst; more shards \
                 do not help"
            ),
            Self::Quiet(percent) => write!(out, "the load has long been at most {percent} % of the shards' writes"),
            Self::AtMost(most) => {
                write!(out, "more shards are needed, and eventlog.autoscale.most_shards is {most}: raise it")
            }
            Self::NoChangeLeft => write!(
                out,
                "more shards are needed, and Kinesis allows {CHANGES} changes in 24 hours: wait, or set \
                 eventlog.autoscale.least_shards higher"
            ),
            Self::KeepsChanges => write!(
                out,
                "fewer shards are enough; the last {FOR_GROWTH} changes of these 24 hours are kept for growth"
            ),
            Self::Waits => write!(out, "a change is due, and the last one was a moment ago"),
        }
    }
}

/// Decides the next step. Also returns the state for the next decision. A caller that makes the change must add its
/// time to `calls_ms` of that state, and store it, before the call.
#[must_use]
pub fn decide(state: &StreamCapacity, seen: &Seen, limits: &Limits, now_ms: u64) -> (StreamCapacity, Action) {
    let mut next = noted(state, seen, limits, now_ms);
    let action = if seen.is_changing || seen.shards == 0 {
        Action::Hold(Why::Changing)
    } else if let Some((to, why)) = growth(seen, limits) {
        grow(&next, seen, limits, now_ms, to, why)
    } else {
        shrink(&next, seen, limits, now_ms)
    };
    let why = match action {
        Action::Hold(why) => why,
        Action::Set { why, .. } => {
            next.quiet_since_ms = None;
            why
        }
    };
    (next.stuck, next.told) = (why.is_stuck(), why.to_string());
    (next, action)
}

/// The state after this look: the changes that still count, and how long the load has been low.
fn noted(state: &StreamCapacity, seen: &Seen, limits: &Limits, now_ms: u64) -> StreamCapacity {
    let mut next = StreamCapacity { shards: seen.shards, looked_ms: now_ms, ..state.clone() };
    // A clock that was wrong must not keep a change for longer than a day.
    next.calls_ms.iter_mut().for_each(|at| *at = (*at).min(now_ms));
    next.calls_ms.retain(|at| now_ms - at < DAY_MS);
    let is_gap = now_ms.saturating_sub(state.looked_ms) > limits.interval_ms.saturating_mul(MISSED);
    let Some(load) = seen.load.filter(|_| !seen.is_changing) else {
        next.quiet_since_ms = None;
        return next;
    };
    next.load = load.thousandths();
    let is_quiet = load.refused == 0 && is_worth_it(roomy(next.load, limits.target), seen.shards);
    (next.quiet_since_ms, next.quiet_peak) = match state.quiet_since_ms {
        _ if !is_quiet => (None, 0),
        Some(since) if !is_gap && since <= now_ms => (Some(since), state.quiet_peak.max(next.load)),
        _ => (Some(now_ms), next.load),
    };
    next
}

/// The number of shards that are needed, if they are more than there are, and why.
fn growth(seen: &Seen, limits: &Limits) -> Option<(u32, Why)> {
    let half_more = seen.shards.saturating_add(seen.shards.div_ceil(2));
    let floor = floor(seen, limits);
    if seen.shards < floor {
        return Some((floor, Why::Floor(floor)));
    }
    let load = seen.load?;
    let (thousandths, used) = (load.thousandths(), percent(load.thousandths(), seen.shards));
    let needed = enough(thousandths, limits.target);
    if needed > seen.shards {
        return Some((needed.max(half_more), Why::Busy(used)));
    }
    (load.refused > 0 && used * 2 >= u64::from(limits.target)).then_some((half_more, Why::Refused(load.refused)))
}

/// The fewest shards now.
fn floor(seen: &Seen, limits: &Limits) -> u32 {
    limits.least.max(seen.floor).min(limits.most)
}

fn grow(next: &StreamCapacity, seen: &Seen, limits: &Limits, now_ms: u64, to: u32, why: Why) -> Action {
    if seen.shards >= limits.most {
        return Action::Hold(Why::AtMost(limits.most));
    }
    if next.calls_ms.len() >= CHANGES {
        return Action::Hold(Why::NoChangeLeft);
    }
    if is_recent(next, limits, now_ms) {
        return Action::Hold(Why::Waits);
    }
    Action::Set { to: to.min(limits.most).min(seen.shards.saturating_mul(2)), why }
}

fn shrink(next: &StreamCapacity, seen: &Seen, limits: &Limits, now_ms: u64) -> Action {
    let Some(load) = seen.load else { return Action::Hold(Why::Unknown) };
    if load.refused > 0 {
        return Action::Hold(Why::Uneven(load.refused));
    }
    let fits = Action::Hold(Why::Fits(percent(next.load, seen.shards)));
    let Some(since) = next.quiet_since_ms else { return fits };
    let to = roomy(next.quiet_peak, limits.target).max(floor(seen, limits)).max(seen.shards.div_ceil(2));
    if now_ms.saturating_sub(since) < limits.settle_ms || !is_worth_it(to, seen.shards) {
        return fits;
    }
    if next.calls_ms.len() + FOR_GROWTH >= CHANGES {
        return Action::Hold(Why::KeepsChanges);
    }
    if is_recent(next, limits, now_ms) {
        return Action::Hold(Why::Waits);
    }
    Action::Set { to, why: Why::Quiet(percent(next.quiet_peak, seen.shards)) }
}

/// Whether the last change was so short ago that the load does not show it yet.
fn is_recent(next: &StreamCapacity, limits: &Limits, now_ms: u64) -> bool {
    let last = next.calls_ms.iter().max();
    last.is_some_and(|last| now_ms.saturating_sub(*last) < limits.interval_ms.saturating_mul(2))
}

/// The shards for a load, at the target.
fn enough(thousandths: u64, target: u32) -> u32 {
    let shards = thousandths.saturating_mul(100).div_ceil(u64::from(target.max(1)) * 1_000);
    u32::try_from(shards).unwrap_or(u32::MAX).max(1)
}

/// The shards for a load that leave a fifth of the target free.
fn roomy(thousandths: u64, target: u32) -> u32 {
    enough(thousandths.saturating_add(thousandths / 4), target)
}

/// Whether a smaller number saves a quarter of the shards at least.
fn is_worth_it(to: u32, shards: u32) -> bool {
    u64::from(to) * 4 <= u64::from(shards) * 3
}

/// A load in percent of the writes of so many shards.
fn percent(thousandths: u64, shards: u32) -> u64 {
    thousandths / 10 / u64::from(shards.max(1))
}
