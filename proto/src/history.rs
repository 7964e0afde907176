//! Past failovers and changes of role (JSON), as the refdb keeps them and the history API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::failover::{Failover, Role};
use crate::name::SiteId;
use crate::site_list::{ListChange, SiteMode};

/// The most entries of the history. Older ones are dropped.
pub const MOST_PAST: usize = 100;
/// The most bytes of the history as JSON. The oldest entries are dropped beyond it.
pub const MOST_HISTORY_BYTES: usize = 48 * 1024;
/// The most acts of operators that a past failover keeps: the first one, and the last ones.
pub const MOST_PAST_ACTS: usize = 20;
/// The most bytes of a reason.
pub const MOST_REASON_BYTES: usize = 1_000;

/// Past failovers and changes of role, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The entries, at most [`MOST_PAST`].
    #[serde(default)]
    pub past: Vec<PastChange>,
}

/// One entry of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum PastChange {
    /// A failover, with its steps and the acts of operators.
    Failover(Box<Failover>),
    /// A change of one site's role, outside of a failover.
    Role(RoleChange),
}

/// A change of one site's role by an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleChange {
    /// When it was requested, in milliseconds since 1970.
    pub at_ms: u64,
    /// The authenticated identity of the operator.
    pub actor: String,
    /// The operator's reason, for the audit trail.
    pub reason: String,
    /// The site whose role changed.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The role before the change.
    pub from: Role,
    /// The role that was asked for.
    pub to: Role,
    /// The epoch from which the change starts. The role has changed if it ends at the next one.
    pub epoch: u64,
    /// Whether the role was as asked for, at the next epoch, when the request was answered. None if the node that sent
    /// it has not noted that. Of two requests for the same change at the same time, one has made it, and both say true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<bool>,
    /// If the site was added to the list of sites or removed from it. An earlier release shows the roles alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<ListChange>,
    /// If Lockstep was switched off or on at the site. An earlier release shows the roles alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SiteMode>,
}

impl PastChange {
    /// When it was requested, in milliseconds since 1970.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        match self {
            Self::Failover(failover) => failover.requested_ms,
            Self::Role(change) => change.at_ms,
        }
    }
}

impl History {
    /// Puts an entry in front, and drops the oldest ones beyond the limits. A failover replaces the entry of its
    /// number, and a change of role the one of its site, epoch, actor and time.
    pub fn put(&mut self, entry: PastChange) {
        let entry = bounded(entry);
        self.past.retain(|one| !is_same(one, &entry));
        self.past.push(entry.clone());
        self.past.sort_by_key(|one| std::cmp::Reverse(one.at_ms()));
        while (self.past.len() > MOST_PAST || self.bytes() > MOST_HISTORY_BYTES) && self.past.len() > 1 {
            // The clock of the node that notes it may be behind: the new entry stays, wherever it stands.
            let is_new = self.past.last() == Some(&entry);
            self.past.remove(self.past.len() - if is_new { 2 } else { 1 });
        }
    }

    fn bytes(&self) -> usize {
        serde_json::to_string(self).map_or(0, |text| text.len())
    }
}

/// Whether two entries are about the same request.
fn is_same(one: &PastChange, other: &PastChange) -> bool {
    match (one, other) {
        (PastChange::Failover(one), PastChange::Failover(other)) => one.number == other.number,
        (PastChange::Role(one), PastChange::Role(other)) => key(one) == key(other),
        _ => false,
    }
}

/// Two operators may ask for the same change at the same epoch: each of them keeps an entry.
fn key(change: &RoleChange) -> (&SiteId, u64, &str, u64) {
    (&change.site, change.epoch, &change.actor, change.at_ms)
}

fn bounded(mut entry: PastChange) -> PastChange {
    if let PastChange::Failover(failover) = &mut entry {
        let over = failover.audit.len().saturating_sub(MOST_PAST_ACTS);
        if over > 0 {
            failover.audit.drain(1..=over);
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(at_ms: u64, reason: &str) -> PastChange {
        PastChange::Role(RoleChange {
            at_ms,
            actor: "uid 0".to_owned(),
            reason: reason.to_owned(),
            site: "a".parse().expect("a site"),
            from: Role::Active,
            to: Role::Standby,
            epoch: at_ms,
            done: None,
            list: None,
            mode: None,
        })
    }

    #[test]
    fn the_newest_entries_stay_and_the_list_is_bounded_in_number_and_bytes() {
        let mut history = History::default();
        (0..MOST_PAST as u64 + 7).for_each(|at_ms| history.put(role(at_ms, "short")));
        assert_eq!((history.past.len(), history.past[0].at_ms()), (MOST_PAST, MOST_PAST as u64 + 6));
        (0..50).for_each(|at_ms| history.put(role(1_000 + at_ms, &"x".repeat(10_000))));
        assert!(history.bytes() <= MOST_HISTORY_BYTES && history.past[0].at_ms() == 1_049, "{}", history.bytes());
        history.put(role(7, "of a clock that is behind"));
        assert!(history.past.iter().any(|one| one.at_ms() == 7), "a new entry is not the one that is dropped");
    }

    #[test]
    fn the_outcome_of_a_change_replaces_its_request() {
        let mut history = History::default();
        history.put(role(1, "one"));
        history.put(role(2, "two"));
        let PastChange::Role(change) = role(1, "one") else { unreachable!() };
        history.put(PastChange::Role(RoleChange { done: Some(true), ..change }));
        let is_done = |one: &PastChange| matches!(one, PastChange::Role(it) if it.done.is_some());
        let done: Vec<bool> = history.past.iter().map(is_done).collect();
        assert_eq!(done, [false, true]);
    }

    #[test]
    fn two_operators_at_one_epoch_have_two_entries() {
        let mut history = History::default();
        let PastChange::Role(change) = role(1, "one") else { unreachable!() };
        history.put(PastChange::Role(change.clone()));
        history.put(PastChange::Role(RoleChange { actor: "uid 7".to_owned(), done: Some(true), ..change }));
        assert_eq!(history.past.len(), 2);
    }
}
