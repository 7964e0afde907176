//! Holds the pages to their word: the output that a page shows below `$ lockstep ...` is the output of the command.
//!
//! Every line is compared, with every cell of a table. Masked are numbers, hashes, times, ports, paths and names of
//! nodes. Rows that stand in the order of their names may come in any order. A line that begins with `...` says what a
//! command waits for, and is left out. Equal lines in a row are one. A line `...` of a page stands for any lines.

use std::process::Output;
use std::time::Duration;

use tokio::time::timeout;

use super::node::Node;
use super::until;

/// The guide with most of the outputs.
const GUIDE: &str = "failover.md";
/// How long heartbeats and digests may take. Digests are written every ten seconds.
const SOON: Duration = Duration::from_secs(40);
/// The first cells in the heads of tables whose rows stand in the order of their names.
const BY_NAME: [&str; 6] = ["site", "node", "peer", "stream of", "key", "value"];

/// Holds the standard output of a command against docs/failover.md.
///
/// # Panics
/// If the page shows another one: both are printed.
pub fn documented(command: &str, output: &Output) {
    documented_in(GUIDE, command, output);
}

/// As [`documented`], against another page of `docs`.
///
/// # Panics
/// If the page shows another one: both are printed.
pub fn documented_in(page: &str, command: &str, output: &Output) {
    compare(page, command, "", &String::from_utf8_lossy(&output.stdout));
}

/// As [`documented`], from the line on that begins with `start`. The lines before it are not compared.
///
/// # Panics
/// If the page shows another one: both are printed.
pub fn documented_from(command: &str, start: &str, output: &str) {
    compare(GUIDE, command, start, output);
}

/// Runs a command at a node, and holds its output against docs/failover.md.
///
/// # Panics
/// If the page shows another one: both are printed.
pub async fn documented_run(node: &Node, command: &str) -> Output {
    let output = run(node, command).await;
    documented(command, &output);
    output
}

/// Runs a command at a node until its output is the one in docs/failover.md: heartbeats and digests may have to come
/// first.
///
/// # Panics
/// If it does not become that: both are printed.
pub async fn documented_soon(node: &Node, command: &str) -> Output {
    let is_shown = async || {
        let output = run(node, command).await;
        difference(GUIDE, command, "", &String::from_utf8_lossy(&output.stdout)).is_none().then_some(output)
    };
    match timeout(SOON, until(is_shown)).await {
        Ok(Some(output)) => output,
        Ok(None) | Err(_) => documented_run(node, command).await,
    }
}

async fn run(node: &Node, command: &str) -> Output {
    let words = words(command);
    let args: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    node.cli(&args).await
}

/// Asserts that a page of `docs` has a text, wrapped or not.
///
/// # Panics
/// If it has not.
pub fn documented_text(page: &str, text: &str) {
    assert!(masked(&read(page)).contains(&masked(text)), "docs/{page} does not show this text:\n{text}");
}

fn compare(page: &str, command: &str, start: &str, output: &str) {
    println!("$ {command}\n{output}");
    if let Some(difference) = difference(page, command, start, output) {
        panic!("{command}: docs/{page} (-) shows another output (+):\n{difference}the output:\n{output}");
    }
}

