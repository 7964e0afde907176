//! The times within which everything is verified, and the share of a core that this takes.

use std::time::Duration;

use lockstep_proto::verify::Part;

/// A core, in the unit of [`BackgroundSettings::share_of_core`].
const CORE: u32 = 1_000;

/// The settings of the verification in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundSettings {
    /// Each ref is verified again within this time.
    pub refs_within: Duration,
    /// Each object is verified again within this time.
    pub objects_within: Duration,
    /// The share of one core that the verification takes at most, in thousandths: 1 to 1,000.
    pub share_of_core: u32,
    /// Whether each pass over the objects runs `git fsck` in each repository, too.
    pub fsck: bool,
}

impl Default for BackgroundSettings {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self { refs_within: day, objects_within: 7 * day, share_of_core: 50, fsck: false }
    }
}

impl BackgroundSettings {
    /// The time within which a part is verified.
    #[must_use]
    pub fn within(&self, part: Part) -> Duration {
        match part {
            Part::Refs => self.refs_within,
            Part::Objects => self.objects_within,
        }
    }

    /// The pause after a slice that was busy for this long. It includes the waits for the disk and for the refdb, so
    /// the processor time is less.
    pub(super) fn pause_after(&self, busy: Duration) -> Duration {
        let share = self.share_of_core.clamp(1, CORE);
        busy.saturating_mul(CORE - share) / share
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slices_of_any_length_take_their_share_of_a_core_together() {
        for share_of_core in [50, 1_000, 10] {
            let settings = BackgroundSettings { share_of_core, ..BackgroundSettings::default() };
            let (began, mut busy) = (Instant::now(), Duration::ZERO);
            for milliseconds in [100, 200, 700, 3_000] {
                let slice = Instant::now();
                sleep(Duration::from_millis(milliseconds)).await;
                busy += slice.elapsed();
                sleep(settings.pause_after(slice.elapsed())).await;
            }
            let (taken, share) = (busy.as_secs_f64() / began.elapsed().as_secs_f64(), f64::from(share_of_core) / 1e3);
            assert!(taken <= share && taken > share * 0.99, "{taken} of a core, and {share} is allowed");
        }
    }
}
