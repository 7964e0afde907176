//! The webhook that adds the sidecar to pods, as the API server of Kubernetes calls it: over TLS, with whole reviews,
//! and with the parts that `deploy/spec/generate` has written.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use lockstep::seams::tls::{ClientFiles, ClientMaterial, PeerName, connect};
use lockstep_tests::e2e::git::{fails, ok, quiet};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::lockstep;

/// The parts that a pod gets, as they are installed.
const INJECTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kustomize/operator/webhook/injection.json");
/// The name that the API server expects in the certificate.
const HOST: &str = "lockstep-inject.lockstep-system.svc";

/// A webhook that runs. It ends with this value.
struct Webhook {
    _child: Child,
    address: String,
    trust: PathBuf,
    _home: TempDir,
}

async fn run(home: &Path, args: &[&str]) -> Output {
    quiet(Command::new(lockstep()), home).args(args).output().await.expect("the command runs")
}

/// The certificate of a webhook, made as the page about the operator says. Returns its folder.
async fn certified(home: &Path) -> String {
    let [authority, tls] = ["authority", "tls"].map(|name| home.join(name).to_str().expect("text").to_owned());
    let _ = ok(run(home, &["certs", "init", "--dir", &authority]).await);
    let node = ["--site", "inject", "--node", "inject-0", "--host", HOST];
    let _ = ok(run(home, &[&["certs", "issue", "--dir", &authority, "--out", &tls][..], &node].concat()).await);
    tls
}

