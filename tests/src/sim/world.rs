//! The world: sites, their nodes and volumes, and the actions on them.
//!
//! There are three sites with one or two nodes each, and each node has a volume of its own. A node that is down keeps
//! its volume.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep::base::clock::{Clock, Entropy, SeededEntropy};
use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::eventlog::Record;
use lockstep::seams::peers::{FallbackPeers, Peers};
use lockstep::seams::refdb::{RefDb, Role};
use lockstep_proto::{NodeId, SiteId};
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::backend::{Backend, NodeFactory, SimDependencies, SimNode, Volume};
use super::blobs::FaultyBlobs;
use super::check::availability::Now;
use super::dice::Dice;
use super::eventlog::FaultyEventLog;
use super::faults::{Faults, Seam};
use super::gerrit::Gerrit;
use super::item_by_item::ItemByItem;
use super::keys::Keys;
use super::link::Link;
use super::peers::{FaultyPeer, Sees, Up};
use super::read_limits::ReadMeter;
use super::refdb::{FaultyRefDb, FaultyTables};
use super::repositories::FaultyRepositories;
use super::scenario::{RETENTION, Scenario, Writes};
use super::store::WatchedStore;
use super::trace::{EPOCH_MS, Trace};
use super::watch::{Snapshot, Watch};
use super::witness::WitnessedRefDb;

/// The sites.
const SITES: [&str; 3] = ["eu-aws", "muc-1", "blr-1"];

/// The site that joins where the list of sites changes.
#[must_use]
pub fn newcomer() -> SiteId {
    name("muc-1")
}

/// A node's wall clock: virtual time, and the offset that the nemesis has set.
struct SimClock {
    trace: Arc<Trace>,
    offset_ms: Mutex<i64>,
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let offset = *self.offset_ms.lock();
        (EPOCH_MS + self.trace.now_ms()).saturating_add_signed(offset)
    }
}

/// A running node, and the token that ends with this life.
#[derive(Clone)]
pub struct Life {
    /// The handles of the running node.
    pub node: Arc<dyn SimNode>,
    /// Cancelled when the node is killed or stopped.
    pub ended: CancellationToken,
    /// How often the node's volume was lost, or put back to an earlier state, before this life.
    pub losses: u64,
}

struct Place {
    site: SiteId,
    volume: Arc<dyn Volume>,
    clock: Arc<SimClock>,
    life: Option<Life>,
    lives: u64,
    boots: u64,
    losses: u64,
    /// Ends with the life that runs, or that starts.
    ended: CancellationToken,
    /// Whether a start is in progress.
    starting: bool,
}

/// The world of one run.
pub struct World {
    /// The seed of the run.
    pub seed: u64,
    /// The settings of the run.
    pub scenario: Scenario,
    /// The trace of the run, which also keeps the virtual time.
    pub trace: Arc<Trace>,
    /// The plan of all faults, which stories and the nemesis change.
    pub faults: Arc<Faults>,
    /// Learns of every call and every change, and checks the properties.
    pub watch: Arc<Watch>,
    /// The services that all sites share, without faults.
    pub backend: Arc<dyn Backend>,
    refdb: RefDb,
    /// The refdb as nodes read it.
    seen: RefDb,
    factory: Arc<dyn NodeFactory>,
    /// Counts the reads of the streams.
    meter: Arc<ReadMeter>,
    pub(super) bugs: InjectedBugs,
    places: Mutex<BTreeMap<NodeId, Place>>,
    gerrits: BTreeMap<NodeId, Arc<Gerrit>>,
    up: Up,
    /// The keys with which nodes sign from their next start on.
    pub keys: Keys,
    /// The sites that are not in the list of sites at present.
    pub(super) outside: Mutex<BTreeSet<SiteId>>,
}

