//! The simulator with the real node: first determinism, then seeds without an injected bug, then every injected bug.
//! `docs/simulator.md` lists the conditions and the checker that expose each bug.

mod arrival;
mod availability;
mod blobs;
mod content;
mod deadlines;
mod degraded;
mod events;
mod failover;
mod failover_all_active;
mod failover_drivers;
mod locks;
mod move_refdb;
mod names;
mod projects;
mod reads;
mod rebuild;
mod reconciliation;
mod refresh;
mod requests;
mod seeding;
mod siblings;
mod signing;
mod site_list;
mod streams;
mod switched_off;
mod verify;
mod went_back;

use std::ops::Range;

use lockstep::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use lockstep_tests::sim::{Scenario, bugs, simulate};

/// The number of seeds without an injected bug. `LOCKSTEP_SIM_SEEDS` overrides it, and `LOCKSTEP_SIM_SEED` sets the
/// first seed. The scenarios beside the general one get a quarter of them.
const GOOD_SEEDS: u64 = 6;
/// Among this many seeds some must free the name of an emptied folder, and in some a node must find out that a stream
/// has forgotten records. About every third one does.
const RARE_SEEDS: u64 = 20;
/// The number of seeds within which an injected bug must be found.
const BUG_SEEDS: u64 = 30;
/// Seeds that found rare bugs when they were looked for last. They are tried first, which saves minutes. A change of
/// the protocol may make them useless, and nothing worse: the other seeds follow.
const LIKELY: [(InjectedBug, u64); 3] =
    [(InjectedBug::AckForgetsNewer, 6), (InjectedBug::LookBeforeBarrier, 8), (InjectedBug::LockedNameMarked, 4)];

#[test]
fn the_same_seed_gives_the_same_trace_byte_by_byte() {
    for seed in [1, 2] {
        let scenario = Scenario { safety_ms: 30_000, ..Scenario::general() };
        let first = simulate(seed, scenario.clone(), InjectedBugs::default());
        let second = simulate(seed, scenario, InjectedBugs::default());
        assert!(first == second, "seed {seed} gave two traces: {:?}", differ(&first, &second));
    }
}

/// The first line in which two traces differ.
fn differ(
    first: &Result<lockstep_tests::sim::Report, Box<lockstep_tests::sim::Failure>>,
    second: &Result<lockstep_tests::sim::Report, Box<lockstep_tests::sim::Failure>>,
) -> Option<(String, String)> {
    let text = |end: &Result<lockstep_tests::sim::Report, Box<lockstep_tests::sim::Failure>>| match end {
        Ok(report) => report.trace.clone(),
        Err(failure) => failure.trace.clone(),
    };
    let (first, second) = (text(first), text(second));
    let pair = first.lines().zip(second.lines()).find(|(first, second)| first != second);
    pair.map(|(first, second)| (first.to_owned(), second.to_owned()))
}

#[test]
fn a_calm_world_commits_and_converges() {
    for seed in 1..=2 {
        let scenario = Scenario { safety_ms: 20_000, ..Scenario::calm() };
        let report = simulate(seed, scenario, InjectedBugs::default()).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(report.faults, 0, "{report}");
        assert!(report.heard[0] > 100, "{report}");
        assert!(report.events[0] > 20 && report.events[1] == report.events[0] * 5, "{report}");
    }
}

