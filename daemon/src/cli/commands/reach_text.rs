//! The way of a node to AWS, as text: the endpoints with their circuits, and the credentials.

use lockstep_proto::aws::{AwsStatus, CircuitState, CredentialStatus, EndpointStatus};

use crate::base::clock::{Clock, SystemClock};
use crate::base::time_text::short;

/// A line per endpoint, and one for the credentials.
pub(super) fn render(status: &AwsStatus) -> String {
    let endpoints: String = status.endpoints.iter().map(endpoint).collect();
    let proxy = status.proxy.as_ref().map(|name| format!("  a proxy of the environment applies ({name}, NO_PROXY)\n"));
    let now_ms = SystemClock.now_ms();
    let credentials = status.credentials.as_ref().map(|one| credentials(one, now_ms)).unwrap_or_default();
    if endpoints.is_empty() {
        credentials
    } else {
        ["aws\n".to_owned(), endpoints, proxy.unwrap_or_default(), credentials].concat()
    }
}

fn endpoint(one: &EndpointStatus) -> String {
    let EndpointStatus { service, place, state, failures, looks_in_ms, why, .. } = one;
    let why = why.as_deref().unwrap_or("no reason");
    match state {
        CircuitState::Closed => format!("  {service} at {place}: circuit closed\n"),
        CircuitState::HalfOpen => {
            format!("  {service} at {place}: CIRCUIT HALF-OPEN after {failures} failures, a call looks now: {why}\n")
        }
        CircuitState::Open => {
            let wait = short(looks_in_ms.unwrap_or_default());
            format!(
                "  {service} at {place}: CIRCUIT OPEN after {failures} failures to connect, a call looks in {wait}: \
                 {why}\n"
            )
        }
    }
}

fn credentials(one: &CredentialStatus, now_ms: u64) -> String {
    let account = one.account.as_ref().map(|account| format!(", account {account}")).unwrap_or_default();
    let expiry = match one.expires_ms {
        None => "they do not expire".to_owned(),
        Some(at) if at <= now_ms => "THEY HAVE EXPIRED".to_owned(),
        Some(at) => format!("they expire in {}", short(at - now_ms)),
    };
    let problem = one.problem.as_ref().map(|why| format!("  THEY CANNOT BE RENEWED: {why}\n")).unwrap_or_default();
    format!("  credentials: {}{account}, {expiry}\n{problem}", one.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(state: CircuitState) -> EndpointStatus {
        let (service, place, why) = ("kinesis".to_owned(), "eu-west-1".to_owned(), "refused".to_owned());
        EndpointStatus { service, place, state, failures: 7, opened: 1, looks_in_ms: Some(2_000), why: Some(why) }
    }

    #[test]
    fn an_open_circuit_stands_out_with_its_reason() {
        let endpoints = vec![at(CircuitState::Closed), at(CircuitState::Open)];
        let text = render(&AwsStatus { endpoints, proxy: Some("HTTPS_PROXY".to_owned()), ..AwsStatus::default() });
        assert!(text.starts_with("aws\n  kinesis at eu-west-1: circuit closed\n"), "{text}");
        assert!(text.contains("CIRCUIT OPEN after 7 failures to connect") && text.contains(": refused\n"), "{text}");
        assert!(text.ends_with("  a proxy of the environment applies (HTTPS_PROXY, NO_PROXY)\n"), "{text}");
    }

    #[test]
    fn credentials_are_told_with_account_and_expiry() {
        let source = "web identity".to_owned();
        let one = CredentialStatus { source, account: Some("123".to_owned()), expires_ms: Some(10), problem: None };
        assert_eq!(credentials(&one, 10), "  credentials: web identity, account 123, THEY HAVE EXPIRED\n");
        let failing = CredentialStatus { expires_ms: None, problem: Some("no answer".to_owned()), ..one };
        let text = credentials(&failing, 10);
        assert!(text.contains("they do not expire\n  THEY CANNOT BE RENEWED: no answer\n"), "{text}");
    }
}
