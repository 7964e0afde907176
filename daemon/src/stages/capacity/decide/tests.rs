//! Tests: single decisions, and days of decisions under loads that rest, swing or jump.

use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60;

const LIMITS: Limits = Limits { target: 60, least: 1, most: 64, settle_ms: 60 * MINUTE, interval_ms: MINUTE };

fn bytes(thousandths: u64) -> Load {
    Load { bytes: thousandths * SHARD.0 / 1_000, ..Load::default() }
}

fn seen(shards: u32, load: Load) -> Seen {
    Seen { shards, is_changing: false, load: Some(load), floor: 0 }
}

fn first(shards: u32, load: Load) -> Action {
    decide(&StreamCapacity::default(), &seen(shards, load), &LIMITS, DAY * MINUTE).1
}

/// A change of the simulated stream: the minute, and the numbers of shards before and after it.
type Change = (u64, u32, u32);

/// A stream whose load of each minute is looked at once. A change takes effect before the next look.
fn changes(limits: &Limits, shards: u32, minutes: u64, load: impl Fn(u64) -> Load) -> (Vec<Change>, StreamCapacity) {
    let (mut state, mut shards, mut made) = (StreamCapacity::default(), shards, Vec::new());
    for minute in 0..minutes {
        let now = (1_000_000 + minute) * MINUTE;
        let (next, action) = decide(&state, &seen(shards, load(minute)), limits, now);
        state = next;
        if let Action::Set { to, .. } = action {
            state.calls_ms.push(now);
            made.push((minute, shards, to));
            shards = to;
        }
    }
    state.shards = shards;
    (made, state)
}

/// The rules of Kinesis, and the bounds of the configuration.
fn assert_rules(made: &[Change], limits: &Limits) {
    for (minute, from, to) in made {
        assert!(*to <= from * 2 && to * 2 >= *from && to != from, "{from} -> {to}");
        assert!((limits.least..=limits.most).contains(to), "{from} -> {to}");
        let of_day = made.iter().filter(|(at, ..)| at <= minute && minute - at < DAY);
        assert!(of_day.count() <= CHANGES, "too many within the day before minute {minute}: {made:?}");
    }
}

/// A load that swings between two values within `period` minutes.
fn swing(minute: u64, period: u64, low: f64, high: f64) -> Load {
    let angle = minute as f64 / period as f64 * std::f64::consts::TAU;
    bytes((low + (high - low) * (1.0 + angle.sin()) / 2.0) as u64)
}

#[test]
fn a_busy_stream_grows_at_once_and_at_most_to_the_double() {
    assert_eq!(first(1, bytes(700)), Action::Set { to: 2, why: Why::Busy(70) });
    assert_eq!(first(4, bytes(2_500)), Action::Set { to: 6, why: Why::Busy(62) });
    assert_eq!(first(4, bytes(60_000)), Action::Set { to: 8, why: Why::Busy(1_500) });
    assert_eq!(first(4, bytes(2_000)), Action::Hold(Why::Fits(50)));
    let small = Load { records: 700, ..Load::default() };
    assert_eq!(first(1, small), Action::Set { to: 2, why: Why::Busy(70) }, "small records fill a shard too");
}

#[test]
fn refused_records_count_only_where_more_shards_help() {
    let refused = |thousandths| Load { refused: 9, ..bytes(thousandths) };
    assert_eq!(first(2, refused(800)), Action::Set { to: 3, why: Why::Refused(9) });
    assert_eq!(first(2, refused(100)), Action::Hold(Why::Uneven(9)), "one busy project");
}

#[test]
fn a_floor_is_kept_without_any_load_and_the_bound_of_the_configuration_holds() {
    let early = Seen { load: None, floor: 8, ..seen(3, Load::default()) };
    let at = |seen: &Seen| decide(&StreamCapacity::default(), seen, &LIMITS, DAY * MINUTE);
    assert_eq!(at(&early).1, Action::Set { to: 6, why: Why::Floor(8) });
    assert_eq!(at(&Seen { floor: 0, ..early }).1, Action::Hold(Why::Unknown));
    assert_eq!(at(&Seen { is_changing: true, ..early }).1, Action::Hold(Why::Changing));
    let (state, action) = at(&seen(64, bytes(60_000)));
    assert_eq!((action, state.stuck), (Action::Hold(Why::AtMost(64)), true));
    assert!(state.told.contains("most_shards is 64"), "{}", state.told);
}

