//! Retention: in some worlds, each stream forgets the records that are older than a time, which the seed decides. That
//! may be shorter than a pause, or than the time for which a site is down. In some of these worlds a whole site is away
//! for longer than any retention, and until its nodes are expelled.
//!
//! A reader finds out that it missed records because its own position is forgotten. A reader that begins at the oldest
//! record has no position, and is told nothing, as with Kinesis: it must ask for the slots below the published marks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::SiteId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::scenario::RETENTION;
use super::world::World;

/// The time between two looks at the streams, in virtual milliseconds. A node may miss the records of this time.
const LOOK_MS: u64 = 4_000;

/// The share of the worlds with retention in which a site is away, in permille.
const AWAY: u64 = 250;
/// The shortest and the longest time until the site goes, and for which it is away, in virtual milliseconds. A node is
/// expelled after 40 seconds, and a run breaks things for 60.
const GOES_MS: (u64, u64) = (500, 5_000);
const AWAY_MS: (u64, u64) = (44_000, 52_000);

/// The retention of the streams of a world.
pub struct Retention {
    /// How long a record is kept, in virtual milliseconds.
    pub keeps_ms: u64,
    /// The site that is away for longer, if there is one.
    pub away: Option<Away>,
}

/// A site that is away for longer than any retention, and until its nodes are expelled.
pub struct Away {
    site: SiteId,
    goes_ms: u64,
    lasts_ms: u64,
}

/// The retention of the streams of this world. None if they keep everything. It has dice of its own: a world without
/// retention is the same as if there were none anywhere.
#[must_use]
pub fn drawn(world: &World) -> Option<Retention> {
    let dice = Dice::new(world.seed, RETENTION);
    let keeps_ms = world.scenario.keeps_ms(&dice)?;
    let site = dice.pick(&world.sites()).filter(|_| dice.chance(AWAY)).cloned();
    let (goes_ms, lasts_ms) = (dice.between(GOES_MS.0, GOES_MS.1), dice.between(AWAY_MS.0, AWAY_MS.1));
    Some(Retention { keeps_ms, away: site.map(|site| Away { site, goes_ms, lasts_ms }) })
}

/// Takes all nodes of a site down, and keeps them down whoever starts them, until their time is over. At the end of the
/// faults every node is started anyway.
pub async fn keep_away(world: Arc<World>, away: Away, stop: CancellationToken) {
    let Away { site, goes_ms, lasts_ms } = away;
    let back_ms = world.trace.now_ms() + goes_ms + lasts_ms;
    let mut pause_ms = goes_ms;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(Duration::from_millis(pause_ms)) => {}
        }
        if world.trace.now_ms() >= back_ms {
            break;
        }
        for node in world.nodes_of(&site) {
            if world.crash(&node) {
                world.trace.note(site.as_str(), &format!("{node} IS AWAY"));
            }
        }
        pause_ms = 500;
    }
    world.trace.note(site.as_str(), "THE SITE COMES BACK");
    for node in world.nodes_of(&site) {
        let world = world.clone();
        tokio::spawn(async move { world.start(&node).await });
    }
}

/// Forgets old records until it is stopped.
pub async fn forget(world: Arc<World>, keeps_ms: u64, stop: CancellationToken) {
    world.trace.note("run", &format!("RETENTION {keeps_ms} ms"));
    // Per look, its time, and the number that the next record of each stream had.
    let mut looks: VecDeque<(u64, Vec<(SiteId, u64)>)> = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(Duration::from_millis(LOOK_MS)) => {}
        }
        let now_ms = world.trace.now_ms();
        let next = world.sites().into_iter().map(|site| (site.clone(), world.watch.next_record(&site)));
        looks.push_back((now_ms, next.collect()));
        while looks.front().is_some_and(|(at, _)| at + keeps_ms <= now_ms) {
            let Some((_, old)) = looks.pop_front() else { break };
            for (site, before) in old {
                if world.watch.trims(&site, before) {
                    world.trace.note(site.as_str(), &format!("FORGETS the records before {before}"));
                    world.backend.trim(&site, before);
                }
            }
        }
    }
}
