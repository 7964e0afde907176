//! Listeners: one per node. A listener takes stream events as the bridge inside a Gerrit does for its users.
//!
//! A listener outlives its sidecar, but not its volume, which Gerrit shares. Now and then Gerrit itself is restarted:
//! it opens a new session, and unconfirmed events are delivered again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::NodeId;
use lockstep_proto::announcement::{EventsDoneRequest, NextEventsRequest};
use tokio::time::sleep;

use super::dice::Dice;
use super::faults::Seam;
use super::world::{Life, World};

/// The time for which a session may keep an event without confirming it.
pub const LEASE: Duration = Duration::from_secs(4);

/// The listener of one node.
pub struct Listener {
    world: Arc<World>,
    node: NodeId,
    dice: Dice,
    sessions: u64,
    /// The life of the node from which the session takes events.
    life: Option<Life>,
    /// The number of lost volumes of the node so far.
    losses: u64,
    /// The events that the session took in this life of the node, and their times.
    taken: BTreeMap<String, u64>,
    /// The events that it has not confirmed.
    unconfirmed: Vec<String>,
}

impl Listener {
    /// A listener that has received nothing yet.
    #[must_use]
    pub fn new(world: Arc<World>, node: NodeId) -> Self {
        let dice = Dice::new(world.seed, &format!("{node}/listener"));
        Self { world, node, dice, sessions: 0, life: None, losses: 0, taken: BTreeMap::new(), unconfirmed: Vec::new() }
    }

    /// Takes events, for ever.
    pub async fn run(mut self) {
        loop {
            match self.world.life(&self.node) {
                Some(life) => self.listen(life).await,
                None => self.life = None,
            }
            sleep(Duration::from_millis(self.dice.between(1, 300))).await;
        }
    }

    async fn listen(&mut self, life: Life) {
        let same = self.life.as_ref().is_some_and(|before| Arc::ptr_eq(&before.node, &life.node));
        if !same {
            // A new sidecar delivers unconfirmed events again, even to the same session.
            self.taken.clear();
            self.life = Some(life.clone());
        }
        let lost = std::mem::replace(&mut self.losses, life.losses) != life.losses;
        if lost || self.dice.chance(30) {
            self.sessions += 1;
            self.taken.clear();
            self.unconfirmed.clear();
            self.world.trace.note(self.node.as_str(), "GERRIT RESTARTED");
        }
        let took = tokio::select! {
            biased;
            () = life.ended.cancelled() => return,
            took = self.take(&life) => took,
        };
        if !took || life.ended.is_cancelled() {
            return;
        }
        tokio::select! {
            biased;
            () = life.ended.cancelled() => {}
            () = self.confirm(&life) => {}
        }
    }

    fn session(&self) -> String {
        format!("{}/gerrit-{}", self.node, self.sessions)
    }

    /// Takes the available events. Returns whether the node answered.
    async fn take(&mut self, life: &Life) -> bool {
        let Some(events) = life.node.events() else { return false };
        let most = usize::try_from(self.dice.between(1, 8)).unwrap_or(1);
        let request = NextEventsRequest { session: self.session(), most, wait_ms: self.dice.below(500) };
        let Ok(answer) = events.next(request).await else { return false };
        if self.dice.chance(self.world.faults.rates(Seam::Gerrit).lose_answer) {
            self.world
                .trace
                .note(self.node.as_str(), &format!("the listener never heard {} events", answer.events.len()));
            return false;
        }
        for event in answer.events {
            self.world.trace.note(self.node.as_str(), &format!("hears {} of {}", event.id, event.origin));
            // An event that is not confirmed within the lease is delivered again, which is correct.
            let (now, lease) = (self.world.trace.now_ms(), u64::try_from(LEASE.as_millis()).unwrap_or(0));
            let before = self.taken.insert(event.id.clone(), now);
            let again = before.is_some_and(|before| now < before + lease);
            self.world.watch.heard(&self.node, &event, again);
            self.unconfirmed.push(event.id);
        }
        true
    }

    /// Confirms the first of the received events, most often all of them.
    async fn confirm(&mut self, life: &Life) {
        let Some(events) = life.node.events() else { return };
        let heard = self.unconfirmed.len();
        let count =
            if self.dice.chance(700) { heard } else { usize::try_from(self.dice.below(heard as u64)).unwrap_or(0) };
        let done: Vec<String> = self.unconfirmed[..count].to_vec();
        if done.is_empty() {
            return;
        }
        self.world.watch.confirms(&self.node, &done);
        let request = EventsDoneRequest { session: self.session(), done: done.clone() };
        if events.done(request).await.is_ok() && !life.ended.is_cancelled() {
            self.world.watch.confirmed(&self.node, &done);
            self.unconfirmed.drain(..count);
        }
    }
}
