//! How much may be sent to a stream now, and which groups pause: a pure function of answers and times.
//!
//! Nothing is known about the limits of a stream. They are those of its shards, other nodes share them, and an
//! on-demand stream changes them. So the pace follows the answers alone. A group is a sequence of records whose order
//! must be kept. All records of a group have one partition key, so a group meets the limit of one shard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;

/// Most records in one append. Kinesis takes at most 500.
const MOST_RECORDS: usize = 400;
/// Most bytes in one append. Kinesis takes at most 5 MiB.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// The bounds of the first request, and those below which no refusal of records shrinks them.
const LEAST: Budget = Budget { records: 16, bytes: 64 * 1024 };
/// The first pause after a refusal. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause while records are taken now and then.
const SHORT: Duration = Duration::from_millis(250);
/// The longest pause while nothing is taken.
const LONG: Duration = Duration::from_secs(2);
/// For this long after a record was taken, pauses stay short.
const LATELY: Duration = Duration::from_secs(5);
/// After a record had to be appended twice, this many records are sent without the risk of another one. So this bounds
/// the share of duplicates.
const CAUTION: usize = 50;

/// The bounds of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most records of one append.
    pub records: usize,
    /// Number of bytes of their data.
    pub bytes: usize,
}

/// One record of an append that was answered.
#[derive(Clone, Debug)]
pub struct Attempted<'a> {
    /// The group of the record.
    pub group: &'a str,
    /// The size of its data.
    pub bytes: usize,
    /// Whether the stream took it, or will never take it.
    pub done: bool,
}

/// A group whose last append was refused, at least in part.
#[derive(Clone, Debug)]
struct Refused {
    /// Number of refusals since the group was last taken whole.
    times: u32,
    /// The end of the pause.
    until: Instant,
    /// Number of records that the next append may have.
    records: usize,
    /// When a record of the group was last taken. At first: when the group was first refused.
    taken: Instant,
}

/// The pace of one sender to one stream.
#[derive(Clone)]
pub struct Pace {
    entropy: Arc<dyn Entropy>,
    budget: Budget,
    refused: BTreeMap<String, Refused>,
    /// Number of records that must be taken before a group may again send several records in one append.
    caution: usize,
    /// Number of appends in a row that failed as a whole, and the end of the pause after the last one.
    failures: u32,
    rests_until: Option<Instant>,
    taken: Option<Instant>,
}

