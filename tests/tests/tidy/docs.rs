//! The promises of the pages hold: the make targets that they name exist, and so do the files and headings that they
//! link to. A test makes each output that they show below `$ lockstep`.

use std::collections::BTreeSet;

use crate::{Finding, Source};

pub fn check(page: &Source, files: &[Source]) -> Vec<Finding> {
    let makefile = files.iter().find(|file| file.path == "Makefile").map_or("", |file| file.text.as_str());
    let targets: BTreeSet<&str> = makefile.lines().filter_map(target).collect();
    let mut findings = Vec::new();
    let mut section = "";
    for (number, line) in page.lines() {
        section = if line.starts_with('#') { line } else { section };
        let missing = wanted(line).into_iter().filter(|wanted| !targets.contains(wanted));
        findings.extend(missing.map(|it| page.finding(number, format!("`make {it}` is not in the Makefile"))));
        let broken = links(line).into_iter().filter(|link| !resolves(page, link, files));
        findings.extend(broken.map(|it| page.finding(number, format!("the link to `{it}` leads nowhere"))));
        let places = if section == "## Where to add things" { places(line) } else { Vec::new() };
        let absent = places.into_iter().filter(|path| !is_there(path, files));
        findings.extend(absent.map(|it| page.finding(number, format!("`{it}` does not exist"))));
        let absent = answers(line).into_iter().filter(|path| !is_there(path, files));
        findings.extend(absent.map(|it| page.finding(number, format!("`{it}` does not exist"))));
        let unmade = shown(line).filter(|command| !files.iter().any(|file| makes(file, command)));
        findings.extend(unmade.map(|it| page.finding(number, format!("no test compares the output of `{it}`"))));
    }
    findings
}

/// The command whose output stands below a line.
fn shown(line: &str) -> Option<&str> {
    line.trim().strip_prefix("$ ").filter(|command| command.starts_with("lockstep "))
}

/// Whether a file compares the output of a command with a page (`documented`).
fn makes(file: &Source, command: &str) -> bool {
    let is_test =
        file.is_rust() && file.path.starts_with("tests/tests/") && !file.path.starts_with("tests/tests/tidy/");
    let quoted = format!("\"{command}\"");
    // The command stands in the same function as the call, perhaps in a table that a loop gives to it.
    is_test
        && file.text.match_indices(&quoted).any(|(at, _)| {
            let function = file.text[..at].rfind("fn ").unwrap_or(0);
            let end = file.text[at..].find("\n}").map_or(file.text.len(), |end| at + end);
            file.text[function..end].contains("documented")
        })
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

/// The places that a row of "Where to add things" gives. A file without a folder is beside the one named before.
fn places(line: &str) -> Vec<String> {
    let mut folder = "";
    let mut places = Vec::new();
    let is_path = |span: &&str| {
        let is_file = [".rs", ".md", ".toml", ".json"].iter().any(|end| span.ends_with(end));
        (is_file || span.contains('/')) && !span.contains([' ', '<', '@'])
    };
    for span in line.split('`').skip(1).step_by(2).filter(is_path) {
        match span.rsplit_once('/') {
            Some((before, name)) => {
                folder = if name.contains('.') { before } else { span };
                places.push(span.to_owned());
            }
            None => places.push(format!("{folder}/{span}")),
        }
    }
    places
}

/// The targets of the links of a line.
fn links(line: &str) -> Vec<&str> {
    let starts = line.match_indices("](").map(|(at, start)| &line[at + start.len()..]);
    starts.filter_map(|rest| rest.split_once(')')).map(|(link, _)| link).filter(|link| !link.is_empty()).collect()
}

/// Whether a link is to another site, or to an existing file, folder or heading of the tree.
fn resolves(page: &Source, link: &str, files: &[Source]) -> bool {
    if link.contains("://") || link.starts_with("mailto:") {
        return true;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let has = |page: &Source| anchor.is_none_or(|anchor| anchors(page).iter().any(|it| it == anchor));
    if path.is_empty() {
        return has(page);
    }
    let Some(path) = target_of(&page.path, path) else { return false };
    files.iter().any(|file| (file.path == path && has(file)) || file.path.starts_with(&format!("{path}/")))
}

/// The anchors of the headings of a page: in lower case, with hyphens for spaces, without other signs. The second
/// heading of a name has `-1` behind it.
fn anchors(page: &Source) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut is_code = false;
    for (_, line) in page.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let Some((_, heading)) =
            line.split_once("# ").filter(|(start, _)| !is_code && start.trim_matches('#').is_empty())
        else {
            continue;
        };
        let letters = heading.trim().to_lowercase().replace(' ', "-");
        let anchor: String = letters.chars().filter(|it| it.is_alphanumeric() || matches!(it, '-' | '_')).collect();
        let twins =
            anchors.iter().filter(|it| it.trim_end_matches(|it: char| it.is_ascii_digit()) == format!("{anchor}-"));
        let number = twins.count() + usize::from(anchors.contains(&anchor));
        anchors.push(if number == 0 { anchor } else { format!("{anchor}-{number}") });
    }
    anchors
}

