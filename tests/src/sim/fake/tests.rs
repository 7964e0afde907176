//! Tests of the simulator with the tiny node: it is deterministic, it accepts the correct node, and each checker finds
//! its mistake.

use std::sync::Arc;

use lockstep::base::faults::injected_bug::InjectedBugs;

use super::handle::Fakes;
use super::node::Mistake;
use super::volume::TinyVolume;
use crate::sim::action::Action;
use crate::sim::memory::MemoryBackend;
use crate::sim::run::{Failure, Report, run};
use crate::sim::scenario::{Ask, Scenario};

fn go(seed: u64, scenario: Scenario, mistake: Mistake) -> Result<Report, Box<Failure>> {
    let backend = MemoryBackend::new(scenario.shards, Box::new(|| Arc::new(TinyVolume::default())));
    run(seed, scenario, InjectedBugs::default(), Arc::new(backend), Arc::new(Fakes(mistake)))
}

/// A short run, reduced to the features of the tiny node: refs, records that may be bad, requests that are made once,
/// and reads that are one moment.
fn short(mut scenario: Scenario) -> Scenario {
    scenario.asks.retain(|(ask, _)| !matches!(ask, Ask::Head | Ask::DeleteProject));
    // A site that is down for longer than any lease leaves no time for other faults in a short run. The tiny node's
    // volume has no snapshots.
    scenario.actions.retain(|(action, _)| !matches!(action, Action::Forge | Action::SiteDown | Action::PutBack));
    Scenario { safety_ms: 20_000, nodes: [2, 1, 1], torn_reads: 0, repeats: 0, retentions: 0, ..scenario }
}

fn found(mistake: Mistake, properties: &[&str]) {
    let failures = (1..=24).filter_map(|seed| go(seed, short(Scenario::general()), mistake).err());
    let failure = failures.into_iter().next().unwrap_or_else(|| panic!("no seed found {mistake:?}"));
    assert!(properties.contains(&failure.violation.property), "{mistake:?} was found as: {failure}");
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_by_byte() {
    let first = go(11, short(Scenario::general()), Mistake::None);
    let second = go(11, short(Scenario::general()), Mistake::None);
    assert_eq!(first, second);
    let other = go(12, short(Scenario::general()), Mistake::None);
    assert_ne!(first.map(|report| report.hash), other.map(|report| report.hash));
}

#[test]
fn a_calm_world_commits_and_converges() {
    let report = go(1, short(Scenario::calm()), Mistake::None).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.faults, 0, "{report}");
    assert!(report.heard[0] > 20, "{report}");
}

#[test]
fn a_good_node_survives_the_general_faults() {
    for seed in 1..=4 {
        let report = go(seed, short(Scenario::losses()), Mistake::None).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.faults > 10 && report.heard[0] > 5, "{report}");
    }
}

/// The tiny node takes a scan for one moment, and applies what it read of a batch.
#[test]
fn a_read_that_is_taken_for_one_moment_is_found() {
    let torn = |seed| go(seed, Scenario { torn_reads: 300, ..short(Scenario::calm()) }, Mistake::None);
    let failure = (1..=24).find_map(|seed| torn(seed).err()).expect("a seed finds it");
    assert_eq!(failure.violation.property, "batches", "{failure}");
}

#[test]
fn refusing_a_silence_is_found() {
    found(Mistake::RefuseSilence, &["answers"]);
}

#[test]
fn a_version_map_without_a_sync_is_found() {
    found(Mistake::NoSync, &["durability"]);
}

#[test]
fn a_checkpoint_before_its_refs_is_found() {
    found(Mistake::CheckpointFirst, &["checkpoints"]);
}

#[test]
fn a_publisher_that_sleeps_is_found() {
    found(Mistake::NoPublish, &["marks", "convergence"]);
}

#[test]
fn draining_without_poison_is_found() {
    found(Mistake::NoPoison, &["fencing"]);
}

#[test]
fn resending_under_another_id_is_found() {
    found(Mistake::OtherBytes, &["slots", "answers", "marks"]);
}

#[test]
fn half_a_batch_is_found() {
    found(Mistake::HalfBatch, &["batches", "checkpoints", "marks"]);
}

#[test]
fn names_that_exclude_each_other_are_found() {
    found(Mistake::NoNames, &["names"]);
}
