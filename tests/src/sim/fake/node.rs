//! The tiny node: one transaction at a time, a window of one slot, and a full read of the refdb every 200 ms.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep::seams::eventlog::{Position, Record, StreamInfo};
use lockstep::seams::git::RefMove;
use lockstep::seams::refdb::{
    CommitAnswer, CommitRequest, IncarnationRecord, MarkAnswer, Obstacle, OpenAnswer, RefItem, SlotState,
};
use lockstep::seams::volume::{Changes, Held, HeldKind, RefRecord, ShardId};
use lockstep_proto::bridge::*;
use lockstep_proto::*;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::sim::backend::SimDependencies;

/// A mistake that the tiny node makes on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// Answers "refused" when the refdb's answer is lost.
    RefuseSilence,
    /// Writes the version map without a sync.
    NoSync,
    /// Writes checkpoints before it reads the refdb.
    CheckpointFirst,
    /// Commits, but appends nothing to the event log.
    NoPublish,
    /// Drains a predecessor without poisoning its window.
    NoPoison,
    /// Sends an attempt without an answer again under another id.
    OtherBytes,
    /// Moves only the first ref of a transaction that it catches up.
    HalfBatch,
    /// Sends no directory names with its commits.
    NoNames,
}

pub(super) struct Inner {
    parts: SimDependencies,
    mistake: Mistake,
    ready: AtomicBool,
    work: Mutex<Work>,
}

struct Work {
    id: IncarnationId,
    seq: Seq,
}

const PATIENCE: Duration = Duration::from_millis(100);

/// Repeats a call until it succeeds.
macro_rules! insist {
    ($call:expr) => {
        loop {
            match $call.await {
                Ok(value) => break value,
                Err(_) => sleep(PATIENCE).await,
            }
        }
    };
}

impl Inner {
    pub(super) fn new(parts: SimDependencies, mistake: Mistake) -> Self {
        let id = IncarnationId { node: parts.node.clone(), number: Incarnation(0) };
        Self { parts, mistake, ready: AtomicBool::new(false), work: Mutex::new(Work { id, seq: Seq(0) }) }
    }

