"""A real API server takes what the chart renders, runs the admission policy, calls the webhook in its place, and lets a
real sidecar label its pod.

It needs the programs of the test cluster, which `deploy/k8s-e2e` builds once (some minutes). Without them these tests
are skipped, and say so.
"""

import base64
import json
import os
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import CASES, CHART, LEAST, TOOLS, containers, kustomized, rendered, run
from crds import Crds
from test_live import free_port, until

CLUSTER = Path(os.environ.get("LOCKSTEP_K8S") or Path.home() / ".cache/lockstep-k8s") / "bin"
PROGRAMS = [CLUSTER / name for name in ("etcd", "kube-apiserver")]
pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in PROGRAMS), reason=f"no API server in {CLUSTER}: deploy/k8s-e2e builds it"
)
# The plural name of each kind, with its group.
PLURALS = {"NetworkPolicy": "networkpolicies", "MutatingAdmissionPolicy": "mutatingadmissionpolicies"}
# The kinds without a namespace.
OF_THE_CLUSTER = (
    "Namespace",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
)


class ApiServer:
    """etcd and an API server, and nothing else: pods are objects here, and no node runs them."""

    def __init__(self, home):
        self.home, self.running = home, []
        self.port = free_port()
        run("openssl", "genrsa", "-out", home / "sa.key", "2048")
        (home / "tokens.csv").write_text('admin-token,admin,1,"system:masters"\n')

    def start(self):
        client, peer = free_port(), free_port()
        etcd = [f"--listen-{kind}-urls=http://127.0.0.1:{port}" for kind, port in (("client", client), ("peer", peer))]
        etcd += [f"--advertise-client-urls=http://127.0.0.1:{client}", f"--data-dir={self.home}/etcd"]
        self._start("etcd", PROGRAMS[0], *etcd)
        self._start(
            "kube-apiserver",
            PROGRAMS[1],
            f"--etcd-servers=http://127.0.0.1:{client}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.home}/certs",
            f"--service-account-key-file={self.home}/sa.key",
            f"--service-account-signing-key-file={self.home}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={self.home}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--feature-gates=MutatingAdmissionPolicy=true",
            "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
        )
        logs = list(self.home.glob("*.log"))
        until(lambda: self.call("GET", "/readyz")[0] == 200, "the API server is ready", logs)

    def _start(self, name, *command):
        with open(self.home / f"{name}.log", "w") as log:
            self.running.append(subprocess.Popen([str(part) for part in command], stdout=log, stderr=log))

    def stop(self):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()

    def call(self, method, path, body=None, token="admin-token"):
        """One request. Returns the status and the answer."""
        url = f"https://127.0.0.1:{self.port}{path}"
        data = None if body is None else json.dumps(body).encode()
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"authorization": f"Bearer {token}", "content-type": kind}
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith("{") else text

    def path(self, part, namespace):
        group, _, version = part["apiVersion"].rpartition("/")
        start = f"/apis/{group}/{version}" if group else f"/api/{version}"
        plural = PLURALS.get(part["kind"], part["kind"].lower() + "s")
        inside = "" if part["kind"] in OF_THE_CLUSTER else f"/namespaces/{namespace}"
        return f"{start}{inside}/{plural}"

    def create(self, part, namespace="default"):
        """Creates an object. An unknown field is refused."""
        part = {**part, "metadata": {key: of for key, of in part["metadata"].items() if key != "namespace"}}
        status, answer = self.call("POST", self.path(part, namespace) + "?fieldValidation=Strict", part)
        assert status == 201, f"{part['kind']} {part['metadata']['name']}: {answer}"
        return answer

    def namespace(self, name, labels=None):
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}})
        self.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, name)

    def token(self, namespace, account):
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        status, answer = self.call("POST", path, body)
        assert status == 201, answer
        return answer["status"]["token"]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    home = tmp_path_factory.mktemp("api")
    server = ApiServer(home)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home / "etcd", ignore_errors=True)


@pytest.mark.parametrize("case", [*CASES, "kustomize"], ids=lambda case: getattr(case, "stem", case))
def test_the_api_server_takes_every_object(api, case):
    namespace = f"take-{getattr(case, 'stem', case)}"
    api.namespace(namespace)
    for part in kustomized("site") if case == "kustomize" else rendered(case):
        if not Crds().has(part):
            api.create(part, namespace)