/// The path of a link's target from the root of the tree. None if the link leads out of it.
fn target_of(page: &str, link: &str) -> Option<String> {
    let mut path: Vec<&str> = page.split('/').collect();
    path.pop();
    for part in link.trim_end_matches('/').split('/').filter(|part| *part != ".") {
        match part {
            ".." => drop(path.pop()?),
            part => path.push(part),
        }
    }
    Some(path.join("/"))
}

#[cfg(test)]
fn rules(text: &str) -> Vec<String> {
    let files = [
        Source::new("Makefile", "demo: tools ## x\ne2e: demo\nX := 1\n"),
        Source::new("docs/adr/0001-x.md", "# Why not?\n## The same\n## The same\n```\n# code\n```\n"),
        Source::new("tests/tests/e2e/x.rs", "fn a() {\n    documented(\"lockstep sites\", &output);\n}\n"),
        Source::new(
            "tests/tests/e2e/y.rs",
            "fn a() {\n    documented(x);\n}\nfn b() {\n    run(\"lockstep peers\");\n}\n",
        ),
    ];
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
fn an_output_that_no_test_makes_is_found() {
    assert_eq!(rules("```\n$ lockstep sites\nsites\n```\n   $ lockstep sites\n"), [""; 0]);
    assert_eq!(rules("lockstep peers\n$ git log\n"), [""; 0]);
    assert_eq!(rules("$ lockstep peers\n"), ["no test compares the output of `lockstep peers`"]);
}

#[test]
fn a_broken_link_is_found() {
    assert_eq!(rules("[a](adr/0001-x.md#why-not) [b](../Makefile) [c](https://example.org#x) [d](adr/)"), [""; 0]);
    assert_eq!(rules("[a](adr/0009.md)"), ["the link to `adr/0009.md` leads nowhere"]);
    assert_eq!(rules("[a](../../x.md)"), ["the link to `../../x.md` leads nowhere"]);
}

#[test]
fn a_broken_anchor_is_found() {
    assert_eq!(rules("# It is `here`\n[a](#it-is-here) [b](adr/0001-x.md#the-same-1)\n"), [""; 0]);
    assert_eq!(rules("# Here\n[a](#there)\n"), ["the link to `#there` leads nowhere"]);
    assert_eq!(rules("[a](adr/0001-x.md#code)"), ["the link to `adr/0001-x.md#code` leads nowhere"]);
}

#[test]
fn a_place_to_add_something_that_does_not_exist_is_found() {
    let rows = |row: &str| {
        rules(&format!("## Where to add things\n| to add | change |\n|---|---|\n{row}\n## Rules\n| x | `a/b.rs` |"))
    };
    assert_eq!(rows("| a page | `docs/adr`, `0001-x.md`, `docs/<page>`, `lockstep openapi` |"), [""; 0]);
    assert_eq!(rows("| a page | `docs/adr/0001-x.md`, `0002-y.md` |"), ["`docs/adr/0002-y.md` does not exist"]);
    assert_eq!(rows("| a page | `docs/pages` |"), ["`docs/pages` does not exist"]);
}

#[test]
fn an_answer_that_names_no_file_is_found() {
    assert_eq!(
        rules("| Where is the decision? | `adr/0001-x.md` or `docs/adr/` |"),
        ["`adr/0001-x.md` does not exist"]
    );
    assert_eq!(rules("Where is `a/b.rs`?"), [""; 0]);
}
