//! The parts of a pod that the sidecar needs, and the JSON patch that adds them to a pod.
//!
//! `deploy/spec/generate` writes the file with the parts, and the admission policy, from one spec. A pod gets the same
//! from both: the parts come behind those that the pod has, in the order of the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

/// The name of the sidecar's container. A pod that has it is left as it is.
const SIDECAR: &str = "lockstep";

/// Why the file with the parts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InjectionError {
    /// The file cannot be read.
    #[error("{}: {}; name the file injection.json of deploy/kustomize/operator/webhook", .0.display(), .1)]
    Unreadable(PathBuf, std::io::Error),
    /// The file does not have the form that `deploy/spec/generate` writes.
    #[error("{}: {}; write it anew with deploy/spec/generate, and change values of it alone", .0.display(), .1)]
    NotParts(PathBuf, serde_json::Error),
    /// A pod would get the parts again and again.
    #[error("{}: initContainers has no container `lockstep`; write it anew with deploy/spec/generate", .0.display())]
    NoSidecar(PathBuf),
}

/// The parts that a pod gets.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Injection {
    /// Fields of the pod's spec. They replace those that it has.
    spec: Map<String, Value>,
    /// Volumes in addition to the pod's own.
    volumes: Vec<Value>,
    /// Containers behind the pod's own init containers. The sidecar is one of them.
    init_containers: Vec<Value>,
    /// The container beside which the sidecar runs.
    container: Server,
}

/// The container beside which the sidecar runs, with its mounts in addition.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Server {
    name: String,
    volume_mounts: Vec<Map<String, Value>>,
}

/// The parts of a new pod that decide.
#[derive(Debug, Deserialize)]
pub(super) struct Pod {
    #[serde(default)]
    metadata: Metadata,
    spec: PodSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    volumes: Option<Vec<IgnoredAny>>,
    init_containers: Option<Vec<Container>>,
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    volume_mounts: Option<Vec<Mount>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    mount_path: String,
}

impl Pod {
    /// The name of the pod, or the beginning of the name that it gets.
    pub(super) fn name(&self) -> &str {
        let Metadata { name, generate_name } = &self.metadata;
        name.as_deref().or(generate_name.as_deref()).unwrap_or_default()
    }
}

impl Injection {
    /// Reads the parts from a file.
    ///
    /// # Errors
    /// See [`InjectionError`]. A retry does not help.
    pub fn read(path: &Path) -> Result<Self, InjectionError> {
        let text = std::fs::read(path).map_err(|why| InjectionError::Unreadable(path.to_owned(), why))?;
        let parts: Self =
            serde_json::from_slice(&text).map_err(|why| InjectionError::NotParts(path.to_owned(), why))?;
        let is_sidecar = |container: &Value| container.get("name").and_then(Value::as_str) == Some(SIDECAR);
        if parts.init_containers.iter().any(is_sidecar) {
            return Ok(parts);
        }
        Err(InjectionError::NoSidecar(path.to_owned()))
    }

    /// The operations of the patch for a pod. None if the pod is left as it is: it has the sidecar already, or no
    /// container beside which the sidecar belongs.
    pub(super) fn patch(&self, pod: &Pod) -> Option<Vec<Value>> {
        let PodSpec { volumes, init_containers, containers } = &pod.spec;
        if init_containers.iter().flatten().any(|container| container.name == SIDECAR) {
            return None;
        }
        let index = containers.iter().position(|container| container.name == self.container.name)?;
        let mut patch = append("/spec/volumes", volumes.is_some(), &self.volumes);
        patch.extend(append("/spec/initContainers", init_containers.is_some(), &self.init_containers));
        patch.extend(fields("/spec", &self.spec));
        let (list, mounts) = (format!("/spec/containers/{index}/volumeMounts"), &containers[index].volume_mounts);
        patch.extend(append(&list, mounts.is_some(), &[]));
        for mount in &self.container.volume_mounts {
            let place = mount.get("mountPath").and_then(Value::as_str);
            let same = mounts.iter().flatten().position(|other| Some(other.mount_path.as_str()) == place);
            match same {
                // Two mounts at one place are refused, so the fields of the one that is there are replaced.
                Some(at) => patch.extend(fields(&format!("{list}/{at}"), mount)),
                None => patch.push(add(&format!("{list}/-"), &Value::Object(mount.clone()))),
            }
        }
        Some(patch)
    }
}

/// Puts values behind those of a list, which is made first if the pod lacks it.
fn append(list: &str, is_there: bool, values: &[Value]) -> Vec<Value> {
    let made = (!is_there).then(|| add(list, &json!([])));
    made.into_iter().chain(values.iter().map(|value| add(&format!("{list}/-"), value))).collect()
}

/// Sets fields of an object, whether it has them or not.
fn fields(object: &str, fields: &Map<String, Value>) -> Vec<Value> {
    fields.iter().map(|(name, value)| add(&format!("{object}/{}", escaped(name)), value)).collect()
}

