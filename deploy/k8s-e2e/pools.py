"""Karpenter's pools and a site's pods, as the tests of Karpenter use them.

The pools are those of deploy/karpenter. Three things are translated: the machines are KWOK's, a node is looked at after
5 s, and the work hours are now or never. Pods and budget are those that the chart renders, without what needs an image
or a volume.
"""

import os
import threading
import time

import kube
import yaml

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
NAMESPACE = "karpenter-e2e"
# Always, or on the 29th of February at midnight.
WORK_HOURS = {"now": ("* * * * *", "12h"), "never": ("0 0 29 2 *", "1m")}
CLASS = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "lockstep"}
GROUP_NODE = "group-1"


def documents(*path):
    with open(os.path.join(DEPLOY, *path)) as file:
        return [part for part in yaml.safe_load_all(file) if part]


def pools(work_hours="never"):
    """The node class and the pools."""
    found = [{"apiVersion": "karpenter.kwok.sh/v1alpha1", "kind": "KWOKNodeClass", "metadata": {"name": "lockstep"}}]
    for pool in documents("karpenter", "pools.yaml"):
        if pool["kind"] != "NodePool":
            continue
        pool["spec"]["template"]["spec"]["nodeClassRef"] = CLASS
        pool["spec"]["disruption"]["consolidateAfter"] = "5s"
        for budget in pool["spec"]["disruption"]["budgets"]:
            if "schedule" in budget:
                budget["schedule"], budget["duration"] = WORK_HOURS[work_hours]
        found.append(pool)
    return found


def placed(pool, container, cpu):
    """A pod for a pool. No image is run: KWOK says that it is."""
    toleration = {"key": "lockstep/pool", "operator": "Equal", "value": pool, "effect": "NoSchedule"}
    requests = {"requests": {"cpu": cpu, "memory": "1Gi"}}
    one = {"name": container, "image": "none", "resources": requests}
    return {"nodeSelector": {"lockstep/pool": pool}, "tolerations": [toleration], "containers": [one]}


def site(pool, replicas, cpu):
    """A site's StatefulSet and its budget, with the labels and annotations that the chart gives them."""
    found = {part["kind"]: part for part in documents("test", "golden", "least.yaml")}
    whole, budget = found["StatefulSet"], found["PodDisruptionBudget"]
    rendered, grace = whole["spec"]["template"], "terminationGracePeriodSeconds"
    template = {
        "metadata": rendered["metadata"],
        "spec": placed(pool, "gerrit", cpu) | {grace: rendered["spec"][grace]},
    }
    spec = {
        "replicas": replicas,
        "serviceName": whole["spec"]["serviceName"],
        "selector": whole["spec"]["selector"],
        "podManagementPolicy": "Parallel",
        "template": template,
    }
    for part in (whole, budget):
        part["metadata"]["namespace"] = NAMESPACE
    return [budget, whole | {"spec": spec}]


def filler(pool, replicas, cpu):
    """Pods that fill nodes, and go."""
    labels = {"app": "filler"}
    template = {"metadata": {"labels": labels}, "spec": placed(pool, "filler", cpu)}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "filler", "namespace": NAMESPACE}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def group_node(pool):
    """A node of a managed node group, which Karpenter does not know."""
    metadata = {
        "name": GROUP_NODE,
        "annotations": {"kwok.x-k8s.io/node": "fake"},
        "labels": {"lockstep/pool": pool, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}


def nodes(pool):
    found = kube.get("default", "nodes", "--selector", f"karpenter.sh/nodepool={pool}")["items"]
    return {one["metadata"]["name"]: one for one in found}


def drifted(pool):
    """How many nodes of a pool are marked as drifted."""
    found = kube.get("default", "nodeclaims", "--selector", f"karpenter.sh/nodepool={pool}")["items"]
    marks = [mark for one in found for mark in one["status"].get("conditions", []) if mark["type"] == "Drifted"]
    return sum(mark["status"] == "True" for mark in marks)


def pods():
    """The site's ready pods: the identity and the node of each."""
    selector = "app.kubernetes.io/name=lockstep"
    ready = {}
    for pod in kube.get(NAMESPACE, "pods", "--selector", selector)["items"]:
        conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
        if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
            ready[pod["metadata"]["name"]] = (pod["metadata"]["uid"], pod["spec"]["nodeName"])
    return ready


def stays(seconds, what, look):
    """Fails if what is seen changes within so many seconds."""
    before, ends = look(), time.monotonic() + seconds
    while time.monotonic() < ends:
        now = look()
        if now != before:
            raise kube.Failed(f"{what} changed from {before} to {now}")
        time.sleep(1)
    print(f"    {what}: the same for {seconds} s", flush=True)


class Fewest:
    """The fewest ready pods of the site that were seen while the block ran."""

    def __init__(self):
        self.ends, self.count, self.error = threading.Event(), None, None

    def run(self):
        while not self.ends.is_set():
            try:
                seen = len(pods())
            except kube.Failed as failed:
                self.error = failed
                return
            self.count = seen if self.count is None else min(self.count, seen)

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.ends.set()
        self.thread.join()
        if self.error and kind is None:
            raise self.error


def clear():
    """Removes everything of an earlier run, and the nodes that Karpenter made."""
    gone = ("--ignore-not-found", "--wait=true", "--timeout=120s")
    kube.kubectl("delete", "namespace", NAMESPACE, *gone, seconds=150)
    kube.kubectl("delete", "nodepools", "--all", "--wait=true", "--timeout=120s", seconds=150)
    kube.kubectl("delete", "nodeclaims", "--all", "--wait=true", "--timeout=120s", seconds=150)
    kube.kubectl("delete", "node", GROUP_NODE, *gone, seconds=150)