/// The lines that only the page has, and those that only the output has. None if there are none.
fn difference(page: &str, command: &str, start: &str, output: &str) -> Option<String> {
    let block = block(&read(page), command).unwrap_or_else(|| panic!("docs/{page} has no `$ {command}`"));
    let from = |text: &str| -> Vec<String> {
        text.lines().skip_while(|line| !line.starts_with(start)).map(str::to_owned).collect()
    };
    let parts: Vec<Vec<String>> = from(&block).split(|line| line == "...").map(shape).collect();
    let real = shape(&from(output));
    if fits(&parts, &real) {
        return None;
    }
    let shown = parts.concat();
    let only = |sign: char, these: &[String], those: &[String]| -> String {
        these.iter().filter(|line| !those.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    let lines = only('-', &shown, &real) + &only('+', &real, &shown);
    Some(if lines.is_empty() { format!("the order of the lines: {real:#?}\n") } else { lines })
}

/// Whether an output consists of these parts, in this order. Between two of them it may have any lines.
fn fits(parts: &[Vec<String>], output: &[String]) -> bool {
    let [first, rest @ ..] = parts else { return false };
    let Some(mut left) = output.strip_prefix(&first[..]) else { return false };
    let [between @ .., last] = rest else { return left.is_empty() };
    for part in between.iter().filter(|part| !part.is_empty()) {
        let Some(at) = left.windows(part.len()).position(|lines| lines == &part[..]) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

/// The text of a page of `docs`.
pub(super) fn read(page: &str) -> String {
    let path = format!("{}/../docs/{page}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines below `$ command` in a page, until the next command or the end of the block. A list indents it.
fn block(page: &str, command: &str) -> Option<String> {
    let head = format!("$ {command}");
    let mut lines = page.lines().skip_while(|line| line.trim() != head);
    let indent = lines.next()?.find('$')?;
    let is_shown = |line: &&str| !line.trim_start().starts_with("```") && !line.trim_start().starts_with("$ ");
    Some(lines.take_while(is_shown).map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect())
}

/// The words of a command line. A word in single quotes may have spaces.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in command.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// The masked lines of an output.
fn shape(lines: &[String]) -> Vec<String> {
    let (mut shape, mut rows, mut by_name) = (Vec::<String>::new(), Vec::<String>::new(), false);
    for line in lines.iter().filter(|line| !line.trim_start().starts_with("...")) {
        let row = line.strip_prefix("  ");
        let is_head = row.is_some_and(|row| BY_NAME.iter().any(|name| row.starts_with(&format!("{name}  "))));
        if row.is_none() || is_head {
            rows.sort();
            shape.append(&mut rows);
            by_name = is_head;
        }
        let place = if by_name && !is_head { &mut rows } else { &mut shape };
        place.push(masked(line));
    }
    rows.sort();
    shape.append(&mut rows);
    shape.dedup();
    shape
}

/// A line with one space between its words, and with `#` for each number and hash, `NODE` and `PATH` for those.
pub(super) fn masked(line: &str) -> String {
    line.split_whitespace().map(masked_word).collect::<Vec<_>>().join(" ")
}

fn masked_word(word: &str) -> String {
    let bare = word.trim_matches(|sign: char| !sign.is_ascii_alphanumeric() && sign != '/');
    let is_path = bare.starts_with('/') && bare.matches('/').count() > 1;
    let mask = match () {
        () if is_path => "PATH",
        () if is_node(bare) => "NODE",
        () => return numbers(word),
    };
    word.replacen(bare, mask, 1)
}

/// Whether a word is the name of a node in the tests: `a-0`.
fn is_node(word: &str) -> bool {
    word.split_once('-').is_some_and(|(site, number)| {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        site.len() == 1 && site.bytes().all(|byte| byte.is_ascii_lowercase()) && is_number
    })
}

/// A word with `#` for each run of digits, and for each hash.
fn numbers(word: &str) -> String {
    let is_other = |sign: char| !sign.is_ascii_alphanumeric();
    let mut text = String::new();
    for part in word.split_inclusive(is_other) {
        let run = part.trim_end_matches(is_other);
        let shown = if is_hash(run) { "0" } else { run };
        for sign in shown.chars() {
            match sign.is_ascii_digit() {
                true if text.ends_with('#') => {}
                true => text.push('#'),
                false => text.push(sign),
            }
        }
        text += &part[run.len()..];
    }
    text
}

/// Whether a run of letters and digits is a hash or a part of one.
fn is_hash(run: &str) -> bool {
    let has_digit = run.bytes().any(|byte| byte.is_ascii_digit());
    run.bytes().all(|byte| byte.is_ascii_hexdigit()) && (run.len() >= 12 || (run.len() >= 8 && has_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape_of(text: &str) -> Vec<String> {
        shape(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_line_and_cell_is_compared_without_figures_and_what_is_waited_for() {
        let text = "steps\n  step    took\n  verify  0.2 s\n  ... b waits\n  stop    31.1 s\nmeasured\n  lost: none\n";
        assert_eq!(shape_of(text), ["steps", "step took", "verify #.# s", "stop #.# s", "measured", "lost: none"]);
        assert_ne!(shape_of(text), shape_of(&text.replace("none", "2 transactions")));
    }

    #[test]
    fn rows_of_sites_and_nodes_come_in_any_order_and_steps_do_not() {
        let table = |first: &str, rows: [&str; 2]| {
            shape_of(&format!("all\n  {first}  role\n  {}\n  {}\nend\n", rows[0], rows[1]))
        };
        let (one, other) = ("a  active", "b  standby");
        assert_eq!(table("site", [one, other]), table("site", [other, one]));
        assert_ne!(table("step", [one, other]), table("step", [other, one]));
        assert_eq!(table("site", [one, other])[..2], ["all", "site role"]);
    }

    #[test]
    fn numbers_hashes_paths_and_names_of_nodes_are_masked_and_words_are_not() {
        let text = "plan hash 5d9b1c0f1c0e4a52 at /srv/git/p.git of a-0 (c-12), decade 2026-11-29 17:12:40 lockstep-2";
        let expected = "plan hash # at PATH of NODE (NODE), decade #-#-# #:#:# lockstep-#";
        assert_eq!(masked(text), expected);
        assert_eq!(masked("0/0.0s (sha256 91b2d3e4f5a60718)"), "#/#.#s (sha# #)");
    }

    #[test]
    fn three_dots_stand_for_any_lines() {
        let parts = |text: &str| -> Vec<Vec<String>> { text.split('.').map(shape_of).collect() };
        let output = shape_of("one\ntwo\nthree\nfour");
        for page in ["one\ntwo\nthree\nfour", "one.three\nfour", ".two.", "one.", ".four", ".two.four"] {
            assert!(fits(&parts(page), &output), "{page:?}");
        }
        for page in ["one", "two.", ".one\nthree.", ".three.two.", ".three"] {
            assert!(!fits(&parts(page), &output), "{page:?}");
        }
    }

    #[test]
    fn a_block_ends_at_the_next_command_and_may_be_indented() {
        let page =
            "text\n   ```\n   $ lockstep a 'b c'\n   one\n     two\n   ```\n$ lockstep d\nthree\n$ lockstep e\n```\n";
        assert_eq!(block(page, "lockstep a 'b c'").as_deref(), Some("one\n  two\n"));
        assert_eq!(block(page, "lockstep d").as_deref(), Some("three\n"));
        assert_eq!(block(page, "lockstep x"), None);
        assert_eq!(words("lockstep a 'b c' d"), ["lockstep", "a", "b c", "d"]);
    }
}
