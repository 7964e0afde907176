//! `lockstep doctor`: the checks of this node and its surroundings, while everything is up.
//!
//! The sidecar runs the checks, because it alone has its user, its peers and its calls at AWS. When it does not answer,
//! the command says so, and runs those of the machine itself. Two checks are the command's own: whether the sidecar
//! answers, and whether the configuration on the disk is the one in use.

use lockstep_proto::doctor::{CheckResult, Diagnosis, Finding, Severity};

use super::config::ConfigArgs;
use super::table::{Table, titled};
use super::target::Target;
use super::{CliError, json};
use crate::cli::out;
use crate::node::assembly::without_sidecar;
use crate::node::config::{self, ConfigError, Settings};
use crate::node::doctor::CHECKS;
use crate::node::doctor::shared::configuration_hash;

/// The checks of the command itself, with the facts that they look at.
const OWN: [(&str, &str); 2] = [
    ("sidecar", "the sidecar on its socket: does it answer?"),
    ("config", "the configuration file: is it valid, and the one that the sidecar runs with?"),
];

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 in order, 2 a warning or an error was found, 1 nothing could be looked \
                        at.\n\nExamples:\n  lockstep doctor\n  lockstep doctor --only tls --only clock\n  \
                        lockstep doctor --json | jq '.checks[].findings[]'")]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    config: ConfigArgs,
    /// Show this check alone; may be repeated
    #[arg(long, value_name = "CHECK", value_parser = check)]
    only: Vec<String>,
    /// Print all fields as JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The name of a check.
fn check(text: &str) -> Result<String, String> {
    let names: Vec<&str> = OWN.iter().map(|(name, _)| *name).chain(CHECKS.iter().map(|one| one.name)).collect();
    match names.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("it is no check; the checks are {}", names.join(", "))),
    }
}

pub(super) async fn run(args: DoctorArgs) -> Result<(), CliError> {
    let mut diagnosis = diagnose(&args.target, &args.config).await?;
    diagnosis.checks.retain(|one| args.only.is_empty() || args.only.contains(&one.check));
    out::put(&if args.json { json(&diagnosis)? } else { render(&diagnosis) })?;
    if diagnosis.is_degraded() { Err(CliError::Degraded) } else { Ok(()) }
}

/// The checks of the sidecar, or of the machine if it does not answer, behind those of the command.
///
/// # Errors
/// Neither does the sidecar answer, nor can the configuration be used.
pub(super) async fn diagnose(target: &Target, config: &ConfigArgs) -> Result<Diagnosis, CliError> {
    let asked: Result<Diagnosis, CliError> = target.get("/v1/doctor").await;
    let asked = match asked {
        // The options of the command are wrong: that is nothing about the node.
        Err(CliError::Usage(why)) => return Err(CliError::Usage(why)),
        asked => asked.map_err(|error| error.to_string()),
    };
    let loaded = config::load(&config.config);
    let own = [sidecar(asked.as_ref().err()), configured(&loaded, asked.as_ref().ok())];
    let diagnosis = match (asked, loaded) {
        (Ok(diagnosis), _) => diagnosis,
        (Err(why), Ok(settings)) => without_sidecar(settings, &why).await,
        (Err(why), Err(error)) => return Err(CliError::Failed(format!("{why}\n{error}"))),
    };
    Ok(Diagnosis { checks: own.into_iter().chain(diagnosis.checks).collect(), ..diagnosis })
}

fn own(at: usize, findings: Vec<Finding>, not_seen: Option<String>) -> CheckResult {
    let (check, looks_at) = OWN[at];
    CheckResult { check: check.to_owned(), looks_at: looks_at.to_owned(), findings, not_seen }
}

fn finding(severity: Severity, subject: &str, text: String, remedy: &str) -> Finding {
    Finding { severity, subject: subject.to_owned(), text, remedy: remedy.to_owned() }
}

fn sidecar(problem: Option<&String>) -> CheckResult {
    let remedy = "start it, or give its socket with --socket; the checks below are those of this machine alone";
    let found = problem.map(|why| finding(Severity::Error, "api.socket", why.clone(), remedy));
    own(0, found.into_iter().collect(), None)
}

