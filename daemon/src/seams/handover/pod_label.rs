//! A label on this node's own pod, so that a Service of Kubernetes selects the pods that take writes.
//!
//! The label's value is `active` while the site is active and this node takes writes, and `waiting` while the node does
//! not take them yet. On other sites it is their role. The label is set by a merge patch to the API server, with the
//! token of the pod's service account. It is set again every minute, because people and controllers may remove it.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::{Role, RoleNotice};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use serde::Deserialize;

use super::{Receiver, ReceiverError};

/// The setting of the folder that is read on each use.
const ACCOUNT: &str = "handover.service_account";
/// How often the label is set although nothing has changed.
const AGAIN: Duration = Duration::from_secs(60);
/// The answer to a patch that is asked for: the pod's metadata without the rest.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// Most bytes of an answer that are read. The metadata of a pod is far smaller.
const ANSWER: usize = 1 << 20;
/// Most characters of the API server's own words in a message.
const SAID: usize = 300;

/// The pod of this node, and the way to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLabelSettings {
    /// The name of the label: `lockstep/role`.
    pub label: String,
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub pod: String,
    /// The uid of the pod. If it is set, a later pod of the same name is never labelled.
    pub uid: Option<String>,
    /// The URL of the API server: `https://kubernetes.default.svc`.
    pub url: String,
    /// The folder with the files `token` and `ca.crt` of the service account. They are read on each use.
    pub service_account: PathBuf,
}

/// The label on the pod.
pub struct PodLabel {
    name: String,
    url: Url,
    settings: PodLabelSettings,
    timeout: Duration,
}

/// The part of an answer that is read: the labels of a pod, or the reason of a failure.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    metadata: Metadata,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    labels: std::collections::BTreeMap<String, String>,
}

impl PodLabel {
    /// A receiver that labels a pod. Each request ends after `timeout`.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn new(settings: PodLabelSettings, timeout: Duration) -> Result<Self, ReceiverError> {
        let wrong = |why: String| ReceiverError::Setting("handover.kubernetes_url", why);
        let mut url = Url::parse(&settings.url).map_err(|error| wrong(error.to_string()))?;
        let path = ["api", "v1", "namespaces", &settings.namespace, "pods", &settings.pod];
        let no_host = |()| ReceiverError::NoHost(settings.url.clone());
        url.path_segments_mut().map_err(no_host)?.pop_if_empty().extend(path);
        url.query_pairs_mut().append_pair("fieldManager", "lockstep");
        let name = format!("label {} of pod {}/{}", settings.label, settings.namespace, settings.pod);
        Ok(Self { name, url, settings, timeout })
    }

    /// A client that trusts the authority of the cluster alone. Clusters replace it, so it is read each time.
    async fn client(&self) -> Result<Client, ReceiverError> {
        let path = self.settings.service_account.join("ca.crt");
        let wrong = |error: &dyn std::fmt::Display| ReceiverError::file(ACCOUNT, &path, error);
        let text = tokio::fs::read(&path).await.map_err(|error| wrong(&error))?;
        let authorities = Certificate::from_pem_bundle(&text).map_err(|error| wrong(&error))?;
        if authorities.is_empty() {
            return Err(wrong(&"it has no certificate"));
        }
        // The API server is inside of the cluster: no proxy, and no other server gets the token.
        let client = Client::builder().timeout(self.timeout).redirect(Policy::none()).no_proxy().https_only(true);
        client.tls_certs_only(authorities).build().map_err(|error| wrong(&error))
    }

    async fn token(&self) -> Result<String, ReceiverError> {
        let path = self.settings.service_account.join("token");
        let text = tokio::fs::read_to_string(&path).await;
        let text = text.map_err(|error| ReceiverError::file(ACCOUNT, &path, &error))?;
        Ok(text.trim().to_owned())
    }

    fn patch(&self, value: &str) -> serde_json::Value {
        let mut metadata = serde_json::json!({ "labels": { self.settings.label.as_str(): value } });
        if let Some(uid) = &self.settings.uid {
            // A patch with another uid than that of the pod is refused.
            metadata["uid"] = uid.as_str().into();
        }
        serde_json::json!({ "metadata": metadata })
    }

    fn refused(&self, status: StatusCode, said: String) -> ReceiverError {
        let PodLabelSettings { namespace, pod, .. } = &self.settings;
        let remedy = match status {
            StatusCode::UNAUTHORIZED => {
                "it does not know the token: handover.service_account needs one of this cluster"
            }
            StatusCode::FORBIDDEN => "the pod's service account needs a Role with `get` and `patch` on this pod",
            StatusCode::NOT_FOUND => "there is no such pod: correct handover.pod",
            // Kubernetes says that the uid cannot be changed to the one of the patch.
            StatusCode::UNPROCESSABLE_ENTITY if said.contains("metadata.uid") => "a newer pod has this name",
            StatusCode::CONFLICT => "the pod was changed meanwhile, or a newer pod has this name",
            StatusCode::UNPROCESSABLE_ENTITY => "it does not take this label: correct handover.pod_label",
            _ => "it is tried again",
        };
        ReceiverError::LabelRefused(status, format!("{namespace}/{pod}"), remedy, said)
    }
}

