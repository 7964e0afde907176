//! The nemesis: breaks the world, as the seed decides, until it is told to stop.
//!
//! It mends each fault after a while, in a task of its own. Healing at the end does not wait for these tasks: it mends
//! everything at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep::seams::refdb::Role;
use lockstep_proto::{NodeId, Oid, ProjectKey, ProjectName, SiteId, Transaction};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::action::Action;
use super::dice::Dice;
use super::failovers;
use super::faults::{Cut, Driven, Seam, Throttle};
use super::forgery::{self, Forgery};
use super::rotten;
use super::world::{World, name};

/// The nemesis of one run.
pub struct Nemesis {
    world: Arc<World>,
    dice: Dice,
    stop: CancellationToken,
}

impl Nemesis {
    /// A nemesis that runs until `stop` is cancelled.
    #[must_use]
    pub fn new(world: Arc<World>, stop: CancellationToken) -> Self {
        let dice = Dice::new(world.seed, "nemesis");
        Self { world, dice, stop }
    }

    /// Takes an action of the scenario after each random pause, until it is stopped.
    pub async fn run(self) {
        if self.world.scenario.actions.is_empty() {
            return;
        }
        let mut driver = self.world.faults.driver();
        loop {
            let pause = self.dice.between(self.world.scenario.nemesis_ms / 4, self.world.scenario.nemesis_ms);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                node = self.struck(&mut driver) => {
                    self.strike(node).await;
                    continue;
                }
                () = sleep(Duration::from_millis(pause)) => {}
            }
            if let Some(action) = self.dice.weighted(&self.world.scenario.actions) {
                self.act(action).await;
            }
        }
    }

    /// Waits for a node that has begun a step of a failover, and that the seed strikes. For ever if it strikes none.
    async fn struck(&self, driver: &mut watch::Receiver<Option<Driven>>) -> NodeId {
        let strikes = self.world.scenario.strikes;
        while strikes > 0 && driver.changed().await.is_ok() {
            let node = driver.borrow().as_ref().map(|driven| driven.node.clone());
            if let Some(node) = node.filter(|_| self.dice.chance(strikes)) {
                return node;
            }
        }
        std::future::pending().await
    }

    /// Kills, pauses or cuts off the driver of a failover, soon after it has begun a step.
    async fn strike(&self, node: NodeId) {
        sleep(Duration::from_millis(self.dice.below(12))).await;
        match self.dice.below(3) {
            0 => self.comes_back(&node, self.world.crash(&node)),
            1 => self.pause(node),
            _ => self.partition(node),
        }
    }

    async fn act(&self, action: Action) {
        let (nodes, sites) = (self.targets(), self.world.sites());
        let (Some(node), Some(site)) = (self.dice.pick(&nodes).cloned(), self.dice.pick(&sites).cloned()) else {
            return;
        };
        match action {
            Action::Crash => self.comes_back(&node, self.world.crash(&node)),
            Action::PowerCut => self.comes_back(&node, self.world.power_cut(&node, &self.dice)),
            // The last whole volume is never lost: nobody could restore its data.
            Action::LoseDisk if !self.world.watch.another_is_whole(&node) => {}
            Action::LoseDisk => self.comes_back(&node, self.world.lose_disk(&node)),
            Action::PutBack => self.put_back(node),
            Action::Restart => self.restart(node),
            Action::Pause => self.pause(node),
            Action::Partition => self.partition(node),
            Action::Reshard => self.reshard(&site),
            Action::Replay => self.replay(&site).await,
            Action::BadRecord => self.bad_record(&site).await,
            Action::Forge => self.forge(&site).await,
            Action::ClockJump => self.clock_jump(&node),
            Action::Fence => self.fence(site).await,
            Action::BadCommit => self.bad_commit(&site).await,
            Action::ThrottleShard => self.throttle(|project| Throttle::Shard(site.clone(), project)),
            Action::ThrottlePartition => self.throttle(Throttle::Partition),
            Action::SiteDown => self.site_down(&site),
            Action::Drill => failovers::drill(&self.world, &self.dice).await,
            Action::Failover => failovers::ask(&self.world, &self.dice).await,
        }
    }

    /// The nodes of which an action on one node strikes one.
    fn targets(&self) -> Vec<NodeId> {
        let aim = self.world.scenario.aim;
        if aim == 0 || !self.dice.chance(aim) {
            return self.world.nodes();
        }
        let known = self.world.watch.known();
        let active = known.facts.sites.values().filter(|site| site.role == Role::Active);
        let active: Vec<SiteId> = active.map(|site| site.site.clone()).collect();
        drop(known);
        active.iter().flat_map(|site| self.world.nodes_of(site)).collect()
    }

    fn comes_back(&self, node: &NodeId, was_up: bool) {
        if !was_up {
            return;
        }
        let (world, node, down) = (self.world.clone(), node.clone(), self.dice.between(100, 8_000));
        tokio::spawn(async move {
            sleep(Duration::from_millis(down)).await;
            world.start(&node).await;
        });
    }

    /// Takes a snapshot of a node's volume, and puts the volume back to it after a while.
    fn put_back(&self, node: NodeId) {
        let Some(snapshot) = self.world.watch.snapshot(&node) else { return };
        let (world, later, down) = (self.world.clone(), self.dice.between(500, 10_000), self.dice.between(100, 3_000));
        world.trace.note(node.as_str(), "SNAPSHOT");
        tokio::spawn(async move {
            sleep(Duration::from_millis(later)).await;
            // As with a lost volume, the last whole one stays.
            if world.faults.is_on() && world.watch.another_is_whole(&node) && world.put_back(&node, &snapshot) {
                sleep(Duration::from_millis(down)).await;
                world.start(&node).await;
            }
        });
    }

    fn restart(&self, node: NodeId) {
        let (world, down) = (self.world.clone(), self.dice.between(100, 3_000));
        tokio::spawn(async move {
            if world.stop(&node).await {
                sleep(Duration::from_millis(down)).await;
                world.start(&node).await;
            }
        });
    }

    fn pause(&self, node: NodeId) {
        let (world, still) = (self.world.clone(), self.dice.between(500, 30_000));
        world.trace.note(node.as_str(), &format!("PAUSE {still} ms"));
        world.faults.pause(&node, true);
        tokio::spawn(async move {
            sleep(Duration::from_millis(still)).await;
            world.trace.note(node.as_str(), "RESUME");
            world.faults.pause(&node, false);
        });
    }

    fn partition(&self, node: NodeId) {
        let seams: &[Seam] = match self.dice.below(4) {
            0 => &[Seam::RefDb],
            1 => &[Seam::EventLog],
            2 => &[Seam::Blobs],
            _ => &[Seam::RefDb, Seam::EventLog, Seam::Blobs, Seam::Peers],
        };
        let cut = if self.dice.chance(500) { Cut::Requests } else { Cut::Answers };
        let (world, lasts) = (self.world.clone(), self.dice.between(500, 12_000));
        world.trace.note(node.as_str(), &format!("PARTITION {seams:?} {cut:?} {lasts} ms"));
        seams.iter().for_each(|seam| world.faults.cut(&node, *seam, Some(cut)));
        tokio::spawn(async move {
            sleep(Duration::from_millis(lasts)).await;
            world.trace.note(node.as_str(), "MENDED");
            seams.iter().for_each(|seam| world.faults.cut(&node, *seam, None));
        });
    }

    /// Lets a part of a service that one project depends on throttle for a while.
    fn throttle(&self, what: impl FnOnce(ProjectName) -> Throttle) {
        let number = self.dice.below(self.world.scenario.throttled_projects);
        let (what, lasts) = (what(name(&format!("p{number}"))), self.dice.between(2_000, 40_000));
        let world = self.world.clone();
        world.trace.note("nemesis", &format!("THROTTLE {what:?} {lasts} ms"));
        world.faults.throttle(&what, true);
        tokio::spawn(async move {
            sleep(Duration::from_millis(lasts)).await;
            world.trace.note("nemesis", &format!("END OF THROTTLE {what:?}"));
            world.faults.throttle(&what, false);
        });
    }

    /// Takes a whole site down for longer than any lease, and for less than the retention.
    fn site_down(&self, site: &SiteId) {
        let lasts = self.dice.between(30_000, 36_000);
        self.world.trace.note(site.as_str(), &format!("SITE DOWN {lasts} ms"));
        for node in self.world.nodes_of(site) {
            if self.world.crash(&node) {
                let world = self.world.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_millis(lasts)).await;
                    world.start(&node).await;
                });
            }
        }
    }

    fn reshard(&self, site: &SiteId) {
        if let Some(what) = self.world.backend.reshard(site, &self.dice) {
            self.world.trace.note(site.as_str(), &format!("RESHARD {what}"));
        }
    }

    /// Appends old records to the stream again, as a publisher does that was paused after it sent them.
    async fn replay(&self, site: &SiteId) {
        let old: Vec<(String, Bytes)> = {
            let known = self.world.watch.known();
            let of_site = known.facts.transactions.values().filter(|transaction| transaction.site == *site);
            let record = |id| known.facts.encoded.get(id).cloned();
            let key = |transaction: &Transaction| transaction.project.name.to_string();
            of_site.filter_map(|transaction| Some((key(transaction), record(&transaction.id)?))).collect()
        };
        for _ in 0..self.dice.between(1, 5) {
            let Some((key, data)) = self.dice.pick(&old) else { return };
            self.world.trace.note(site.as_str(), "REPLAY");
            self.world.append_raw(site, key, data.clone()).await;
        }
    }

    async fn bad_record(&self, site: &SiteId) {
        let length = self.dice.between(1, 40);
        let bytes: Vec<u8> = (0..length).map(|_| u8::try_from(self.dice.below(256)).unwrap_or(0)).collect();
        let data = Bytes::from([b"\xff".as_slice(), &bytes].concat());
        self.world.trace.note(site.as_str(), "BAD RECORD");
        self.world.watch.known().bad_records += 1;
        self.world.append_raw(site, "p0", data).await;
    }

    /// Appends a forged record to the stream.
    async fn forge(&self, site: &SiteId) {
        let forged = {
            let known = self.world.watch.known();
            match self.world.scenario.signed && self.dice.chance(800) {
                true => forgery::forge_well(&self.dice, site, &known),
                false => forgery::forge(&self.dice, site, &known),
            }
        };
        let Some(Forgery { transaction, data, must_be_found }) = forged else { return };
        self.world.trace.note(site.as_str(), &format!("FORGED {} of {}", transaction.id, transaction.project));
        {
            let mut known = self.world.watch.known();
            known.mirror.forged.insert(data.clone());
            let held = (transaction.id.to_string(), transaction.project.clone());
            known.forged.extend(must_be_found.then_some(held));
        }
        self.world.append_raw(site, transaction.project.name.as_str(), data).await;
    }

    async fn bad_commit(&self, site: &SiteId) {
        let (project, number) = {
            let known = self.world.watch.known();
            let live: Vec<ProjectKey> =
                known.facts.projects.values().filter(|key| !known.facts.is_past(key)).cloned().collect();
            (self.dice.pick(&live).cloned(), known.facts.bad.len() as u64 + 1)
        };
        let Some(project) = project else { return };
        // Every other one has a successor, whose object nobody has.
        let successors: &[Oid] = if number.is_multiple_of(2) { &[rotten::successor(number)] } else { &[] };
        if let Some(txn) = self.world.commit_bad(site, &project, number, successors).await {
            self.world.trace.note(site.as_str(), &format!("BAD COMMIT {txn} to {project}"));
        }
    }

    fn clock_jump(&self, node: &NodeId) {
        const DAY_MS: u64 = 86_400_000;
        let size = i64::try_from(self.dice.below(DAY_MS)).unwrap_or(0);
        self.world.set_clock(node, if self.dice.chance(500) { size } else { -size });
    }

    async fn fence(&self, site: SiteId) {
        self.world.set_role(&site, Role::Fenced).await;
        let (world, lasts) = (self.world.clone(), self.dice.between(2_000, 15_000));
        tokio::spawn(async move {
            sleep(Duration::from_millis(lasts)).await;
            world.set_role(&site, Role::Active).await;
        });
    }
}
