//! Words that were names once, and have a plain successor in the glossary. None of them comes back.

use crate::paths::code;
use crate::{Finding, Source};

/// The earlier words of the product's identifiers, each with its successor.
const EARLIER: [(&str, &str); 16] = [
    ("born", "opened"),
    ("door", "acceptor, or endpoint"),
    ("doorkeeper", "admission"),
    ("gate", "admission, or quiesce guard"),
    ("gatekeeper", "admission"),
    ("hear", "receive"),
    ("hello", "handshake"),
    ("jump", "state transfer"),
    ("placer", "materializer"),
    ("plant", "injected failure, or injected bug"),
    ("recall", "recover"),
    ("refill", "refetch objects"),
    ("revive", "restore repository"),
    ("seedbed", "seed commits"),
    ("strand", "lane"),
    ("stranger", "another user, or an unknown caller"),
];

/// Identifiers of the product that contain such a word. Texts and comments are not looked at: an earlier name of a
/// field or an option is a text.
pub fn check(file: &Source) -> Vec<Finding> {
    if !file.path.starts_with("daemon/src/") && !file.path.starts_with("proto/src/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (line, name) in identifiers(&code(file)) {
        let words = words(&name);
        for (earlier, now) in EARLIER {
            let plural = format!("{earlier}s");
            if words.iter().any(|word| *word == earlier || *word == plural) {
                findings.push(file.finding(line, format!("`{name}` has the earlier word `{earlier}`: use {now}")));
            }
        }
    }
    findings
}

/// The identifiers of code with their lines, without those inside of texts. A text may go over several lines.
fn identifiers(lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // The end of the text that is open: a quote, and as many `#` as its beginning has.
    let mut open: Option<String> = None;
    for (number, line) in lines {
        let mut rest = *line;
        while let Some(next) = rest.chars().next() {
            let mut taken = next.len_utf8();
            if let Some(end) = &open {
                if rest.starts_with(end.as_str()) {
                    taken = end.len();
                    open = None;
                } else if next == '\\' && end == "\"" {
                    taken += rest[1..].chars().next().map_or(0, char::len_utf8);
                }
            } else if rest.starts_with("//") {
                break;
            } else if let Some(quote) = ["'\"'", "'\\\"'"].iter().find(|quote| rest.starts_with(**quote)) {
                taken = quote.len();
            } else if next == '"' {
                open = Some("\"".to_owned());
            } else if let Some(hashes) = raw(rest) {
                taken = "r".len() + hashes + "\"".len();
                open = Some(format!("\"{}", "#".repeat(hashes)));
            } else if next.is_alphabetic() || next == '_' {
                taken = rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len());
                found.push((*number, rest[..taken].to_owned()));
            }
            rest = &rest[taken..];
        }
    }
    found
}

/// The number of `#` of a raw text that begins here.
fn raw(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let quote = after.find(|it: char| it != '#')?;
    after[quote..].starts_with('"').then_some(quote)
}

/// The words of a name in snake case or camel case, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut apart = String::new();
    let mut was_small = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && was_small {
            apart.push('_');
        }
        was_small = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        apart.push(letter.to_ascii_lowercase());
    }
    apart.split('_').map(str::to_owned).collect()
}

#[test]
fn an_earlier_word_is_found_in_identifiers_only() {
    let found = |path: &str, text: &str| check(&Source::new(path, text)).len();
    for name in
        ["struct Door;", "struct TheDoorkeeper;", "fn open_doors() {}", "pub plant: Step,", "HELLO_TIME", "strangers"]
    {
        assert_eq!(found("daemon/src/x.rs", name), 1, "{name}");
        assert_eq!(found("proto/src/x.rs", name), 1, "{name}");
        assert_eq!(found("tests/src/x.rs", name), 0, "{name}");
    }
    let harmless =
        "// a door\nlet x = \"plant \\\" a\n door\";\nlet y = r#\"a \"door\" b\"#;\nlet z = ['\"', delegate];\n";
    assert_eq!(found("daemon/src/x.rs", harmless), 0);
    assert_eq!(found("daemon/src/x.rs", &format!("{harmless}let door = 1;")), 1, "a text has its end");
}
