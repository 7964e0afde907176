//! The promises of the pages hold: the make targets that they name exist, and so do the files that they link to.

use std::collections::BTreeSet;

use crate::{Finding, Source};

pub fn check(page: &Source, files: &[Source]) -> Vec<Finding> {
    let makefile = files.iter().find(|file| file.path == "Makefile").map_or("", |file| file.text.as_str());
    let targets: BTreeSet<&str> = makefile.lines().filter_map(target).collect();
    let mut findings = Vec::new();
    for (number, line) in page.lines() {
        let missing = wanted(line).into_iter().filter(|wanted| !targets.contains(wanted));
        findings.extend(missing.map(|it| page.finding(number, format!("`make {it}` is not in the Makefile"))));
        let broken = links(line).into_iter().filter(|link| !resolves(&page.path, link, files));
        findings.extend(broken.map(|it| page.finding(number, format!("the link to `{it}` leads nowhere"))));
        let absent = answers(line).into_iter().filter(|path| !is_there(path, files));
        findings.extend(absent.map(|it| page.finding(number, format!("`{it}` does not exist"))));
    }
    findings
}

/// The target that a line of the Makefile defines.
fn target(line: &str) -> Option<&str> {
    let (name, rest) = line.split_once(':')?;
    let is_name = !name.is_empty() && name.chars().all(is_of_a_name);
    (is_name && !rest.starts_with('=')).then_some(name)
}

/// The targets that a page names, in code spans or at the beginning of a line of code.
fn wanted(line: &str) -> Vec<&str> {
    let starts = line.match_indices("make ").filter(|(at, _)| {
        let before = line[..*at].trim_end_matches(' ');
        before.is_empty() || line[..*at].ends_with(['`', '$']) || before.ends_with("&&")
    });
    starts.map(|(at, _)| name(&line[at + "make ".len()..])).filter(|it| !it.is_empty()).collect()
}

fn name(text: &str) -> &str {
    text.split(|letter| !is_of_a_name(letter)).next().unwrap_or(text)
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'
}

/// The files that the guide for contributors gives as answers to "Where is ...?": code spans with a folder in them.
fn answers(line: &str) -> Vec<&str> {
    if !line.starts_with("| Where ") {
        return Vec::new();
    }
    line.split('`').skip(1).step_by(2).filter(|span| span.contains('/')).collect()
}

/// Whether a file or folder exists, below `daemon/src` or from the root.
fn is_there(path: &str, files: &[Source]) -> bool {
    let path = path.trim_end_matches('/');
    ["", "daemon/src/"].iter().any(|root| {
        let path = format!("{root}{path}");
        files.iter().any(|file| file.path == path || file.path.starts_with(&format!("{path}/")))
    })
}

/// The targets of the links of a line, without anchors.
fn links(line: &str) -> Vec<&str> {
    let starts = line.match_indices("](").map(|(at, start)| &line[at + start.len()..]);
    let targets = starts.filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    targets.map(|link| link.split('#').next().unwrap_or(link)).filter(|link| !link.is_empty()).collect()
}

/// Whether a link is to another site, or to an existing file or folder of the tree.
fn resolves(page: &str, link: &str, files: &[Source]) -> bool {
    if link.contains("://") || link.starts_with("mailto:") {
        return true;
    }
    let mut path: Vec<&str> = page.split('/').collect();
    path.pop();
    for part in link.trim_end_matches('/').split('/').filter(|part| *part != ".") {
        match part {
            ".." if path.pop().is_none() => return false,
            ".." => {}
            part => path.push(part),
        }
    }
    let path = path.join("/");
    files.iter().any(|file| file.path == path || file.path.starts_with(&format!("{path}/")))
}

#[cfg(test)]
fn rules(text: &str) -> Vec<String> {
    let files =
        [Source::new("Makefile", "demo: tools ## x\ne2e: demo\nX := 1\n"), Source::new("docs/adr/0001-x.md", "")];
    check(&Source::new("docs/page.md", text), &files).into_iter().map(|it| it.rule).collect()
}

#[test]
fn a_missing_target_is_found() {
    assert_eq!(rules("run `make e2e` or `make demo`, or\n    make demo && make demo\n"), [""; 0]);
    assert_eq!(rules("run `make nothing`"), ["`make nothing` is not in the Makefile"]);
    assert_eq!(rules("make nothing"), ["`make nothing` is not in the Makefile"]);
    assert_eq!(rules("they make nothing of it"), [""; 0]);
}

#[test]
fn a_broken_link_is_found() {
    assert_eq!(rules("[a](adr/0001-x.md#why) [b](../Makefile) [c](https://example.org) [d](adr/) [e](#here)"), [""; 0]);
    assert_eq!(rules("[a](adr/0009.md)"), ["the link to `adr/0009.md` leads nowhere"]);
    assert_eq!(rules("[a](../../x.md)"), ["the link to `../../x.md` leads nowhere"]);
}

#[test]
fn an_answer_that_names_no_file_is_found() {
    assert_eq!(
        rules("| Where is the decision? | `adr/0001-x.md` or `docs/adr/` |"),
        ["`adr/0001-x.md` does not exist"]
    );
    assert_eq!(rules("Where is `a/b.rs`?"), [""; 0]);
}
