//! Bounds the rate at which a verification reads the refdb.

use std::time::Duration;

use lockstep_proto::{ProjectKey, RefKey};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

/// Read units per second of one partition of a table.
const PARTITION_UNITS: f64 = 3_000.0;
/// The bytes that one unit of a strongly consistent read covers.
const UNIT_BYTES: u64 = 4_096;
/// Items per page of a scan. Each page is rounded up to a unit.
pub(super) const PAGE: usize = 1_000;
/// Bytes of an item beside its keys: version, value, transaction id, and the names of the attributes.
const ITEM_BYTES: u64 = 120;

/// Hands out read units at a fixed rate.
pub(super) struct Pace {
    per_second: f64,
    /// When the units that were handed out so far are used up.
    used_until: Mutex<Instant>,
    /// The time that its readers have waited, together.
    waited: Mutex<Duration>,
}

impl Pace {
    /// A pace that takes this share of the read units of a partition, in percent.
    pub(super) fn of_share(share: u32) -> Self {
        Self { per_second: Self::rate(share), used_until: Mutex::new(Instant::now()), waited: Mutex::default() }
    }

    /// Read units per second at a share of 1 to 100 percent.
    pub(super) fn rate(share: u32) -> f64 {
        PARTITION_UNITS * f64::from(share.clamp(1, 100)) / 100.0
    }

    /// Takes units that were just read, and waits until they are used up.
    pub(super) async fn take(&self, units: u64) {
        let until = {
            let mut used_until = self.used_until.lock();
            *used_until = (*used_until).max(Instant::now()) + Duration::from_secs_f64(units as f64 / self.per_second);
            *used_until
        };
        let began = Instant::now();
        sleep_until(until).await;
        *self.waited.lock() += began.elapsed();
    }

    /// Waits before a second look.
    pub(super) async fn rest(&self, pause: Duration) {
        sleep(pause).await;
        *self.waited.lock() += pause;
    }

    /// The time that its readers have waited. A reader that is alone was not busy in it.
    pub(super) fn waited(&self) -> Duration {
        *self.waited.lock()
    }
}

/// About the size of a ref's item.
pub(super) fn item_bytes(project: &ProjectKey, key: &RefKey) -> u64 {
    (project.name.as_str().len() + 10 + key.to_string().len()) as u64 + ITEM_BYTES
}

/// The units that a scan of `count` items of together `bytes` takes.
pub(super) fn units(bytes: u64, count: u64) -> u64 {
    let pages = count / PAGE as u64 + 1;
    bytes / UNIT_BYTES + pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_share_is_kept_by_all_readers_together() {
        let pace = Pace::of_share(20);
        let began = Instant::now();
        let read = async || (0..3).map(|_| pace.take(600)).collect::<futures::future::JoinAll<_>>().await;
        let _ = read().await;
        assert_eq!(began.elapsed().as_secs(), 3, "1,800 units at 600 per second");
    }

    #[tokio::test(start_paused = true)]
    async fn the_waits_are_told_apart_from_the_work() {
        let (pace, began) = (Pace::of_share(20), Instant::now());
        pace.take(600).await;
        sleep(Duration::from_secs(2)).await;
        pace.rest(Duration::from_secs(3)).await;
        assert_eq!((began.elapsed() - pace.waited()).as_secs(), 2);
    }

    #[test]
    fn a_project_costs_a_unit_at_least_and_a_large_one_by_its_bytes() {
        assert_eq!((units(0, 0), units(400, 2)), (1, 1));
        assert_eq!(units(200 * 100_000, 100_000), 4_882 + 101);
    }
}
