//! The node's certificate, and the authorities that it trusts.

use lockstep_proto::doctor::Severity;

use super::super::{Certificate, Check, Facts, Looked};

pub(in super::super) const CHECK: Check = Check {
    name: "tls",
    looks_at: "the node's certificate with its names, and the authorities that it trusts: are they valid for 14 days?",
    look,
};

/// How long a certificate should be valid, in seconds: as long as the alert about it.
const VALID: i64 = 14 * 86_400;

/// The remedy of everything here.
const REPLACE: &str = "replace the files of tls.certificate_file, tls.key_file and tls.trust_file; the node reads them \
     again by itself (docs/security.md)";

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    let Certificate { names, expires, trust_expires, problem } = match &facts.certificate {
        None => return looked,
        Some(Ok(certificate)) => certificate,
        Some(Err(why)) => {
            looked.find(Severity::Error, "tls", format!("the files cannot be used: {why}"), REPLACE);
            return looked;
        }
    };
    if let Some(problem) = problem {
        looked.find(Severity::Error, "tls", format!("the files cannot be used: {problem}"), REPLACE);
    }
    let now = i64::try_from(facts.now_ms / 1_000).unwrap_or(i64::MAX);
    let own = format!("the certificate of {}", names.join(", "));
    let trust = "the first trusted authority".to_owned();
    for (subject, what, at) in [("tls.certificate_file", own, *expires), ("tls.trust_file", trust, *trust_expires)] {
        let left = at.saturating_sub(now);
        if left <= 0 {
            looked.find(Severity::Error, subject, format!("{what} has expired: peers refuse this node"), REPLACE);
        } else if left < VALID {
            let (days, hours) = (left / 86_400, left % 86_400 / 3_600);
            looked.find(Severity::Warning, subject, format!("{what} expires in {days} days and {hours} h"), REPLACE);
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::super::super::NotSeen;
    use super::*;

    fn found(break_it: impl FnOnce(&mut Certificate)) -> Vec<(Severity, String)> {
        let mut facts = Facts::in_order();
        if let Some(Ok(certificate)) = &mut facts.certificate {
            break_it(certificate);
        }
        look(&facts).findings.into_iter().map(|one| (one.severity, one.subject)).collect()
    }

    #[test]
    fn a_certificate_is_a_warning_within_14_days_of_its_end_and_an_error_after_it() {
        const NOW: i64 = 1_800_000_000;
        let of = |left: i64| found(|certificate| certificate.expires = NOW + left);
        assert_eq!(of(VALID), []);
        assert_eq!(of(VALID - 1), [(Severity::Warning, "tls.certificate_file".to_owned())]);
        assert_eq!(of(0), [(Severity::Error, "tls.certificate_file".to_owned())]);
        let trust = found(|certificate| certificate.trust_expires = NOW - 1);
        assert_eq!(trust, [(Severity::Error, "tls.trust_file".to_owned())]);
        let broken = found(|certificate| certificate.problem = Some("tls.key_file /k: it is empty".into()));
        assert_eq!(broken, [(Severity::Error, "tls".to_owned())]);
    }

    #[test]
    fn a_node_without_tls_has_nothing_to_look_at_and_files_that_cannot_be_read_are_told() {
        let without = Facts { certificate: None, ..Facts::in_order() };
        assert_eq!(look(&without), Looked::default());
        let unread = Facts { certificate: Some(Err(NotSeen("no such file".into()))), ..Facts::in_order() };
        assert_eq!(look(&unread).findings[0].text, "the files cannot be used: no such file");
    }
}
