"""The webhook that adds the sidecar to pods of the k8s-gerrit operator, in the cluster as it is installed.

The operator itself is not here: a StatefulSet with its label stands for it. Its pod has a container `gerrit`, which is
git's server, and nothing of Lockstep but the folder of its blobs.
"""

import base64
import json
import os
import shutil
import tempfile

import client
import kube
import pytest
import sites
import yaml
from conftest import ready

SITE = "injected-1"
OPERATOR = {"app.kubernetes.io/managed-by": "gerrit-operator"}
NAMESPACE, NAME = "lockstep-system", "lockstep-inject"
OPERATOR_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "kustomize", "operator")


def rendered(folder, program):
    """The objects of the webhook with the image of the tests, and with a certificate that `lockstep certs` has made.
    The parts that a pod gets are those of the tree, with the image, the size and the credentials of the tests."""
    shutil.copytree(os.path.join(OPERATOR_FOLDER, "webhook"), folder)
    path = os.path.join(folder, "injection.json")
    with open(path) as file:
        parts = json.load(file)
    parts["initContainers"] = [sites.ours(container, sites.IMAGE) for container in parts["initContainers"]]
    for container in parts["initContainers"]:
        if container["name"] == "lockstep":
            container["envFrom"] = [{"secretRef": {"name": "aws"}}]
            container["volumeMounts"].append({"name": "blobs", "mountPath": "/blobs"})
    with open(path, "w") as file:
        json.dump(parts, file)
    objects = kube.kubectl("kustomize", folder)
    objects = list(yaml.safe_load_all(objects.replace("image: lockstep:0.1.0", f"image: {sites.IMAGE}")))
    authority, tls = os.path.join(folder, "authority"), os.path.join(folder, "tls")
    kube.command(program, "certs", "init", "--dir", authority)
    names = ("--site", "inject", "--node", "inject-0", "--host", f"{NAME}.{NAMESPACE}.svc")
    kube.command(program, "certs", "issue", "--dir", authority, *names, "--out", tls)
    data = {name: encoded(os.path.join(tls, name)) for name in ("tls.crt", "tls.key", "ca.crt")}
    for part in objects:
        if part["kind"] == "MutatingWebhookConfiguration":
            part["webhooks"][0]["clientConfig"]["caBundle"] = data["ca.crt"]
    return [*objects, sites.named("Secret", f"{NAME}-tls", NAMESPACE, data=data)]


def encoded(path):
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode()


def operators_site(program):
    """A site as an operator would make it: the objects of any other site, and a pod without the sidecar."""
    server = sites.git_server() | {"name": "gerrit"}
    ours = {mount["name"] for mount in sites.spec()["gerrit"]["volumeMounts"]}
    mounts = [mount for mount in server["volumeMounts"] if mount["name"] not in ours]
    server["volumeMounts"] = [mount | {"name": mount["name"].replace("lockstep-tmp", "tmp")} for mount in mounts]
    objects = sites.site(SITE, [SITE], 1, program, server=server, prefix="injected")
    for part in objects:
        if part["kind"] == "Namespace":
            part["metadata"]["labels"] = {"lockstep/inject": "true"}
        if part["kind"] == "StatefulSet":
            template = part["spec"]["template"]
            template["metadata"]["labels"] = template["metadata"]["labels"] | OPERATOR
            pod = template["spec"]
            del pod["initContainers"], pod["terminationGracePeriodSeconds"], pod["enableServiceLinks"]
            blobs = [volume for volume in pod["volumes"] if volume["name"] == "blobs"]
            pod["volumes"] = [*blobs, {"name": "tmp", "emptyDir": {}}]
    return objects


def remove():
    """The cluster must not depend on a webhook that an earlier run has left behind."""
    kube.kubectl("delete", "mutatingwebhookconfiguration", "lockstep-sidecar", "--ignore-not-found")
    names = (SITE, NAMESPACE)
    kube.kubectl("delete", "namespace", "--ignore-not-found", "--wait=true", "--timeout=180s", *names, seconds=200)


@pytest.fixture(scope="module")
def webhook(aws, program):
    remove()
    with tempfile.TemporaryDirectory() as folder:
        kube.apply(rendered(os.path.join(folder, "webhook"), program))
    kube.until("two pods of the webhook are ready", 120, lambda: replicas() == 2)
    yield
    remove()


