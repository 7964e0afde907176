//! Takes secrets out of a text: secrets that are known, because they are in files or in the environment of this node,
//! and everything that looks like one.
//!
//! It is better to take out too much. Names of projects, users and hosts stay: those who help need them.

use std::collections::BTreeSet;

/// Stands in the place of a secret.
const REMOVED: &str = "REDACTED";
/// The shortest secret that is looked for by its value. A shorter one would be found in innocent words.
const SHORTEST: usize = 6;
/// Parts of names whose values are secrets.
const SECRET_NAMES: [&str; 11] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "cookie",
    "private_key",
    "access_key",
    "authorization",
    "signature",
    "api_key",
];
/// Ends of names whose values are paths or numbers, and no secrets.
const HARMLESS_ENDS: [&str; 4] = ["_file", "_path", "_bytes", "_count"];
/// The schemes of a header with a secret behind it.
const SCHEMES: [&str; 2] = ["bearer ", "basic "];
/// The beginnings of the ids of AWS access keys, and their length.
const KEY_IDS: [&str; 2] = ["AKIA", "ASIA"];
const KEY_ID: usize = 20;

/// Takes secrets out of texts.
pub(super) struct Redactor {
    /// The known secrets, the longest first.
    secrets: Vec<String>,
}

impl Redactor {
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let unique: BTreeSet<String> = secrets.into_iter().filter(|one| one.len() >= SHORTEST).collect();
        let mut secrets: Vec<String> = unique.into_iter().collect();
        secrets.sort_by_key(|one| std::cmp::Reverse(one.len()));
        Self { secrets }
    }

    /// The text without secrets.
    pub(super) fn clean(&self, text: &str) -> String {
        let known = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), REMOVED));
        values(&schemes(&key_ids(&logins(&private_keys(&known)))))
    }
}

/// Whether the value of this name is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    SECRET_NAMES.iter().any(|part| name.contains(part)) && !HARMLESS_ENDS.iter().any(|end| name.ends_with(end))
}

/// Takes out private keys in PEM format, also if their lines are escaped in one line of JSON.
fn private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "-----END ";
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(BEGIN) {
        let (before, key) = rest.split_at(at);
        out.push_str(before);
        let label = key[BEGIN.len()..].split("-----").next().unwrap_or_default();
        if !label.contains("PRIVATE KEY") {
            out.push_str(BEGIN);
            rest = &key[BEGIN.len()..];
            continue;
        }
        out.push_str(REMOVED);
        // A key that is cut off has no end: nothing behind it is kept.
        let end = key.find(END).and_then(|end| Some(end + END.len() + key[end + END.len()..].find("-----")? + 5));
        rest = end.map_or("", |end| &key[end..]);
    }
    out + rest
}

/// Takes out the user and the password in front of the host of a URL.
fn logins(text: &str) -> String {
    const SCHEME: &str = "://";
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(SCHEME) {
        let (before, behind) = rest.split_at(at + SCHEME.len());
        out.push_str(before);
        let is_end = |letter: char| letter.is_whitespace() || "/?#\"'<>\\".contains(letter);
        let end = behind.find(is_end).unwrap_or(behind.len());
        rest = behind;
        if let Some(login) = behind[..end].rfind('@') {
            out.push_str(REMOVED);
            rest = &behind[login..];
        }
    }
    out + rest
}

/// Takes out the ids of AWS access keys.
fn key_ids(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = KEY_IDS.iter().filter_map(|begin| rest.find(begin)).min() {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let end = from.find(|letter: char| !letter.is_ascii_uppercase() && !letter.is_ascii_digit());
        let end = end.unwrap_or(from.len());
        out.push_str(if end == KEY_ID { REMOVED } else { &from[..end] });
        rest = &from[end..];
    }
    out + rest
}

/// Takes out the word behind the scheme of a header, such as `Bearer`.
fn schemes(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    loop {
        let small = rest.to_ascii_lowercase();
        let found = SCHEMES.iter().filter_map(|scheme| Some((small.find(scheme)?, scheme.len()))).min();
        let Some((at, length)) = found else { return out + rest };
        let (before, from) = rest.split_at(at + length);
        out.push_str(before);
        let end = from.find(|letter: char| letter.is_whitespace() || "\"'\\,;`".contains(letter));
        let end = end.unwrap_or(from.len());
        if end >= SHORTEST {
            out.push_str(REMOVED);
            rest = &from[end..];
        } else {
            rest = from;
        }
    }
}

