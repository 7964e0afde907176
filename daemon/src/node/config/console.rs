//! Reads the section `[console]`: the pages for operators in a browser.

use super::fields::flag;
use super::raw::Raw;
use super::report::Problems;
use crate::stages::console::ConsoleSettings;

/// Reads the section. Returns `None` if the console is not enabled, or if it has no listener.
pub(super) fn read(raw: &Raw, to: &mut Problems) -> Option<ConsoleSettings> {
    let section = &raw.console;
    let is_enabled = to.or("console.enabled", &section.enabled, false, flag);
    let changes = to.or("console.changes", &section.changes, false, flag);
    if changes && !is_enabled {
        to.wrong("console.changes", &section.changes, "it is for the console: set console.enabled = true, too");
    }
    if is_enabled && (raw.operators.listen.is_none() || raw.operators.token_file.is_none()) {
        let remedy = "the console is served at operators.listen, to holders of tokens: set that, and \
                      operators.token_file";
        to.wrong("console.enabled", &section.enabled, remedy);
    }
    is_enabled.then_some(ConsoleSettings { changes })
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};
    use super::*;

    const TLS: &str = "certificate_file = \"/c\"\nkey_file = \"/k\"\ntrust_file = \"/t\"\n";
    const LISTEN: &str = "listen = \"0.0.0.0:7423\"\n";

    fn read(operators: &str, console: &str) -> (Option<ConsoleSettings>, String) {
        let mut text = EXAMPLE.to_owned();
        for (section, lines) in [("[tls]", TLS), ("[operators]", operators), ("[console]", console)] {
            text = text.replacen(section, &format!("{section}\n{lines}\n#"), 1);
        }
        match parse(&text) {
            Ok(settings) => (settings.console, String::new()),
            Err(error) => (None, error.to_string()),
        }
    }

    #[test]
    fn it_is_off_and_then_read_only_unless_the_settings_say_otherwise() {
        let tokens = format!("{LISTEN}token_file = \"/o\"\n");
        assert_eq!(read(&tokens, ""), (None, String::new()));
        let (enabled, changes) = ("enabled = true\n", "enabled = true\nchanges = true\n");
        assert_eq!(read(&tokens, enabled).0, Some(ConsoleSettings { changes: false }));
        assert_eq!(read(&tokens, changes).0, Some(ConsoleSettings { changes: true }));
    }

    #[test]
    fn it_needs_the_listener_for_operators_and_tokens() {
        let allow = format!("{LISTEN}allow = [\"spiffe://lockstep/operator/*\"]\n");
        for operators in ["", &allow] {
            let (_, problem) = read(operators, "enabled = true\n");
            assert!(problem.contains("console.enabled") && problem.contains("operators.token_file"), "{problem}");
        }
        let (_, problem) = read("", "changes = true\n");
        assert!(problem.contains("console.changes") && problem.contains("console.enabled = true"), "{problem}");
    }
}