    /// Opens an incarnation, and reads the refdb again and again.
    pub(super) async fn run(&self) {
        self.open_incarnation().await;
        loop {
            {
                let _work = self.work.lock().await;
                self.look().await;
            }
            self.ready.store(true, Ordering::SeqCst);
            sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    pub(super) fn kill(&self) {
        self.ready.store(false, Ordering::SeqCst);
    }

    pub(super) async fn stop(&self) {
        self.kill();
        let _idle = self.work.lock().await;
    }

    async fn open_incarnation(&self) {
        let (refdb, site, node) = (&self.parts.refdb, &self.parts.site, &self.parts.node);
        let mut work = self.work.lock().await;
        for old in insist!(refdb.incarnations.incarnations(site)).into_iter().filter(|record| record.id.node == *node) {
            self.drain(&old.id).await;
        }
        loop {
            let number = insist!(refdb.incarnations.last_incarnation(site, node)) + 1;
            let sites = insist!(refdb.sites.sites());
            let epoch = sites.iter().find(|record| record.site == *site).map_or(0, |record| record.epoch);
            let id = IncarnationId { node: node.clone(), number: Incarnation(number) };
            let record = IncarnationRecord::open(id.clone(), site.clone(), epoch, 1, 1);
            match refdb.incarnations.open_incarnation(&record).await {
                Ok(OpenAnswer::Opened) => {
                    *work = Work { id, seq: Seq(0) };
                    return;
                }
                Ok(OpenAnswer::NotAllowed(_)) | Err(_) => sleep(PATIENCE).await,
                Ok(OpenAnswer::Exists) => self.drain(&id).await,
            }
        }
    }

    async fn drain(&self, id: &IncarnationId) {
        let record = insist!(self.parts.refdb.incarnations.freeze(&self.parts.site, id));
        let slot = id.lane(Lane(0)).slot(record.settled[0]);
        let mut published = record.settled[0];
        if self.mistake != Mistake::NoPoison {
            if let SlotState::Committed(_, bytes) = insist!(self.parts.refdb.journal.poison(&slot)) {
                self.publish(bytes).await;
            }
            published = published.next();
        }
        insist!(self.parts.refdb.incarnations.drained(&self.parts.site, id, &[published]));
    }

    async fn publish(&self, bytes: bytes::Bytes) {
        let Ok(transaction) = Transaction::decode(&bytes) else { return };
        let record = Record { partition_key: transaction.project.name.to_string(), data: bytes };
        if self.mistake == Mistake::NoPublish {
            return;
        }
        loop {
            let answers = self.parts.eventlog.append(&self.parts.site, std::slice::from_ref(&record)).await;
            if answers.is_ok_and(|answers| answers.iter().all(Result::is_ok)) {
                return;
            }
            sleep(PATIENCE).await;
        }
    }

    /// Reads every stream to its end, then the refdb, then moves the refs that are behind.
    async fn look(&self) {
        let mut changes = Changes::default();
        for record in insist!(self.parts.refdb.sites.sites()) {
            // The marks are read before the refdb, so every transaction below them is in the refdb's state that is read
            // later.
            for one in insist!(self.parts.refdb.incarnations.incarnations(&record.site)) {
                changes.low_water.push((one.id.lane(Lane(0)), one.published[0]));
            }
            if let Ok(stream) = self.parts.eventlog.describe(&record.site).await {
                self.read(&record.site, &stream, &mut changes).await;
            }
        }
        if self.mistake == Mistake::CheckpointFirst {
            let early = Changes { checkpoints: std::mem::take(&mut changes.checkpoints), ..Changes::default() };
            insist!(self.parts.store.commit(early.clone()));
        }
        for (name, state) in insist!(self.parts.refdb.refs.projects(None, 100)) {
            self.catch_up(&ProjectKey::new(&name, 1), state, &mut changes).await;
        }
        if self.mistake != Mistake::NoSync {
            insist!(self.parts.repositories.sync());
        }
        insist!(self.parts.store.commit(changes.clone()));
    }

    async fn read(&self, site: &SiteId, stream: &StreamInfo, changes: &mut Changes) {
        let known = self.parts.store.checkpoints().unwrap();
        let mut ended: BTreeSet<String> = BTreeSet::new();
        for info in &stream.shards {
            let id = ShardId { site: site.clone(), created: stream.created.clone(), shard: info.id.clone() };
            let from = known.get(&id).cloned().unwrap_or(Position::Start);
            if from == Position::End {
                ended.insert(info.id.clone());
                continue;
            }
            if !info.parents.iter().all(|parent| ended.contains(parent)) {
                continue;
            }
            let Ok(mut reader) = self.parts.eventlog.open(site, &info.id, &from).await else { continue };
            let mut at = from;
            while let Ok(batch) = reader.next(100).await {
                for (number, data) in &batch.records {
                    at = Position::After(number.clone());
                    if Transaction::decode(data).is_err() {
                        let held = Held {
                            bytes: data.clone(),
                            kind: HeldKind::Unreadable,
                            project: String::new(),
                            reason: "bad".into(),
                            waits_for: Vec::new(),
                            since_ms: 0,
                        };
                        changes.quarantine.push((format!("{}/{number}", info.id), held));
                    }
                }
                if batch.ended {
                    at = Position::End;
                    ended.insert(info.id.clone());
                }
                if batch.ended || batch.records.is_empty() {
                    break;
                }
            }
            changes.checkpoints.push((id, at));
        }
    }

    async fn catch_up(&self, project: &ProjectKey, state: RefItem, changes: &mut Changes) {
        insist!(self.parts.repositories.create(&project.name, &"refs/heads/b0".parse().unwrap()));
        let mut items = insist!(self.parts.refdb.refs.scan(project, None, 1_000));
        items.push(state);
        let mut moves = Vec::new();
        for item in items {
            let known = self.parts.store.reference(project, &item.key).unwrap();
            let Some(txn) = item.txn.filter(|_| item.version > known.map_or(Version::NONE, |known| known.version))
            else {
                continue;
            };
            if self.mistake == Mistake::HalfBatch && !moves.is_empty() {
                break;
            }
            if let Some(name) = item.key.as_ref_name() {
                moves.push(RefMove { name: name.clone(), old: None, new: item.value.oid(), message: String::new() });
            }
            let record = RefRecord { version: item.version, value: item.value, txn };
            changes.refs.push((project.clone(), item.key, record));
        }
        insist!(self.parts.repositories.move_refs(&project.name, &moves, &[]));
    }

    /// Commits a batch. Returns whether it is committed.
    pub(super) async fn commit(
        &self,
        project: &ProjectKey,
        request_id: &str,
        wants: &[(RefKey, RefValue, Expected)],
    ) -> bool {
        let mut work = self.work.lock().await;
        self.look().await;
        let slot = work.id.lane(Lane(0)).slot(work.seq);
        let mut transaction = self.transaction(project, request_id, wants, slot.txn(self.parts.entropy.next()));
        let expected = |old: &RefValue, expected: &Expected| match expected {
            Expected::Any => true,
            Expected::Absent => old.is_absent(),
            Expected::Oid(oid) => old.oid() == Some(*oid),
        };
        if !transaction.commands.iter().zip(wants).all(|(command, (_, _, want))| expected(&command.old, want)) {
            return false;
        }
        let committed = self.send(&mut transaction).await;
        if self.mistake == Mistake::RefuseSilence && committed.is_none() {
            return false;
        }
        let bytes = match insist!(self.parts.refdb.journal.poison(&transaction.id.slot)) {
            SlotState::Committed(_, bytes) => Some(bytes),
            SlotState::Poisoned | SlotState::Empty => None,
        };
        if let Some(bytes) = &bytes {
            self.publish(bytes.clone()).await;
        }
        let next = work.seq.next();
        while let MarkAnswer::NotOpen(_) =
            insist!(self.parts.refdb.incarnations.mark(&self.parts.site, &work.id, &[next], &[next]))
        {
            sleep(PATIENCE).await;
        }
        work.seq = next;
        self.look().await;
        bytes.is_some()
    }

    /// Sends an attempt until it is answered. None if a lost answer counts as one, which is a mistake.
    async fn send(&self, transaction: &mut Transaction) -> Option<bool> {
        for _ in 0..4 {
            let directories = if self.mistake == Mistake::NoNames { BTreeSet::new() } else { folders(transaction) };
            let request = CommitRequest {
                encoded: transaction.encode(),
                transaction: transaction.clone(),
                directories: directories.into_iter().collect(),
                freed: Default::default(),
                lock_token: None,
            };
            match self.parts.refdb.refs.commit(&request).await {
                Ok(CommitAnswer::Committed) => return Some(true),
                Ok(CommitAnswer::Refused(obstacles)) => {
                    let own = &transaction.id;
                    let landed = |it: &Obstacle| matches!(it, Obstacle::Slot(SlotState::Committed(id, _)) if id == own);
                    return Some(obstacles.iter().any(landed));
                }
                Ok(CommitAnswer::Conflict) => {}
                Err(error) if error.is_unknown() && self.mistake == Mistake::RefuseSilence => return None,
                Err(error) if error.is_unknown() && self.mistake == Mistake::OtherBytes => {
                    transaction.id.slot.seq = transaction.id.slot.seq.next();
                }
                Err(_) => {}
            }
            sleep(PATIENCE).await;
        }
        None
    }

    fn transaction(
        &self,
        project: &ProjectKey,
        request_id: &str,
        wants: &[(RefKey, RefValue, Expected)],
        id: TxnId,
    ) -> Transaction {
        let command = |(key, new, _): &(RefKey, RefValue, Expected)| {
            let known = self.parts.store.reference(project, key).unwrap();
            let (version, old, predecessor) = match known {
                Some(known) => (known.version, known.value, Some(known.txn)),
                None => (Version::NONE, RefValue::Absent, None),
            };
            Command { key: key.clone(), old, new: new.clone(), version: version.next(), predecessor }
        };
        Transaction {
            committed_at_ms: self.parts.clock.now_ms(),
            commands: wants.iter().map(command).collect(),
            request_id: request_id.to_owned(),
            ..Transaction::empty(id, self.parts.site.clone(), project.clone())
        }
    }
}

fn folders(transaction: &Transaction) -> BTreeSet<RefName> {
    let created = transaction.commands.iter().filter(|command| command.old.is_absent() && !command.new.is_absent());
    let names = created.filter_map(|command| command.key.as_ref_name());
    names
        .flat_map(|name| name.as_str().match_indices('/').filter_map(|(at, _)| name.as_str()[..at].parse().ok()))
        .collect()
}
