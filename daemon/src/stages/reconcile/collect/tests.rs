//! Tests of the collection behind slots that are needed, or cannot be collected.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use lockstep_proto::TxnId;
use parking_lot::Mutex;

use super::*;
use crate::base::transaction_builder::TransactionBuilder;
use crate::seams::blob::{BlobError, Payload};
use crate::seams::refdb::staged::{StagedRefs, WRITE_ITEMS};
use crate::seams::refdb::{CommitRequest, JournalStore, Needs};

/// Blobs of which one cannot be deleted.
struct Undeletable(String);

#[async_trait]
impl BlobStore for Undeletable {
    async fn put(&self, _: &str, _: &Payload) -> Result<(), BlobError> {
        unreachable!("nothing is stored")
    }

    async fn get(&self, _: &str, _: u64, _: &[u8; 32], _: &std::path::Path) -> Result<Payload, BlobError> {
        unreachable!("nothing is read")
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        if key == self.0 { Err(BlobError::NotNow("no permission".into())) } else { Ok(()) }
    }
}

/// A journal whose collection removes only every other slot, and then fails, while `fails` is set.
struct Partly {
    inner: Arc<dyn JournalStore>,
    fails: AtomicBool,
    reads: AtomicU64,
}

#[async_trait]
impl JournalStore for Partly {
    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.slot(slot).await
    }

    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        self.inner.poison(slot).await
    }

    async fn collect(&self, slots: &[Slot]) -> Result<(), RefDbError> {
        if !self.fails.load(Ordering::SeqCst) {
            return self.inner.collect(slots).await;
        }
        let some: Vec<Slot> = slots.iter().skip(1).step_by(2).cloned().collect();
        self.inner.collect(&some).await?;
        Err(RefDbError::NotNow("throttled".into()))
    }
}

/// Receives the failures of the collector.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn failed(&self, _: &'static str, why: &dyn std::fmt::Display) {
        self.0.lock().push(why.to_string());
    }
}

fn txn(seq: u64) -> TxnId {
    format!("n.1.0.{seq}.00000000000000aa").parse().unwrap()
}

fn key(seq: u64) -> String {
    format!("packs/{seq}")
}

/// A drained incarnation with these many committed slots, and a node that is past all of them.
async fn world(slots: u64, needs: Needs) -> (NodeContext, Arc<Partly>, Arc<Told>) {
    let mut context = NodeContext::in_memory();
    let record = context.open_incarnation().await;
    for seq in 0..slots {
        let project = if seq == 5 { "owed#1" } else { "p#1" };
        let pack = Pack::Blob { key: key(seq), bytes: 1, sha256: [0; 32] };
        let built = TransactionBuilder::of(txn(seq)).project(project).creates(&format!("b{seq}"));
        let transaction = Transaction { pack, ..built.build() };
        let request = CommitRequest {
            encoded: transaction.encode(),
            transaction,
            directories: Vec::new(),
            freed: Default::default(),
            lock_token: None,
        };
        context.refdb.refs.commit(&request).await.unwrap();
    }
    let refdb = &context.refdb;
    refdb.incarnations.mark(&record.site, &record.id, &[Seq(slots)], &[Seq(slots)]).await.unwrap();
    refdb.incarnations.freeze(&record.site, &record.id).await.unwrap();
    refdb.incarnations.drained(&record.site, &record.id, &[Seq(slots)]).await.unwrap();
    let node =
        NodeRecord { low_water: [("n.1.0".parse().unwrap(), Seq(slots))].into(), needs, ..NodeRecord::first("m", "s") };
    refdb.nodes.put_node(&node, None).await.unwrap();
    let journal = Arc::new(Partly {
        inner: Arc::clone(&context.refdb.journal),
        fails: AtomicBool::new(false),
        reads: AtomicU64::new(0),
    });
    context.refdb.journal = Arc::clone(&journal) as _;
    let told = Arc::new(Told::default());
    context.observer = Arc::clone(&told) as _;
    (context, journal, told)
}

fn collector(context: &NodeContext) -> Collector {
    let staged =
        Arc::new(StagedRefs::new(context.refdb.clone(), context.long_forms.clone(), WRITE_ITEMS, context.bugs));
    let state = NodeState::load(context, Duration::from_millis(50)).unwrap();
    Collector::new(context, &state, staged, Duration::from_secs(1))
}

/// A collector of a node that knows these slots as plain ones.
fn collector_that_knows(context: &NodeContext, slots: impl Iterator<Item = u64>) -> Collector {
    let collector = collector(context);
    for seq in slots {
        let project = if seq == 5 { "owed#1" } else { "p#1" };
        let transaction = TransactionBuilder::of(txn(seq)).project(project).creates("a").build();
        collector.plain.note(&transaction, &transaction.encode(), false);
    }
    collector
}

