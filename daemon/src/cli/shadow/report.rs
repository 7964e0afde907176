//! The text of a comparison.

use super::compare::{Comparison, Kind};

/// The meaning of each kind of finding.
const KINDS: [(Kind, &str); 7] = [
    (Kind::NeverArrived, "moves that never arrived"),
    (Kind::BothMoved, "refs that two sites moved from the same value: Lockstep would have refused one"),
    (Kind::OrderOfValues, "refs whose values came in another order"),
    (Kind::OrderOfProposals, "proposals that came before an earlier one of their origin"),
    (Kind::NotTogether, "proposals whose refs did not come together"),
    (Kind::NameRefused, "refs whose names Lockstep would refuse"),
    (Kind::ProjectDiffers, "projects whose refs differ at the end"),
];

/// A comparison as text.
#[must_use]
pub fn render(comparison: &Comparison) -> String {
    let mut text = String::new();
    for one in &comparison.watches {
        let seconds = one.to_ms.saturating_sub(comparison.from_ms.max(one.from_ms)) / 1_000;
        text += &format!(
            "{} (site {}): {} projects, {} proposals with {} refs begun here in {seconds} s\n",
            one.node, one.site, one.projects, one.proposals, one.refs
        );
        one.problems.iter().for_each(|why| text += &format!("  Lockstep would not take: {why}\n"));
    }
    for way in &comparison.ways {
        text += &format!(
            "{} -> {}: {} arrived, {} passed over, {} under way, {} LOST; lag {} / {} / {} ms (p50, p99, longest)\n",
            way.from,
            way.to,
            way.arrived,
            way.passed_over,
            way.under_way,
            way.lost,
            way.lag_p50_ms,
            way.lag_p99_ms,
            way.lag_max_ms
        );
    }
    for (kind, meaning) in KINDS {
        let Some(count) = comparison.counts.get(&kind) else { continue };
        text += &format!("{count} {meaning}\n");
        for one in comparison.findings.iter().filter(|one| one.kind == kind) {
            text += &format!("  {} {}: {}\n", one.project, one.name, one.what);
        }
    }
    if comparison.counts.is_empty() {
        text += "nothing differs from the moves that Lockstep would have made\n";
    }
    text
}
