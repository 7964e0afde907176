//! Debts as the status API shows them.

use std::collections::BTreeSet;

use lockstep_proto::debt::{DebtKind, DebtStatus, HeldElsewhere, MOST_SHOWN};
use lockstep_proto::{ProjectName, TxnId};
use tokio::time::Instant;

use super::{Debts, Entry, HeldHere};

impl Debts {
    /// The debts, oldest first, at most [`MOST_SHOWN`].
    #[must_use]
    pub fn show(&self) -> Vec<DebtStatus> {
        let (now, now_ms) = (Instant::now(), self.clock.now_ms());
        let at_ms = |next: Instant| {
            let pause = next.saturating_duration_since(now).as_millis();
            now_ms.saturating_add(u64::try_from(pause).unwrap_or(u64::MAX))
        };
        let inner = self.inner();
        let held = inner.held.iter().map(|(txn, held)| of_held(txn, held));
        let owed = inner.owed.values().map(|entry| of_entry(entry, entry.debt.txn.clone(), at_ms(entry.next)));
        let waiting = inner.waiting.iter().map(|(txn, entry)| of_entry(entry, Some(txn.clone()), at_ms(entry.next)));
        let mut all: Vec<DebtStatus> = held.chain(owed).chain(waiting).collect();
        all.sort_by_key(|debt| debt.since_ms);
        all.truncate(MOST_SHOWN);
        all
    }

    /// The projects with a debt, each with the first reason.
    #[must_use]
    pub fn degraded(&self) -> Vec<(ProjectName, String)> {
        let inner = self.inner();
        let held = inner.held.values().map(|held| (held.name.clone(), held.why.clone()));
        let owed = inner.owed.iter().map(|(name, entry)| (name.clone(), entry.debt.why.clone()));
        let waiting = inner.waiting.values().map(|entry| (entry.name.clone(), entry.debt.why.clone()));
        let mut seen = BTreeSet::new();
        held.chain(owed).chain(waiting).filter(|(name, _)| seen.insert(name.clone())).collect()
    }

    /// The debts of other nodes, as their records name them, at most [`MOST_SHOWN`].
    #[must_use]
    pub fn elsewhere(&self) -> Vec<HeldElsewhere> {
        let inner = self.inner();
        let each = inner.elsewhere.iter().flat_map(|(node, needs)| {
            let entry = |project: &ProjectName, txn: Option<&TxnId>| HeldElsewhere {
                node: node.clone(),
                project: project.to_string(),
                txn: txn.cloned(),
            };
            let held: Vec<_> = needs.held.iter().map(|(txn, project)| entry(project, Some(txn))).collect();
            held.into_iter().chain(needs.owed.iter().map(move |project| entry(project, None)))
        });
        each.take(MOST_SHOWN).collect()
    }
}

fn of_held(txn: &TxnId, held: &HeldHere) -> DebtStatus {
    DebtStatus {
        project: held.project.clone(),
        refs: held.refs.iter().map(ToString::to_string).collect(),
        txn: Some(txn.clone()),
        kind: DebtKind::BadContent,
        reason: held.why.clone(),
        since_ms: held.since_ms,
        tries: 1,
        next_try_ms: None,
        takes_commits: true,
    }
}

fn of_entry(entry: &Entry, txn: Option<TxnId>, next_try_ms: u64) -> DebtStatus {
    let debt = &entry.debt;
    DebtStatus {
        project: entry.project.clone(),
        refs: debt.refs.iter().map(ToString::to_string).collect(),
        txn,
        kind: debt.kind,
        reason: debt.why.clone(),
        since_ms: debt.since_ms,
        tries: debt.tries,
        next_try_ms: Some(next_try_ms),
        takes_commits: !debt.closed,
    }
}
