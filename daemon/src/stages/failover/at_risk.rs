//! The committed transactions of the source that the target lacks, counted in the journal, with the refs that they
//! move.
//!
//! The marks in the refdb count slots, and some of these are poisoned. So the slots are read: at most [`MOST_READ`].
//! Those that were not read count as transactions. If a slot cannot be read, the number is not known: the slot never
//! counts as empty.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use lockstep_proto::failover::{AtRisk, MOST_AT_RISK, RefAtRisk};
use lockstep_proto::{SiteId, Transaction};
use tokio::time::timeout;

use super::view::View;
use crate::seams::refdb::{FailoverDb, RefDbError, SlotState};

/// The most slots that are read for one answer: at half a read unit to some dozens each.
const MOST_READ: usize = 512;
/// The slots that are read at the same time.
const AT_ONCE: usize = 32;
/// How long the slots may take.
const LONGEST: Duration = Duration::from_secs(2);

/// The transactions of `from` that `to` lacks in the state of `view`. Their number is not known if the journal does not
/// answer within [`LONGEST`]: nothing waits for it, because it is for information.
pub(super) async fn at_risk(refdb: &FailoverDb, view: &View, from: &SiteId, to: &SiteId) -> AtRisk {
    let why = match timeout(LONGEST, counted(refdb, view, from, to)).await {
        Ok(Ok(counted)) => return counted,
        Ok(Err(error)) => format!("the journal cannot be read: {error}"),
        Err(_) => format!("the journal did not answer within {LONGEST:?}"),
    };
    AtRisk { unknown: Some(why), ..AtRisk::default() }
}

async fn counted(refdb: &FailoverDb, view: &View, from: &SiteId, to: &SiteId) -> Result<AtRisk, RefDbError> {
    let Some(lacking) = view.lacking(to, from) else {
        let why = format!("each node of {to} reconciles, is expelled or owes a project");
        return Ok(AtRisk { unknown: Some(why), ..AtRisk::default() });
    };
    let slots: Vec<_> = lacking.slots().take(MOST_READ).collect();
    let unread = lacking.count() - slots.len() as u64;
    let reads: Vec<_> = slots.iter().map(|slot| refdb.journal.slot(slot)).collect();
    let moved = stream::iter(reads).buffered(AT_ONCE).try_fold(Moved::default(), |mut moved, state| async move {
        // A slot has up to some hundred kilobytes: only the names of its refs are kept.
        if let SlotState::Committed(_, bytes) = state {
            moved.add(&bytes);
        }
        Ok(moved)
    });
    let Moved { transactions, distinct, first } = moved.await?;
    Ok(AtRisk {
        transactions: Some(transactions + unread),
        at_most: unread > 0,
        unknown: None,
        ref_count: distinct.len() as u64,
        refs: first.into_iter().collect(),
    })
}

/// The transactions that were read.
#[derive(Default)]
struct Moved {
    transactions: u64,
    /// A hash of each ref that they move.
    distinct: HashSet<u64>,
    /// The first of these refs, at most [`MOST_AT_RISK`].
    first: BTreeSet<RefAtRisk>,
}

impl Moved {
    fn add(&mut self, bytes: &Bytes) {
        self.transactions += 1;
        for one in refs_of(bytes) {
            let mut hasher = DefaultHasher::new();
            (&one.project, &one.name).hash(&mut hasher);
            self.distinct.insert(hasher.finish());
            self.first.insert(one);
            if self.first.len() > MOST_AT_RISK {
                self.first.pop_last();
            }
        }
    }
}

