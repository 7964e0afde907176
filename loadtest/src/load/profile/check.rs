//! The values of a profile that no run can have.

use super::fields::{Fault, FaultKind, Profile, Shape};

/// The longest run, in seconds: two days.
const LONGEST_S: f64 = 172_800.0;
/// The most batches that a sidecar commits at the same time, by default.
const MOST_RUNNING: usize = 64;
/// The longest round trip to AWS, in milliseconds.
const LONGEST_TRIP_MS: u64 = 5_000;

/// One sentence per wrong value. Each names the field and the value.
pub(super) fn faults(profile: &Profile) -> Vec<String> {
    let mut faults = profile.model.faults();
    let (run, load, limits) = (&profile.run, &profile.load, &profile.limits);
    let mut need = |name: &str, value: f64, holds: bool, wanted: &str| {
        if !holds {
            faults.push(format!("{name} = {value}: it must be {wanted}"));
        }
    };
    let seconds = |value: f64| (0.0..=LONGEST_S).contains(&value);
    need("run.seconds", run.seconds, run.seconds >= 1.0 && seconds(run.seconds), "from 1 to 172800 seconds");
    for (name, value) in [
        ("run.warm_up_s", run.warm_up_s),
        ("run.settle_s", run.settle_s),
        ("run.give_up_s", run.give_up_s),
        ("load.burst_at_s", load.burst_at_s),
        ("load.burst_s", load.burst_s),
    ] {
        need(name, value, seconds(value), "from 0 to 172800 seconds");
    }
    for (name, value) in [
        ("run.git_share", run.git_share),
        ("run.reads_share", run.reads_share),
        ("limits.late_share", limits.late_share),
        ("limits.dropped_share", limits.dropped_share),
        ("limits.processor_share", limits.processor_share),
    ] {
        need(name, value, (0.0..=1.0).contains(&value), "from 0 to 1");
    }
    let rates = load.steps.iter().map(|step| ("load.steps", *step));
    for (name, value) in [("load.factor", load.factor), ("load.to", load.to)].into_iter().chain(rates) {
        need(name, value, (0.0..=10_000.0).contains(&value), "from 0 to 10000 times the peak hour");
    }
    let compression = load.compression;
    need("load.compression", compression, (0.01..=10_000.0).contains(&compression), "from 0.01 to 10000");
    need("load.start_hour", load.start_hour, (0.0..168.0).contains(&load.start_hour), "an hour of the week, 0 to 168");
    for (name, value, least, most) in [
        ("run.sites", run.sites, 1, 16),
        ("run.open_changes", run.open_changes as usize, 0, 1_000),
        ("run.tries", run.tries as usize, 1, 1_000),
        ("limits.in_flight", limits.in_flight, 1, 100_000),
        ("limits.git_processes", limits.git_processes, 1, 1_000),
    ] {
        if !(least..=most).contains(&value) {
            faults.push(format!("{name} = {value}: it must be from {least} to {most}"));
        }
    }
    for (name, value) in [("run.watch_ms", run.watch_ms), ("run.poll_ms", run.poll_ms)] {
        if !(5..=60_000).contains(&value) {
            faults.push(format!("{name} = {value}: it must be from 5 to 60000 milliseconds"));
        }
    }
    if load.shape == Shape::Steps && load.steps.is_empty() {
        faults.push("load.steps is empty: shape \"steps\" needs at least one".to_owned());
    }
    for event in profile.events.iter().filter(|event| !(1..=50_000).contains(&event.count)) {
        faults.push(format!("events.count = {}: it must be from 1 to 50000", event.count));
    }
    for event in profile.events.iter().filter(|event| !seconds(event.at_s) || !seconds(event.over_s)) {
        faults.push(format!("events.at_s = {}, over_s = {}: from 0 to 172800 seconds", event.at_s, event.over_s));
    }
    for fault in &profile.faults {
        if fault.kind.is_of_one_site() && fault.site >= run.sites {
            faults.push(format!("faults.site = {}: there are {} sites, from 0", fault.site, run.sites));
        }
        if !seconds(fault.at_s) || !seconds(fault.for_s) {
            let (at, length) = (fault.at_s, fault.for_s);
            faults.push(format!("faults.at_s = {at}, for_s = {length}: each must be from 0 to 172800 seconds"));
        }
        faults.extend(own_values(fault, run.sites));
    }
    if profile.faults.iter().filter(|fault| fault.kind == FaultKind::Failover).count() > 1 {
        faults
            .push("faults.kind = \"failover\": a run has one at most, because the old site stays a standby".to_owned());
    }
    faults.extend(bounds(profile));
    if run.round_trip_ms > LONGEST_TRIP_MS {
        faults.push(format!("run.round_trip_ms = {}: it must be from 0 to {LONGEST_TRIP_MS}", run.round_trip_ms));
    }
    faults
}