/// The check of the configuration file, beside that of the sidecar if it answers.
fn configured(loaded: &Result<Settings, ConfigError>, running: Option<&Diagnosis>) -> CheckResult {
    let settings = match loaded {
        Ok(settings) => settings,
        // The file may be in another container.
        Err(error @ ConfigError::Unreadable { .. }) => return own(1, Vec::new(), Some(error.to_string())),
        Err(error) => {
            let remedy = "correct it before the next start of the sidecar; `lockstep config check` checks it again";
            return own(1, vec![finding(Severity::Error, "configuration", error.to_string(), remedy)], None);
        }
    };
    let Some(running) = running else { return own(1, Vec::new(), None) };
    if running.program != env!("CARGO_PKG_VERSION") {
        let why = format!("the sidecar is release {}, and cannot be compared", running.program);
        return own(1, Vec::new(), Some(why));
    }
    let differs = running.configuration != configuration_hash(settings);
    let text = "the file, with the environment of this command, is not the configuration that the sidecar runs with";
    let remedy = "restart the sidecar if the file has changed; if not, run this command in the sidecar's environment";
    let found = differs.then(|| finding(Severity::Warning, "configuration", text.to_owned(), remedy));
    own(1, found.into_iter().collect(), None)
}

/// The checks as a table, and the findings below it, the worst first.
pub(super) fn render(diagnosis: &Diagnosis) -> String {
    let mut table = Table::new(&["check", "verdict", "looks at"]);
    for one in &diagnosis.checks {
        table.row(vec![one.check.clone(), verdict(one), one.looks_at.clone()]);
    }
    let mut found: Vec<(&str, &Finding)> =
        diagnosis.checks.iter().flat_map(|one| one.findings.iter().map(|it| (one.check.as_str(), it))).collect();
    found.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
    let lines = found.iter().map(|(check, it)| {
        format!("{} in {check}: {}: {}\n      {}", it.severity.name(), it.subject, it.text, it.remedy)
    });
    let unseen = diagnosis.checks.iter().filter_map(|one| Some(format!("{}: {}", one.check, one.not_seen.as_ref()?)));
    let Diagnosis { node, site, program, .. } = diagnosis;
    format!(
        "doctor of {node} at {site}, release {program}\n{}{}{}",
        table.render(),
        titled("findings", lines),
        titled("not seen", unseen)
    )
}

fn verdict(check: &CheckResult) -> String {
    let count = |severity: Severity| match check.findings.iter().filter(|one| one.severity == severity).count() {
        0 => None,
        1 => Some(format!("1 {}", severity.name())),
        many => Some(format!("{many} {}s", severity.name())),
    };
    let counts: Vec<String> = Severity::ALL.into_iter().rev().filter_map(count).collect();
    match (counts.is_empty(), &check.not_seen) {
        (false, _) => counts.join(", "),
        (true, Some(_)) => "not seen".to_owned(),
        (true, None) => "ok".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(configuration: &str, program: &str) -> Diagnosis {
        let text = format!(
            r#"{{"site": "a", "node": "a-0", "program": "{program}", "at_ms": 1, "configuration": "{configuration}",
                "checks": []}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_file_that_is_wrong_or_not_in_use_is_found() {
        let settings = || config::parse(config::EXAMPLE);
        let (hash, release) = (configuration_hash(&settings().unwrap()), env!("CARGO_PKG_VERSION"));
        let found = |loaded: Result<Settings, ConfigError>, running: Option<Diagnosis>| {
            let result = configured(&loaded, running.as_ref());
            (result.findings.iter().map(|one| one.severity).collect::<Vec<_>>(), result.not_seen.is_some())
        };
        assert_eq!(found(settings(), Some(running(&hash, release))), (vec![], false));
        assert_eq!(found(settings(), Some(running("0000", release))), (vec![Severity::Warning], false));
        assert_eq!(found(settings(), Some(running("0000", "99.0.0"))), (vec![], true), "another program");
        assert_eq!(found(config::parse("site = 3"), None), (vec![Severity::Error], false));
        let gone = config::load(std::path::Path::new("/gone/lockstep.toml"));
        assert_eq!(found(gone, None), (vec![], true));
    }

    #[test]
    fn the_worst_finding_stands_first_and_an_unseen_check_is_not_ok() {
        let mut diagnosis = running("0", "1");
        let of = |severity, text: &str| finding(severity, "s", text.to_owned(), "do it");
        diagnosis.checks = vec![
            sidecar(None),
            own(1, Vec::new(), Some("no file".to_owned())),
            sidecar(Some(&"it is away".to_owned())),
        ];
        diagnosis.checks[0].findings = vec![of(Severity::Note, "mild"), of(Severity::Warning, "worse")];
        let text = render(&diagnosis);
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part:?} in {text}"));
        assert!(at("it is away") < at("worse") && at("worse") < at("mild"), "{text}");
        assert!(text.contains("1 warning, 1 note") && text.contains("not seen\n  config: no file\n"), "{text}");
    }

    #[test]
    fn only_checks_that_exist_can_be_asked_for() {
        assert!(check("tls").is_ok() && check("sidecar").is_ok());
        assert!(check("bogus").unwrap_err().contains("sidecar, config, dns, tls"));
    }
}
