//! The burst of a run as people saw it: their latencies before it and in it, and the time until the sites had caught up
//! with it.

use hdrhistogram::Histogram;

use super::types::Quantiles;
use crate::load::measure::{Recording, Watched};
use crate::load::profile::{Profile, Shape};
use crate::report::round;

/// The beginning and the end of the burst, in seconds from the start.
fn burst(profile: &Profile) -> Option<(f64, f64)> {
    let load = &profile.load;
    (load.shape == Shape::Burst).then_some((load.burst_at_s, load.burst_at_s + load.burst_s))
}

/// People's ref updates that ended before the burst, and in it. An interval of the recording that is partly in the
/// burst counts for neither.
#[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
pub(super) fn people(profile: &Profile, recording: &Recording) -> Option<[Quantiles; 2]> {
    let (from, to) = burst(profile)?;
    let sum = |is_in: &dyn Fn(f64, f64) -> bool| {
        let mut all: Option<Histogram<u64>> = None;
        let of_people = recording.intervals.iter().filter(|((_, class), _)| class.is_of_a_person());
        for ((interval, _), histogram) in of_people {
            let begin = (interval * recording.interval_s) as f64;
            if !is_in(begin, begin + recording.interval_s as f64) {
                continue;
            }
            match &mut all {
                Some(all) => {
                    // Both grow with their values, so the sum always fits.
                    let _ = all.add(histogram);
                }
                None => all = Some(histogram.clone()),
            }
        }
        all.as_ref().map_or_else(Quantiles::default, Quantiles::of)
    };
    Some([sum(&|_, end| end <= from), sum(&|begin, end| begin >= from && end <= to)])
}

/// From the end of the burst until no more operations are in progress than before it, and no site has anything older
/// than `recovered_ms` to apply. Without a burst, and if the run ends before that: until everything was applied after
/// the last operation.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
pub(super) fn caught_up(
    profile: &Profile,
    recording: &Recording,
    watched: &Watched,
    settled_after_s: Option<f64>,
    recovered_ms: u64,
) -> Option<f64> {
    let settled = settled_after_s?;
    let Some((from, to)) = burst(profile) else { return Some(settled) };
    let all = recording.seconds.len();
    let usual = recording.seconds.iter().take(from as usize).map(|second| second.in_flight).max().unwrap_or(0);
    let is_applied = |second: usize| {
        let of = |site: &crate::load::measure::SiteWatch| site.backlog_ms.get(second).copied().flatten();
        watched.sites.iter().all(|site| of(site).is_some_and(|backlog| backlog <= recovered_ms))
    };
    // A single good second between bad ones is no end: the last bad second counts.
    let is_good = |second: usize| recording.seconds[second].in_flight <= usual && is_applied(second);
    let first = to.ceil() as usize;
    let last_bad = (first..all).rev().find(|second| !is_good(*second));
    Some(round(match last_bad {
        None => 0.0,
        Some(last) if last + 1 < all => last as f64 + 1.0 - to,
        Some(_) => all as f64 - to + settled,
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::measure::{Finished, Outcome, Recorder};
    use crate::load::model::Class;
    use crate::load::profile::parse;

    fn profile() -> Profile {
        let set = ["load.shape=burst", "load.burst_at_s=4", "load.burst_s=4", "run.seconds=20", "run.warm_up_s=0"];
        parse("test", "", &set.map(str::to_owned)).unwrap()
    }

    fn recorder() -> Recorder {
        Recorder::new(Duration::ZERO, Duration::from_secs(20), Duration::from_millis(100))
    }

    #[test]
    fn the_latencies_of_people_in_the_burst_stand_beside_those_before_it() {
        let recorder = recorder();
        let end = |class: Class, second: u64, ms: u64| {
            let mut one = Finished::begun(class, 0, second * 1_000_000);
            (one.ended_us, one.result) = (second * 1_000_000 + ms * 1_000, Outcome::Done);
            recorder.finished(&one);
        };
        end(Class::Comment, 1, 10);
        end(Class::Comment, 5, 30);
        end(Class::CiVote, 5, 900);
        end(Class::Comment, 12, 500);
        let [before, within] = people(&profile(), &recorder.take()).unwrap();
        assert_eq!((before.count, within.count), (1, 1));
        assert!((9.0..11.0).contains(&before.p99) && (29.0..31.0).contains(&within.p99), "{before:?} {within:?}");
        assert_eq!(people(&Profile::default(), &recorder.take()), None);
    }

    #[test]
    fn the_end_of_a_burst_is_after_the_last_second_with_more_work_than_usual() {
        let recorder = recorder();
        for second in 0..20 {
            let count = if second < 4 {
                3
            } else if second < 12 || second == 14 {
                50
            } else {
                2
            };
            recorder.in_flight(second * 1_000_000, count);
        }
        let (recording, watched) = (recorder.take(), Watched::new(&[], None));
        let after = |profile: &Profile, settled| caught_up(profile, &recording, &watched, settled, 1_000);
        assert_eq!(after(&profile(), Some(1.5)), Some(7.0));
        assert_eq!(after(&profile(), None), None, "the sites never agreed");
        assert_eq!(after(&Profile::default(), Some(1.5)), Some(1.5));
        recorder.in_flight(19_000_000, 50);
        assert_eq!(caught_up(&profile(), &recorder.take(), &watched, Some(1.5), 1_000), Some(13.5));
    }
}
