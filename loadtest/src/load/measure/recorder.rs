//! Takes every operation as it begins and ends. Latency counts from the *intended* start: an operation that had to wait
//! for anything, the generator included, has waited.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::finished::{Finished, Result};
use super::otlp::Otlp;
use crate::load::model::Class;

/// The most intervals of the log of histograms.
const INTERVALS: u64 = 60;
/// The longest latency that a histogram holds, in microseconds: ten minutes. Longer ones count as this.
const LONGEST_US: u64 = 600_000_000;

/// The figures of one class. Warm-up is left out.
#[derive(Clone, Debug)]
pub struct ClassStats {
    /// Arrivals.
    pub offered: u64,
    /// Arrivals that were dropped, because too many operations were in progress.
    pub dropped: u64,
    /// Operations that began later than the limit after their intended start.
    pub late: u64,
    /// Operations that were done.
    pub done: u64,
    /// Refusals per code.
    pub refused: BTreeMap<String, u64>,
    /// Operations whose client does not know the outcome.
    pub unknown: u64,
    /// Further tries.
    pub retries: u64,
    /// How often clients were told to wait and come again.
    pub told: u64,
    /// Refs that moved.
    pub refs: u64,
    /// From the intended start to the end, of the operations that were done, in microseconds.
    pub latency: Histogram<u64>,
    /// The time in which requests and objects were made.
    pub prepare: Histogram<u64>,
    /// From the sending of the last try to its answer.
    pub answer: Histogram<u64>,
}

/// One second of the run.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// Arrivals whose intended start is in it.
    pub offered: u64,
    /// Operations that were done in it.
    pub done: u64,
    /// Refusals in it.
    pub refused: u64,
    /// Operations that ended in it with an unknown outcome.
    pub unknown: u64,
    /// Dropped arrivals.
    pub dropped: u64,
    /// Operations in progress at its end.
    pub in_flight: u64,
    /// Commits per site.
    pub done_at: BTreeMap<usize, u64>,
    /// The latencies of the operations that ended in it, in microseconds.
    pub latencies: Vec<u32>,
}

/// Everything that was recorded.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Per class.
    pub classes: BTreeMap<Class, ClassStats>,
    /// Per second from the start, warm-up included.
    pub seconds: Vec<Second>,
    /// The delay of starts, in microseconds.
    pub slip: Histogram<u64>,
    /// Latencies per interval and class.
    pub intervals: BTreeMap<(u64, Class), Histogram<u64>>,
    /// The length of an interval, in seconds.
    pub interval_s: u64,
}

/// Records operations from many tasks.
pub struct Recorder {
    warm_up_us: u64,
    late_us: u64,
    recording: Mutex<Recording>,
    otlp: Option<Otlp>,
}

fn histogram() -> Histogram<u64> {
    // Three digits: the precision of every latency is one part of a thousand. It grows with its values.
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are a precision of HdrHistogram"))
}

impl Default for ClassStats {
    fn default() -> Self {
        Self {
            offered: 0,
            dropped: 0,
            late: 0,
            done: 0,
            refused: BTreeMap::new(),
            unknown: 0,
            retries: 0,
            told: 0,
            refs: 0,
            latency: histogram(),
            prepare: histogram(),
            answer: histogram(),
        }
    }
}

fn add(histogram: &mut Histogram<u64>, us: u64) {
    // An automatically growing histogram refuses only values above its bound, which 64 bits do not reach here.
    let _ = histogram.record(us.clamp(1, LONGEST_US));
}

impl Recorder {
    /// An empty record of a run of this length.
    #[must_use]
    pub fn new(warm_up: Duration, total: Duration, late: Duration) -> Self {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let recording = Recording {
            classes: BTreeMap::new(),
            seconds: Vec::new(),
            slip: histogram(),
            intervals: BTreeMap::new(),
            interval_s: total.as_secs().div_ceil(INTERVALS).max(1),
        };
        Self { warm_up_us: us(warm_up), late_us: us(late), recording: Mutex::new(recording), otlp: None }
    }

    /// Tells a collector of every operation as well.
    #[must_use]
    pub fn telling(self, otlp: Option<Otlp>) -> Self {
        Self { otlp, ..self }
    }

    /// The collector that is told.
    #[must_use]
    pub fn otlp(&self) -> Option<&Otlp> {
        self.otlp.as_ref()
    }

    fn is_measured(&self, at_us: u64) -> bool {
        at_us >= self.warm_up_us
    }

    /// An operation begins, this much after its intended start.
    pub fn started(&self, class: Class, at_us: u64, slip: Duration) {
        let slip = u64::try_from(slip.as_micros()).unwrap_or(u64::MAX);
        if let Some(otlp) = &self.otlp {
            otlp.offered(class);
        }
        let mut all = self.recording.lock();
        second(&mut all, at_us).offered += 1;
        if self.is_measured(at_us) {
            add(&mut all.slip, slip);
            let stats = all.classes.entry(class).or_default();
            stats.offered += 1;
            stats.late += u64::from(slip > self.late_us);
        }
    }

