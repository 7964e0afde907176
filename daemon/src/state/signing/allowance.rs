//! How many records without a good signature a node looks at and keeps, so that a flood of them costs no more than
//! that: reads of the refdb, and room on the volume.

use std::time::Duration;

use tokio::time::Instant;

/// The bounds of the allowance.
#[derive(Clone, Copy, Debug)]
pub struct AllowanceLimits {
    /// The records that may be held against the journal at once.
    pub burst: u32,
    /// The time in which one more may be.
    pub one_per: Duration,
    /// The most forged records that stay in quarantine as evidence. Further ones are counted only.
    pub kept: usize,
}

impl Default for AllowanceLimits {
    fn default() -> Self {
        Self { burst: 500, one_per: Duration::from_millis(20), kept: 1_000 }
    }
}

/// The state of the bounds.
#[derive(Debug)]
pub(super) struct Allowance {
    limits: AllowanceLimits,
    left: u32,
    since: Instant,
    kept: usize,
}

impl Allowance {
    pub(super) fn new(limits: AllowanceLimits) -> Self {
        Self { limits, left: limits.burst, since: Instant::now(), kept: 0 }
    }

    /// Takes one look, if one is left.
    pub(super) fn take(&mut self) -> bool {
        let each = self.limits.one_per.max(Duration::from_micros(1));
        let earned = u32::try_from(self.since.elapsed().as_nanos() / each.as_nanos()).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(self.limits.burst);
            self.since = Instant::now();
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    /// Keeps one more forged record, if there is room.
    pub(super) fn keep(&mut self) -> bool {
        let has_room = self.kept < self.limits.kept;
        self.kept += usize::from(has_room);
        has_room
    }

    pub(super) fn kept(&mut self, count: usize) {
        self.kept = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_gets_its_burst_and_then_its_rate() {
        let mut allowance = Allowance::new(AllowanceLimits { burst: 3, one_per: Duration::from_millis(100), kept: 1 });
        let takes = |allowance: &mut Allowance| (0..100).filter(|_| allowance.take()).count();
        assert_eq!(takes(&mut allowance), 3);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(takes(&mut allowance), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(takes(&mut allowance), 3, "at most the burst");
        assert!(allowance.keep() && !allowance.keep());
    }
}