def test_upgrade_canary_rollback_and_off_are_taken_by_the_api_server(api):
    """Kubernetes refuses changes of many fields of a StatefulSet, so each step is tried on a real one."""
    namespace = "release"
    api.namespace(namespace)
    to = [
        f"--kube-apiserver=https://127.0.0.1:{api.port}",
        "--kube-token=admin-token",
        "--kube-insecure-skip-tls-verify",
    ]

    def helm(action, *args):
        ran = run(TOOLS / "helm", action, "lockstep", *args, "--namespace", namespace, *to)
        assert ran.returncode == 0, f"{action} {args}: {ran.stdout}{ran.stderr}"
        path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/gerrit-muc-1"
        spec = api.call("GET", path)[1]["spec"]
        return spec, containers(spec["template"]["spec"]), ran.stdout

    values = [CHART, "--values", LEAST, "--set", "replicas=3"]
    _, first, notes = helm("install", *values)
    assert first["lockstep"]["image"] == "lockstep:0.1.0" and "lockstep status --all" in notes
    spec, canary, notes = helm("upgrade", *values, "--set", "image.tag=0.2.0", "--set", "canary.partition=2")
    assert canary["lockstep"]["image"] == "lockstep:0.2.0"
    assert spec["updateStrategy"]["rollingUpdate"]["partition"] == 2 and "the canary is well" in notes
    spec, back, _ = helm("rollback", "1")
    assert back["lockstep"]["image"] == "lockstep:0.1.0"
    assert spec["updateStrategy"]["rollingUpdate"].get("partition", 0) == 0
    _, alone, _ = helm("upgrade", *values, "--set", "mode=off")
    assert "lockstep" not in alone
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/gerrit-muc-1"
    assert api.call("GET", roles)[0] == 404
    _, again, _ = helm("upgrade", *values, "--set", "mode=active")
    assert again["lockstep"] == first["lockstep"]


def gerrit_pod(name, labels, **more):
    container = {
        "name": "gerrit",
        "image": "gerrit:1",
        "volumeMounts": [{"name": "gerrit-site", "mountPath": "/var/gerrit"}],
    }
    spec = {"containers": [{"name": "other", "image": "other:1"}, container], "automountServiceAccountToken": False}
    spec["volumes"] = [{"name": "gerrit-site", "emptyDir": {}}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": {**spec, **more}}


OPERATORS = {"app.kubernetes.io/managed-by": "gerrit-operator"}
NUMBER = iter(range(1_000))


def injected(api, namespace):
    """A pod of the operator that has the sidecar. The API server needs a moment to know policy and webhook."""

    def has_sidecar():
        pod = api.create(gerrit_pod(f"try-{next(NUMBER)}", OPERATORS), namespace)
        return "lockstep" in containers(pod["spec"]) and pod

    return until(has_sidecar, f"new pods in {namespace} have the sidecar", list(api.home.glob("*.log")))


@pytest.fixture(scope="module")
def policy(api):
    """The admission policy, and a namespace that asks for it."""
    for part in kustomized("operator/beta"):
        api.create(part)
    api.namespace("injected", {"lockstep/inject": "true"})


def test_the_admission_policy_adds_the_sidecar_to_pods_of_the_operator_alone(api, policy, spec):
    api.namespace("left-alone")
    pod = injected(api, "injected")["spec"]
    assert [part["name"] for part in pod["initContainers"]] == ["lockstep-bridge", "lockstep"]
    sidecar = containers(pod)["lockstep"]
    wanted = {**spec["sidecar"], "restartPolicy": "Always"}
    assert leaves(wanted) <= leaves(sidecar), leaves(wanted) - leaves(sidecar)
    names = {volume["name"] for volume in pod["volumes"]}
    assert names == {"gerrit-site"} | {volume["name"] for volume in spec["volumes"]}
    assert {"name": "lockstep-run", "mountPath": "/run/lockstep"} in containers(pod)["gerrit"]["volumeMounts"]
    assert {"name": "gerrit-site", "mountPath": "/var/gerrit"} in containers(pod)["gerrit"]["volumeMounts"]
    assert "volumeMounts" not in containers(pod)["other"]
    assert pod["terminationGracePeriodSeconds"] == spec["pod"]["terminationGracePeriodSeconds"]
    # A pod with an init container of its own keeps it.
    own = [{"name": "init", "image": "init:1"}]
    mixed = api.create(gerrit_pod("mixed", OPERATORS, initContainers=own), "injected")["spec"]
    assert [part["name"] for part in mixed["initContainers"]] == ["init", "lockstep-bridge", "lockstep"]
    for name, namespace, labels in (("foreign", "injected", {}), ("elsewhere", "left-alone", OPERATORS)):
        assert "lockstep" not in containers(api.create(gerrit_pod(name, labels), namespace)["spec"]), name
    no_gerrit = gerrit_pod("no-gerrit", OPERATORS)
    no_gerrit["spec"]["containers"].pop()
    assert "lockstep" not in containers(api.create(no_gerrit, "injected")["spec"])


class webhook:
    """The real webhook on this machine, and the API server's configuration of it for one namespace."""

    def __init__(self, lockstep, home, api, namespace):
        self.lockstep, self.home, self.api, self.namespace = lockstep, home, api, namespace

    def __enter__(self):
        parts = kustomized("operator/webhook")
        injection = self.home / "injection.json"
        injection.write_text(next(part for part in parts if part["kind"] == "ConfigMap")["data"]["injection.json"])
        authority, tls = self.home / "authority", self.home / "tls"
        issue = ("certs", "issue", "--dir", authority, "--site", "inject", "--node", "inject-0", "--host", "127.0.0.1")
        for command in (("certs", "init", "--dir", authority), (*issue, "--out", tls)):
            ran = run(self.lockstep, *command)
            assert ran.returncode == 0, ran.stderr
        port = free_port()
        serve = ["inject", "serve", f"--listen=127.0.0.1:{port}", f"--injection={injection}", f"--tls={tls}"]
        self.log = self.home / "webhook.log"
        with open(self.log, "w") as out:
            self.process = subprocess.Popen([str(self.lockstep), *serve], stdout=out, stderr=out)
        until(lambda: "listens on" in self.log.read_text(), "the webhook listens", [self.log])
        configuration = next(part for part in parts if part["kind"] == "MutatingWebhookConfiguration")
        hook = configuration["webhooks"][0]
        path = hook["clientConfig"].pop("service")["path"]
        bundle = base64.b64encode((tls / "ca.crt").read_bytes()).decode()
        hook["clientConfig"] |= {"url": f"https://127.0.0.1:{port}{path}", "caBundle": bundle}
        # The policy acts in the namespaces with the label of both.
        hook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}
        self.api.namespace(self.namespace)
        self.made = configuration
        self.api.create(configuration)
        return self

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=20)

    def __exit__(self, *_):
        self.stop()
        self.api.call("DELETE", f"{self.api.path(self.made, '')}/{self.made['metadata']['name']}")