/// A number from an environment variable that `make sim` sets.
fn set(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_property_holds_under_the_general_faults() {
    let (from, count) = (set("LOCKSTEP_SIM_SEED").unwrap_or(1), set("LOCKSTEP_SIM_SEEDS").unwrap_or(GOOD_SEEDS));
    let (mut freed, mut missed, mut attempts, mut beats) = (0, 0, 0, 0);
    for seed in from..from + count {
        let end = simulate(seed, Scenario::general(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report}");
        assert!(report.faults > 100 && report.heard[0] > 20, "{report}");
        assert!(report.events[0] > 5 && report.events[1] > report.events[0], "{report}");
        freed += report.freed;
        missed += report.trace.matches("the stream no longer has").count();
        attempts += report.judged.attempts;
        beats += report.judged.beats;
    }
    let is_idle = attempts == 0 || beats == 0;
    assert!(!is_idle || count < GOOD_SEEDS, "availability: {attempts} attempts and {beats} beats were judged");
    assert!(freed > 0 || count < RARE_SEEDS, "no emptied folder became a branch in {count} seeds");
    assert!(missed > 0 || count < RARE_SEEDS, "no stream forgot what a node had not read in {count} seeds");
}

/// The seeds of a scenario beside the general one: `few`, or a quarter of those that `make sim` sets.
fn quarter(few: u64) -> Range<u64> {
    let (from, count) = (set("LOCKSTEP_SIM_SEED").unwrap_or(1), set("LOCKSTEP_SIM_SEEDS"));
    from..from + count.map_or(few, |count| count.div_ceil(4))
}

/// Whether so many seeds are run that one of them must show an event which not every seed has. The first `few` seeds
/// are known to.
fn must_show(seeds: &Range<u64>, few: u64) -> bool {
    let count = seeds.end - seeds.start;
    count >= RARE_SEEDS || (seeds.start == 1 && count >= few)
}

#[test]
fn lost_volumes_come_back_from_peers_and_the_journal() {
    let (mut restored, seeds) = (0, quarter(3));
    for seed in seeds.clone() {
        let end = simulate(seed, Scenario::losses(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.trace.contains("DISK LOST"), "{report}");
        restored += u32::from(report.trace.contains("Peers objects"));
    }
    assert!(restored > 0 || !must_show(&seeds, 3), "no node asked a peer for objects");
}

#[test]
fn an_expelled_node_reconciles_before_it_is_ready() {
    let (mut alone, seeds) = (Vec::new(), quarter(2));
    for seed in seeds.clone() {
        let end = simulate(seed, Scenario::expulsion(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        let (_, back) = report.trace.split_once("COMES BACK").expect("a node was away");
        if !back.contains("Peers objects") {
            alone.push(seed);
        }
    }
    // A node that was away while little was pushed may need nothing of its peers.
    let most = seeds.count() / 4;
    assert!(alone.len() <= most, "nothing came from peers in the runs of the seeds {alone:?}");
}

#[test]
fn a_refdb_that_went_back_is_seen_by_every_node_and_gets_no_more_commits() {
    for seed in quarter(4) {
        let end = simulate(seed, Scenario::rewound(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.trace.contains("THE REFDB GOES BACK"), "{report}");
    }
}

#[test]
fn a_lost_refdb_is_rebuilt_with_every_value_whoever_dies() {
    let (mut early, seeds) = (0, quarter(4));
    for seed in seeds.clone() {
        let end = simulate(seed, Scenario::rebuilt(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.trace.contains("THE REFDB IS LOST") && report.trace.contains(" REBUILDS\n"), "{report}");
        early += report.trace.matches("AND ITS WRITES FAIL").count();
    }
    assert!(early > 2 || !must_show(&seeds, 4), "rebuilds ended early {early} times");
}

#[test]
fn every_property_holds_in_tables_without_transactions() {
    for seed in quarter(4) {
        let end = simulate(seed, Scenario::single_item(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.faults > 100 && report.heard[0] > 20, "{report}");
        assert!(report.trace.contains(" seal "), "a transaction of any size has a seal: {report}");
    }
}

#[test]
fn every_property_holds_while_siblings_share_their_reads() {
    let (mut asked, mut handed, seeds) = (0, 0, quarter(2));
    for seed in seeds.clone() {
        let end = simulate(seed, Scenario::siblings(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.faults > 100 && report.heard[0] > 20, "{report}");
        let calls = report.trace.lines().filter(|line| line.contains(" Peers records "));
        let with_records: Vec<bool> = calls.map(|line| line.contains("-> Ok([\"")).collect();
        asked += with_records.len();
        handed += with_records.into_iter().filter(|has_records| *has_records).count();
    }
    let has_shown = asked > 100 && handed > 0;
    assert!(has_shown || !must_show(&seeds, 2), "siblings asked {asked} times, and got records {handed} times");
}

#[test]
fn the_shards_follow_the_load_by_the_rules_whoever_looks_and_whatever_is_lost() {
    let (mut changes, mut takes, mut unknown, seeds) = (0, 0, 0, quarter(2));
    for seed in seeds.clone() {
        let end = simulate(seed, Scenario::autoscaled(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.heard[0] > 10, "{report}");
        let count = |what: &str| report.trace.matches(what).count();
        changes += count("SETS THE SHARDS of");
        // Each of the three sites has a first node that looks.
        takes += count("LOOKS AFTER THE STREAM of").saturating_sub(3);
        let calls = report.trace.lines().filter(|line| line.contains(" EventLog set_shards "));
        unknown += calls.filter(|line| line.contains("simulated silence")).count();
    }
    let has_shown = changes > 6 && takes > 0 && unknown > 0;
    assert!(has_shown || !must_show(&seeds, 2), "{changes} changes, {takes} take-overs, {unknown} unknown answers");
}

#[test]
fn nothing_is_applied_that_somebody_forged_who_can_write_to_the_streams() {
    for seed in quarter(4) {
        let end = simulate(seed, Scenario::signed(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.heard[0] > 20, "{report}");
        assert!(report.trace.matches("FORGED").count() > 10, "{report}");
        assert!(report.trace.matches("a record without a good signature: forged").count() > 10, "{report}");
    }
}

/// Injects a bug and runs seeds until one of the bug's own properties is violated. A seed in which another property
/// objects first shows a consequence of the bug, and the next seed is run: which property is first depends on timing.
fn finds(bug: InjectedBug) {
    let properties = bugs::of(bug).properties;
    let mut others = Vec::new();
    let likely = LIKELY.iter().filter(|(of, _)| *of == bug).map(|(_, seed)| *seed);
    for seed in likely.chain(1..=BUG_SEEDS) {
        let Err(failure) = simulate(seed, Scenario::for_bug(bug), InjectedBugs::only(bug)) else { continue };
        // `make sim` has the time: it sets the number of seeds.
        if set("LOCKSTEP_SIM_SEEDS").is_some() {
            holds_without(bug, seed);
        }
        if properties.contains(&failure.violation.property) {
            println!("{bug:?} was found by seed {seed}");
            return;
        }
        others.push((seed, failure.violation.property));
    }
    panic!("{bug:?} violated none of {properties:?} within {BUG_SEEDS} seeds, but {others:?}");
}

/// Checks that a seed that found a bug has no violation without the bug.
fn holds_without(bug: InjectedBug, seed: u64) {
    if let Err(failure) = simulate(seed, Scenario::for_bug(bug), InjectedBugs::default()) {
        panic!("{bug:?}: seed {seed} fails without the bug too: {failure}");
    }
}

#[test]
fn the_documentation_names_the_property_that_finds_each_injected_bug() {
    let page = include_str!("../../../docs/simulator.md");
    assert!(page.contains(&bugs::table()), "docs/simulator.md must have this table:\n{}", bugs::table());
    assert_eq!(bugs::FOUND.map(|found| found.bug), InjectedBug::ALL);
}

/// One test per injected bug.
macro_rules! bugs {
    ($($test:ident: $bug:ident,)*) => {
        $(#[test]
        fn $test() {
            finds(InjectedBug::$bug);
        })*

        #[test]
        fn every_injected_bug_has_a_test() {
            assert_eq!([$(InjectedBug::$bug),*], InjectedBug::ALL);
        }
    };
}

bugs! {
    finds_resend_other_bytes: ResendOtherBytes,
    finds_checkpoint_before_apply: CheckpointBeforeApply,
    finds_refs_before_objects: RefsBeforeObjects,
    finds_error_as_absent: ErrorAsAbsent,
    finds_child_before_parent: ChildBeforeParent,
    finds_value_without_version: ValueWithoutVersion,
    finds_settled_over_unresolved: SettledOverUnresolved,
    finds_window_not_poisoned: WindowNotPoisoned,
    finds_own_stream_skipped: OwnStreamSkipped,
    finds_batch_caught_up_in_part: BatchCaughtUpInPart,
    finds_missing_base_is_bad: MissingBaseIsBad,
    finds_name_conflict_committed: NameConflictCommitted,
    finds_collect_below_slow_node: CollectBelowSlowNode,
    finds_tombstone_forgotten: TombstoneForgotten,
    finds_pack_against_uncommitted: PackAgainstUncommitted,
    finds_paused_node_goes_on: PausedNodeGoesOn,
    finds_fenced_reopens: FencedReopens,
    finds_refused_in_flight: RefusedInFlight,
    finds_map_before_refs: MapBeforeRefs,
    finds_mark_after_map: MarkAfterMap,
    finds_ack_forgets_newer: AckForgetsNewer,
    finds_own_not_refreshed: OwnNotRefreshed,
    finds_acked_not_kept: AckedNotKept,
    finds_event_before_refs: EventBeforeRefs,
    finds_checkpoint_before_event: CheckpointBeforeEvent,
    finds_open_lock_taken: OpenLockTaken,
    finds_lock_not_read: LockNotRead,
    finds_lock_outlives_slot: LockOutlivesSlot,
    finds_released_unpoisoned: ReleasedUnpoisoned,
    finds_locked_name_marked: LockedNameMarked,
    finds_look_before_barrier: LookBeforeBarrier,
    finds_marks_outlive_incarnation: MarksOutliveIncarnation,
    finds_mark_passes_refused: MarkPassesRefused,
    finds_beat_waits_for_publish: BeatWaitsForPublish,
    finds_throttled_keeps_slot: ThrottledKeepsSlot,
    finds_nobody_else_adopts: NobodyElseAdopts,
    finds_origin_judges_nothing: OriginJudgesNothing,
    finds_receivers_judge_taste: ReceiversJudgeTaste,
    finds_older_refdb_not_seen: OlderRefdbNotSeen,
    finds_snapshot_keeps_marks: SnapshotKeepsMarks,
    finds_requests_forgotten: RequestsForgotten,
    finds_long_form_after_slot: LongFormAfterSlot,
    finds_long_form_dropped_early: LongFormDroppedEarly,
    finds_promoted_unsettled: PromotedUnsettled,
    finds_removed_while_active: RemovedWhileActive,
    finds_held_collected: HeldCollected,
    finds_leftover_forgotten: LeftoverForgotten,
    finds_short_read_is_end: ShortReadIsEnd,
    finds_ready_before_whole: ReadyBeforeWhole,
    finds_digest_misses_deletion: DigestMissesDeletion,
    finds_digest_misses_overlay: DigestMissesOverlay,
    finds_pack_not_signed: PackNotSigned,
    finds_versions_not_signed: VersionsNotSigned,
    finds_adopter_signs_nothing: AdopterSignsNothing,
    finds_requirement_ignored: RequirementIgnored,
    finds_trim_skipped: TrimSkipped,
    finds_commit_waits_for_sites: CommitWaitsForSites,
    finds_eventual_read: EventualRead,
    finds_torn_scan_taken: TornScanTaken,
    finds_sibling_skips_gap: SiblingSkipsGap,
    finds_scaled_unwritten: ScaledUnwritten,
}
