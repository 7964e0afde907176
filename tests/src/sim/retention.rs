//! Retention: in some worlds, each stream forgets the records that are older than a time, which the seed decides. That
//! may be shorter than a pause, or than the time for which a site is down.
//!
//! A reader finds out that it missed records because its own position is forgotten. A reader that is to begin at the
//! oldest record has no position, and is told nothing, as with Kinesis. So nothing more of a stream is forgotten until
//! every node has a position in it again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::SiteId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::world::World;

/// The time between two looks at the streams, in virtual milliseconds. A node may miss the records of this time.
const LOOK_MS: u64 = 4_000;
/// The shortest and the longest retention, in virtual milliseconds. A site is down for 30 seconds or more.
const KEEPS_MS: (u64, u64) = (6_000, 40_000);

/// The retention of the streams of this world, in virtual milliseconds. None if they keep everything. It has dice of
/// its own: a world without retention is the same as if there were none anywhere.
#[must_use]
pub fn drawn(world: &World) -> Option<u64> {
    let dice = Dice::new(world.seed, "retention of streams");
    dice.chance(world.scenario.retentions).then(|| dice.between(KEEPS_MS.0, KEEPS_MS.1))
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
