//! The table of operators' calls on the page about security has exactly the calls that the test of all identities
//! keeps from everybody else.

use std::collections::BTreeSet;

use crate::{Finding, Source};

/// The test with the list of the operators' calls.
const TEST: &str = "tests/tests/hooks/operators/calls.rs";
/// The beginnings of a call.
const METHODS: [&str; 4] = ["get /", "post /", "put /", "delete /"];

pub fn check(page: &Source, files: &[Source]) -> Vec<Finding> {
    let Some(test) = files.iter().find(|file| file.path == TEST) else {
        return vec![page.finding(1, format!("{TEST} is not there, with which its table of calls is compared"))];
    };
    let listed: BTreeSet<&str> =
        test.text.split("const OF_").filter_map(|list| calls_of(list, '"')).flatten().collect();
    let rows = page.lines().filter(|(_, line)| line.starts_with("| `"));
    let named: BTreeSet<(&str, usize)> =
        rows.flat_map(|(number, line)| calls(line, '`').map(move |call| (call, number))).collect();
    let missing = listed.iter().filter(|call| !named.iter().any(|(name, _)| name == *call));
    let missing = missing.map(|call| page.finding(1, format!("the table of operators' calls lacks `{call}`")));
    let others = named.iter().filter(|(call, _)| !listed.contains(call));
    missing
        .chain(others.map(|(call, number)| page.finding(*number, format!("`{call}` is no operators' call"))))
        .collect()
}

/// The calls of a list whose name begins with `OPERATORS`.
fn calls_of(list: &str, quote: char) -> Option<impl Iterator<Item = &str>> {
    let (list, _) = list.split_once("];")?;
    list.starts_with("OPERATORS").then(|| calls(list, quote))
}

/// The calls between quotes, without their bodies.
fn calls(text: &str, quote: char) -> impl Iterator<Item = &str> {
    let quoted =
        text.split(quote).skip(1).step_by(2).filter(|one| METHODS.iter().any(|method| one.starts_with(method)));
    quoted.map(|call| call.match_indices(' ').nth(1).map_or(call, |(end, _)| &call[..end]))
}

#[test]
fn a_call_that_the_page_lacks_and_one_that_is_open_to_others_are_found() {
    let test = "const OF_OPERATORS: [&str; 2] = [\n    \"put /v1/a\",\n    \"post /v1/b\",\n];\n\
                const OF_OPERATORS_BY_BODY: [&str; 1] = [\n    \"post /v1/c {\\\"d\\\":1}\",\n];\n\
                const OF_PEERS: [&str; 1] = [\"get /v1/peer\"];\n";
    let files = [Source::new(TEST, test)];
    let found = |rows: &str| {
        let findings = check(&Source::new("docs/security.md", rows), &files);
        findings.iter().map(|it| format!("{}: {}", it.line, it.rule)).collect::<Vec<_>>()
    };
    assert_eq!(found("| `put /v1/a`, `post /v1/b` | `site add` |\n| `post /v1/c` with `d` | `x` |\n"), [""; 0]);
    let lacks = "1: the table of operators' calls lacks `post /v1/c`";
    let open = "2: `get /v1/peer` is no operators' call";
    assert_eq!(found("| `put /v1/a`, `post /v1/b` | `site add` |\n| `get /v1/peer` | `peers` |\n"), [lacks, open]);
}
