//! The reference of the configuration, `docs/configuration.md`: each setting with its default and its meaning.
//!
//! It is made from the example and from the check. A value counts as the default if the settings are the same with it
//! and without it. A setting is required if the check of an empty file asks for it. So the page cannot tell another
//! default than the code has.

use std::fmt::Write as _;

use super::{EXAMPLE, parse};

/// The beginning of the page.
const HEAD: &str = "# Configuration

<!-- `lockstep config reference` writes this page, and a test compares it. Change the example and the code instead. -->

The configuration of a sidecar is one TOML file. `lockstep config example` prints one with every setting, and `lockstep
config check --config FILE` reports all wrong values at once. [operations.md](operations.md#configuration) explains how
the settings work together.

- An environment variable overrides the file: `LOCKSTEP_FIELD`, or `LOCKSTEP_SECTION__FIELD` for a field of a section
  (`LOCKSTEP_REFDB__REGION`).
- Times are a whole number and a unit: `250ms`, `5s`, `10m`, `2h`, `7d`. Sizes are a number of bytes, or have a unit:
  `128KiB`, `64MiB`, `2GiB`.
- The sidecar reads the configuration at its start. It reads the files that the configuration names (tokens, passwords,
  certificates) again while it runs.
";

/// The words in a comment of the example that say that its value is not the default.
const NO_DEFAULT: &str = "by default";

/// How a setting stands in the example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing else takes its place.
    Required,
    /// The value of the example is the default.
    Default,
    /// The value is an example.
    Example,
}

/// A setting of the example.
#[derive(Debug)]
struct Row {
    /// The number of its line.
    line: usize,
    field: String,
    value: String,
    is_set: bool,
    comment: String,
}

/// A section of the example. The name of the first one is empty.
#[derive(Debug, Default)]
struct Section {
    name: String,
    comment: String,
    rows: Vec<Row>,
}

/// Reads the example: a section per header, a row per setting. A comment goes on in the lines that hold nothing else.
fn sections() -> Vec<Section> {
    let mut sections = vec![Section::default()];
    for (line, text) in EXAMPLE.lines().enumerate() {
        let trimmed = text.trim_start();
        let is_indented = trimmed.len() < text.len();
        let Some(section) = sections.last_mut() else { break };
        if let Some((name, comment)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let name = match name.rsplit_once('.') {
                Some((parent @ ("peers" | "eventlog.streams"), _)) => format!("{parent}.NAME"),
                _ => name.to_owned(),
            };
            let comment = comment.trim().trim_start_matches('#').trim().to_owned();
            sections.push(Section { name, comment, rows: Vec::new() });
        } else if is_indented && trimmed.starts_with('#') {
            if let Some(row) = section.rows.last_mut() {
                row.comment = format!("{} {}", row.comment, trimmed.trim_start_matches('#').trim());
            }
        } else if let Some(row) = row(line, text) {
            section.rows.push(row);
        }
    }
    sections
}

/// Reads `field = value # comment`, with `# ` before it or not.
fn row(line: usize, text: &str) -> Option<Row> {
    let (is_set, text) = text.strip_prefix("# ").map_or((true, text), |rest| (false, rest));
    let (field, rest) = text.split_once(" = ")?;
    let is_field = field.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') || field.starts_with('"');
    let mut quoted = false;
    let end = rest.find(|letter: char| {
        quoted ^= letter == '"';
        letter == '#' && !quoted
    });
    let (value, comment) = rest.split_at(end.unwrap_or(rest.len()));
    let comment = comment.trim_start_matches('#').trim().to_owned();
    let (field, value) = (field.to_owned(), value.trim().to_owned());
    is_field.then_some(Row { line, field, value, is_set, comment })
}

/// Tells how a setting stands, by the check of the example with and without it.
fn standing(section: &str, row: &Row) -> Standing {
    let turned: Vec<String> = EXAMPLE
        .lines()
        .enumerate()
        .map(|(line, text)| match (line == row.line, row.is_set) {
            (true, true) => format!("# {text}"),
            (true, false) => text.trim_start_matches("# ").to_owned(),
            (false, _) => text.to_owned(),
        })
        .collect();
    match parse(&turned.join("\n")) {
        Ok(settings) if !row.comment.contains(NO_DEFAULT) && parse(EXAMPLE).is_ok_and(|own| own == settings) => {
            Standing::Default
        }
        _ if is_required(section, row) => Standing::Required,
        _ => Standing::Example,
    }
}

fn is_required(section: &str, row: &Row) -> bool {
    let field = super::report::path(section, &row.field);
    parse("").is_err_and(|error| error.to_string().contains(&format!("\n  {field} is not set")))
}

/// The page `docs/configuration.md`, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for section in sections() {
        let title =
            if section.name.is_empty() { "Top of the file".to_owned() } else { format!("`[{}]`", section.name) };
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {title}\n");
        if !section.comment.is_empty() {
            let _ = writeln!(page, "{}.\n", capital(&section.comment));
        }
        let _ = writeln!(page, "| setting | default | meaning |\n|---|---|---|");
        for row in &section.rows {
            let value = &row.value;
            let default = match standing(&section.name, row) {
                Standing::Required => format!("required; for example `{value}`"),
                Standing::Default => format!("`{value}`"),
                Standing::Example => format!("none; for example `{value}`"),
            };
            let comment = row.comment.replace('|', "\\|");
            let _ = writeln!(page, "| `{}` | {default} | {comment} |", row.field);
        }
    }
    page
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::raw;
    use super::*;

    #[test]
    fn the_page_in_docs_is_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == reference(),
            "docs/configuration.md is stale: lockstep config reference > docs/configuration.md"
        );
    }

    #[test]
    fn the_reference_has_every_setting_once() {
        let named: Vec<(String, String)> = sections()
            .iter()
            .flat_map(|section| section.rows.iter().map(|row| (section.name.clone(), row.field.clone())))
            .collect();
        for (section, fields) in raw::SECTIONS {
            let section = section.replace('*', "NAME");
            for field in fields.iter().filter(|field| !raw::TABLES.contains(field)) {
                let count = named.iter().filter(|(of, name)| *of == section && name == field).count();
                assert_eq!(count, 1, "[{section}] {field}");
            }
        }
        for row in sections().iter().flat_map(|section| &section.rows) {
            assert!(!row.comment.is_empty(), "{} has no meaning: give it a comment in the example", row.field);
        }
    }

    #[test]
    fn defaults_are_those_of_the_check() {
        let of = |name: &str, field: &str| {
            let sections = sections();
            let section = sections.iter().find(|section| section.name == name).unwrap();
            standing(name, section.rows.iter().find(|row| row.field == field).unwrap())
        };
        assert_eq!(of("", "site"), Standing::Required);
        assert_eq!(of("blobs", "url"), Standing::Required);
        assert_eq!(of("lease", "heartbeat"), Standing::Default);
        assert_eq!(of("commit", "lanes"), Standing::Default);
        assert_eq!(of("refdb", "region"), Standing::Example);
        assert_eq!(of("api", "token_file"), Standing::Example);
        assert_eq!(of("drill", "every"), Standing::Example);
        assert_eq!(of("api", "operators"), Standing::Example);
    }
}