/// The numbers of the slots that still hold a transaction.
async fn left(context: &NodeContext, slots: u64) -> Vec<u64> {
    let mut left = Vec::new();
    for seq in 0..slots {
        if matches!(context.refdb.journal.slot(&txn(seq).slot).await, Ok(SlotState::Committed(..))) {
            left.push(seq);
        }
    }
    left
}

async fn is_forgotten(context: &NodeContext) -> bool {
    context.refdb.incarnations.incarnations(&context.site).await.unwrap().is_empty()
}

#[tokio::test]
async fn slots_that_a_node_needs_stay_and_the_rest_goes() {
    let needs = Needs { held: [(txn(3), "p".parse().unwrap())].into(), owed: ["owed".parse().unwrap()].into() };
    let (context, _, told) = world(250, needs).await;
    let (collector, mut lanes) = (collector(&context), BTreeMap::new());
    for _ in 0..2 {
        collector.collect(&mut lanes).await.unwrap();
        assert_eq!(left(&context, 250).await, [3, 5]);
    }
    assert!(!is_forgotten(&context).await && told.0.lock().is_empty());
    // The node needs nothing any more. A collector that starts anew finds the two slots, although they lie below the
    // collected ones.
    let before = context.refdb.nodes.nodes().await.unwrap().remove(0);
    let free = NodeRecord { needs: Needs::default(), ..before.clone() };
    context.refdb.nodes.put_node(&free, Some(&before)).await.unwrap();
    let mut lanes = BTreeMap::new();
    for _ in 0..3 {
        collector.collect(&mut lanes).await.unwrap();
    }
    assert!(left(&context, 250).await.is_empty() && is_forgotten(&context).await);
}

#[tokio::test]
async fn a_slot_that_stays_needed_is_not_read_again() {
    let needs = Needs { held: [(txn(3), "p".parse().unwrap())].into(), owed: ["owed".parse().unwrap()].into() };
    let (context, journal, _) = world(250, needs).await;
    let (collector, mut lanes) = (collector(&context), BTreeMap::new());
    collector.collect(&mut lanes).await.unwrap();
    let before = journal.reads.load(Ordering::SeqCst);
    for _ in 0..3 {
        collector.collect(&mut lanes).await.unwrap();
    }
    assert_eq!(journal.reads.load(Ordering::SeqCst), before);
    assert_eq!(left(&context, 250).await, [3, 5]);
}

#[tokio::test]
async fn one_blob_that_cannot_be_deleted_holds_up_nothing_else_and_is_told() {
    let (mut context, _, told) = world(250, Needs::default()).await;
    context.blobs = Arc::new(Undeletable(key(7)));
    let mut lanes = BTreeMap::new();
    collector(&context).collect(&mut lanes).await.unwrap();
    assert_eq!(left(&context, 250).await, [7]);
    assert!(!is_forgotten(&context).await && told.0.lock()[0].contains("packs/7"), "{:?}", told.0.lock());
    context.blobs = Arc::new(Undeletable(String::new()));
    collector(&context).collect(&mut lanes).await.unwrap();
    assert!(left(&context, 250).await.is_empty() && is_forgotten(&context).await);
}

#[tokio::test]
async fn nothing_is_lost_behind_a_batch_that_failed_in_part() {
    for remembers in [true, false] {
        let (context, journal, _) = world(250, Needs::default()).await;
        let (collector, mut lanes) = (collector(&context), BTreeMap::new());
        journal.fails.store(true, Ordering::SeqCst);
        assert!(collector.collect(&mut lanes).await.is_err());
        journal.fails.store(false, Ordering::SeqCst);
        if !remembers {
            // The process died meanwhile.
            lanes.clear();
        }
        for _ in 0..3 {
            collector.collect(&mut lanes).await.unwrap();
        }
        assert_eq!(left(&context, 250).await, Vec::<u64>::new(), "remembers: {remembers}");
        assert!(is_forgotten(&context).await);
    }
}

#[tokio::test]
async fn plain_slots_are_collected_without_a_look_and_stay_while_they_are_needed() {
    const SLOTS: u64 = 250;
    let needs = Needs { held: [(txn(3), "p".parse().unwrap())].into(), owed: ["owed".parse().unwrap()].into() };
    let (context, journal, told) = world(SLOTS, needs).await;
    // Slot 7 is not known, as after an answer that was lost.
    let collector = collector_that_knows(&context, (0..SLOTS).filter(|seq| *seq != 7));
    let mut lanes = BTreeMap::new();
    collector.collect(&mut lanes).await.unwrap();
    // The search for the first slot halves the lane eight times, and slot 7 is read.
    assert_eq!(journal.reads.load(Ordering::SeqCst), 9);
    assert_eq!(left(&context, SLOTS).await, [3, 5]);
    assert!(collector.plain.find(&txn(3).slot).is_some(), "it is needed");
    assert!(collector.plain.find(&txn(4).slot).is_none(), "it is collected");
    assert!(told.0.lock().is_empty());
}