impl World {
    /// Builds the world inside the run's runtime. Nothing runs yet.
    #[must_use]
    pub fn new(
        seed: u64,
        scenario: Scenario,
        bugs: InjectedBugs,
        backend: Arc<dyn Backend>,
        factory: Arc<dyn NodeFactory>,
    ) -> Arc<Self> {
        let trace = Arc::new(Trace::start());
        let faults = Faults::new(seed, trace.clone(), scenario.rates.clone(), scenario.calls.clone());
        let watch = Watch::new(trace.clone(), backend.eventlog());
        if scenario.writes == Writes::SingleItem {
            backend.write_single_items();
        }
        let refdb = WitnessedRefDb::over(backend.refdb(), backend.blobs(), watch.clone());
        let seen =
            RefDb { refs: Arc::new(ItemByItem::new(Arc::clone(&refdb.refs), seed, &scenario, bugs)), ..refdb.clone() };
        let (mut places, mut gerrits) = (BTreeMap::new(), BTreeMap::new());
        let outside: BTreeSet<SiteId> = scenario.list_moves.then(newcomer).into_iter().collect();
        for (site, nodes) in SITES.into_iter().zip(scenario.nodes) {
            for number in 0..nodes {
                let (site, node) = (name::<SiteId>(site), name::<NodeId>(&format!("{site}-{number}")));
                let volume = backend.volume();
                if !outside.contains(&site) {
                    watch.volume(&node, volume.clone());
                }
                gerrits.insert(node.clone(), Arc::new(Gerrit::new(seed, node.clone(), volume.clone())));
                let clock = Arc::new(SimClock { trace: trace.clone(), offset_ms: Mutex::new(0) });
                places.insert(
                    node,
                    Place {
                        site,
                        volume,
                        clock,
                        life: None,
                        lives: 0,
                        boots: 1,
                        losses: 0,
                        ended: CancellationToken::new(),
                        starting: false,
                    },
                );
            }
        }
        let places = Mutex::new(places);
        let keys = Keys::new(scenario.signed);
        let (up, meter) = (Up::default(), Arc::new(ReadMeter::new(scenario.reads)));
        Arc::new(Self {
            seed,
            scenario,
            trace,
            faults,
            watch,
            backend,
            refdb,
            seen,
            factory,
            meter,
            bugs,
            places,
            gerrits,
            up,
            keys,
            outside: Mutex::new(outside),
        })
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<NodeId, Place>> {
        self.places.lock()
    }

    /// Every node of the sites in the list, in the order of the names.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        let outside = self.outside.lock().clone();
        let places = self.places();
        places.iter().filter(|(_, place)| !outside.contains(&place.site)).map(|(node, _)| node.clone()).collect()
    }

    /// The names of the sites in the list.
    #[must_use]
    pub fn sites(&self) -> Vec<SiteId> {
        let outside = self.outside.lock();
        self.all_sites().into_iter().filter(|site| !outside.contains(site)).collect()
    }

    /// Every node with its site, in the list or outside of it.
    pub(super) fn everywhere(&self) -> Vec<(NodeId, SiteId)> {
        self.places().iter().map(|(node, place)| (node.clone(), place.site.clone())).collect()
    }

    /// The names of all sites, of which every world has the same.
    #[must_use]
    pub fn all_sites(&self) -> Vec<SiteId> {
        SITES.into_iter().map(name).collect()
    }

    /// The nodes of a site. None of a site outside of the list.
    #[must_use]
    pub fn nodes_of(&self, site: &SiteId) -> Vec<NodeId> {
        if self.outside.lock().contains(site) {
            return Vec::new();
        }
        self.places().iter().filter(|(_, place)| place.site == *site).map(|(node, _)| node.clone()).collect()
    }

    /// The node's present life. None if it is down.
    #[must_use]
    pub fn life(&self, node: &NodeId) -> Option<Life> {
        self.places().get(node)?.life.clone()
    }

    /// The raw volume of a node, up or down. None if there is no such node.
    #[must_use]
    pub fn volume(&self, node: &NodeId) -> Option<Arc<dyn Volume>> {
        Some(self.places().get(node)?.volume.clone())
    }

    /// The Gerrit beside a node.
    #[must_use]
    pub fn gerrit(&self, node: &NodeId) -> Option<&Arc<Gerrit>> {
        self.gerrits.get(node).filter(|_| self.factory.have_gerrits())
    }

    /// The refdb without faults. The watch sees its effects.
    #[must_use]
    pub fn refdb(&self) -> RefDb {
        self.refdb.clone()
    }

