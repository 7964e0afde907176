//! Errors are types. Only at the edge, where people read it, may the error of a `Result` be a `String`.

use crate::paths::code;
use crate::{Finding, Source};

/// The folders of the product.
const PRODUCT: [&str; 2] = ["daemon/src/", "proto/src/"];

/// The edge: commands, the configuration, and clients. Their errors are for people alone.
const EDGE: [&str; 3] = ["daemon/src/cli/", "daemon/src/node/config/", "daemon/src/clients/"];

/// Files and folders beyond the edge that may do the same, each with the reason.
const OTHERS: [(&str, &str); 9] = [
    ("daemon/src/node/assembly/explain/", "the text is the part of a node that was not reached, in an answer"),
    ("daemon/src/seams/embedded/dynamo.rs", "the emulator itself ends with a text"),
    ("daemon/src/seams/embedded/write_limits.rs", "the text is the body of an emulator's answer"),
    ("daemon/src/seams/git/model/object.rs", "the text is the defect of a pack in `GitError::Bad`"),
    ("daemon/src/seams/git/pack.rs", "the text is the defect of a pack in `GitError::Bad`"),
    ("daemon/src/seams/peers/fallback.rs", "the text is that of `PeerError::NotNow`, joined over all peers"),
    ("daemon/src/stages/failover/drill/members.rs", "the text is why a probe is red, in the record of a failover"),
    ("daemon/src/stages/failover/silent", "the text is that of a refusal"),
    ("daemon/src/stages/verify/against/choose.rs", "the text is why a peer was not compared, in an answer"),
];

/// The most lines over which the arguments of a `Result` go.
const MOST_LINES: usize = 8;

pub fn check(file: &Source) -> Vec<Finding> {
    let is_product = PRODUCT.iter().any(|root| file.path.starts_with(root));
    let is_edge = EDGE.iter().any(|root| file.path.starts_with(root));
    let is_listed = OTHERS.iter().any(|(path, _)| file.path.starts_with(path));
    if !is_product || is_edge || is_listed {
        return Vec::new();
    }
    let rule = "the error of the `Result` is a `String`: give the operation an error type (docs/STYLE.md)";
    texts(file).into_iter().map(|line| file.finding(line, rule)).collect()
}

/// Exemptions that no file needs any more.
pub fn unneeded(files: &[Source]) -> Vec<Finding> {
    let is_needed = |path: &str| files.iter().any(|file| file.path.starts_with(path) && !texts(file).is_empty());
    let stale = OTHERS.iter().filter(|(path, _)| !is_needed(path));
    let here = Source::new("tests/tests/tidy/errors.rs", "");
    stale.map(|(path, _)| here.finding(1, format!("`{path}` has no `String` error any more: take it off"))).collect()
}

/// The lines with a `Result` whose error is a `String`.
fn texts(file: &Source) -> Vec<usize> {
    let lines = code(file);
    let mut found = Vec::new();
    for (index, (number, line)) in lines.iter().enumerate() {
        for (at, opening) in line.match_indices("Result<") {
            let rest = lines[index + 1..].iter().take(MOST_LINES).map(|(_, line)| *line);
            let text: Vec<&str> = std::iter::once(&line[at + opening.len()..]).chain(rest).collect();
            if matches!(&arguments(&text.join("\n"))[..], [_, error] if error == "String") {
                found.push(*number);
            }
        }
    }
    found
}

/// The arguments of a generic type. The text begins behind the bracket that opens them.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut before, mut one) = (0, ' ', String::new());
    let mut all = Vec::new();
    for letter in text.chars() {
        match letter {
            // The arrow of a function closes nothing.
            '>' if before == '-' => {}
            '>' | ')' | ']' if depth == 0 => break,
            '>' | ')' | ']' => depth -= 1,
            '<' | '(' | '[' => depth += 1,
            _ => {}
        }
        match letter {
            ',' if depth == 0 => all.push(std::mem::take(&mut one)),
            letter => one.push(letter),
        }
        before = letter;
    }
    all.push(one);
    all.iter().map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

#[test]
fn a_result_whose_error_is_a_text_is_found() {
    let found = |path: &str, text: &str| check(&Source::new(path, text)).len();
    let stage = "daemon/src/stages/commit/mod.rs";
    for text in [
        "fn f() -> Result<(), String> {",
        "fn f() -> Result<Vec<(A, B)>, String>;",
        "fn f() -> Result<\n    A,\n    String,\n>;",
        "fn f() -> Result<Result<A, String>, B>;",
        "a: Box<dyn Fn(A) -> Result<B, String>>,",
    ] {
        assert_eq!(found(stage, text), 1, "{text}");
        assert_eq!(found("proto/src/slot.rs", text), 1, "{text}");
        assert_eq!(found("daemon/src/cli/commands/status.rs", text), 0, "an edge: {text}");
        assert_eq!(found(stage, &format!("#[cfg(test)]\nmod tests {{\n    {text}\n}}\n")), 0, "a test: {text}");
    }
    for text in
        ["-> Result<String, A>", "-> Result<BTreeMap<String, String>>", "-> Result<A, Vec<String>>", "// Result"]
    {
        assert_eq!(found(stage, text), 0, "{text}");
    }
}

#[test]
fn an_exemption_without_need_is_found() {
    let file = |text: &str| [Source::new("daemon/src/seams/git/pack.rs", text)];
    let of_pack = |text: &str| unneeded(&file(text)).iter().filter(|it| it.rule.contains("pack.rs")).count();
    assert_eq!(of_pack("fn f() -> Result<A, String>;"), 0);
    assert_eq!(of_pack("fn f() -> Result<A, B>;"), 1);
}