fn bounds(profile: &Profile) -> Vec<String> {
    let (goals, prices) = (&profile.goals, &profile.prices);
    let all = [
        ("goals.commit_p99_ms", goals.commit_p99_ms),
        ("goals.lag_p99_ms", goals.lag_p99_ms),
        ("goals.caught_up_s", goals.caught_up_s),
        ("goals.failed_share", goals.failed_share),
        ("goals.people_p99_ratio", goals.people_p99_ratio),
        ("goals.goodput_loss", goals.goodput_loss),
        ("goals.memory_growth", goals.memory_growth),
        ("load.stop_p99_ms", Some(profile.load.stop_p99_ms)),
        ("prices.write_units_million", prices.write_units_million),
        ("prices.read_units_million", prices.read_units_million),
        ("prices.put_units_million", prices.put_units_million),
        ("prices.shard_hour", prices.shard_hour),
    ];
    let wrong = all.iter().filter_map(|(name, value)| Some((name, value.filter(|value| !(0.0..1e9).contains(value))?)));
    let mut faults: Vec<String> =
        wrong.map(|(name, value)| format!("{name} = {value}: it must be from 0 to 1000000000")).collect();
    let agents = profile.run.agents_running;
    if agents > MOST_RUNNING {
        faults.push(format!("run.agents_running = {agents}: it must be from 0 to {MOST_RUNNING}"));
    }
    let of_burst = [("goals.people_p99_ratio", goals.people_p99_ratio), ("goals.goodput_loss", goals.goodput_loss)];
    for (name, value) in of_burst.into_iter().filter(|_| profile.load.shape != Shape::Burst) {
        faults.extend(value.map(|value| {
            format!("{name} = {value}: it compares a burst with the time before it: set load.shape = \"burst\"")
        }));
    }
    faults
}

/// The values that only one kind of fault has.
fn own_values(fault: &Fault, sites: usize) -> Option<String> {
    match fault.kind {
        FaultKind::Throttle if !(fault.share > 0.0 && fault.share <= 1.0) => {
            Some(format!("faults.share = {}: throttle needs a share above 0, up to 1", fault.share))
        }
        FaultKind::Far if !(1..=LONGEST_TRIP_MS).contains(&fault.round_trip_ms) => {
            let given = fault.round_trip_ms;
            Some(format!("faults.round_trip_ms = {given}: far needs a round trip from 1 to {LONGEST_TRIP_MS}"))
        }
        // The preparation of a run commits at the first site.
        FaultKind::Failover if !(1..sites).contains(&fault.to) || fault.to == fault.site => {
            Some(format!("faults.to = {}: failover needs another site than `site`, from 1 to {}", fault.to, sites - 1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::profile::{Goals, Run};

    #[test]
    fn a_goal_that_no_run_can_be_held_against_is_named() {
        let found = |goals: Goals| faults(&Profile { goals, ..Profile::default() });
        assert_eq!(found(Goals { commit_p99_ms: Some(50.0), failed_share: Some(0.0), ..Goals::default() }), [""; 0]);
        let of_burst = Goals { people_p99_ratio: Some(2.0), goodput_loss: Some(0.1), ..Goals::default() };
        let wrong = found(Goals { caught_up_s: Some(-1.0), ..of_burst });
        assert!(wrong[0].starts_with("goals.caught_up_s = -1: it must be"), "{wrong:?}");
        assert!(wrong[1].starts_with("goals.people_p99_ratio = 2: it compares a burst"), "{wrong:?}");
        assert!(wrong[2].starts_with("goals.goodput_loss = 0.1: it compares a burst"), "{wrong:?}");
        let run = Run { agents_running: 65, ..Run::default() };
        let wrong = faults(&Profile { run, ..Profile::default() });
        assert_eq!(wrong, ["run.agents_running = 65: it must be from 0 to 64"]);
    }

    #[test]
    fn a_fault_without_the_values_that_it_needs_is_named() {
        let fault = |kind| Fault { at_s: 1.0, kind, site: 0, for_s: 1.0, to: 0, share: 0.0, round_trip_ms: 0 };
        let found = |fault: Fault| faults(&Profile { faults: vec![fault], ..Profile::default() });
        assert_eq!(found(fault(FaultKind::Kill)), [""; 0]);
        assert_eq!(found(Fault { share: 0.5, ..fault(FaultKind::Throttle) }), [""; 0]);
        assert_eq!(found(Fault { to: 2, ..fault(FaultKind::Failover) }), [""; 0]);
        assert!(found(fault(FaultKind::Throttle))[0].starts_with("faults.share = 0"));
        assert!(found(fault(FaultKind::Far))[0].starts_with("faults.round_trip_ms = 0"));
        assert!(found(fault(FaultKind::Failover))[0].starts_with("faults.to = 0"));
        assert!(found(Fault { site: 3, ..fault(FaultKind::Reshard) })[0].starts_with("faults.site = 3"));
    }
}