/// A name as a part of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn add(path: &str, value: &Value) -> Value {
    json!({ "op": "add", "path": path, "value": value })
}

/// Small parts for the tests of this folder.
#[cfg(test)]
pub(super) fn example() -> Injection {
    let parts = json!({
        "spec": { "enableServiceLinks": false },
        "volumes": [{ "name": "run" }],
        "initContainers": [{ "name": "lockstep-bridge" }, { "name": "lockstep" }],
        "container": { "name": "gerrit", "volumeMounts": [{ "mountPath": "/run/lockstep", "name": "run" }] },
    });
    serde_json::from_value(parts).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operations for a pod with this spec, as `path value`.
    fn patched(spec: Value) -> Option<Vec<String>> {
        let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
        let patch = example().patch(&pod)?;
        assert!(patch.iter().all(|operation| operation["op"] == "add"));
        let line = |operation: &Value| format!("{} {}", operation["path"].as_str().unwrap(), operation["value"]);
        Some(patch.iter().map(line).collect())
    }

    const MOUNT: &str = r#"{"mountPath":"/run/lockstep","name":"run"}"#;

    #[test]
    fn a_pod_without_lists_gets_them_in_the_same_patch() {
        let mount = format!("/spec/containers/1/volumeMounts/- {MOUNT}");
        let expected = [
            "/spec/volumes []",
            r#"/spec/volumes/- {"name":"run"}"#,
            "/spec/initContainers []",
            r#"/spec/initContainers/- {"name":"lockstep-bridge"}"#,
            r#"/spec/initContainers/- {"name":"lockstep"}"#,
            "/spec/enableServiceLinks false",
            "/spec/containers/1/volumeMounts []",
            &mount,
        ];
        let pod = json!({ "containers": [{ "name": "other" }, { "name": "gerrit" }], "initContainers": null });
        assert_eq!(patched(pod).unwrap(), expected);
    }

    #[test]
    fn a_pod_keeps_its_own_lists() {
        let gerrit = json!({ "name": "gerrit", "volumeMounts": [{ "name": "site", "mountPath": "/var/gerrit" }] });
        let pod = json!({ "volumes": [{ "name": "site" }], "initContainers": [{ "name": "init" }],
                          "containers": [gerrit] });
        let patch = patched(pod).unwrap();
        assert!(!patch.iter().any(|line| line.ends_with("[]")), "a list is replaced: {patch:?}");
        assert_eq!(patch.last().unwrap(), &format!("/spec/containers/0/volumeMounts/- {MOUNT}"));
    }

    #[test]
    fn a_mount_at_the_same_place_is_changed_and_none_is_added() {
        let mounts = json!([{ "name": "site", "mountPath": "/s" }, { "name": "old", "mountPath": "/run/lockstep" }]);
        let patch = patched(json!({ "containers": [{ "name": "gerrit", "volumeMounts": mounts }] })).unwrap();
        let of_mounts: Vec<&String> = patch.iter().filter(|line| line.contains("volumeMounts")).collect();
        let expected = [
            r#"/spec/containers/0/volumeMounts/1/mountPath "/run/lockstep""#,
            r#"/spec/containers/0/volumeMounts/1/name "run""#,
        ];
        assert_eq!(of_mounts, expected);
    }

    #[test]
    fn a_pod_with_the_sidecar_and_one_without_gerrit_are_left_as_they_are() {
        let gerrit = json!([{ "name": "gerrit" }]);
        assert!(patched(json!({ "containers": gerrit, "initContainers": [{ "name": "init" }] })).is_some());
        assert_eq!(patched(json!({ "containers": gerrit, "initContainers": [{ "name": "lockstep" }] })), None);
        assert_eq!(patched(json!({ "containers": [{ "name": "git-gc" }] })), None);
    }

    #[test]
    fn a_file_that_is_not_of_this_form_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("injection.json");
        let said = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Injection::read(&path).unwrap_err().to_string()
        };
        let empty = r#""spec":{},"volumes":[],"container":{"name":"gerrit","volumeMounts":[]}"#;
        let without = said(&format!("{{{empty},\"initContainers\":[{{\"name\":\"x\"}}]}}"));
        assert!(without.contains("injection.json: initContainers has no container `lockstep`"), "{without}");
        let unknown = said(&format!("{{{empty},\"initContainers\":[],\"labels\":{{}}}}"));
        assert!(unknown.contains("unknown field `labels`") && unknown.contains("deploy/spec/generate"), "{unknown}");
        std::fs::remove_file(&path).unwrap();
        let absent = Injection::read(&path).unwrap_err().to_string();
        assert!(absent.contains("injection.json: No such file"), "{absent}");
    }

    #[test]
    fn a_name_with_a_slash_is_one_part_of_a_path() {
        assert_eq!(escaped("a/b~c"), "a~1b~0c");
    }
}
