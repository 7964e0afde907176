//! Reads the section `[gerrit]`. The value of `refresh` decides which other settings are needed or allowed.

use std::time::Duration;

use lockstep_proto::ProjectName;

use super::fields::{folder, time};
use super::raw;
use super::report::{Problems, parsed};
use super::settings::{Gerrit, GerritRefresh, GerritRest};
use super::value;

/// The values of `gerrit.refresh`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    None,
    Bridge,
    Rest,
}

/// Reads the section. Returns `None` if a value without a default is wrong; `to` then has the problem.
pub(super) fn read(raw: &raw::Gerrit, to: &mut Problems) -> Option<Gerrit> {
    let way = to.or("gerrit.refresh", &raw.refresh, Way::None, way);
    let all_users = project("gerrit.all_users", &raw.all_users, "All-Users", to);
    let all_projects = project("gerrit.all_projects", &raw.all_projects, "All-Projects", to);
    let hold_own = to.or("gerrit.hold_own", &raw.hold_own, Duration::from_secs(2), value::duration);
    let commit_within = to.or("gerrit.commit_within", &raw.commit_within, Duration::from_secs(300), value::duration);
    let rest = rest(raw, way, to);
    let refresh = match way {
        Way::None => GerritRefresh::None,
        Way::Bridge => GerritRefresh::Bridge,
        Way::Rest => GerritRefresh::Rest(rest?),
    };
    Some(Gerrit { refresh, all_users: all_users?, all_projects: all_projects?, hold_own, commit_within })
}

fn way(text: &str) -> Result<Way, String> {
    match text {
        "none" => Ok(Way::None),
        "bridge" => Ok(Way::Bridge),
        "rest" => Ok(Way::Rest),
        _ => Err("write none, bridge or rest".to_owned()),
    }
}

fn project(field: &str, leaf: &raw::Leaf, usual: &str, to: &mut Problems) -> Option<ProjectName> {
    match leaf {
        Some(_) => to.optional(field, leaf, parsed),
        None => usual.parse().ok(),
    }
}

/// Reads the settings of REST calls. Without `refresh = "rest"`, each of them is reported as a problem.
fn rest(raw: &raw::Gerrit, way: Way, to: &mut Problems) -> Option<GerritRest> {
    let only = [
        ("gerrit.url", &raw.url),
        ("gerrit.user", &raw.user),
        ("gerrit.password_file", &raw.password_file),
        ("gerrit.timeout", &raw.timeout),
    ];
    if way != Way::Rest {
        for (field, leaf) in only.into_iter().filter(|(_, leaf)| leaf.is_some()) {
            to.wrong(field, leaf, "only gerrit.refresh = \"rest\" uses it: set that, or remove this");
        }
        return None;
    }
    let url = to.need("gerrit.url", &raw.url, "refresh = \"rest\" needs it: give the URL of this node's Gerrit", url);
    let user = to.need("gerrit.user", &raw.user, "refresh = \"rest\" needs it: name a service user", user);
    let needs = "refresh = \"rest\" needs it: name a file with the user's HTTP password";
    let password_file = to.need("gerrit.password_file", &raw.password_file, needs, folder);
    let timeout = to.or("gerrit.timeout", &raw.timeout, Duration::from_secs(120), time);
    let (address, prefix) = url?;
    Some(GerritRest { address, prefix, user: user?, password_file: password_file?, timeout })
}

/// `host:port` and the path of a URL. The host must be this machine, because the password is sent unencrypted.
fn url(text: &str) -> Result<(String, String), String> {
    let remedy = || "write http://127.0.0.1:port of the Gerrit on this machine: the password is sent unencrypted";
    let uri: http::Uri = text.parse().map_err(|_| remedy())?;
    let host = uri.host().unwrap_or_default();
    let is_here = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
    if uri.scheme_str() != Some("http") || !is_here || uri.query().is_some() {
        return Err(remedy().to_owned());
    }
    let port = uri.port_u16().unwrap_or(80);
    Ok((format!("{host}:{port}"), uri.path().trim_end_matches('/').to_owned()))
}

fn user(text: &str) -> Result<String, String> {
    let fits =
        !text.is_empty() && text.len() <= 128 && !text.chars().any(|letter| letter == ':' || letter.is_control());
    if fits { Ok(text.to_owned()) } else { Err("write a user name of 1 to 128 bytes, without ':'".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};
    use super::*;

    fn with(section: &str) -> Result<Gerrit, String> {
        let text = EXAMPLE.replace("[gerrit]\n", &format!("[gerrit]\n{section}\n"));
        parse(&text).map(|settings| settings.gerrit).map_err(|error| error.to_string())
    }

    #[test]
    fn the_three_ways_to_refresh() {
        assert_eq!(with("").unwrap().refresh, GerritRefresh::None);
        assert_eq!(with("refresh = \"bridge\"").unwrap().refresh, GerritRefresh::Bridge);
        let rest = "refresh = \"rest\"\nurl = \"http://localhost:8080/gerrit/\"\nuser = \"u\"\npassword_file = \"/p\"";
        let GerritRefresh::Rest(rest) = with(rest).unwrap().refresh else { panic!("not by REST") };
        assert_eq!((rest.address.as_str(), rest.prefix.as_str()), ("localhost:8080", "/gerrit"));
    }

    #[test]
    fn an_error_names_missing_superfluous_and_bad_fields() {
        let error = with("refresh = \"rest\"").unwrap_err();
        for field in ["gerrit.url", "gerrit.user", "gerrit.password_file"] {
            assert!(error.contains(&format!("{field} is not set")), "{error}");
        }
        let error = with("refresh = \"bridge\"\nuser = \"u\"").unwrap_err();
        assert!(error.contains("gerrit.user = \"u\": only gerrit.refresh = \"rest\" uses it"), "{error}");
        for bad in ["https://127.0.0.1", "http://gerrit.example:8080", "127.0.0.1:8080"] {
            let text = format!("refresh = \"rest\"\nurl = \"{bad}\"\nuser = \"u\"\npassword_file = \"/p\"");
            assert!(with(&text).unwrap_err().contains("write http://127.0.0.1:port"), "{bad}");
        }
        assert!(with("refresh = \"yes\"").unwrap_err().contains("write none, bridge or rest"));
        assert!(with("user = \"a:b\"\nrefresh = \"rest\"").unwrap_err().contains("without ':'"));
    }
}