    /// An arrival is dropped.
    pub fn dropped(&self, class: Class, at_us: u64) {
        if let Some(otlp) = &self.otlp {
            otlp.offered(class);
            otlp.dropped(class);
        }
        let mut all = self.recording.lock();
        let second = second(&mut all, at_us);
        second.offered += 1;
        second.dropped += 1;
        if self.is_measured(at_us) {
            let stats = all.classes.entry(class).or_default();
            stats.offered += 1;
            stats.dropped += 1;
        }
    }

    /// An operation has ended.
    pub fn finished(&self, one: &Finished) {
        if let Some(otlp) = &self.otlp {
            otlp.finished(one);
        }
        let took = one.ended_us.saturating_sub(one.at_us);
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut all = self.recording.lock();
        let second = second(&mut all, one.ended_us);
        match &one.result {
            Result::Done => {
                second.done += 1;
                second.latencies.push(u32::try_from(took).unwrap_or(u32::MAX));
                if !one.class.is_read() {
                    *second.done_at.entry(one.site).or_default() += 1;
                }
            }
            Result::Refused(_) => second.refused += 1,
            Result::Unknown => second.unknown += 1,
        }
        if !self.is_measured(one.at_us) {
            return;
        }
        let interval = one.ended_us / 1_000_000 / all.interval_s;
        let stats = all.classes.entry(one.class).or_default();
        stats.retries += u64::from(one.tries.saturating_sub(1));
        stats.told += one.told;
        match &one.result {
            Result::Done => {
                stats.done += 1;
                stats.refs += one.refs;
                add(&mut stats.latency, took);
                add(&mut stats.prepare, us(one.prepare));
                add(&mut stats.answer, us(one.answer));
                add(all.intervals.entry((interval, one.class)).or_insert_with(histogram), took);
            }
            Result::Refused(code) => *stats.refused.entry(code.clone()).or_default() += 1,
            Result::Unknown => stats.unknown += 1,
        }
    }

    /// Notes the number of operations in progress.
    pub fn in_flight(&self, at_us: u64, count: u64) {
        if let Some(otlp) = &self.otlp {
            otlp.in_flight(count);
        }
        let mut all = self.recording.lock();
        second(&mut all, at_us).in_flight = count;
    }

    /// Offered, done, refused, unknown and dropped operations so far, warm-up included.
    #[must_use]
    pub fn totals(&self) -> [u64; 5] {
        let all = self.recording.lock();
        let sum = |field: fn(&Second) -> u64| all.seconds.iter().map(field).sum();
        [sum(|s| s.offered), sum(|s| s.done), sum(|s| s.refused), sum(|s| s.unknown), sum(|s| s.dropped)]
    }

    /// The latencies of the operations that ended in some seconds of the run, in microseconds.
    #[must_use]
    pub fn latencies(&self, seconds: std::ops::Range<usize>) -> Vec<u32> {
        let all = self.recording.lock();
        let (from, to) = (seconds.start.min(all.seconds.len()), seconds.end.min(all.seconds.len()));
        all.seconds[from..to.max(from)].iter().flat_map(|second| second.latencies.iter().copied()).collect()
    }

    /// Everything that was recorded.
    #[must_use]
    pub fn take(&self) -> Recording {
        self.recording.lock().clone()
    }
}

/// The second of a time. Seconds between are added.
fn second(all: &mut Recording, at_us: u64) -> &mut Second {
    /// Two days and some: longer than any run with its end.
    const MOST: u64 = 200_000;
    let at = usize::try_from((at_us / 1_000_000).min(MOST)).unwrap_or(0);
    if all.seconds.len() <= at {
        all.seconds.resize_with(at + 1, Second::default);
    }
    &mut all.seconds[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_intended_start_and_warm_up_is_left_out() {
        let (warm_up, total) = (Duration::from_secs(1), Duration::from_secs(10));
        let recorder = Recorder::new(warm_up, total, Duration::from_millis(50));
        let finished = |at_us, ended_us, result| Finished {
            class: Class::CiVote,
            site: 0,
            at_us,
            ended_us,
            prepare: Duration::from_millis(1),
            answer: Duration::from_millis(2),
            tries: 2,
            told: 1,
            refs: 1,
            result,
        };
        recorder.started(Class::CiVote, 500_000, Duration::ZERO);
        recorder.finished(&finished(500_000, 510_000, Result::Done));
        recorder.started(Class::CiVote, 2_000_000, Duration::from_millis(300));
        recorder.finished(&finished(2_000_000, 2_400_000, Result::Done));
        recorder.started(Class::CiVote, 3_000_000, Duration::from_millis(1));
        recorder.finished(&finished(3_000_000, 3_100_000, Result::Refused("stale".to_owned())));
        recorder.dropped(Class::CiVote, 4_000_000);
        let all = recorder.take();
        let stats = &all.classes[&Class::CiVote];
        assert_eq!((stats.offered, stats.done, stats.late, stats.dropped, stats.retries), (3, 1, 1, 1, 2));
        assert_eq!(stats.told, 2, "the warm-up is left out");
        assert_eq!(stats.refused, BTreeMap::from([("stale".to_owned(), 1)]));
        assert!(stats.latency.max() >= 399_000 && stats.latency.min() >= 399_000, "{}", stats.latency.min());
        assert_eq!(recorder.totals(), [4, 2, 1, 0, 1]);
        assert_eq!(all.seconds[0].done, 1);
    }
}
