//! The loop that reads one shard, from a position to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::{Announcement, DecodeError, Record, SiteId, Transaction, TxnId};
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Consumer;
use crate::base::backoff::Backoff;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::eventlog::{EventLogError, Position, ShardReader};
use crate::seams::volume::{Held, HeldKind, ShardId, not_signed};
use crate::state::signing::{NotSigned, Unsigned};

/// Reports once that every shard of a stream was read to the end that it had at that time.
pub(super) struct CaughtUp {
    site: SiteId,
    tell: Arc<dyn Fn(&SiteId) + Send + Sync>,
    /// Is told first, with the number of transactions that the stream has lost, if there are any.
    lost: Arc<dyn Fn(usize) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listed: bool,
    told: bool,
    behind: BTreeSet<ShardId>,
    reached: BTreeSet<ShardId>,
    /// The transactions that were taken from the journal before the first reader ran, and that no reader has read.
    lacking: BTreeSet<TxnId>,
}

impl CaughtUp {
    pub(super) fn new(
        site: SiteId,
        tell: Arc<dyn Fn(&SiteId) + Send + Sync>,
        lost: Arc<dyn Fn(usize) + Send + Sync>,
    ) -> Self {
        Self { site, tell, lost, state: Mutex::default() }
    }

    /// These transactions were taken from the journal, too. The stream has lost those that no reader reads.
    pub(super) fn lacks(&self, txns: BTreeSet<TxnId>) {
        self.state.lock().lacking.extend(txns);
    }

    /// A reader has read these records.
    fn has_read(&self, records: &[(String, Bytes)]) {
        let mut state = self.state.lock();
        if !state.lacking.is_empty() {
            for txn in ids(records) {
                state.lacking.remove(&txn);
            }
        }
    }

    /// These shards are not read to their ends. Shards whose parents are still being read are among them.
    pub(super) fn behind(&self, ids: Vec<ShardId>) {
        self.change(|state| {
            // A shard that reached its present end before is not behind any more.
            let reached = &state.reached;
            state.behind = ids.into_iter().filter(|id| !reached.contains(id)).collect();
        });
    }

    pub(super) fn listed(&self) {
        self.change(|state| state.listed = true);
    }

    fn reached_the_end(&self, id: &ShardId) {
        self.change(|state| {
            state.behind.remove(id);
            if !state.told {
                state.reached.insert(id.clone());
            }
        });
    }

    /// A shard has ended, or is gone. Its children count before the next listing, which shows them.
    fn ended(&self, id: &ShardId) {
        self.change(|state| {
            state.listed = false;
            state.behind.remove(id);
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let lost = {
            let mut state = self.state.lock();
            change(&mut state);
            let now = state.listed && state.behind.is_empty() && !state.told;
            state.told |= now;
            now.then(|| std::mem::take(&mut state.lacking).len())
        };
        let Some(lost) = lost else { return };
        if lost > 0 {
            (self.lost)(lost);
        }
        (self.tell)(&self.site);
    }
}

/// The ids of the transactions among these records.
fn ids(records: &[(String, Bytes)]) -> impl Iterator<Item = TxnId> {
    records.iter().filter_map(|(_, data)| Some(Transaction::outlined(data).ok()?.id))
}

/// How the reading of a shard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Every record was read, and there will never be another one.
    Read,
    /// The event log no longer has the shard.
    Gone,
    /// The stream is not read any more: its site was removed from the list.
    Over,
}

impl Consumer {
    /// Reads a shard to its end, and tries again after errors.
    pub(super) async fn read(
        &self,
        id: &ShardId,
        from: Position,
        caught_up: Arc<CaughtUp>,
        over: &CancellationToken,
    ) -> End {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(100), Duration::from_secs(10));
        let mut from = from;
        while !over.is_cancelled() {
            match self.read_on(id, &mut from, &caught_up, &mut backoff, over).await {
                Ok(end) => return end,
                Err(EventLogError::Absent(what)) => {
                    self.observer.failed("consume", &format!("{}/{}: the event log has no {what}", id.site, id.shard));
                    backoff.wait().await;
                    // The next listing finds out whether records are lost with it.
                    caught_up.ended(id);
                    return End::Gone;
                }
                Err(EventLogError::Trimmed(position)) => {
                    self.observer.failed("consume", &format!("{id:?}: the stream no longer has position {position}"));
                    match self.trimmed(id).await {
                        Ok(position) => from = position,
                        Err(why) => self.observer.failed("consume", &why),
                    }
                    backoff.wait().await;
                }
                Err(error) => {
                    self.observer.failed("consume", &format!("{}/{}: {error}", id.site, id.shard));
                    backoff.wait().await;
                }
            }
        }
        End::Over
    }