    /// Enrols every site, as the scenario says.
    ///
    /// # Errors
    /// The errors of the raw refdb.
    pub async fn enroll(&self) -> Result<(), String> {
        self.watch.known().facts.one_active = self.scenario.one_active;
        for site in self.sites() {
            let is_standby = self.scenario.one_active && self.sites().iter().min() != Some(&site);
            let role = if is_standby { Role::Standby } else { Role::Active };
            self.refdb.sites.enroll_site(&site, role).await.map_err(|error| error.to_string())?;
            self.backend.eventlog().ensure(&site).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Starts a node that is down. A failed start is repeated until it succeeds or `hold_down` stops it.
    pub async fn start(&self, node: &NodeId) {
        let Some(parts) = self.begin_life(node) else { return };
        loop {
            match self.factory.start(parts.clone()).await {
                Ok(running) => return self.came_up(node, running),
                Err(why) => self.trace.note(node.as_str(), &format!("did not start: {why}")),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn begin_life(&self, node: &NodeId) -> Option<SimDependencies> {
        let mut places = self.places();
        let peers = self.peers(node, &places);
        let place = places.get_mut(node)?;
        if place.life.is_some() || std::mem::replace(&mut place.starting, true) {
            return None;
        }
        place.lives += 1;
        place.ended = CancellationToken::new();
        let ended = place.ended.clone();
        self.trace.note(node.as_str(), &format!("starts, life {}", place.lives));
        self.watch.life(node);
        let link = |seam| Link::new(&self.faults, node, seam);
        let entropy = SeededEntropy::new(Dice::new(self.seed, &format!("{node}/{}", place.lives)).next());
        Some(SimDependencies {
            site: place.site.clone(),
            node: node.clone(),
            sites: self.sites(),
            boot: format!("boot-{}", place.boots),
            trace: self.trace.clone(),
            refdb: RefDb::of(&Arc::new(FaultyRefDb::new(self.seen.clone(), link(Seam::RefDb)))),
            tables: Arc::new(FaultyTables::new(self.backend.tables(), link(Seam::RefDb))),
            eventlog: Arc::new(FaultyEventLog {
                inner: self.backend.eventlog(),
                link: link(Seam::EventLog),
                meter: self.meter.clone(),
                watch: self.watch.clone(),
                keeps: self.scenario.keeps_ms(&Dice::new(self.seed, RETENTION)).map(Duration::from_millis),
            }),
            blobs: Arc::new(FaultyBlobs::new(self.backend.blobs(), link(Seam::Blobs), self.watch.clone())),
            peers: Arc::new(peers),
            repositories: Arc::new(FaultyRepositories::new(
                place.volume.repositories(),
                link(Seam::Repositories),
                self.watch.clone(),
            )),
            store: Arc::new(WatchedStore::new(place.volume.store(), link(Seam::Store), self.watch.clone(), ended)),
            clock: place.clock.clone(),
            entropy: Arc::new(entropy),
            signer: self.keys.signer(node, &place.site),
            write_items: self.scenario.writes.items(self.seed),
            verifies: self.scenario.verifies,
            shares: self.scenario.shares,
            autoscales: self.scenario.autoscales,
            bugs: self.bugs,
        })
    }

    /// The other nodes as peers, including those of the same site.
    fn peers(&self, node: &NodeId, places: &BTreeMap<NodeId, Place>) -> FallbackPeers {
        let others = places.iter().filter(|(other, _)| *other != node);
        let peers = others.map(|(other, place)| {
            let link = Link::new(&self.faults, node, Seam::Peers);
            let who = (place.site.clone(), other.clone());
            let seen = Sees { up: self.up.clone(), watch: self.watch.clone() };
            Arc::new(FaultyPeer::new(who, place.volume.repositories(), seen, link)) as Arc<dyn Peers>
        });
        FallbackPeers::new(peers.collect())
    }

    fn came_up(&self, node: &NodeId, running: Arc<dyn SimNode>) {
        self.trace.note(node.as_str(), "is up");
        self.up.set(node, Some(running.clone()));
        if let Some(place) = self.places().get_mut(node) {
            let (ended, losses) = (place.ended.clone(), place.losses);
            place.life = Some(Life { node: running, ended, losses });
            place.starting = false;
        }
    }

    fn end_life(&self, node: &NodeId) -> Option<Life> {
        let life = self.places().get_mut(node)?.life.take()?;
        self.up.set(node, None);
        self.watch.life(node);
        Some(life)
    }

    /// Kills a process. Returns whether it was up.
    pub fn crash(&self, node: &NodeId) -> bool {
        let Some(life) = self.end_life(node) else { return false };
        self.trace.note(node.as_str(), "CRASH");
        life.node.kill();
        life.ended.cancel();
        self.faults.pause(node, false);
        true
    }

    /// Stops a process in an orderly way. Returns whether it was up.
    pub async fn stop(&self, node: &NodeId) -> bool {
        let Some(life) = self.places().get(node).and_then(|place| place.life.clone()) else { return false };
        self.trace.note(node.as_str(), "STOP");
        let stopped = tokio::time::timeout(Duration::from_secs(20), life.node.stop()).await.is_ok();
        self.trace.note(node.as_str(), if stopped { "has stopped" } else { "did not stop in time" });
        // The node may have been fenced, and started again meanwhile. Then its next life goes on.
        let is_the_same = self.life(node).is_some_and(|now| Arc::ptr_eq(&now.node, &life.node));
        if is_the_same && let Some(life) = self.end_life(node) {
            life.node.kill();
            life.ended.cancel();
        }
        true
    }

    /// Cuts the power of a machine. Returns whether its node was up.
    pub fn power_cut(&self, node: &NodeId, dice: &Dice) -> bool {
        let Some(volume) = self.volume(node) else { return false };
        if !self.crash(node) {
            return false;
        }
        self.trace.note(node.as_str(), "POWER CUT");
        if let Some(gerrit) = self.gerrit(node) {
            gerrit.crash(&self.trace);
        }
        volume.power_cut(dice);
        self.boot(node);
        self.watch.damaged(node, false);
        true
    }

    /// Loses a volume with everything on it. Returns whether its node was up.
    pub fn lose_disk(&self, node: &NodeId) -> bool {
        let Some(volume) = self.volume(node) else { return false };
        if !self.crash(node) {
            return false;
        }
        self.trace.note(node.as_str(), "DISK LOST");
        if let Some(gerrit) = self.gerrit(node) {
            gerrit.lose_disk(&self.trace);
        }
        volume.wipe();
        self.boot(node);
        self.lost(node);
        self.watch.damaged(node, true);
        true
    }

    /// Puts a node's volume back to a snapshot, without a boot of its machine. Returns whether its node was up.
    pub fn put_back(&self, node: &NodeId, snapshot: &Snapshot) -> bool {
        if !self.crash(node) {
            return false;
        }
        self.trace.note(node.as_str(), "SNAPSHOT RESTORED");
        self.watch.put_back(node, snapshot);
        self.lost(node);
        true
    }

    fn lost(&self, node: &NodeId) {
        if let Some(place) = self.places().get_mut(node) {
            place.losses += 1;
        }
    }

    fn boot(&self, node: &NodeId) {
        if let Some(place) = self.places().get_mut(node) {
            place.boots += 1;
        }
    }

    /// Sets a node's wall clock to this offset from virtual time.
    pub fn set_clock(&self, node: &NodeId, offset_ms: i64) {
        self.trace.note(node.as_str(), &format!("CLOCK {offset_ms:+} ms"));
        if let Some(place) = self.places().get(node) {
            *place.clock.offset_ms.lock() = offset_ms;
        }
    }

    /// Appends a record to a site's stream, without faults.
    pub async fn append_raw(&self, site: &SiteId, key: &str, data: Bytes) {
        let record = Record { partition_key: key.to_owned(), data };
        if let Err(error) = self.backend.eventlog().append(site, &[record]).await {
            self.trace.note(site.as_str(), &format!("not appended: {error}"));
        }
    }

    /// Checks every node. A node that is fenced is ended and started again, as Kubernetes does.
    pub fn tick(self: &Arc<Self>) {
        let is_fifth = (self.trace.now_ms() / self.scenario.tick_ms.max(1)).is_multiple_of(5);
        for node in self.nodes() {
            let life = self.life(&node);
            self.watch.tick(&node, life.as_ref().is_some_and(|life| life.node.is_ready()));
            if let Some(life) = life.as_ref().filter(|_| is_fifth)
                && let (Some(peer_refs), Some(rebuilds)) = (life.node.peer_refs(), life.node.rebuilds())
            {
                self.watch.tells(&node, peer_refs.as_ref(), rebuilds.as_ref());
            }
            let is_up = life.is_some();
            let reaches = !self.faults.is_paused(&node) && !self.faults.is_cut(&node, Seam::RefDb);
            if self.scenario.judges_availability() {
                self.watch.available(&node, Now { is_up, is_untouched: is_up && reaches });
            }
            if life.is_some_and(|life| life.node.is_fenced()) && !self.faults.is_paused(&node) {
                self.trace.note(node.as_str(), "is fenced");
                self.crash(&node);
                let world = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    world.start(&node).await;
                });
            }
        }
    }

    /// The nodes that do not serve.
    #[must_use]
    pub fn not_ready(&self) -> Vec<NodeId> {
        let ready = |node: &NodeId| self.life(node).is_some_and(|life| life.node.is_ready());
        self.nodes().into_iter().filter(|node| !ready(node)).collect()
    }
}

/// Parses a name that the simulator's code contains.
pub(super) fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("the simulator's own names are well-formed")
}