#[test]
fn a_stream_shrinks_after_a_whole_time_of_low_load_and_an_unknown_one_begins_it_anew() {
    let now = DAY * MINUTE;
    let (state, action) = decide(&StreamCapacity::default(), &seen(8, bytes(600)), &LIMITS, now);
    assert_eq!((action, state.quiet_since_ms), (Action::Hold(Why::Fits(7)), Some(now)));
    let ends = now + LIMITS.settle_ms;
    let looked = StreamCapacity { looked_ms: ends - MINUTE, ..state };
    let after = |seen: &Seen| decide(&looked, seen, &LIMITS, ends);
    let (next, action) = after(&seen(8, bytes(100)));
    assert_eq!(action, Action::Set { to: 4, why: Why::Quiet(7) });
    assert_eq!(next.quiet_since_ms, None);
    let unknown = Seen { load: None, ..seen(8, bytes(0)) };
    assert_eq!(after(&unknown).0.quiet_since_ms, None);
    let long_ago = StreamCapacity { looked_ms: now, ..looked.clone() };
    let (next, action) = decide(&long_ago, &seen(8, bytes(100)), &LIMITS, ends);
    assert_eq!((action, next.quiet_since_ms), (Action::Hold(Why::Fits(1)), Some(ends)), "nobody looked meanwhile");
}

#[test]
fn the_changes_of_a_day_are_counted_and_a_wrong_clock_keeps_none_for_longer() {
    let now = 10 * DAY * MINUTE;
    let with = |calls_ms: Vec<u64>| StreamCapacity { calls_ms, looked_ms: now, ..StreamCapacity::default() };
    let hour = 60 * MINUTE;
    let ten: Vec<u64> = (1..=10).map(|hours| now - hours * hour).collect();
    let (state, action) = decide(&with(ten.clone()), &seen(1, bytes(700)), &LIMITS, now);
    assert_eq!((action, state.stuck), (Action::Hold(Why::NoChangeLeft), true));
    assert!(matches!(decide(&with(ten[1..].to_vec()), &seen(1, bytes(700)), &LIMITS, now).1, Action::Set { .. }));
    assert_eq!(decide(&with(vec![now - 1]), &seen(1, bytes(700)), &LIMITS, now).1, Action::Hold(Why::Waits));
    let (state, _) = decide(&with(vec![u64::MAX, now - 25 * hour]), &seen(1, bytes(0)), &LIMITS, now);
    assert_eq!(state.calls_ms, [now]);
    let (quiet, four) = (StreamCapacity { quiet_since_ms: Some(0), ..with(ten[6..].to_vec()) }, seen(8, bytes(0)));
    assert_eq!(decide(&quiet, &four, &LIMITS, now).1, Action::Hold(Why::KeepsChanges));
}

#[test]
fn a_swing_within_the_time_of_low_load_changes_nothing_after_its_first_day() {
    for period in [7, 20, 40, 60] {
        let (made, _) = changes(&LIMITS, 1, 4 * DAY, |minute| swing(minute, period, 500.0, 8_000.0));
        assert_rules(&made, &LIMITS);
        assert!(made.iter().all(|(minute, ..)| *minute < DAY), "period {period}: {made:?}");
    }
}

#[test]
fn a_swing_of_a_day_is_followed_without_flapping() {
    let (made, _) = changes(&LIMITS, 1, 5 * DAY, |minute| swing(minute, DAY, 500.0, 8_000.0));
    assert_rules(&made, &LIMITS);
    let turns = made.windows(2).filter(|pair| (pair[0].2 > pair[0].1) != (pair[1].2 > pair[1].1)).count();
    assert!(turns <= 10, "two turns a day: {made:?}");
    assert!(made.iter().any(|(_, from, to)| to < from), "it shrinks at night: {made:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_load_breaks_a_rule_of_kinesis(
        loads in prop::collection::vec((0_u64..80_000, 0_u64..3), 1..60),
        shards in 1_u32..64,
        hold in 1_u64..90,
    ) {
        let of = |minute: u64| {
            let at = usize::try_from(minute / hold).unwrap_or_default() % loads.len();
            let (thousandths, refused) = loads[at];
            Load { refused, ..bytes(thousandths) }
        };
        let (made, _) = changes(&LIMITS, shards, 3 * DAY, of);
        assert_rules(&made, &LIMITS);
    }

    #[test]
    fn a_load_that_rests_ends_in_a_number_that_fits_and_stays(load in 0_u64..60_000, shards in 1_u32..64) {
        let (made, state) = changes(&LIMITS, shards, 5 * DAY, |_| bytes(load));
        assert_rules(&made, &LIMITS);
        prop_assert!(made.iter().all(|(minute, ..)| *minute < 4 * DAY), "{made:?}");
        let rises = made.iter().any(|(_, from, to)| to > from);
        prop_assert!(!rises || made.iter().all(|(_, from, to)| to > from), "it turns back: {made:?}");
        let (needed, has) = (enough(bytes(load).thousandths(), LIMITS.target), state.shards);
        prop_assert!(has >= needed.min(LIMITS.most), "{has} of {needed}");
        prop_assert!(!is_worth_it(roomy(bytes(load).thousandths(), LIMITS.target), has), "{has} of {needed}");
    }
}