    /// Reads from a position to the end of the shard. Moves `from` after each record that it hands over.
    async fn read_on(
        &self,
        id: &ShardId,
        from: &mut Position,
        caught_up: &CaughtUp,
        backoff: &mut Backoff,
        over: &CancellationToken,
    ) -> Result<End, EventLogError> {
        let mut reader: Box<dyn ShardReader> = self.eventlog.open(&id.site, &id.shard, from).await?;
        let mut has_looked = false;
        // The number of records up to the end that the shard had when it was first read to its end here.
        let mut end = None;
        while !over.is_cancelled() {
            self.progress.room(id, self.limits.open).await;
            self.progress.room_in_memory(self.limits.open_bytes).await;
            let batch = reader.next(self.limits.batch).await?;
            backoff.reset();
            let count = batch.records.len();
            if *from == Position::Start && (count > 0 || batch.ended || !has_looked) {
                self.look_for_lost(&id.site, &batch.records, backoff).await;
                has_looked = true;
            }
            caught_up.has_read(&batch.records);
            for (sequence, data) in batch.records {
                let after = Position::After(sequence.clone());
                self.take(id, sequence, data).await;
                *from = after;
            }
            if batch.ended {
                self.progress.ended(id);
                self.progress.room(id, 1).await;
                self.durability.want();
                caught_up.ended(id);
                return Ok(End::Read);
            }
            let (read, done) = self.progress.read_and_done(id);
            // A busy shard may give no empty batch for hours.
            let is_at_end = !batch.behind && count < self.limits.batch;
            if is_at_end && end.is_none() {
                end = Some(read);
            }
            let is_short = self.bugs.has(InjectedBug::ShortReadIsEnd) && count < self.limits.batch;
            if end.is_some_and(|end| done >= end) || is_short {
                caught_up.reached_the_end(id);
            }
            if (count == 0 || is_at_end) && !reader.waits() {
                // Everything that was there is read. One read per record that trickles in would cost more than the
                // record, and would use up the reads per second that all readers of the shard share.
                sleep(self.limits.poll_interval).await;
            }
        }
        Ok(End::Over)
    }

    /// Takes the transactions from the journal that a stream may have lost before these records, which are the oldest
    /// that it has. Returns once that succeeded. They do not count as lost: a reader of another shard may have read
    /// them shortly before, or be about to.
    async fn look_for_lost(&self, site: &SiteId, records: &[(String, Bytes)], backoff: &mut Backoff) {
        let at_hand: BTreeSet<TxnId> = ids(records).collect();
        while let Err(why) = self.take_unread(site, &at_hand, &mut BTreeSet::new()).await {
            self.observer.failed("consume", &format!("{site}: {why}"));
            backoff.wait().await;
        }
    }

    /// Hands one record over. Returns once it is handed over, which is before it is applied.
    async fn take(&self, id: &ShardId, sequence: String, data: Bytes) {
        let done = self.progress.open(id, sequence.clone(), data.len());
        if self.bugs.has(InjectedBug::CheckpointBeforeApply) {
            let again = self.progress.open(id, sequence.clone(), data.len());
            done();
            self.durability.wait_durable().await;
            return self.dispatch(id, &sequence, data, Box::new(again)).await;
        }
        self.dispatch(id, &sequence, data, Box::new(done)).await;
    }