/// Takes out the values of names that stand for secrets: `name = "value"`, `"name": "value"`, `NAME=value`.
fn values(text: &str) -> String {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(is_of_name) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|letter: char| !is_of_name(letter)).unwrap_or(from.len());
        let (name, behind) = from.split_at(end);
        out.push_str(before);
        out.push_str(name);
        rest = behind;
        if let Some((gap, length)) = is_secret(name).then(|| value(behind)).flatten() {
            out.push_str(&behind[..gap]);
            out.push_str(REMOVED);
            rest = &behind[gap + length..];
        }
    }
    out + rest
}

/// Where the value of a name begins in the text behind the name, and its length. None if no value follows.
fn value(behind: &str) -> Option<(usize, usize)> {
    let after_name = behind.trim_start_matches(['\\', '"', '\'']);
    let after_gap = after_name.trim_start_matches([' ', '\t']);
    let assigned = after_gap.strip_prefix(['=', ':'])?.trim_start_matches([' ', '\t']);
    let at = behind.len() - assigned.len();
    let quoted = ["\\\"", "\"", "'"].into_iter().find(|quote| assigned.starts_with(quote));
    let (open, close) = match quoted {
        Some(quote) => (quote.len(), assigned[quote.len()..].find(quote)),
        None if assigned.starts_with('[') => (0, assigned.find(']')),
        // The names inside have their own values.
        None if assigned.starts_with('{') => return None,
        None => (0, assigned.find(|letter: char| letter.is_whitespace() || ",;&}]".contains(letter))),
    };
    let length = close.unwrap_or(assigned.len() - open);
    (length > 0).then_some((at + open, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        Redactor::new(["hunter2-long".to_owned(), "no".to_owned()]).clean(text)
    }

    #[test]
    fn each_form_of_a_secret_is_taken_out() {
        for (text, cleaned) in [
            ("it said hunter2-long twice: hunter2-long.", "it said REDACTED twice: REDACTED."),
            ("password = \"abc\"  # a comment", "password = \"REDACTED\"  # a comment"),
            ("{\"token\": \"abc\", \"x\": 1}", "{\"token\": \"REDACTED\", \"x\": 1}"),
            ("{\\\"token\\\": \\\"abc\\\"}", "{\\\"token\\\": \\\"REDACTED\\\"}"),
            ("AWS_SECRET_ACCESS_KEY=abc/def+g next", "AWS_SECRET_ACCESS_KEY=REDACTED next"),
            ("tokens = [\"a\", \"b\"]", "tokens = REDACTED]"),
            ("https://s3/x?X-Amz-Signature=abc&y=1", "https://s3/x?X-Amz-Signature=REDACTED&y=1"),
            ("url = \"https://u:p@host/x\"", "url = \"https://REDACTED@host/x\""),
            ("ssh://git@host:29418/p", "ssh://REDACTED@host:29418/p"),
            ("key AKIA\u{49}OSFODNN7EXAMPLE used", "key REDACTED used"),
            ("a: Bearer eyJhbGciOi.x.y\nb", "a: Bearer REDACTED\nb"),
            ("x -----BEGIN\u{20}PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- y", "x REDACTED y"),
            ("\"-----BEGIN\u{20}EC PRIVATE KEY-----\\nMII\\n-----END EC PRIVATE KEY-----\"", "\"REDACTED\""),
            ("-----BEGIN\u{20}PRIVATE KEY-----\nMII cut off", "REDACTED"),
        ] {
            assert_eq!(clean(text), cleaned, "{text}");
        }
    }

    #[test]
    fn innocent_text_stays() {
        for text in [
            "token_file = \"/etc/lockstep/token\"",
            "the token is wrong; say no",
            "https://host/a@b",
            "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
            "AKIA is short",
            "lockstep_ready 1\n",
            "größe = \"10\"",
            "",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn a_text_that_was_cleaned_stays_as_it_is() {
        let text = "password = \"abc\" https://u:p@h/ Bearer abcdefgh";
        assert_eq!(clean(&clean(text)), clean(text));
    }
}
