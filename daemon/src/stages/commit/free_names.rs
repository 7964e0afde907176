//! Frees a name that is marked as a directory and has nothing live below it, so that a ref of this name can be created.
//!
//! The mark cannot simply go: a node that remembers it creates refs below the name without a look at its item. So the
//! mark is loosened first, by a transaction of its own. A node that knows this transaction no longer remembers the
//! mark. Once every node that can commit knows it, a look below the name is certain, and the creation removes the mark.
//! A creation below the name in between marks it again, on the same item, so one of the two is refused. The whole
//! protocol, with its proof, is in `docs/adr/0027-a-name-that-once-was-a-folder.md`.
//!
//! No quiesce guard, no ref lock and no slot is held meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use lockstep_proto::bridge::{Refusal, RefusalCode};
use lockstep_proto::{NodeId, RefKey, RefName, RefValue, TxnId};
use tokio::time::{Instant, timeout_at};

use super::Committer;
use super::refusals::{above, runs_earlier_release, too_late, unavailable, waits_for};
use super::work::{Ended, Intent, Verdict, Work};
use crate::base::backoff::Backoff;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::git::Judged;
use crate::seams::refdb::{Freed, RefDbError, RefItem};
use crate::stages::ports::BarrierError;

/// How often one batch frees names. Each time but the first, somebody else was faster.
const TRIES: u32 = 3;
/// Items per page, when the names below a folder are read.
const PAGE: usize = 1_000;

/// The names that a batch has freed, and the bounds of its tries.
#[derive(Default)]
pub(super) struct Freeing {
    /// The names that were freed.
    pub(super) freed: Freed,
    tries: u32,
    /// The time until which the batch waits for other nodes.
    until: Option<Instant>,
}

impl Committer {
    /// Frees names that a batch creates, one after the other. A name that cannot be freed refuses its intent.
    pub(super) async fn free_names(
        &self,
        work: &Work,
        names: &[RefName],
        freeing: &mut Freeing,
        verdicts: &mut [Option<Verdict>],
    ) {
        freeing.tries += 1;
        let until = *freeing.until.get_or_insert_with(|| Instant::now() + self.limits.freeing_patience);
        for name in names {
            freeing.freed.remove(name);
            let freed = match freeing.tries {
                0..=TRIES => self.free_in_time(work, name, until.min(work.deadline)).await,
                _ => Err(waits_for(name, &"somebody creates other names there at this moment")),
            };
            match freed {
                Ok(Some(loosened)) => drop(freeing.freed.insert(name.clone(), loosened)),
                // The name has changed meanwhile. The next round tells.
                Ok(None) => {}
                Err(refused) => refuse(work, name, &refused, verdicts),
            }
        }
    }

    /// Frees one name, and tries again while the refdb does not answer. Every step may be repeated.
    async fn free_in_time(&self, work: &Work, name: &RefName, until: Instant) -> Result<Option<TxnId>, Refusal> {
        let mut backoff =
            Backoff::new(Arc::clone(&self.attempts.entropy), Duration::from_millis(20), Duration::from_millis(500));
        loop {
            match self.free(work, name, until).await {
                Err(refused) if refused.code == RefusalCode::Unavailable && refused.retry => {
                    if !backoff.wait_until(until).await {
                        return Err(refused);
                    }
                }
                end => return end,
            }
        }
    }

    /// Frees one name. Returns the transaction that loosened its mark; none if the name has no mark any more, or was
    /// changed meanwhile.
    ///
    /// The looks end with the time of the batch. The transaction that loosens has a deadline of its own, and is never
    /// dropped: a slot that it has taken must get its outcome.
    async fn free(&self, work: &Work, name: &RefName, until: Instant) -> Result<Option<TxnId>, Refusal> {
        let loosened = match in_time(work, self.first_look(work, name)).await? {
            Look::NoMark => return Ok(None),
            Look::Loosened(loosened) => loosened,
            Look::Marked if Instant::now() >= until => {
                return Err(waits_for(name, &"other names of this push took the time"));
            }
            Look::Marked => match self.loosen(work, name, until).await? {
                Some(loosened) => loosened,
                None => return Ok(None),
            },
        };
        if self.attempts.bugs.has(InjectedBug::LookBeforeBarrier) {
            self.nothing_below(work, name).await?;
        }
        let patience = until.saturating_duration_since(Instant::now());
        self.barrier.passed(&loosened, patience).await.map_err(|why| match why {
            BarrierError::Timeout(_) => waits_for(name, &why),
            BarrierError::RefDb(error) => down(error),
        })?;
        if !self.attempts.bugs.has(InjectedBug::LookBeforeBarrier) {
            in_time(work, async {
                let shown = self.nothing_below(work, name).await?;
                self.apply_deletions(work, &shown).await;
                Ok(())
            })
            .await?;
        }
        Ok(Some(loosened))
    }

    /// Looks whether the name has a mark that may go. This look proves nothing. It answers the common case at once.
    async fn first_look(&self, work: &Work, name: &RefName) -> Result<Look, Refusal> {
        let keys = [RefKey::Ref(name.clone())];
        let item = self.attempts.refdb.refs.read(&work.project, &keys).await.map_err(down)?;
        let item = item.into_iter().flatten().next();
        let Some(item) = item.filter(|item| item.directory) else { return Ok(Look::NoMark) };
        self.nothing_below(work, name).await?;
        self.shut_out_earlier(name).await?;
        Ok(self.still_loosened(&item).await.map_err(down)?.map_or(Look::Marked, Look::Loosened))
    }

