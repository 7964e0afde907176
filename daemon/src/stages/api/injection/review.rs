//! AdmissionReview of `admission.k8s.io/v1`: the question of the API server about one object, and the answer.
//!
//! Only the creation of a pod is answered with a patch. Everything else is allowed as it is: the configuration of the
//! webhook decides which objects come here, and a review that the webhook does not know is no reason to stop a cluster.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::patch::{Injection, Pod};

const VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Why a body cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    /// The body is no JSON, or lacks a field.
    #[error("the body is no AdmissionReview: {0}; a retry does not help")]
    NotAReview(serde_json::Error),
    /// The body is another object, or one of another version.
    #[error(
        "the body is `{kind}` of `{version}`; send an AdmissionReview of admission.k8s.io/v1: set \
         admissionReviewVersions of the webhook to [v1]"
    )]
    OfAnotherVersion {
        /// The `kind` of the body.
        kind: String,
        /// The `apiVersion` of the body.
        version: String,
    },
    /// The review is an answer, or empty.
    #[error("the AdmissionReview has no request; a retry does not help")]
    NoRequest,
    /// The review is about the creation of a pod that it lacks.
    #[error("request {0} creates a pod and has no object; a retry does not help")]
    NoObject(String),
    /// The object of the review is no pod.
    #[error("request.object of request {0} is no pod: {1}; a retry does not help")]
    NotAPod(String, serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<ReviewRequest<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewRequest<'a> {
    uid: String,
    kind: ObjectKind,
    #[serde(default)]
    sub_resource: String,
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ObjectKind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

impl ReviewRequest<'_> {
    fn creates_a_pod(&self) -> bool {
        let ObjectKind { group, version, kind } = &self.kind;
        let is_pod = (group.as_str(), version.as_str(), kind.as_str()) == ("", "v1", "Pod");
        is_pod && self.sub_resource.is_empty() && self.operation == "CREATE"
    }
}

/// An answer in the form of a review.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    /// The operations as JSON, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

/// Answers a review: every object is allowed, and a new pod may get the sidecar.
pub(super) fn answer(injection: &Injection, body: &[u8]) -> Result<Answer, ReviewError> {
    let review: Review<'_> = serde_json::from_slice(body).map_err(ReviewError::NotAReview)?;
    if review.api_version != VERSION || review.kind != KIND {
        return Err(ReviewError::OfAnotherVersion { kind: review.kind, version: review.api_version });
    }
    let request = review.request.ok_or(ReviewError::NoRequest)?;
    let patch = if request.creates_a_pod() { patch(injection, &request)? } else { None };
    let patch = patch.map(|operations| BASE64_STANDARD.encode(Value::Array(operations).to_string()));
    let patch_type = patch.is_some().then_some("JSONPatch");
    let response = Response { uid: request.uid, allowed: true, patch_type, patch };
    Ok(Answer { api_version: VERSION, kind: KIND, response })
}

/// The operations for a new pod. None if it is left as it is.
fn patch(injection: &Injection, request: &ReviewRequest<'_>) -> Result<Option<Vec<Value>>, ReviewError> {
    let ReviewRequest { uid, namespace, .. } = request;
    let object = request.object.ok_or_else(|| ReviewError::NoObject(uid.clone()))?;
    let pod: Pod = serde_json::from_str(object.get()).map_err(|why| ReviewError::NotAPod(uid.clone(), why))?;
    let patch = injection.patch(&pod);
    let message = if patch.is_some() { "the pod gets the sidecar" } else { "the pod is left as it is" };
    tracing::info!(uid, namespace, pod = pod.name(), "{message}");
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::patch::example;
    use super::*;

    /// A review about the creation of a pod with a Gerrit.
    fn review() -> Value {
        json!({
            "apiVersion": VERSION,
            "kind": KIND,
            "request": {
                "uid": "u-1",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "operation": "CREATE",
                "namespace": "gerrit",
                "userInfo": { "username": "somebody" },
                "object": { "metadata": { "generateName": "g-" }, "spec": { "containers": [{ "name": "gerrit" }] } },
                "oldObject": null,
            },
        })
    }

    fn answered(review: &Value) -> Value {
        serde_json::to_value(answer(&example(), review.to_string().as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_new_pod_gets_a_patch_in_base64() {
        let answer = answered(&review());
        assert_eq!((&answer["apiVersion"], &answer["kind"]), (&json!(VERSION), &json!(KIND)));
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(true)));
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = BASE64_STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
        assert!(patch.iter().any(|one| one["path"] == "/spec/initContainers/-" && one["value"]["name"] == "lockstep"));
    }

    #[test]
    fn everything_but_a_new_pod_is_allowed_as_it_is() {
        let changes: [(&str, Value); 5] = [
            ("kind", json!({ "group": "apps", "version": "v1", "kind": "StatefulSet" })),
            ("kind", json!({ "group": "example.org", "version": "v1", "kind": "Pod" })),
            ("operation", json!("UPDATE")),
            ("subResource", json!("ephemeralcontainers")),
            ("object", json!({ "spec": { "containers": [{ "name": "other" }] } })),
        ];
        for (field, value) in changes {
            let mut review = review();
            review["request"][field] = value;
            assert_eq!(answered(&review)["response"], json!({ "uid": "u-1", "allowed": true }), "{field}");
        }
        let mut deletion = review();
        deletion["request"]["operation"] = json!("DELETE");
        deletion["request"]["object"] = Value::Null;
        assert_eq!(answered(&deletion)["response"], json!({ "uid": "u-1", "allowed": true }));
    }

    #[test]
    fn a_body_that_cannot_be_answered_is_refused_with_the_reason() {
        let said = |body: &str| answer(&example(), body.as_bytes()).unwrap_err().to_string();
        assert!(said("{").contains("the body is no AdmissionReview: EOF"), "{}", said("{"));
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut review = review();
            change(&mut review);
            said(&review.to_string())
        };
        let old = changed(&|review: &mut Value| review["apiVersion"] = json!("admission.k8s.io/v1beta1"));
        assert!(old.contains("`AdmissionReview` of `admission.k8s.io/v1beta1`") && old.contains("[v1]"), "{old}");
        let empty = changed(&|review: &mut Value| review["request"] = Value::Null);
        assert!(empty.contains("has no request"), "{empty}");
        let absent = changed(&|review: &mut Value| review["request"]["object"] = Value::Null);
        assert!(absent.contains("request u-1 creates a pod and has no object"), "{absent}");
        let none = changed(&|review: &mut Value| review["request"]["object"] = json!({ "spec": {} }));
        assert!(none.contains("request.object of request u-1 is no pod: missing field `containers`"), "{none}");
        let whole = changed(&|review: &mut Value| review["request"]["uid"] = Value::Null);
        assert!(whole.contains("no AdmissionReview: invalid type: null"), "{whole}");
    }
}
