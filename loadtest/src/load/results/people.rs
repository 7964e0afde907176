//! The burst of a run: people's latencies before it and in it, the operations that were done before it and in it, and
//! the time until the sites had caught up with it.

use hdrhistogram::Histogram;

use super::types::Quantiles;
use crate::load::measure::{Recording, SiteWatch, Watched};
use crate::load::profile::{Profile, Shape};
use crate::report::round;

/// The part of the burst that is left out at its beginning: the operations that end then began before it.
const LEFT_OUT: f64 = 0.2;

/// A site has recovered when nothing that it has seen is older than this, in milliseconds.
pub(super) const RECOVERED_MS: u64 = 1_000;

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

/// The operations that were done per second after the warm-up and before the burst, and in it. None if one of these
/// times is shorter than a second.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
pub(super) fn goodput(profile: &Profile, recording: &Recording) -> Option<[f64; 2]> {
    let (from, to) = burst(profile)?;
    let begin = from + (to - from) * LEFT_OUT;
    let mean = |from: f64, to: f64| {
        let seconds = recording.seconds.get(from.ceil() as usize..to as usize).filter(|seconds| !seconds.is_empty())?;
        Some(round(seconds.iter().map(|second| second.done).sum::<u64>() as f64 / seconds.len() as f64))
    };
    Some([mean(profile.run.warm_up_s, from)?, mean(begin, to)?])
}

/// From the end of the burst until no more operations are in progress than before it, and no site has anything older
/// than [`RECOVERED_MS`] to apply, or until everything was applied, if the run ends before that. Without a burst: from
/// the end of the last operation until everything was applied. `ended_s` and `settled_s` are these two times, from the
/// start.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
pub(super) fn caught_up(
    profile: &Profile,
    recording: &Recording,
    watched: &Watched,
    ended_s: f64,
    settled_s: Option<f64>,
) -> Option<f64> {
    let settled_s = settled_s?;
    let Some((from, to)) = burst(profile) else { return Some(round(settled_s - ended_s)) };
    let all = recording.seconds.len();
    let usual = recording.seconds.iter().take(from as usize).map(|second| second.in_flight).max().unwrap_or(0);
    // A second without a sample is as the last one before it: a look at a busy site may take longer than a second.
    let is_applied = |second: usize| {
        let of = |site: &SiteWatch| site.backlog_ms.iter().take(second + 1).rev().find_map(|backlog| *backlog);
        watched.sites.iter().all(|site| of(site).is_some_and(|backlog| backlog <= RECOVERED_MS))
    };
    // A single good second between bad ones is no end: the last bad second counts.
    let is_good = |second: usize| recording.seconds[second].in_flight <= usual && is_applied(second);
    let first = to.ceil() as usize;
    let last_bad = (first..all).rev().find(|second| !is_good(*second));
    Some(round(match last_bad {
        None => 0.0,
        Some(last) if last + 1 < all => last as f64 + 1.0 - to,
        Some(_) => (settled_s - to).max(0.0),
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
    fn the_operations_done_in_the_burst_stand_beside_those_before_it() {
        let recorder = recorder();
        for (second, count) in [(0, 4), (1, 4), (2, 5), (3, 5), (4, 90), (5, 6), (6, 6), (7, 9), (8, 70)] {
            for _ in 0..count {
                let mut one = Finished::begun(Class::Draft, 0, second * 1_000_000);
                (one.ended_us, one.result) = (second * 1_000_000 + 5_000, Outcome::Done);
                recorder.finished(&one);
            }
        }
        // The first second of the burst is left out.
        assert_eq!(goodput(&profile(), &recorder.take()), Some([4.5, 7.0]));
        assert_eq!(goodput(&Profile::default(), &recorder.take()), None);
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
        let after = |profile: &Profile, settled_s| caught_up(profile, &recording, &watched, 18.5, settled_s);
        assert_eq!(after(&profile(), Some(20.0)), Some(7.0));
        assert_eq!(after(&profile(), None), None, "the sites never agreed");
        assert_eq!(after(&Profile::default(), Some(20.0)), Some(1.5), "from the end of the last operation");
        recorder.in_flight(19_000_000, 50);
        assert_eq!(caught_up(&profile(), &recorder.take(), &watched, 18.5, Some(21.0)), Some(13.0));
    }

    #[test]
    fn a_second_without_a_sample_of_a_site_is_as_the_one_before_it() {
        let recorder = recorder();
        (0..20).for_each(|second| recorder.in_flight(second * 1_000_000, 2));
        // The burst ends at second 8. The site is late until second 10, in which nobody saw it. The last looks are
        // left out, too.
        let late = [vec![Some(0); 4], vec![Some(5_000); 6], vec![None, Some(500), None, Some(0)]].concat();
        let after = |backlog: Vec<Option<u64>>| {
            caught_up(&profile(), &recorder.take(), &Watched::of_backlog(backlog), 19.0, Some(21.0))
        };
        assert_eq!(after(late), Some(3.0));
        assert_eq!(after(Vec::new()), Some(13.0), "a site that was never seen has not caught up before the end");
    }
}
