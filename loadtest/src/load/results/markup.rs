//! Text as HTML.

use std::fmt::Write;

/// Escapes text, and turns the two marks that this report uses into HTML: `**bold**` and code.
pub(super) fn inline(text: &str) -> String {
    let bold = alternate(&escape(text), "**", "strong");
    alternate(&bold, "`", "code")
}

fn alternate(text: &str, mark: &str, tag: &str) -> String {
    let mut out = String::new();
    for (number, part) in text.split(mark).enumerate() {
        let _ = if number % 2 == 1 { write!(out, "<{tag}>{part}</{tag}>") } else { write!(out, "{part}") };
    }
    out
}

/// Text that HTML shows as it is.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_become_markup() {
        assert_eq!(inline("**Failed.** <b> `a & b`"), "<strong>Failed.</strong> &lt;b&gt; <code>a &amp; b</code>");
    }
}