    /// Decodes a record and hands it to its stage. Quarantines a bad record. Waits with a transaction of a newer
    /// release until this sidecar is upgraded.
    async fn dispatch(&self, id: &ShardId, sequence: &str, data: Bytes, done: Box<dyn FnOnce() + Send + Sync>) {
        loop {
            match Record::decode(&data) {
                Ok(Record::Transaction(transaction)) => {
                    let unsigned = self.unsigned(&transaction.site, &data);
                    // A forged record is no lag, and its site is no label of a metric.
                    if unsigned.is_none() {
                        self.observer.seen(&transaction.site, &transaction.id, transaction.committed_at_ms);
                    }
                    return self.sink.offer(Arc::from(transaction), data, unsigned, Some(done)).await;
                }
                Ok(Record::Located(locator)) => {
                    let unsigned = self.unsigned(&locator.site, &data);
                    if unsigned.is_none() {
                        self.observer.seen(&locator.site, &locator.id, locator.committed_at_ms);
                    }
                    return self.sink.offer(Arc::new(locator.outline()), data, unsigned, Some(done)).await;
                }
                Ok(Record::Announcement(announcement)) => return self.announced(&announcement, &data, done).await,
                Ok(Record::Later(announcement, why)) => {
                    self.observer.failed("consume", &format!("event {announcement} waits for an upgrade: {why}"));
                    self.announcements.keep(&announcement, &data);
                    return done();
                }
                Err(DecodeError::Newer(why)) if self.is_forged(&data).await => {
                    return self.forged(id, sequence, data, &why, done);
                }
                Err(DecodeError::Newer(why)) => {
                    self.observer.failed("consume", &format!("{}/{} waits for an upgrade: {why}", id.site, id.shard));
                    sleep(Duration::from_secs(30)).await;
                }
                Err(DecodeError::Bad(why) | DecodeError::Elsewhere(why)) => {
                    let is_forged = self.signing.is_required() && self.signing.verify(None, &data).is_err();
                    return match is_forged {
                        true => self.forged(id, sequence, data, &why, done),
                        false => self.quarantine(id, sequence, data, (HeldKind::Unreadable, why), done),
                    };
                }
            }
        }
    }

    /// Keeps a record that cannot be read, and that no site has signed, as evidence, if there is room.
    fn forged(&self, id: &ShardId, sequence: &str, data: Bytes, why: &str, done: Box<dyn FnOnce() + Send + Sync>) {
        self.signing.ended(Unsigned::Forged);
        match self.signing.may_keep() {
            true => self.quarantine(id, sequence, data, (HeldKind::Unsigned, not_signed(&why)), done),
            false => done(),
        }
    }

    fn quarantine(
        &self,
        id: &ShardId,
        sequence: &str,
        bytes: Bytes,
        (kind, reason): (HeldKind, String),
        done: Box<dyn FnOnce() + Send + Sync>,
    ) {
        let what = format!("{}/{}/{sequence}", id.site, id.shard);
        self.observer.quarantined(&what, &reason);
        let since_ms = self.clock.now_ms();
        let held = Held { bytes, kind, project: String::new(), reason, waits_for: vec![], since_ms };
        self.durability.stage(|changes| changes.quarantine.push((what, held)));
        done();
    }

    /// Why the signature of a record is not good, if records must be signed.
    fn unsigned(&self, site: &SiteId, record: &[u8]) -> Option<NotSigned> {
        if !self.signing.is_required() {
            return None;
        }
        self.signing.verify(Some(site), record).err()
    }

    /// Whether a record that only a newer release can read must be signed, and is not. Anybody who writes to the stream
    /// could stop the shard otherwise. If its key is not known, the keys are read again first.
    async fn is_forged(&self, record: &[u8]) -> bool {
        if !self.signing.is_required() {
            return false;
        }
        match self.signing.verify(None, record) {
            Ok(()) => false,
            Err(NotSigned::Unknown(_)) if self.signing.may_look() => {
                // A node that cannot read the keys waits: the record may be a true one.
                self.signing.read().await.is_ok() && self.signing.verify(None, record).is_err()
            }
            Err(_) => true,
        }
    }

    /// Hands a stream event to the events stage. Everything that it stages is durable before the checkpoint passes the
    /// event.
    async fn announced(&self, announcement: &Announcement, data: &Bytes, done: Box<dyn FnOnce() + Send + Sync>) {
        if self.bugs.has(InjectedBug::CheckpointBeforeEvent) {
            done();
            self.durability.wait_durable().await;
            return self.announcements.take(announcement, data);
        }
        self.announcements.take(announcement, data);
        done();
    }
}