/// The value of the label.
fn value(notice: &RoleNotice) -> &'static str {
    match (notice.role, notice.takes_writes) {
        (Role::Active, false) => "waiting",
        (role, _) => role.name(),
    }
}

/// Reads an answer. One that is too long, or no JSON, is read as empty.
async fn read(mut response: Response) -> Result<Answer, ReceiverError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| ReceiverError::NoAnswer(text_of(&error)))? {
        if bytes.len() + chunk.len() > ANSWER {
            return Ok(Answer::default());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// An error with its causes, without the URL.
fn text_of(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { "no connection".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[async_trait]
impl Receiver for PodLabel {
    fn name(&self) -> &str {
        &self.name
    }

    fn again_after(&self) -> Option<Duration> {
        Some(AGAIN)
    }

    async fn tell(&self, notice: &RoleNotice) -> Result<(), ReceiverError> {
        let value = value(notice);
        let body = serde_json::to_vec(&self.patch(value))?;
        let request = self
            .client()
            .await?
            .patch(self.url.clone())
            .header("content-type", "application/merge-patch+json")
            .header("accept", format!("{METADATA}, application/json"))
            .bearer_auth(self.token().await?)
            .body(body);
        let lost = |error: reqwest::Error| ReceiverError::NoAnswer(format!("the API server: {}", text_of(&error)));
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let answer = read(response).await?;
        if !status.is_success() {
            let said: String = answer.message.chars().take(SAID).collect();
            return Err(self.refused(status, said));
        }
        let label = &self.settings.label;
        match answer.metadata.labels.get(label) {
            Some(set) if set == value => Ok(()),
            set => Err(ReceiverError::LabelChanged(label.clone(), set.cloned(), value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(uid: Option<&str>) -> PodLabelSettings {
        PodLabelSettings {
            label: "lockstep/role".to_owned(),
            namespace: "gerrit".to_owned(),
            pod: "gerrit-0".to_owned(),
            uid: uid.map(str::to_owned),
            url: "https://kubernetes.default.svc/".to_owned(),
            service_account: "/nowhere".into(),
        }
    }

    #[test]
    fn the_label_says_active_only_while_the_node_takes_writes() {
        let notice = |role, takes_writes| RoleNotice {
            site: "a".parse().unwrap(),
            node: "a-0".parse().unwrap(),
            role,
            epoch: 1,
            takes_writes,
            start: 1,
            number: 1,
        };
        assert_eq!(value(&notice(Role::Active, true)), "active");
        assert_eq!(value(&notice(Role::Active, false)), "waiting");
        for role in [Role::Standby, Role::Draining, Role::Fenced] {
            assert_eq!(value(&notice(role, false)), role.name());
        }
    }

    #[test]
    fn the_patch_names_the_pod_and_its_uid() {
        let label = PodLabel::new(settings(Some("u-1")), Duration::from_secs(1)).unwrap();
        let path = "https://kubernetes.default.svc/api/v1/namespaces/gerrit/pods/gerrit-0?fieldManager=lockstep";
        assert_eq!(label.url.as_str(), path);
        let with = serde_json::json!({"metadata": {"labels": {"lockstep/role": "active"}, "uid": "u-1"}});
        assert_eq!(label.patch("active"), with);
        let label = PodLabel::new(settings(None), Duration::from_secs(1)).unwrap();
        assert_eq!(label.patch("x"), serde_json::json!({"metadata": {"labels": {"lockstep/role": "x"}}}));
    }
}