/// The refs that the bytes of a slot move.
fn refs_of(bytes: &Bytes) -> Vec<RefAtRisk> {
    let named = |project: String, name: &str| RefAtRisk { project, name: name.to_owned() };
    match Transaction::outlined(bytes) {
        Ok(whole) if whole.is_whole() => {
            let commands = whole.commands.iter();
            commands.map(|command| named(whole.project.to_string(), &command.key.to_string())).collect()
        }
        Ok(outline) => vec![named(outline.project.to_string(), "(many refs)")],
        Err(_) => vec![named("(not readable by this release)".to_owned(), "(many refs)")],
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::{IncarnationId, Lane, LaneId, Seq, Slot};

    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use async_trait::async_trait;

    use crate::base::transaction_builder::TransactionBuilder;
    use crate::seams::refdb::memory::MemoryRefDb;
    use crate::seams::refdb::{CommitRequest, IncarnationRecord, JournalStore, NodeRecord, RefDb, Role, SiteRecord};

    fn incarnation() -> IncarnationId {
        IncarnationId { node: "a-0".parse().unwrap(), number: lockstep_proto::Incarnation(1) }
    }

    fn slot(seq: u64) -> Slot {
        LaneId { incarnation: incarnation(), lane: Lane(0) }.slot(Seq(seq))
    }

    /// A creation of a branch in a slot.
    fn creation(seq: u64) -> CommitRequest {
        let built = TransactionBuilder::of(slot(seq).txn(7)).site("a").creates(&format!("b{seq}"));
        let transaction = built.build();
        let encoded = transaction.encode();
        CommitRequest { transaction, encoded, directories: Vec::new(), freed: BTreeMap::new(), lock_token: None }
    }

    /// Site `a` has settled `settled` slots, and `b` has applied the first one.
    fn view(settled: u64) -> View {
        let site = |name: &str, role| SiteRecord::new(name.parse().unwrap(), role, 1);
        let mut target = NodeRecord::first("b-0", "b");
        target.low_water = [(slot(0).lane, Seq(1))].into();
        View {
            sites: vec![site("a", Role::Active), site("b", Role::Standby)],
            incarnations: vec![IncarnationRecord {
                settled: vec![Seq(settled)],
                ..IncarnationRecord::open(incarnation(), "a".parse().unwrap(), 1, 8, 1)
            }],
            nodes: vec![NodeRecord::first("a-0", "a"), target],
            ..View::default()
        }
    }

    /// A journal that does not answer, or refuses.
    struct Dark(Option<RefDbError>);

    #[async_trait]
    impl JournalStore for Dark {
        async fn slot(&self, _: &Slot) -> Result<SlotState, RefDbError> {
            match &self.0 {
                Some(error) => Err(error.clone()),
                None => std::future::pending().await,
            }
        }

        async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
            self.slot(slot).await
        }

        async fn collect(&self, _: &[Slot]) -> Result<(), RefDbError> {
            Ok(())
        }
    }

    /// A journal that is silent or throttled keeps nobody from a promotion, nor from a plan.
    #[tokio::test(start_paused = true)]
    async fn a_journal_that_does_not_answer_makes_the_number_unknown_within_a_bound() {
        let began = tokio::time::Instant::now();
        for (journal, why) in [
            (Dark(None), "the journal did not answer within 2s"),
            (Dark(Some(RefDbError::NotNow("throttled".to_owned()))), "the journal cannot be read"),
            (Dark(Some(RefDbError::Broken("not a slot".to_owned()))), "the journal cannot be read"),
        ] {
            let refdb = RefDb { journal: Arc::new(journal), ..MemoryRefDb::new().refdb() };
            let risk = found(&refdb, &view(4)).await;
            assert_eq!((risk.transactions, risk.refs.len()), (None, 0), "it does not count as empty");
            assert!(risk.unknown.as_ref().is_some_and(|unknown| unknown.starts_with(why)), "{risk:?}");
        }
        assert!(began.elapsed() < LONGEST * 2);
    }

    async fn found(refdb: &RefDb, view: &View) -> AtRisk {
        at_risk(&refdb.for_failover(), view, &"a".parse().unwrap(), &"b".parse().unwrap()).await
    }

    #[tokio::test]
    async fn transactions_are_counted_and_poison_is_not() {
        let refdb = MemoryRefDb::new().refdb();
        for seq in [0, 1, 3] {
            refdb.refs.commit(&creation(seq)).await.unwrap();
        }
        refdb.journal.poison(&slot(2)).await.unwrap();
        let risk = found(&refdb, &view(4)).await;
        assert_eq!((risk.transactions, risk.at_most, risk.ref_count), (Some(2), false, 2));
        let names: Vec<&str> = risk.refs.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["refs/heads/b1", "refs/heads/b3"], "b has the first one, and slot 2 is poisoned");
        assert_eq!(found(&refdb, &view(1)).await.transactions, Some(0));
    }

    #[tokio::test]
    async fn unread_slots_count_and_a_target_that_reconciles_is_not_known() {
        let refdb = MemoryRefDb::new().refdb();
        let far = found(&refdb, &view(MOST_READ as u64 + 4)).await;
        assert_eq!((far.transactions, far.at_most), (Some(3), true));
        let mut reconciling = view(4);
        reconciling.nodes[1].volume = NodeRecord::reconciling("v");
        assert_eq!(found(&refdb, &reconciling).await.transactions, None);
    }
}