def test_the_webhook_makes_the_same_pods_as_the_admission_policy(api, policy, lockstep, tmp_path):
    with webhook(lockstep, tmp_path, api, "by-webhook") as hook:
        for namespace in ("injected", "by-webhook"):
            injected(api, namespace)
        own = [{"name": "init", "image": "init:1"}]
        at_the_socket = [{"name": "gerrit-site", "mountPath": "/run/lockstep"}]
        taken = gerrit_pod("taken", OPERATORS)
        taken["spec"]["containers"][1]["volumeMounts"] = at_the_socket
        bare = gerrit_pod("bare", OPERATORS)
        del bare["spec"]["volumes"], bare["spec"]["containers"][1]["volumeMounts"]
        no_gerrit = gerrit_pod("no-gerrit", OPERATORS)
        no_gerrit["spec"]["containers"].pop()
        with_sidecar = gerrit_pod("with-sidecar", OPERATORS, initContainers=[{"name": "lockstep", "image": "x:1"}])
        pods = [
            gerrit_pod("plain", OPERATORS),
            gerrit_pod("mixed", OPERATORS, initContainers=own, terminationGracePeriodSeconds=5),
            gerrit_pod("foreign", {}),
            taken,
            no_gerrit,
            with_sidecar,
        ]
        for pod in pods:
            name = pod["metadata"]["name"]
            one, other = (api.create(pod, namespace)["spec"] for namespace in ("injected", "by-webhook"))
            assert one == other, name
            assert ("lockstep-bridge" in containers(one)) == (name in ("plain", "mixed", "taken")), name
        # Both ask for the volume of Gerrit's site, which this pod lacks.
        for namespace in ("injected", "by-webhook"):
            status, answer = api.call("POST", api.path(bare, namespace), bare)
            assert status == 422 and "gerrit-site" in answer["message"], (namespace, answer)
        # Without the webhook, no pod of the operator is made, and every other pod is.
        hook.stop()
        late = gerrit_pod("late", OPERATORS)
        status, answer = api.call("POST", api.path(late, "by-webhook"), late)
        assert status == 500 and "sidecar.lockstep.io" in answer["message"], answer
        api.create(gerrit_pod("late-foreign", {}), "by-webhook")