def replicas():
    """The number of pods to which the Service leads."""
    return kube.get(NAMESPACE, "deployment", NAME)["status"].get("availableReplicas", 0)


def tried(pod_name, labels, container="gerrit"):
    """Has the API server admit a pod without storing it. Returns the names of its init containers, or its refusal."""
    pod = sites.named(
        "Pod",
        pod_name,
        SITE,
        metadata={"labels": labels},
        spec={
            "containers": [{"name": container, "image": sites.GIT_IMAGE}],
            # The volumes that the parts of the tests name, and that a StatefulSet brings.
            "volumes": [{"name": name, "emptyDir": {}} for name in ("gerrit-site", "blobs")],
        },
    )
    command = ("create", "--dry-run=server", "--output", "json", "--filename", "-")
    ran = kube.kubectl(*command, input=json.dumps(pod), check=False)
    if ran.returncode != 0:
        return ran.stderr
    return [one["name"] for one in json.loads(ran.stdout)["spec"].get("initContainers", [])]


def test_a_pod_of_the_operator_gets_the_sidecar_and_serves_users(webhook, program):
    kube.apply(operators_site(program))
    ready(SITE, 1)
    pod = kube.get(SITE, "pod", f"{SITE}-0")["spec"]
    assert [one["name"] for one in pod["initContainers"]] == ["lockstep-bridge", "lockstep"]
    assert pod["initContainers"][1]["restartPolicy"] == "Always"
    wanted = {volume["name"] for volume in sites.spec()["volumes"]}
    assert wanted <= {volume["name"] for volume in pod["volumes"]}
    assert pod["terminationGracePeriodSeconds"] == sites.spec()["pod"]["terminationGracePeriodSeconds"]
    gerrit = next(one for one in pod["containers"] if one["name"] == "gerrit")
    assert sites.spec()["gerrit"]["volumeMounts"][0] in gerrit["volumeMounts"]
    said = kube.logs(SITE, f"{SITE}-0", "lockstep-bridge")
    assert "lockstep-bridge-gerrit-3.13" in said, said
    kube.lockstep(SITE, 0, "project", "create", "demo")
    clone = client.Clone("demo")
    commit, url = clone.commit(), client.service(SITE)
    clone.push_patiently(url)
    kube.until("the push is there", 60, lambda: client.value(url, "demo", "refs/heads/main") == commit)


def test_other_pods_are_left_as_they_are(webhook):
    assert tried("of-the-operator", OPERATOR) == ["lockstep-bridge", "lockstep"]
    assert tried("without-gerrit", OPERATOR, container="git-gc") == []
    assert tried("of-nobody", {}) == []


def test_without_the_webhook_no_pod_of_the_operator_starts_and_every_other_does(webhook):
    scale = lambda count: kube.kubectl("--namespace", NAMESPACE, "scale", "deployment", NAME, f"--replicas={count}")
    scale(0)
    refused = lambda: "sidecar.lockstep.io" in tried("of-the-operator", OPERATOR)
    kube.until("pods of the operator are refused", 60, refused)
    assert tried("of-nobody", {}) == []
    scale(2)
    injected = lambda: tried("of-the-operator", OPERATOR) == ["lockstep-bridge", "lockstep"]
    kube.until("pods of the operator get the sidecar again", 120, injected)


def test_pods_of_the_operator_get_the_sidecar_while_the_webhook_is_rolled(webhook):
    kube.kubectl("--namespace", NAMESPACE, "rollout", "restart", "deployment", NAME)
    tries = 0

    def is_rolled():
        nonlocal tries
        tries += 1
        assert tried("of-the-operator", OPERATOR) == ["lockstep-bridge", "lockstep"], f"try {tries}"
        status = kube.get(NAMESPACE, "deployment", NAME)["status"]
        generation = kube.get(NAMESPACE, "deployment", NAME)["metadata"]["generation"]
        is_new = status["observedGeneration"] == generation and status.get("updatedReplicas") == 2
        return is_new and status["replicas"] == 2 and status.get("availableReplicas") == 2

    kube.until("the webhook is rolled", 180, is_rolled)
    print(f"    {tries} pods were tried meanwhile")
