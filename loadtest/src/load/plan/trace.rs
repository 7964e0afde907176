//! Recorded traces: one line of JSON per transaction. `lockstep-loadtest record` writes them without the names of
//! projects, refs and users.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::arrival::Arrival;
use super::draw::{MOST_ARRIVALS, Plan, PlanError};
use crate::load::model::{Class, Day};
use crate::load::profile::{Profile, Target};

/// A transaction of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceLine {
    /// The time of the commit, in milliseconds after the first one.
    pub at_ms: u64,
    /// The class, as far as the names of the refs tell it.
    pub class: Class,
    /// The number of the project, in the order of the first appearances.
    pub project: u32,
    /// The number of the site.
    pub site: u32,
    /// The number of refs.
    pub refs: u32,
    /// The bytes of the pack.
    pub bytes: u32,
}

/// Reads a trace.
///
/// # Errors
/// The number of the first line that is none, and the reason; or that there are too many lines.
pub fn read_trace(text: &str) -> Result<Vec<TraceLine>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).take(MOST_ARRIVALS + 1);
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))
    };
    let all: Vec<TraceLine> = lines.map(read).collect::<Result<_, _>>()?;
    if all.len() > MOST_ARRIVALS {
        return Err(format!("it has more than {MOST_ARRIVALS} lines: cut it"));
    }
    Ok(all)
}

/// The plan that repeats a trace, up to the end of the profile's time.
///
/// # Errors
/// See [`PlanError`].
pub fn replay(profile: &Profile, trace: &[TraceLine], sites: usize) -> Result<Plan, PlanError> {
    let sites = u32::try_from(sites.max(1)).unwrap_or(1);
    let mut rng = ChaCha8Rng::seed_from_u64(profile.run.seed);
    let end_s = profile.run.warm_up_s + profile.run.seconds;
    let mut arrivals = Vec::new();
    for line in trace {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a trace")]
        let at_s = line.at_ms as f64 / 1_000.0 / profile.load.compression;
        if at_s >= end_s {
            continue;
        }
        let is_git = match profile.run.target {
            Target::Api => false,
            Target::Git | Target::Gerrit => true,
            Target::Both => rng.random::<f64>() < profile.run.git_share,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time within the run")]
        let at_us = (at_s * 1e6) as u64;
        arrivals.push(Arrival {
            at_us,
            class: line.class,
            project: line.project % profile.model.projects,
            site: line.site % sites,
            pick: rng.random(),
            count: changes(line),
            bytes: line.bytes.max(1),
            git: is_git && line.class.is_push(),
            at_home: true,
        });
    }
    arrivals.sort_by_key(|arrival| arrival.at_us);
    Ok(Plan { arrivals, day: Day::of(&profile.model) })
}

/// The number of changes or tags that gives the transaction its number of refs.
fn changes(line: &TraceLine) -> u32 {
    match line.class {
        Class::PushPatchSet | Class::MassRebase => line.refs.div_ceil(2).max(1),
        Class::Submit => (line.refs * 2).div_ceil(7).max(1),
        _ => line.refs.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::profile::{builtin, parse};

    #[test]
    fn a_trace_is_repeated_in_its_order_and_pace() {
        let line = |at_ms, class, refs| TraceLine { at_ms, class, project: 3, site: 1, refs, bytes: 10 };
        let trace = [line(0, Class::PushPatchSet, 4), line(1_500, Class::CiVote, 1), line(9_000, Class::ReleaseTag, 7)];
        let text: String = trace.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        let trace = read_trace(&text).unwrap();
        let values = ["load.compression=3".to_owned(), "run.seconds=2".to_owned()];
        let profile = parse("replay", builtin("replay").unwrap(), &values).unwrap();
        let plan = replay(&profile, &trace, 2).unwrap();
        let seen: Vec<_> = plan.arrivals.iter().map(|one| (one.at_us, one.class, one.count, one.site)).collect();
        assert_eq!(seen, [(0, Class::PushPatchSet, 2, 1), (500_000, Class::CiVote, 1, 1)]);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        assert!(read_trace("{}\n").unwrap_err().starts_with("line 1: missing field `at_ms`"));
    }
}