impl Pace {
    /// The pace of a sender that has sent nothing yet.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        let (refused, taken) = (BTreeMap::new(), None);
        Self { entropy, budget: LEAST, refused, caution: 0, failures: 0, rests_until: None, taken }
    }

    /// The bounds of the next append. One record may always be sent, whatever its size.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// The end of the pause of the whole stream, if it pauses.
    #[must_use]
    pub fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| *until > now)
    }

    /// The end of the pause of a group, if it pauses.
    #[must_use]
    pub fn pauses_until(&self, group: &str, now: Instant) -> Option<Instant> {
        self.refused.get(group).map(|refused| refused.until).filter(|until| *until > now)
    }

    /// Number of records of a group that the next append may have. With more than one, a record may overtake a refused
    /// one, and must then be appended twice.
    #[must_use]
    pub fn run(&self, group: &str) -> usize {
        if self.caution > 0 { 1 } else { self.refused.get(group).map_or(MOST_RECORDS, |refused| refused.records) }
    }

    /// Learns from an append that was answered. `repeats` is the number of records that were taken, and must be
    /// appended again because they overtook a refused one.
    pub fn answered(&mut self, now: Instant, attempted: &[Attempted<'_>], repeats: usize) {
        let done = attempted.iter().filter(|one| one.done);
        let (records, bytes) = done.fold((0, 0), |(records, bytes), one| (records + 1, bytes + one.bytes));
        (self.failures, self.rests_until) = (0, None);
        self.taken = if records > 0 { Some(now) } else { self.taken };
        self.caution = (self.caution.saturating_sub(records) + repeats * CAUTION).min(MOST_RECORDS * CAUTION);
        self.budget = if records == attempted.len() {
            Budget {
                records: (self.budget.records * 2).min(MOST_RECORDS),
                bytes: (self.budget.bytes * 2).min(MOST_BYTES),
            }
        } else {
            Budget {
                records: (records * 2).clamp(LEAST.records, self.budget.records.max(LEAST.records)),
                bytes: (bytes * 2).clamp(LEAST.bytes, self.budget.bytes.max(LEAST.bytes)),
            }
        };
        let mut groups: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for one in attempted {
            let (done, all) = groups.entry(one.group).or_default();
            *done += usize::from(one.done);
            *all += 1;
        }
        for (group, (done, all)) in groups {
            self.group_answered(now, group, done, done == all);
        }
    }

    fn group_answered(&mut self, now: Instant, group: &str, done: usize, is_whole: bool) {
        match self.refused.get_mut(group) {
            // A group that was taken whole sends more the next time, until it sends as much as it likes.
            Some(refused) if is_whole && refused.records * 2 < MOST_RECORDS => {
                (refused.times, refused.until, refused.taken) = (0, now, now);
                refused.records *= 2;
            }
            Some(_) | None if is_whole => drop(self.refused.remove(group)),
            _ => {
                let first = Refused { times: 0, until: now, records: 1, taken: now };
                let refused = self.refused.entry(group.to_owned()).or_insert(first);
                if done > 0 {
                    (refused.times, refused.taken) = (0, now);
                }
                refused.times += 1;
                refused.records = (done * 2).max(1);
                let longest = if now.duration_since(refused.taken) < LATELY { SHORT } else { LONG };
                refused.until = now + Backoff::nth(self.entropy.as_ref(), FIRST_PAUSE, longest, refused.times);
            }
        }
    }

    /// Learns from an append that failed as a whole. Its records may be in the stream, or not. The next one is half as
    /// large, down to a single record, because a limit may refuse requests as a whole.
    pub fn failed(&mut self, now: Instant) {
        self.failures += 1;
        self.budget = Budget { records: (self.budget.records / 2).max(1), bytes: (self.budget.bytes / 2).max(1) };
        let is_alive = self.taken.is_some_and(|taken| now.duration_since(taken) < LATELY);
        let longest = if is_alive { SHORT } else { LONG };
        self.rests_until = Some(now + Backoff::nth(self.entropy.as_ref(), FIRST_PAUSE, longest, self.failures));
    }

    /// When the first of the groups that pause may send again. None if none pauses.
    #[must_use]
    pub fn first_turn(&self, now: Instant) -> Option<Instant> {
        self.refused.values().map(|refused| refused.until).filter(|until| *until > now).min()
    }

    /// Forgets the groups that are not in `waiting`, so that memory stays bounded.
    pub fn retain(&mut self, waiting: impl Fn(&str) -> bool) {
        self.refused.retain(|group, _| waiting(group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SeededEntropy;

    fn pace() -> Pace {
        Pace::new(Arc::new(SeededEntropy::new(1)))
    }

    fn one(group: &str, done: bool) -> Attempted<'_> {
        Attempted { group, bytes: 50_000, done }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_grows_while_it_is_taken_and_shrinks_to_what_is_taken() {
        let (mut pace, now) = (pace(), Instant::now());
        for _ in 0..10 {
            pace.answered(now, &[one("p", true)], 0);
        }
        assert_eq!(pace.budget(), Budget { records: MOST_RECORDS, bytes: MOST_BYTES });
        let half: Vec<_> = (0..40).map(|at| one("p", at < 20)).collect();
        pace.answered(now, &half, 0);
        assert_eq!(pace.budget(), Budget { records: 40, bytes: 2_000_000 });
        for _ in 0..50 {
            pace.failed(now);
        }
        assert_eq!(pace.budget(), Budget { records: 1, bytes: 1 }, "a limit may refuse all but a single record");
        for _ in 0..30 {
            pace.answered(now, &[one("p", true)], 0);
        }
        assert_eq!(pace.budget(), Budget { records: MOST_RECORDS, bytes: MOST_BYTES });
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_group_pauses_alone_and_longer_each_time() {
        let (mut pace, start) = (pace(), Instant::now());
        let mut pauses = Vec::new();
        let mut now = start;
        while now < start + Duration::from_secs(20) {
            pace.answered(now, &[one("throttled", false), one("other", true)], 0);
            let until = pace.pauses_until("throttled", now).expect("it was refused");
            assert_eq!(pace.pauses_until("other", now), None);
            assert_eq!(pace.rests_until(now), None, "the stream takes others");
            pauses.push(until - now);
            now = until;
        }
        assert!(pauses[0] <= FIRST_PAUSE && pauses.iter().max() > Some(&SHORT) && pauses.iter().max() <= Some(&LONG));
        pace.answered(now, &[one("throttled", true)], 0);
        assert_eq!(pace.pauses_until("throttled", now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_make_each_group_send_one_record_at_a_time_for_a_while() {
        let (mut pace, now) = (pace(), Instant::now());
        assert_eq!(pace.run("p"), MOST_RECORDS);
        pace.answered(now, &[one("p", false), one("q", true)], 1);
        for _ in 0..CAUTION {
            assert_eq!(pace.run("q"), 1);
            pace.answered(now, &[one("q", true)], 0);
        }
        assert_eq!(pace.run("q"), MOST_RECORDS);
    }
}
