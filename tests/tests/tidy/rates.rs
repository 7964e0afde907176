//! The measured rates in `docs/simulator.md`: each injected bug has a row with a number, so that nobody trusts a
//! scenario that was never measured.

use lockstep::base::faults::injected_bug::InjectedBug;

use crate::root;

/// The heading of the rates. The table ends at the next one.
const HEADING: &str = "### Measured rates\n";

/// The names that have no row with a number.
fn unmeasured(page: &str, bugs: &[String]) -> Vec<String> {
    let table = page.split_once(HEADING).map_or("", |(_, rest)| rest.split("\n#").next().unwrap_or_default());
    let is_measured = |bug: &&String| {
        let row = format!("| `{bug}` | ");
        let mut rates = table.lines().filter_map(|line| line.strip_prefix(&row));
        rates.any(|rate| rate.starts_with(|first: char| first.is_ascii_digit()))
    };
    bugs.iter().filter(|bug| !is_measured(bug)).cloned().collect()
}

#[test]
fn every_injected_bug_has_a_measured_rate() {
    let page = std::fs::read_to_string(root().join("docs/simulator.md")).expect("the page is there");
    let bugs = InjectedBug::ALL.map(|bug| format!("{bug:?}"));
    let unmeasured = unmeasured(&page, &bugs);
    assert!(unmeasured.is_empty(), "measure with `sim --rates --seeds 24 --from 1001 --bug BUG`: {unmeasured:?}");
}

#[test]
fn a_bug_without_a_number_or_without_a_row_is_found() {
    let page = format!("| `C` | 1 |\n{HEADING}\n| `A` | 24 |\n| `B` | ? |\n\n## Next\n| `D` | 2 |\n");
    let bugs = ["A", "B", "C", "D"].map(str::to_owned);
    assert_eq!(unmeasured(&page, &bugs), ["B", "C", "D"]);
}
