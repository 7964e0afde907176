//! Reads the section `[operators]`: the listener for operators.

use super::fields::{address, folder};
use super::raw::Raw;
use super::report::Problems;
use super::settings::Tls;
use super::tls::names;
use crate::stages::api::operator_listener::OperatorListenerSettings;

const OPERATORS: &str = "list names in the certificates of operators: [\"spiffe://lockstep/operator/alice\"]";

/// Reads the section. Returns `None` if it names no listener, or if a field is wrong.
pub(super) fn read(raw: &Raw, tls: Option<&Tls>, to: &mut Problems) -> Option<OperatorListenerSettings> {
    let section = &raw.operators;
    let listen = to.optional("operators.listen", &section.listen, address);
    let token_file = to.optional("operators.token_file", &section.token_file, folder);
    let allow = names("operators.allow", &section.allow, OPERATORS, to);
    for (field, leaf) in [("operators.token_file", &section.token_file), ("operators.allow", &section.allow)] {
        if leaf.is_some() && section.listen.is_none() {
            to.wrong(field, leaf, "it is for operators.listen: set that, or remove this");
        }
    }
    if section.listen.is_some() && section.token_file.is_none() && section.allow.is_none() {
        let remedy = "operators.listen needs it, or operators.allow: name the file with the tokens of operators";
        to.wrong("operators.token_file", &section.token_file, remedy);
    }
    if section.listen.is_some() && raw.tls.certificate_file.is_none() {
        to.wrong("operators.listen", &section.listen, "it needs a certificate of this node: fill in [tls]");
    }
    let peers = tls.and_then(|tls| tls.listener.as_ref()).map(|listener| listener.allow.clone()).unwrap_or_default();
    let both = allow.iter().find(|operator| peers.iter().any(|peer| peer.overlaps(operator)));
    if let Some(both) = both {
        let why = format!("{both} is in tls.allow, too, and peers are no operators: give operators names of their own");
        to.wrong("operators.allow", &section.allow, why);
    }
    Some(OperatorListenerSettings { address: listen?, token_file, allow, peers })
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};

    const TLS: &str = "certificate_file = \"/c\"\nkey_file = \"/k\"\ntrust_file = \"/t\"\nlisten = \"0.0.0.0:7422\"\n\
                       allow = [\"spiffe://lockstep/muc-1/*\", \"gerrit-0.example.org\"]\n";

    fn problem(tls: &str, operators: &str) -> String {
        let text = EXAMPLE.replacen("[tls]", &format!("[tls]\n{tls}\n#"), 1);
        let text = text.replacen("[operators]", &format!("[operators]\n{operators}\n#"), 1);
        parse(&text).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn the_listener_needs_a_certificate_and_operators() {
        let listen = "listen = \"0.0.0.0:7423\"\n";
        let (tokens, allow) = ("token_file = \"/o\"\n", "allow = [\"spiffe://lockstep/operator/*\"]\n");
        assert_eq!(problem("", ""), "");
        for who in [tokens, allow, &format!("{tokens}{allow}")] {
            assert_eq!(problem(TLS, &format!("{listen}{who}")), "");
            assert!(problem("", &format!("{listen}{who}")).contains("operators.listen"), "{who}");
            assert!(problem(TLS, who).contains("set that, or remove this"), "{who}");
        }
        assert!(problem(TLS, listen).contains("operators.token_file is not set"));
    }

    #[test]
    fn a_name_of_a_peer_is_no_name_of_an_operator() {
        for name in [
            "spiffe://lockstep/muc-1/alice",
            "spiffe://lockstep/muc-1/*",
            "spiffe://lockstep/*",
            "spiffe://lockstep/muc-1/ops/*",
            "gerrit-0.example.org",
        ] {
            let text = problem(TLS, &format!("listen = \"0.0.0.0:7423\"\nallow = [\"{name}\"]\n"));
            assert!(text.contains("operators.allow") && text.contains("peers are no operators"), "{name}: {text}");
        }
    }
}
