//! Reads the sections `[console]` and `[console.oidc]`: the pages for operators in a browser, and their provider of
//! logins.

use figment::value::Value;

use super::fields::{flag, folder, http_url};
use super::raw::{self, Leaf, Raw};
use super::report::{Problems, scalar};
use crate::seams::oidc::OidcSettings;
use crate::stages::console::{ConsoleSettings, OidcLogin};

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
    let oidc = oidc(&section.oidc, to);
    if section.oidc.issuer.is_some() && !is_enabled {
        to.wrong("console.oidc.issuer", &section.oidc.issuer, "it is for the console: set console.enabled = true, too");
    }
    is_enabled.then_some(ConsoleSettings { changes, oidc })
}

/// Reads the provider of logins. Returns `None` if the section names none, or if a field is wrong.
fn oidc(section: &raw::Oidc, to: &mut Problems) -> Option<OidcLogin> {
    let issuer = to.optional("console.oidc.issuer", &section.issuer, https);
    let client_secret_file = to.optional("console.oidc.client_secret_file", &section.client_secret_file, folder);
    let trust_file = to.optional("console.oidc.trust_file", &section.trust_file, folder);
    let scopes = to.or("console.oidc.scopes", &section.scopes, "openid profile email".to_owned(), scopes);
    let name_claim = to.or("console.oidc.name_claim", &section.name_claim, "email".to_owned(), word);
    let groups_claim = to.or("console.oidc.groups_claim", &section.groups_claim, "groups".to_owned(), word);
    let operators = groups("console.oidc.operators", &section.operators, to);
    let approvers = groups("console.oidc.approvers", &section.approvers, to);
    let viewers = groups("console.oidc.viewers", &section.viewers, to);
    if section.issuer.is_none() {
        for (field, leaf) in [
            ("console.oidc.client_id", &section.client_id),
            ("console.oidc.client_secret_file", &section.client_secret_file),
            ("console.oidc.trust_file", &section.trust_file),
            ("console.oidc.url", &section.url),
            ("console.oidc.operators", &section.operators),
            ("console.oidc.approvers", &section.approvers),
            ("console.oidc.viewers", &section.viewers),
        ] {
            if leaf.is_some() {
                to.wrong(field, leaf, "it is for console.oidc.issuer: set that, or remove this");
            }
        }
        return None;
    }
    let client = "console.oidc.issuer needs it: write the id of the client that the provider has for this node";
    let client_id = to.need("console.oidc.client_id", &section.client_id, client, word);
    let own = "console.oidc.issuer needs it: write the address of this console, https://HOST:7423";
    let url = to.need("console.oidc.url", &section.url, own, origin);
    if [&section.operators, &section.approvers, &section.viewers].into_iter().all(Option::is_none) {
        let remedy = "nobody could log in: list the groups of operators here, or those of approvers or viewers";
        to.wrong("console.oidc.operators", &section.operators, remedy);
    }
    let provider = OidcSettings {
        issuer: issuer?,
        client_id: client_id?,
        client_secret_file,
        trust_file,
        redirect_url: format!("{}/console/login/callback", url?),
        scopes,
        name_claim,
        groups_claim,
    };
    Some(OidcLogin { provider, operators, approvers, viewers })
}

fn https(text: &str) -> Result<String, String> {
    let url = http_url(text).ok().filter(|url| url.starts_with("https://") && !url.contains(['?', '#', '@']));
    url.ok_or_else(|| "write the issuer as the provider has it: https://login.example.org".to_owned())
}

/// The address of this console, without a path.
fn origin(text: &str) -> Result<String, String> {
    let url = https(text).ok().map(|url| url.trim_end_matches('/').to_owned());
    let url = url.filter(|url| !url.trim_start_matches("https://").contains('/'));
    url.ok_or_else(|| "write the address of this console as browsers see it: https://HOST:7423".to_owned())
}

fn word(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    if fits { Ok(text.to_owned()) } else { Err("write one word".to_owned()) }
}

fn scopes(text: &str) -> Result<String, String> {
    let has_openid = text.split(' ').any(|scope| scope == "openid");
    if has_openid { Ok(text.to_owned()) } else { Err("write scopes with openid among them: openid email".to_owned()) }
}

/// Reads a list of groups.
fn groups(field: &str, leaf: &Leaf, to: &mut Problems) -> Vec<String> {
    let items = match leaf {
        None => return Vec::new(),
        Some(Value::Array(_, items)) => items.as_slice(),
        Some(_) => &[],
    };
    let groups: Vec<String> = items.iter().filter_map(scalar).filter(|group| !group.is_empty()).collect();
    if groups.is_empty() || groups.len() < items.len() {
        to.wrong(field, leaf, "list the names of groups, as the provider tells them: [\"gerrit-admins\"]");
    }
    groups
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
        assert_eq!(read(&tokens, enabled).0, Some(ConsoleSettings { changes: false, oidc: None }));
        assert_eq!(read(&tokens, changes).0, Some(ConsoleSettings { changes: true, oidc: None }));
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
    /// The provider of an enabled console, and the problems.
    fn oidc_of(lines: &str) -> (Option<OidcLogin>, String) {
        let operators = format!("{LISTEN}token_file = \"/o\"\n");
        let mut text = EXAMPLE.to_owned();
        for (section, lines) in
            [("[tls]", TLS), ("[operators]", &operators), ("[console]", "enabled = true\n"), ("[console.oidc]", lines)]
        {
            text = text.replacen(section, &format!("{section}\n{lines}\n#"), 1);
        }
        match parse(&text) {
            Ok(settings) => (settings.console.and_then(|console| console.oidc), String::new()),
            Err(error) => (None, error.to_string()),
        }
    }

    #[test]
    fn the_provider_is_whole_or_left_out_and_each_problem_names_its_field() {
        let issuer = "issuer = \"https://login.example.org\"\n";
        let rest = "client_id = \"lockstep\"\nurl = \"https://a.example.org:7423/\"\noperators = [\"sre\"]\n";
        assert_eq!(oidc_of(""), (None, String::new()));
        let (login, problem) = oidc_of(&format!("{issuer}{rest}"));
        let login = login.unwrap_or_else(|| panic!("{problem}"));
        assert_eq!(login.provider.redirect_url, "https://a.example.org:7423/console/login/callback");
        assert_eq!((login.operators, login.viewers), (vec!["sre".to_owned()], vec![]));
        for (lines, part) in [
            (rest.to_owned(), "it is for console.oidc.issuer"),
            (issuer.to_owned(), "console.oidc.client_id is not set"),
            (issuer.to_owned(), "console.oidc.url is not set"),
            (issuer.to_owned(), "console.oidc.operators is not set"),
            (format!("{}{rest}", issuer.replace("https", "http")), "write the issuer as the provider has it"),
            (format!("{issuer}{}", rest.replace(":7423/", "/path")), "the address of this console as browsers see it"),
            (format!("{issuer}{}", rest.replace("[\"sre\"]", "\"sre\"")), "list the names of groups"),
            (format!("{issuer}{rest}scopes = \"email\"\n"), "scopes with openid"),
            (format!("{issuer}{rest}isuer = \"x\"\n"), "did you mean console.oidc.issuer?"),
        ] {
            let (_, problem) = oidc_of(&lines);
            assert!(problem.contains(part), "{lines}: {problem}");
        }
    }
}
