//! An operator of the simulator who changes the list of sites: adds a third site to two, and later removes one that is
//! not active. The nodes of the removed site go on, die, and wake; they must commit nothing.

use std::sync::Arc;
use std::time::Duration;

use lockstep::seams::refdb::{DigestRecord, Role, SiteRecord};
use lockstep::stages::ports::Operators;
use lockstep_proto::site_list::{AddSiteRequest, RemoveSiteRequest, StreamPlace};
use lockstep_proto::{NodeId, SiteId};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::check::Violation;
use super::dice::Dice;
use super::failovers;
use super::phases::Phases;
use super::world::{World, newcomer};

/// How long the operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of times that the nodes of the removed site are killed and started again.
const WAKES: usize = 3;

impl World {
    /// A site was added to the list: starts its nodes and their Gerrits.
    pub fn joins(self: &Arc<Self>, site: &SiteId) {
        self.trace.note(site.as_str(), "JOINS");
        if !self.outside.lock().remove(site) {
            return;
        }
        for node in self.nodes_of(site) {
            if let Some(volume) = self.volume(&node) {
                self.watch.joins(&node, volume);
            }
            if let Some(gerrit) = self.gerrit(&node) {
                tokio::spawn(gerrit.clone().run(self.clone()));
            }
            let world = self.clone();
            tokio::spawn(async move { world.start(&node).await });
        }
    }

    /// A site was removed from the list. Its nodes go on, and count for nothing any more.
    pub fn leaves(&self, site: &SiteId) {
        self.trace.note(site.as_str(), "LEAVES");
        let nodes = self.nodes_of(site);
        self.outside.lock().insert(site.clone());
        nodes.iter().for_each(|node| self.watch.leaves(node));
    }

    /// A node of a site outside of the list that serves all the same. None if there is none.
    #[must_use]
    pub fn serves_outside(&self) -> Option<NodeId> {
        let outside = self.outside.lock().clone();
        let serves = |node: &NodeId| self.life(node).is_some_and(|life| life.node.is_ready());
        let mut all = self.everywhere().into_iter();
        all.find(|(node, site)| outside.contains(site) && serves(node)).map(|(node, _)| node)
    }
}

/// Adds a site, removes another one, and wakes it. Tries each step until it has taken effect.
pub async fn change(world: Arc<World>) {
    let dice = Dice::new(world.seed, "site list");
    pause(&dice, 1_000, 12_000).await;
    let new = newcomer();
    while record(&world, &new).await.is_none() {
        let desk = desk(&world, &dice).await;
        drop(timeout(PATIENCE, add(desk, &new)).await);
    }
    world.joins(&new);
    pause(&dice, 5_000, 20_000).await;
    let site = loop {
        let records = world.refdb().sites.sites().await.unwrap_or_default();
        if let Some(removed) = records.into_iter().find(|one| one.removed) {
            break removed.site;
        }
        let desk = desk(&world, &dice).await;
        // A removal of any site is tried. Of an active one it must be refused.
        if let Some(site) = dice.pick(&world.sites()).cloned().filter(|site| *site != new) {
            drop(timeout(PATIENCE, remove(&world, desk, &site)).await);
        }
    };
    let nodes = world.nodes_of(&site);
    world.leaves(&site);
    for _ in 0..WAKES {
        pause(&dice, 500, 8_000).await;
        for node in &nodes {
            world.crash(node);
            world.trace.note(node.as_str(), "WAKES");
            world.start(node).await;
        }
    }
    world.trace.note(site.as_str(), "THE LIST HAS CHANGED");
}

/// Waits until [`change`] has ended, without faults. No site is changed while a failover is in progress, and the
/// nemesis, who resumes those that are held, has stopped. So they are resumed here.
pub(super) async fn has_changed(phases: &Phases, changing: &JoinHandle<()>) -> Result<(), Violation> {
    let world = &phases.world;
    let until = world.trace.now_ms() + world.scenario.converge_ms;
    while !changing.is_finished() {
        phases.pass(200).await?;
        let unfinished = failovers::unfinished(world).await;
        if world.trace.now_ms() > until {
            let failover = unfinished.unwrap_or_else(|| "no failover is in progress".to_owned());
            let what = format!("the list of sites did not change in time: {failover}");
            return Err(Violation { property: "site-list", what });
        }
    }
    Ok(())
}

async fn pause(dice: &Dice, from: u64, to: u64) {
    sleep(Duration::from_millis(dice.between(from, to))).await;
}

/// The desk of a random node, after a pause. None if that node is down.
async fn desk(world: &World, dice: &Dice) -> Option<Arc<dyn Operators>> {
    pause(dice, 200, 2_000).await;
    tell(world).await;
    dice.pick(&world.nodes()).and_then(|node| world.life(node)?.node.operators())
}

async fn add(desk: Option<Arc<dyn Operators>>, site: &SiteId) {
    let Some(desk) = desk else { return };
    let request = AddSiteRequest { stream: StreamPlace::default(), reason: "the seed".to_owned() };
    drop(desk.add_site("operator", site, request).await);
}

async fn remove(world: &World, desk: Option<Arc<dyn Operators>>, site: &SiteId) {
    let (Some(desk), Some(record)) = (desk, record(world, site).await) else { return };
    let request = RemoveSiteRequest { expect_epoch: record.epoch, reason: "the seed".to_owned() };
    let answer = desk.remove_site("operator", site, request).await;
    let heard = answer.map_or_else(|error| error.message, |_| "done".to_owned());
    world.trace.note(site.as_str(), &format!("REMOVE as {:?}: {heard}", record.role));
    if record.role == Role::Active && heard == "done" {
        world.watch.violated("fencing", format!("{site} was removed while it is active"));
    }
}

async fn record(world: &World, site: &SiteId) -> Option<SiteRecord> {
    world.refdb().sites.sites().await.unwrap_or_default().into_iter().find(|one| one.site == *site)
}

/// Leaves a digest for each node, as the sidecar does beside its node: without one, no change of the list is taken.
async fn tell(world: &World) {
    for node in world.nodes() {
        let body = format!(r#"{{"format":1,"site":"x","node":"{node}","at_ms":1,"follows_list":true}}"#);
        let told = world.refdb().nodes.put_digest(&DigestRecord { node: node.clone(), body }).await;
        if let Err(error) = told {
            world.trace.note(node.as_str(), &format!("left no digest: {error}"));
        }
    }
}
