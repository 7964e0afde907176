//! Counts, lists and addresses as text.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A number with the right form of a noun: `1 stream`, `2 streams`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// A text of the API as a sentence: with a capital letter, and a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let Some(first) = rest.next() else { return String::new() };
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), rest.as_str())
}

/// Names as a part of a sentence: `a, b and c`.
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// A path with its query. Every value is percent-encoded, and empty values are left out.
pub(super) fn address(path: &str, query: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    let pairs: Vec<String> = query.iter().filter(|(_, value)| !value.is_empty()).map(pair).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// The name of a project, without the incarnation that some answers add: `tools/build` of `tools/build#2`.
pub(super) fn project(text: &str) -> &str {
    text.rsplit_once('#').map_or(text, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_sentences_and_addresses_are_safe() {
        assert_eq!(["one Region", "Nothing is lost.", ""].map(sentence), ["One Region.", "Nothing is lost.", ""]);
        assert_eq!((count(1, "ref", "refs"), count(0, "ref", "refs")), ("1 ref".to_owned(), "0 refs".to_owned()));
        let names = |count: usize| ["a", "b", "c"][..count].iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!((0..4).map(|count| list(&names(count))).collect::<Vec<_>>(), ["", "a", "a and b", "a, b and c"]);
        let query = [("project", "a/b&c=d"), ("page", ""), ("ref", "refs/heads/<x>")];
        assert_eq!(address("/x", &query), "/x?project=a%2Fb%26c%3Dd&ref=refs%2Fheads%2F%3Cx%3E");
        assert_eq!(address("/x", &[("page", "")]), "/x");
        assert_eq!((project("tools/build#2"), project("tools")), ("tools/build", "tools"));
    }
}
