//! A circuit breaker: while no connection can be made to an endpoint, calls end at once instead of waiting for one more
//! connection that fails. One call is let through from time to time, to look.
//!
//! Only failures to connect count. Every answer closes the circuit, an error of AWS included: throttling, conflicts,
//! failed conditions and statuses of 500 and above come from an endpoint that can be reached. A call that was sent and
//! got no answer says nothing either way.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;

/// Failures to connect, one after the other and without an answer between them, that open the circuit.
pub const OPENS_AFTER: u32 = 5;
/// The pause before the first look at an endpoint whose circuit is open. Later pauses are longer.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a look may go on before another call looks. A caller may drop its call at any time.
const LOOK: Duration = Duration::from_secs(5);

/// A call that was not sent, because the circuit of its endpoint is open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint} cannot be reached ({why}); the call was not sent; this node looks again by itself")]
pub struct Open {
    /// The service and the place: `dynamodb at eu-west-1`.
    pub endpoint: String,
    /// The last failure to connect.
    pub why: String,
}

/// The state of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Every call goes through.
    Closed,
    /// A call looks whether the endpoint can be reached again. The others end at once.
    HalfOpen,
    /// Calls end at once until this moment.
    Open(Instant),
}

/// The circuit of one endpoint.
#[derive(Debug, Default)]
pub struct Circuit {
    /// Failures to connect since the last answer.
    failures: u32,
    /// Set while the circuit is not closed.
    broken: Option<Broken>,
    /// How often the circuit was opened.
    opened: u64,
    last_failure: String,
}

#[derive(Debug)]
struct Broken {
    /// When the next call may look.
    next: Instant,
    is_looking: bool,
    /// The number of looks that failed.
    looks: u32,
}

impl Circuit {
    /// Whether a call may be sent now. A call that may be sent although the circuit is open is a look.
    pub fn admits(&mut self, now: Instant) -> bool {
        match &mut self.broken {
            None => true,
            Some(broken) if now < broken.next => false,
            Some(broken) => {
                (broken.next, broken.is_looking) = (now + LOOK, true);
                true
            }
        }
    }

    /// Notes a failure to connect. Returns whether it opened the circuit.
    pub fn failed(&mut self, now: Instant, entropy: &dyn Entropy, why: String) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = why;
        let pause = |looks: u32| Backoff::nth(entropy, FIRST_PAUSE, LONGEST_PAUSE, looks + 1);
        match &mut self.broken {
            Some(broken) if broken.is_looking => {
                broken.looks += 1;
                (broken.next, broken.is_looking) = (now + pause(broken.looks), false);
                false
            }
            // It was sent before the circuit opened, or it bypasses the circuit.
            Some(_) => false,
            None if self.failures >= OPENS_AFTER => {
                self.broken = Some(Broken { next: now + pause(0), is_looking: false, looks: 0 });
                self.opened += 1;
                true
            }
            None => false,
        }
    }

    /// Notes an answer of the endpoint. Returns whether it closed the circuit.
    pub fn answered(&mut self) -> bool {
        self.failures = 0;
        self.broken.take().is_some()
    }

    /// The state of the circuit now.
    #[must_use]
    pub fn stands(&self, now: Instant) -> Stands {
        match &self.broken {
            None => Stands::Closed,
            Some(broken) if broken.is_looking => Stands::HalfOpen,
            Some(broken) => Stands::Open(broken.next.max(now)),
        }
    }

    /// Failures to connect since the last answer.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How often the circuit was opened since the start of the process.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// The last failure to connect. Empty if there was none.
    #[must_use]
    pub fn last_failure(&self) -> &str {
        &self.last_failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SeededEntropy;

    fn fail(circuit: &mut Circuit, now: Instant, times: u32) {
        let entropy = SeededEntropy::new(7);
        for _ in 0..times {
            circuit.failed(now, &entropy, "refused".to_owned());
        }
    }

    #[test]
    fn a_circuit_opens_after_failures_in_a_row_and_an_answer_closes_it() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        fail(&mut circuit, now, OPENS_AFTER - 1);
        assert!(circuit.admits(now) && !circuit.answered(), "an answer begins the count again");
        fail(&mut circuit, now, OPENS_AFTER - 1);
        assert_eq!(circuit.stands(now), Stands::Closed);
        fail(&mut circuit, now, 1);
        assert!(matches!(circuit.stands(now), Stands::Open(_)) && !circuit.admits(now));
        assert!(circuit.answered(), "the answer of a call that bypasses the circuit closes it");
        assert!(circuit.admits(now));
        assert_eq!((circuit.opened(), circuit.failures()), (1, 0));
    }

    #[test]
    fn one_call_looks_after_each_pause_and_the_pauses_grow_to_a_bound() {
        let (mut circuit, mut now) = (Circuit::default(), Instant::now());
        fail(&mut circuit, now, OPENS_AFTER);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let Stands::Open(next) = circuit.stands(now) else { panic!("{circuit:?}") };
            pauses.push(next - now);
            now = next;
            assert!(circuit.admits(now) && !circuit.admits(now), "one look at a time");
            assert_eq!(circuit.stands(now), Stands::HalfOpen);
            fail(&mut circuit, now, 1);
        }
        assert!(pauses[0] <= FIRST_PAUSE && pauses[0] >= FIRST_PAUSE / 2);
        assert!(pauses[7] <= LONGEST_PAUSE && pauses[7] >= LONGEST_PAUSE / 2);
    }

    #[test]
    fn a_look_that_its_caller_dropped_does_not_keep_the_circuit_open_for_ever() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        fail(&mut circuit, now, OPENS_AFTER);
        let later = now + LONGEST_PAUSE;
        assert!(circuit.admits(later));
        assert!(!circuit.admits(later + LOOK - Duration::from_millis(1)) && circuit.admits(later + LOOK));
    }

    #[test]
    fn late_failures_of_calls_from_before_do_not_lengthen_the_pause() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        fail(&mut circuit, now, OPENS_AFTER);
        let before = circuit.stands(now);
        fail(&mut circuit, now, 100);
        assert_eq!(circuit.stands(now), before);
    }
}
