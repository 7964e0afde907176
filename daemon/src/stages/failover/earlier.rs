//! The form of an ended failover that nodes of the first release can read.
//!
//! They refuse a record with a step that they do not know. That is right while it is in progress, because they would
//! leave out its guards. But an ended one would keep them from every later failover. So its other steps are stored
//! apart, in fields that they ignore, and are merged when this release reads it.

use lockstep_proto::failover::{Failover, FailoverStep};
use serde_json::{Map, Value};

/// The lists of steps, each with the field that has the steps of later releases.
const LISTS: [(&str, &str); 2] = [("steps", "more_steps"), ("pause_before", "more_pause_before")];

/// A failover as JSON for the refdb.
///
/// # Errors
/// It cannot be written as JSON.
pub(super) fn encode(failover: &Failover) -> Result<String, serde_json::Error> {
    let mut body = serde_json::to_value(failover)?;
    split(&mut body);
    serde_json::to_string(&body)
}

/// The failover of a JSON text of [`encode`].
///
/// # Errors
/// It is not a failover, or has a step that this release does not know.
pub(super) fn decode(text: &str) -> Result<Failover, serde_json::Error> {
    let mut body = serde_json::from_str(text)?;
    merge(&mut body);
    serde_json::from_value(body)
}

/// Moves the steps that the first release lacks out of an ended failover. Any other value stays as it is.
pub(super) fn split(failover: &mut Value) {
    let Some(fields) = failover.as_object_mut().filter(|fields| fields.contains_key("end")) else { return };
    for (list, more) in LISTS {
        let Some(Value::Array(all)) = fields.remove(list) else { continue };
        let (first, others): (Vec<Value>, Vec<Value>) = all.into_iter().partition(is_of_first_release);
        fields.insert(list.to_owned(), Value::Array(first));
        if !others.is_empty() {
            fields.insert(more.to_owned(), Value::Array(others));
        }
    }
}

/// Moves these steps back to their places. A step that no release up to this one has stays at the end, so that it is
/// refused by name.
pub(super) fn merge(failover: &mut Value) {
    let Some(fields) = failover.as_object_mut() else { return };
    for (list, more) in LISTS {
        if let Some(others) = taken(fields, more)
            && let Some(Value::Array(all)) = fields.get_mut(list)
        {
            all.extend(others);
            all.sort_by_key(|one| step(one).map_or(usize::MAX, |step| step as usize));
        }
    }
}

fn taken(fields: &mut Map<String, Value>, name: &str) -> Option<Vec<Value>> {
    match fields.remove(name) {
        Some(Value::Array(list)) => Some(list),
        _ => None,
    }
}

fn is_of_first_release(one: &Value) -> bool {
    step(one).is_some_and(FailoverStep::is_of_first_release)
}

/// The step of a list's element: its name, or an object with its name.
fn step(one: &Value) -> Option<FailoverStep> {
    one.get("step").unwrap_or(one).as_str()?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use lockstep_proto::failover::{FailoverEnd, FailoverKind, FailoverOutcome};
    use serde::Deserialize;

    use super::super::decide::tests::failover;
    use super::*;

    /// The record of a failover as the first release reads it.
    #[derive(Debug, Deserialize)]
    pub struct OfFirstRelease {
        steps: Vec<Step>,
        pause_before: Vec<Name>,
    }

    #[derive(Debug, Deserialize)]
    struct Step {
        step: Name,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Name {
        Stop,
        Settle,
        CatchUp,
        Promote,
        Serve,
        StandBy,
    }

    impl OfFirstRelease {
        pub fn assert_whole(&self) {
            let steps: Vec<Name> = self.steps.iter().map(|one| one.step).collect();
            assert_eq!(steps, [Name::Stop, Name::Settle, Name::CatchUp, Name::Promote, Name::Serve, Name::StandBy]);
            assert_eq!(self.pause_before, [Name::Promote]);
        }
    }

    pub fn ended() -> Failover {
        let mut ended = failover(FailoverKind::Planned, FailoverStep::Verify);
        let of = |step| lockstep_proto::failover::StepRecord {
            step,
            began_ms: Some(1),
            ended_ms: Some(2),
            by: None,
            note: step.name().to_owned(),
        };
        ended.steps = FailoverStep::ALL.map(of).to_vec();
        ended.pause_before = vec![FailoverStep::Verify, FailoverStep::Promote];
        let outcome = FailoverOutcome::Done;
        ended.end = Some(FailoverEnd { outcome, at_ms: 9, recovery_ms: None, green_ms: None, lost: 0 });
        ended
    }

    #[test]
    fn an_ended_failover_can_be_read_by_the_first_release_and_nothing_is_missing_in_this_one() {
        let text = encode(&ended()).unwrap();
        serde_json::from_str::<OfFirstRelease>(&text).unwrap().assert_whole();
        assert_eq!(decode(&text).unwrap(), ended());
    }

    #[test]
    fn a_failover_in_progress_is_refused_by_the_first_release() {
        let running = Failover { end: None, ..ended() };
        let text = encode(&running).unwrap();
        let refused = serde_json::from_str::<OfFirstRelease>(&text).unwrap_err().to_string();
        assert!(refused.contains("verify"), "{refused}");
        assert_eq!(decode(&text).unwrap(), running);
    }
}
