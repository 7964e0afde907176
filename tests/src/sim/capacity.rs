//! The load of streams whose number of shards follows it: a load that jumps, the digests by which nodes tell it, and
//! the changes that were made before the run.
//!
//! The autoscalers are those of the nodes. A run is shorter than the day for which Kinesis counts changes, so the
//! streams of some sites begin with most of them used up. At each site one more stops to count while the run goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep::seams::refdb::{DigestRecord, Document, DocumentRecord, Nodes};
use lockstep_proto::capacity::{Capacities, StreamCapacity};
use lockstep_proto::overview::{DIGEST_FORMAT, Written};
use lockstep_proto::{NodeId, SiteId};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::faults::Seam;
use super::link::Link;
use super::refdb::FaultyRefDb;
use super::trace::EPOCH_MS;
use super::world::World;

/// The loads between which a site jumps, in thousandths of a shard's writes, per node.
const LOADS: [u64; 5] = [10, 20, 300, 900, 2_000];
/// The shortest and the longest time for which a load stays, in virtual milliseconds.
const STAYS_MS: (u64, u64) = (3_000, 9_000);
/// The time between two digests of a node, in virtual milliseconds.
const TELLS_MS: u64 = 500;
/// The numbers of changes of the last hours with which streams begin.
const USED: [u64; 4] = [0, 1, 3, 7];
const HOUR_MS: u64 = 3_600_000;
/// For so long an autoscaler counts a change.
const COUNTS_MS: u64 = 24 * HOUR_MS + 60_000;

/// Stores the changes that were made before the run.
///
/// # Errors
/// The errors of the raw refdb.
pub(super) async fn begin(world: &World) -> Result<(), String> {
    let dice = Dice::new(world.seed, "changes before the run");
    let mut all = Capacities::default();
    for site in world.sites() {
        let used = dice.pick(&USED).copied().unwrap_or(0);
        let mut calls_ms: Vec<u64> = (1..=used).map(|hours| EPOCH_MS - hours * HOUR_MS).collect();
        calls_ms.push(EPOCH_MS - COUNTS_MS + dice.between(15_000, 40_000));
        calls_ms.iter().for_each(|at_ms| world.watch.shards_were_set(&site, *at_ms));
        all.sites.insert(site, StreamCapacity { calls_ms, ..StreamCapacity::default() });
    }
    let body = serde_json::to_string(&all).map_err(|error| error.to_string())?;
    let record = DocumentRecord { revision: 1, body };
    let stored = world.refdb().documents.put_document(Document::Capacity, &record).await;
    stored.map(|_| ()).map_err(|error| error.to_string())
}

/// One node as its digests tell it.
#[derive(Default)]
struct Teller {
    is_up: bool,
    starts: u64,
    written: Written,
}

impl Teller {
    /// Some time passes at a load. A start begins anew.
    fn pass(&mut self, is_up: bool, load: u64) {
        if is_up && !self.is_up {
            (self.starts, self.written) = (self.starts + 1, Written::default());
        }
        self.is_up = is_up;
        self.written.bytes += (load << 20) * TELLS_MS / 1_000_000;
        self.written.records += 1;
    }
}

/// Has nodes tell the load of their sites, until it is stopped. A digest passes through the link of its node, so it may
/// be late or lost. A node that is down or paused tells nothing.
pub(super) async fn tell(world: Arc<World>, stop: CancellationToken) {
    let dice = Dice::new(world.seed, "load of streams");
    let mut loads: BTreeMap<SiteId, (u64, u64)> = BTreeMap::new();
    let mut tellers: BTreeMap<NodeId, Teller> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(Duration::from_millis(TELLS_MS)) => {}
        }
        let now_ms = world.trace.now_ms();
        for (node, site) in world.everywhere() {
            let (load, until_ms) = loads.entry(site.clone()).or_default();
            if now_ms >= *until_ms {
                *load = dice.pick(&LOADS).copied().unwrap_or(0);
                *until_ms = now_ms + dice.between(STAYS_MS.0, STAYS_MS.1);
            }
            let teller = tellers.entry(node.clone()).or_default();
            teller.pass(world.life(&node).is_some(), *load);
            if teller.is_up && !world.faults.is_paused(&node) {
                tokio::spawn(put(world.clone(), node, site, teller.starts, teller.written));
            }
        }
    }
}

/// Leaves the digest of a node in the refdb.
async fn put(world: Arc<World>, node: NodeId, site: SiteId, starts: u64, written: Written) {
    let at_ms = EPOCH_MS + world.trace.now_ms();
    let body = json!({"format": DIGEST_FORMAT, "site": site, "node": node, "at_ms": at_ms, "starts": starts,
        "written": written});
    let refdb = FaultyRefDb::new(world.refdb(), Link::new(&world.faults, &node, Seam::RefDb));
    // A digest that is lost is followed by the next one.
    let _ = refdb.put_digest(&DigestRecord { node, body: body.to_string() }).await;
}
