//! Reads the section `[handover]`: the receivers of a notice when the role of the site changes.

use std::path::PathBuf;
use std::time::Duration;

use super::fields::{folder, http_url, time};
use super::raw;
use super::report::Problems;
use super::settings::Handover;
use crate::seams::handover::pod_label::PodLabelSettings;

/// The longest time of one notice. A newer notice waits for it.
const LONGEST: Duration = Duration::from_secs(300);

fn bounded(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time <= LONGEST { Ok(time) } else { Err(format!("write at most {LONGEST:?}: a newer notice waits for it")) }
}

/// Checks the section, and builds the settings of the receivers.
pub(super) fn read(raw: &raw::Handover, to: &mut Problems) -> Handover {
    let webhook = to.optional("handover.webhook", &raw.webhook, http_url);
    if raw.token_file.is_some() && raw.webhook.is_none() {
        to.wrong("handover.token_file", &raw.token_file, "it is for handover.webhook: set that, or remove this");
    }
    Handover {
        program: to.optional("handover.program", &raw.program, folder),
        webhook,
        token_file: to.optional("handover.token_file", &raw.token_file, folder),
        pod_label: pod_label(raw, to),
        timeout: to.or("handover.timeout", &raw.timeout, Duration::from_secs(10), bounded),
    }
}

/// Reads the settings of the label on the pod. `pod` and the fields that belong to it may be set without `pod_label`,
/// because a pod sets them for every configuration.
fn pod_label(raw: &raw::Handover, to: &mut Problems) -> Option<PodLabelSettings> {
    let label = to.optional("handover.pod_label", &raw.pod_label, label);
    let pod = to.optional("handover.pod", &raw.pod, pod);
    let uid = to.optional("handover.pod_uid", &raw.pod_uid, uid);
    let url = "https://kubernetes.default.svc".to_owned();
    let url = to.or("handover.kubernetes_url", &raw.kubernetes_url, url, https_url);
    let folder_of_account = PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount");
    let service_account = to.or("handover.service_account", &raw.service_account, folder_of_account, folder);
    if raw.pod_label.is_some() && raw.pod.is_none() {
        let remedy = "handover.pod_label needs it: set LOCKSTEP_HANDOVER__POD to NAMESPACE/NAME of this node's pod";
        to.wrong("handover.pod", &raw.pod, remedy);
    }
    let (namespace, pod) = pod?;
    Some(PodLabelSettings { label: label?, namespace, pod, uid, url, service_account })
}

/// Whether the text is a DNS name of at most 253 bytes, as Kubernetes demands for names.
fn is_dns(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_part = |part: &str| {
        (1..=63).contains(&part.len()) && part.bytes().all(is_inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

fn label(text: &str) -> Result<String, String> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let is_edge = |letter: char| letter.is_ascii_alphanumeric();
    let is_name = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name.starts_with(is_edge)
        && name.ends_with(is_edge);
    if is_name && prefix.is_none_or(is_dns) {
        return Ok(text.to_owned());
    }
    Err("write the name of a label, `lockstep/role` for example".to_owned())
}

fn pod(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('/').filter(|(namespace, pod)| is_dns(namespace) && is_dns(pod));
    let parts = parts.map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned()));
    parts.ok_or_else(|| "write NAMESPACE/NAME of this node's pod, `gerrit/gerrit-0` for example".to_owned())
}

fn uid(text: &str) -> Result<String, String> {
    let is_uid =
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_uid {
        Ok(text.to_owned())
    } else {
        Err("write the uid of this node's pod, or leave the field out".to_owned())
    }
}

fn https_url(text: &str) -> Result<String, String> {
    let url = http_url(text).ok().filter(|url| url.starts_with("https://") && !url.contains(['?', '#', '@']));
    url.ok_or_else(|| "write https://host:port of the API server: the token is sent to it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};

    fn parsed(section: &str) -> Result<crate::node::config::Settings, String> {
        parse(&EXAMPLE.replacen("[handover]", &format!("[handover]\n{section}\n#"), 1))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_label_needs_its_pod_and_a_pod_needs_no_label() {
        let pod = "pod = \"gerrit/gerrit-0\"\npod_uid = \"0c9a4e6e-1\"\n";
        let set = parsed(&format!("pod_label = \"lockstep/role\"\n{pod}")).unwrap().handover.pod_label.unwrap();
        assert_eq!(
            (set.label.as_str(), set.namespace.as_str(), set.pod.as_str()),
            ("lockstep/role", "gerrit", "gerrit-0")
        );
        assert_eq!((set.uid.as_deref(), set.url.as_str()), (Some("0c9a4e6e-1"), "https://kubernetes.default.svc"));
        assert_eq!(set.service_account.to_str(), Some("/var/run/secrets/kubernetes.io/serviceaccount"));
        assert_eq!(parsed(pod).unwrap().handover.pod_label, None);
        let error = parsed("pod_label = \"role\"\n").unwrap_err();
        assert!(error.contains("handover.pod is not set") && error.contains("LOCKSTEP_HANDOVER__POD"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_remedy() {
        for (field, values) in [
            ("pod_label", &["", "a b", "/role", "Lockstep/role", "lockstep/", "-a", "a/b/c"][..]),
            ("pod", &["gerrit-0", "/gerrit-0", "gerrit/", "gerrit/Gerrit", "a/b/c", "a/../b"][..]),
            ("pod_uid", &["", "a/b"][..]),
            ("kubernetes_url", &["http://kubernetes", "kubernetes", "https://a/?b", "https://u@a"][..]),
            ("service_account", &["run/secrets"][..]),
        ] {
            for value in values {
                let error = parsed(&format!("{field} = \"{value}\"\n")).unwrap_err();
                assert!(error.contains(&format!("handover.{field} = \"{value}\": write")), "{error}");
            }
        }
    }
}