def leaves(value, path=""):
    """Every value with its path. The members of a list are told apart by their name, where they have one."""
    if isinstance(value, dict):
        return {leaf for key, item in value.items() for leaf in leaves(item, f"{path}.{key}")}
    if isinstance(value, list):
        named = ((item.get("name", at) if isinstance(item, dict) else at, item) for at, item in enumerate(value))
        return {leaf for key, item in named for leaf in leaves(item, f"{path}.{key}")}
    return {(path, str(value))}


def test_a_real_sidecar_labels_its_pod_with_the_rights_of_the_chart(api, lockstep, tmp_path_factory):
    namespace, name = "labelled", "gerrit-muc-1-0"
    api.namespace(namespace)
    for part in rendered(LEAST):
        if part["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            # The chart binds the account of its own namespace.
            for subject in part.get("subjects", []):
                subject["namespace"] = namespace
            api.create(part, namespace)
    pods = {pod: api.create(gerrit_pod(pod, {}), namespace) for pod in (name, "stranger-0")}
    token = api.token(namespace, "gerrit-muc-1")
    # The rights end at the pods of the StatefulSet.
    patch = {"metadata": {"labels": {"lockstep/role": "active"}}}
    paths = f"/api/v1/namespaces/{namespace}"
    assert api.call("PATCH", f"{paths}/pods/stranger-0", patch, token)[0] == 403
    for method, path in (("GET", "/pods"), ("GET", "/secrets"), ("DELETE", f"/pods/{name}"), ("GET", "/configmaps/x")):
        assert api.call(method, paths + path, None, token)[0] == 403, (method, path)
    account = tmp_path_factory.mktemp("account")
    (account / "token").write_text(token)
    shutil.copy(api.home / "certs/apiserver.crt", account / "ca.crt")
    label = lambda: api.call("GET", f"{paths}/pods/{name}")[1]["metadata"].get("labels", {}).get("lockstep/role")
    assert label() is None
    with sidecar(lockstep, tmp_path_factory.mktemp("s"), api, account, f"{namespace}/{name}", pods[name]) as log:
        until(lambda: label() == "active", "the pod is labelled", [log])
        # Somebody removes it: it comes back within a minute.
        assert api.call("PATCH", f"{paths}/pods/{name}", {"metadata": {"labels": {"lockstep/role": None}}})[0] == 200
        until(lambda: label() == "active", "the label is back", [log])
    # A later pod of this name is another one.
    assert api.call("DELETE", f"{paths}/pods/{name}?gracePeriodSeconds=0")[0] == 200
    api.create(gerrit_pod(name, {}), namespace)
    with sidecar(lockstep, tmp_path_factory.mktemp("s"), api, account, f"{namespace}/{name}", pods[name]) as log:
        until(lambda: "a newer pod has this name" in log.read_text(), "the refusal is in the log", [log])
        assert label() is None


class sidecar:
    """A sidecar with emulators of its own, which labels a pod."""

    def __init__(self, lockstep, home, api, account, pod, made):
        self.lockstep, self.home = lockstep, home
        for folder in ("git", "aws"):
            (home / folder).mkdir()
        (home / "lockstep.toml").write_text(
            f'site = "a"\nnode = "a-0"\nsites = ["a"]\nroot = "{home}/git"\nstate = "{home}/git/.lockstep"\n'
            f'[api]\nsocket = "{home}/run/api.sock"\n[health]\nlisten = "127.0.0.1:{free_port()}"\n'
            f'[embedded]\ndir = "{home}/aws"\n[handover]\npod_label = "lockstep/role"\npod = "{pod}"\n'
            f'pod_uid = "{made["metadata"]["uid"]}"\nkubernetes_url = "https://127.0.0.1:{api.port}"\n'
            f'service_account = "{account}"\n'
        )

    def __enter__(self):
        log = self.home / "sidecar.log"
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        command = [str(self.lockstep), "run", "--config", str(self.home / "lockstep.toml")]
        with open(log, "w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        return log

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)


def test_the_programs_are_of_the_version_that_the_schemas_are():
    said = run(PROGRAMS[1], "--version").stdout
    assert said.startswith("Kubernetes v1.34."), said
