//! Ends a load that grows in steps after the first step whose latencies are beyond its limit: further steps would only
//! add a backlog, and make the generator late, which voids the run.

use std::time::Duration;

use tokio::time::sleep_until;

use crate::load::drive::Pace;
use crate::load::profile::{Profile, Shape};

/// The part of a step that is left out at its beginning. The warm-up, with which the first one begins, is left out too.
const SETTLING: f64 = 0.2;

/// Stops the pace at the end of the first step beyond `load.stop_p99_ms`. Returns a sentence for the report then, and
/// nothing at the beginning of the last step otherwise.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
pub(super) async fn end_after_broken(pace: &Pace, profile: &Profile) -> Option<String> {
    let (run, load) = (&profile.run, &profile.load);
    if load.shape != Shape::Steps || load.stop_p99_ms <= 0.0 {
        return None;
    }
    let length = (run.warm_up_s + run.seconds) / load.steps.len().max(1) as f64;
    for (number, factor) in load.steps.iter().enumerate().take(load.steps.len().saturating_sub(1)) {
        let from = ((number as f64 + SETTLING) * length).max(run.warm_up_s);
        let to = (number as f64 + 1.0) * length;
        if from >= to {
            continue;
        }
        sleep_until(pace.start() + Duration::from_secs_f64(to)).await;
        let p99 = p99_ms(pace.recorder.latencies(from as usize..to as usize));
        if p99.is_some_and(|p99| p99 <= load.stop_p99_ms) {
            continue;
        }
        pace.stop();
        let p99 = p99.map_or("no operation ended".to_owned(), |p99| format!("its p99 was {p99:.0} ms"));
        return Some(format!(
            "The load ended after the step with {factor} times the peak hour: {p99}, above load.stop_p99_ms = {}. \
             Further steps did not begin.",
            load.stop_p99_ms
        ));
    }
    None
}

/// The 99th percentile of latencies in microseconds, in milliseconds. None if there are none.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
fn p99_ms(mut latencies: Vec<u32>) -> Option<f64> {
    latencies.sort_unstable();
    let at = (latencies.len() as f64 * 0.99) as usize;
    latencies.get(at).or(latencies.last()).map(|us| f64::from(*us) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::measure::{Finished, Outcome, Recorder};
    use crate::load::model::Class;
    use crate::load::profile::parse;

    /// Two steps of equal length. Each of these operations begins and takes so many milliseconds.
    async fn steps(seconds: [u64; 2], stop_p99_ms: u64, ended: &[(u64, u64)]) -> (Pace, Option<String>) {
        let [warm_up, seconds] = seconds;
        let set = [
            "load.shape=steps".to_owned(),
            "load.steps=[1.0, 2.0]".to_owned(),
            format!("run.seconds={seconds}"),
            format!("run.warm_up_s={warm_up}"),
            format!("load.stop_p99_ms={stop_p99_ms}"),
        ];
        let profile = parse("test", "", &set).unwrap();
        let recorder = Recorder::new(Duration::ZERO, Duration::from_secs(2), Duration::from_millis(100));
        for (at_ms, took_ms) in ended {
            let mut one = Finished::begun(Class::Draft, 0, at_ms * 1_000);
            (one.ended_us, one.result) = ((at_ms + took_ms) * 1_000, Outcome::Done);
            recorder.finished(&one);
        }
        let pace = Pace::new(recorder, 10);
        let said = end_after_broken(&pace, &profile).await;
        (pace, said)
    }

    /// Two steps of a second. An operation of the first one takes this long.
    async fn run(ms: Option<u64>, stop_p99_ms: u64) -> (Pace, Option<String>) {
        let ended: Vec<(u64, u64)> = ms.into_iter().map(|ms| (0, ms)).collect();
        steps([0, 2], stop_p99_ms, &ended).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_warm_up_of_the_first_step_is_left_out() {
        let (pace, said) = steps([1, 3], 50, &[(0, 900), (1_200, 20)]).await;
        assert_eq!((pace.stopped_s(), said), (None, None));
        let (pace, said) = steps([1, 3], 50, &[(0, 20), (1_200, 90)]).await;
        assert!(pace.stopped_s().is_some() && said.is_some_and(|said| said.contains("its p99 was 90 ms")));
        // The first step is over when the warm-up is.
        let (pace, said) = steps([3, 1], 50, &[(0, 900)]).await;
        assert_eq!((pace.stopped_s(), said), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn no_further_step_begins_after_one_beyond_its_limit() {
        let (pace, said) = run(Some(90), 50).await;
        assert!(pace.stopped_s().is_some_and(|at| (1.0..10.0).contains(&at)));
        let said = said.unwrap();
        assert!(said.contains("with 1 times the peak hour: its p99 was 90 ms"), "{said}");
        let (pace, said) = run(None, 50).await;
        assert!(pace.stopped_s().is_some() && said.unwrap().contains("no operation ended"), "a stall");
        for (ms, limit) in [(40, 50), (90, 0)] {
            let (pace, said) = run(Some(ms), limit).await;
            assert_eq!((pace.stopped_s(), said), (None, None));
        }
    }
}