impl Webhook {
    async fn start() -> Self {
        let home = TempDir::new().expect("a folder");
        let tls = certified(home.path()).await;
        let mut command = quiet(Command::new(lockstep()), home.path());
        command.args(["inject", "serve", "--listen", "127.0.0.1:0", "--injection", INJECTION, "--tls", &tls]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the webhook starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = lines.next_line().await.expect("text").expect("a line");
        let address = line.strip_prefix("listens on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        let trust = Path::new(&tls).join("ca.crt");
        Self { _child: child, address, trust, _home: home }
    }

    /// One request. Returns the status and the body of the answer.
    async fn call(&self, request: &str, body: &str) -> (u16, String) {
        let files = ClientFiles { own: None, trust: self.trust.clone() };
        let material = ClientMaterial::load(&files).expect("trust");
        let name: PeerName = HOST.parse().expect("a name");
        let stream = TcpStream::connect(&self.address).await.expect("a connection");
        let mut tls = connect(&material, "127.0.0.1", name, stream).await.expect("a handshake");
        let head = format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        tls.write_all(format!("{head}{body}").as_bytes()).await.expect("it is taken");
        let mut answer = Vec::new();
        // The server may close the connection without an orderly end of TLS.
        let _ = tls.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// The pod as the API server has it after the webhook. None if the webhook leaves it as it is.
    async fn admit(&self, pod: &Value) -> Option<Value> {
        let (status, answer) = self.call("POST /v1/pods?timeout=5s", &review(pod).to_string()).await;
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((&answer["kind"], &answer["response"]["allowed"]), (&json!("AdmissionReview"), &json!(true)));
        assert_eq!(answer["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
        let patch = BASE64_STANDARD.decode(answer["response"]["patch"].as_str()?).expect("base64");
        assert_eq!(answer["response"]["patchType"], "JSONPatch");
        Some(apply(pod.clone(), &serde_json::from_slice(&patch).expect("JSON")))
    }
}

/// The review of a new pod, with everything that an API server says about it.
fn review(pod: &Value) -> Value {
    let kind = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let resource = json!({ "group": "", "version": "v1", "resource": "pods" });
    let request = json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "namespace": "gerrit",
        "operation": "CREATE",
        "userInfo": { "username": "system:serviceaccount:kube-system:statefulset-controller", "groups": ["x"] },
        "object": pod,
        "oldObject": null,
        "dryRun": false,
        "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
    });
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request })
}

/// Applies a JSON patch. The webhook uses the operation `add` alone.
fn apply(mut object: Value, patch: &Value) -> Value {
    for operation in patch.as_array().expect("a list") {
        assert_eq!(operation["op"], "add", "{operation}");
        let (parent, last) = operation["path"].as_str().and_then(|path| path.rsplit_once('/')).expect("a path");
        let value = operation["value"].clone();
        match object.pointer_mut(parent) {
            Some(Value::Array(list)) if last == "-" => list.push(value),
            Some(Value::Object(fields)) => drop(fields.insert(last.to_owned(), value)),
            other => panic!("{operation}: {other:?}"),
        }
    }
    object
}

/// Puts the members of a list behind those of another one, which may be absent.
fn extend(list: &mut Value, by: &Value) {
    let mut all = list.as_array().cloned().unwrap_or_default();
    all.extend(by.as_array().expect("a list").iter().cloned());
    *list = Value::Array(all);
}

/// The pod with all parts of the file, put together without a patch.
fn with_the_parts(pod: &Value, gerrit: usize) -> Value {
    let parts: Value = serde_json::from_slice(&std::fs::read(INJECTION).expect("a file")).expect("JSON");
    let mut pod = pod.clone();
    for (name, value) in parts["spec"].as_object().expect("fields") {
        pod["spec"][name] = value.clone();
    }
    extend(&mut pod["spec"]["volumes"], &parts["volumes"]);
    extend(&mut pod["spec"]["initContainers"], &parts["initContainers"]);
    extend(&mut pod["spec"]["containers"][gerrit]["volumeMounts"], &parts["container"]["volumeMounts"]);
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pod_gets_every_part_of_the_spec_once() {
    let webhook = Webhook::start().await;
    let site = json!({ "name": "gerrit-site", "mountPath": "/var/gerrit" });
    let full = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "generateName": "gerrit-", "labels": { "app.kubernetes.io/managed-by": "gerrit-operator" } },
        "spec": {
            "terminationGracePeriodSeconds": 30,
            "initContainers": [{ "name": "gerrit-init", "image": "gerrit-init:1" }],
            "containers": [
                { "name": "other", "image": "other:1" },
                { "name": "gerrit", "image": "gerrit:1", "volumeMounts": [site] },
            ],
            "volumes": [{ "name": "gerrit-site", "emptyDir": {} }],
        },
    });
    let admitted = webhook.admit(&full).await.expect("a patch");
    assert_eq!(admitted, with_the_parts(&full, 1));
    let containers = admitted["spec"]["initContainers"].as_array().expect("a list");
    let names: Vec<&str> = containers.iter().filter_map(|container| container["name"].as_str()).collect();
    assert_eq!(names, ["gerrit-init", "lockstep-bridge", "lockstep"]);
    // Called again, and for a pod without any list.
    assert_eq!(webhook.admit(&admitted).await, None);
    let bare = json!({ "metadata": { "name": "g" }, "spec": { "containers": [{ "name": "gerrit" }] } });
    let admitted = webhook.admit(&bare).await.expect("a patch");
    assert_eq!(admitted, with_the_parts(&bare, 0));
    assert_eq!(webhook.admit(&admitted).await, None);
    let foreign = json!({ "metadata": { "name": "f" }, "spec": { "containers": [{ "name": "git-gc" }] } });
    assert_eq!(webhook.admit(&foreign).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_review_is_refused_and_the_webhook_goes_on() {
    let webhook = Webhook::start().await;
    for (body, why) in [
        ("{\"kind\":", "the body is no AdmissionReview: EOF"),
        ("{\"kind\":\"Status\",\"apiVersion\":\"v1\"}", "`Status` of `v1`"),
        ("{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1beta1\"}", "[v1]"),
        ("{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\"}", "has no request"),
    ] {
        let (status, said) = webhook.call("POST /v1/pods", body).await;
        assert_eq!(status, 400, "{body}: {said}");
        let message: Value = serde_json::from_str(&said).expect("JSON");
        assert!(message["message"].as_str().is_some_and(|message| message.contains(why)), "{body}: {said}");
    }
    assert_eq!(webhook.call("GET /livez", "").await, (200, "ok\n".to_owned()));
    assert_eq!(webhook.call("POST /other", "{}").await.0, 404);
    assert_eq!(webhook.call("GET /v1/pods", "").await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_end_the_webhook_with_their_names() {
    let home = TempDir::new().expect("a folder");
    let tls = certified(home.path()).await;
    let wrong = home.path().join("injection.json");
    std::fs::write(&wrong, "{}").expect("a file");
    let wrong = wrong.to_str().expect("text");
    let ended = async |injection: &str, tls: &str| {
        let args = ["inject", "serve", "--listen", "127.0.0.1:0", "--injection", injection, "--tls", tls];
        let output = run(home.path(), &args).await;
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        fails(output)
    };
    let said = ended(wrong, &tls).await;
    assert!(said.contains(&format!("--injection {wrong}: missing field")), "{said}");
    let said = ended(INJECTION, "/nonexistent").await;
    assert!(said.contains("--tls: /nonexistent/tls.crt: No such file"), "{said}");
}