    /// The transaction that loosened the mark before, if a barrier can still be asked about it: its incarnation is not
    /// forgotten.
    async fn still_loosened(&self, item: &RefItem) -> Result<Option<TxnId>, RefDbError> {
        let Some(loosened) = &item.loosened else { return Ok(None) };
        let incarnation = &loosened.slot.lane.incarnation;
        let is_listed = self.attempts.refdb.incarnations().await?.iter().any(|one| one.id == *incarnation);
        Ok(is_listed.then(|| loosened.clone()))
    }

    /// Commits the transaction that loosens the mark of a name. Returns none if the name is a ref now.
    async fn loosen(&self, work: &Work, name: &RefName, until: Instant) -> Result<Option<TxnId>, Refusal> {
        let (key, nothing) = (RefKey::Ref(name.clone()), RefValue::Absent);
        let loosens = Work {
            intents: vec![Intent { key, expected: Some(nothing.clone()), new: nothing, force: true }],
            local: Vec::new(),
            atomic: true,
            // Each try loosens the mark that the name has then.
            request_id: format!("{}/loosens-{:016x}", work.request_id, self.attempts.entropy.next()),
            deadline: until,
            judged: Judged::No,
            loosens: true,
            ..work.clone()
        };
        let ended = self.run_boxed(&loosens).await;
        match ended.verdicts.into_iter().next() {
            Some(Verdict::Committed | Verdict::NotYetVisible(_)) => Ok(ended.txn),
            Some(Verdict::Refused(refused)) if refused.code == RefusalCode::Stale => Ok(None),
            Some(Verdict::Refused(refused)) => Err(refused),
            // Only the mark of the name is in doubt.
            Some(Verdict::Unknown(_)) | None => Err(unavailable(&"the global ref database did not answer in time")),
        }
    }

    /// The loop over a batch, as a call that may be made from inside it.
    fn run_boxed<'a>(&'a self, work: &'a Work) -> BoxFuture<'a, Ended> {
        Box::pin(self.run(work))
    }

    /// Applies the deletions of these refs here, as far as that is possible now. git cannot hold the new ref beside
    /// them.
    async fn apply_deletions(&self, work: &Work, shown: &[RefKey]) {
        if !shown.is_empty()
            && let Err(why) = self.catch_up.keys(&work.project, shown).await
        {
            tracing::info!(project = %work.project, %why, "refs that are deleted elsewhere are still shown here");
        }
    }

    /// Refuses if a ref below the name is live, or is locked by a transaction that may create it. Returns the refs
    /// below the name that are deleted, and still shown here.
    async fn nothing_below(&self, work: &Work, name: &RefName) -> Result<Vec<RefKey>, Refusal> {
        let folder = format!("{name}/");
        let (mut after, mut shown) = (RefKey::Ref(name.clone()), Vec::new());
        loop {
            let page = self.attempts.refdb.refs.scan(&work.project, Some(&after), PAGE).await;
            let page = page.map_err(down)?;
            for item in &page {
                let Some(below) = item.key.as_ref_name() else { continue };
                if !below.as_str().starts_with(&folder) {
                    // Names such as `a-b` come before `a/b`.
                    if below.as_str() > folder.as_str() {
                        return Ok(shown);
                    }
                } else if let Some(lock) = &item.lock {
                    self.locks.met(lock);
                    return Err(waits_for(name, &format!("{below} is part of a large push")));
                } else if !item.value.is_absent() {
                    return Err(above(name, below));
                } else {
                    let here = self.versions.get(&work.project, &item.key).map_err(|error| unavailable(&error))?;
                    shown.extend(here.filter(|here| !here.value.is_absent()).map(|_| item.key.clone()));
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.key.clone(),
                _ => return Ok(shown),
            }
        }
    }

    /// Makes sure that no program of an earlier release commits, now or later: it would go by marks that it remembers
    /// for ever. A node writes its record before it opens an incarnation, so the second look finds one that has begun
    /// to run an earlier release before it was shut out.
    async fn shut_out_earlier(&self, name: &RefName) -> Result<(), Refusal> {
        let refdb = &self.attempts.refdb;
        self.everybody_frees(name).await?;
        for site in refdb.sites.sites().await.map_err(down)? {
            refdb.sites.shut_out_earlier(&site.site).await.map_err(down)?;
        }
        self.everybody_frees(name).await
    }

    /// Refuses if the program of a node that is not expelled does not take part in freeing names.
    async fn everybody_frees(&self, name: &RefName) -> Result<(), Refusal> {
        let nodes = self.attempts.refdb.nodes.nodes().await.map_err(down)?;
        let earlier = nodes.into_iter().filter(|node| !node.expelled && !node.frees_names);
        let earlier: Vec<NodeId> = earlier.map(|node| node.node).collect();
        if earlier.is_empty() { Ok(()) } else { Err(runs_earlier_release(name, &earlier)) }
    }
}

/// The end of a look at a name that is to be freed.
enum Look {
    /// The name has no mark any more.
    NoMark,
    /// This transaction has loosened the mark, and a barrier can be asked about it.
    Loosened(TxnId),
    /// The mark is to be loosened.
    Marked,
}

/// Ends a look with the deadline of its batch.
async fn in_time<T>(work: &Work, look: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    timeout_at(work.deadline, look).await.unwrap_or_else(|_| Err(too_late()))
}

/// The refusal when the refdb did not answer. Nothing of the batch was sent.
fn down(error: RefDbError) -> Refusal {
    unavailable(&error)
}

/// Refuses the open intent on a name.
fn refuse(work: &Work, name: &RefName, refused: &Refusal, verdicts: &mut [Option<Verdict>]) {
    let of_name = |intent: &Intent| intent.key.as_ref_name() == Some(name);
    for (_, verdict) in work.intents.iter().zip(verdicts).filter(|(intent, _)| of_name(intent)) {
        verdict.get_or_insert_with(|| Verdict::Refused(refused.clone()));
    }
}
