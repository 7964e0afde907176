"""Many sites on many cluster nodes, which exist as objects alone (kwok): where the chart's pods land, in which order
they start, and a drain. No container runs, so nothing here is about Lockstep itself."""

import json
import tempfile

import kube
import pytest
import sites
from test_6_chart import CHART

SPACE, SITES, REPLICAS = "many", 20, 3
ZONES, NODES_PER_ZONE = ["a", "b", "c"], 10
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}


def node(name, zone, architecture):
    labels = {
        "type": "kwok",
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": f"kwok-{zone}",
    }
    size = {"cpu": "32", "memory": "256Gi", "pods": "110"}
    metadata = {"labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    status = {"allocatable": size, "capacity": size}
    return sites.named("Node", name, metadata=metadata, spec={"taints": [TAINT]}, status=status)


def objects(site):
    """The objects of a site, as the chart renders them."""
    values = {
        "site": site,
        "sites": [site],
        "replicas": REPLICAS,
        "config": {"blobs": {"url": "s3://example/prod"}},
        "gerrit": {"image": "registry.example.org/gerrit:1"},
        "storage": {"size": "1Gi", "className": "fake"},
        "topologySpread": {"zones": "DoNotSchedule"},
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": TAINT["key"], "operator": "Exists"}],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values, file)
        file.flush()
        at = ("--namespace", SPACE, "--kube-version", "1.34.0")
        return kube.helm("template", site, CHART, *at, "--values", file.name)


def volume(number):
    body = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "fake",
        "hostPath": {"path": "/nonexistent"},
    }
    return sites.named("PersistentVolume", f"fake-{number}", spec=body)


def pods():
    """The pods of each site, by number."""
    found = {}
    for pod in kube.get(SPACE, "pods")["items"]:
        found.setdefault(pod["metadata"]["labels"]["lockstep/site"], {})[pod["metadata"]["name"]] = pod
    return {site: [of[name] for name in sorted(of)] for site, of in found.items()}


def all_ready():
    sets = kube.get(SPACE, "statefulsets")["items"]
    return len(sets) == SITES and all(one["status"].get("readyReplicas", 0) == REPLICAS for one in sets)


@pytest.fixture(scope="module")
def many_sites():
    names = [f"kwok-{zone}-{number}" for zone in ZONES for number in range(NODES_PER_ZONE)]
    kube.apply([sites.named("Namespace", SPACE), *(volume(number) for number in range(SITES * REPLICAS))])
    kube.apply([node(name, name.split("-")[1], "amd64") for name in names])
    # One of each zone is of an architecture without an image, and empty.
    kube.apply([node(f"kwok-{zone}-arm", zone, "arm64") for zone in ZONES])
    try:
        for number in range(SITES):
            text = objects(f"many-{number}")
            kube.kubectl("--namespace", SPACE, "apply", "--server-side", "--filename", "-", input=text)
        kube.until(f"{SITES} sites with {REPLICAS} nodes each are ready", 400, all_ready)
        yield names
    finally:
        kube.kubectl("delete", "namespace", SPACE, "--wait=false")
        kube.kubectl("delete", "node", "--selector", "type=kwok")


def test_the_nodes_of_a_site_are_on_several_machines_in_several_zones(many_sites):
    for site, of in pods().items():
        machines = [pod["spec"]["nodeName"] for pod in of]
        assert len(set(machines)) == REPLICAS, (site, machines)
        assert {machine.split("-")[1] for machine in machines} == set(ZONES), (site, machines)
        assert not any(machine.endswith("-arm") for machine in machines), (site, machines)


def test_the_pods_of_a_site_start_one_after_the_other(many_sites):
    for site, of in pods().items():
        ready = [condition(pod, "Ready")["lastTransitionTime"] for pod in of]
        created = [pod["metadata"]["creationTimestamp"] for pod in of]
        assert all(ready[number] <= created[number + 1] for number in range(REPLICAS - 1)), (site, ready, created)


def condition(pod, kind):
    return next(one for one in pod["status"]["conditions"] if one["type"] == kind)


def test_a_drain_takes_at_most_one_node_of_each_site(many_sites):
    machine = max(many_sites, key=lambda name: len(on(name)))
    before = on(machine)
    assert before, "no pod is on any machine"
    print(f"    {len(before)} pods are on {machine}")
    drain = ("drain", machine, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s")
    try:
        kube.kubectl(*drain, seconds=200)
        assert on(machine) == []
        kube.until("all sites have all nodes again", 120, all_ready)
        for budget in kube.get(SPACE, "poddisruptionbudgets")["items"]:
            assert budget["status"]["disruptionsAllowed"] == 1, budget["metadata"]["name"]
    finally:
        kube.kubectl("uncordon", machine)


def on(machine):
    return [pod for of in pods().values() for pod in of if pod["spec"].get("nodeName") == machine]


def test_the_budget_refuses_a_second_eviction_of_a_site(many_sites):
    """Both at once, at every site: exactly one of two is let go."""
    refused = 0
    for site, of in pods().items():
        answers = [evict(pod["metadata"]["name"]) for pod in of[:2]]
        assert answers[0].returncode == 0, answers[0].stderr
        refused += answers[1].returncode != 0 and "disruption budget" in answers[1].stderr
    # A pod that exists as an object alone may be replaced before the second call: that is rare.
    assert refused > SITES / 2, refused
    kube.until("all sites have all nodes again", 240, all_ready)


def evict(pod):
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": SPACE}}
    path = f"/api/v1/namespaces/{SPACE}/pods/{pod}/eviction"
    return kube.kubectl("create", "--raw", path, "--filename", "-", input=json.dumps(body), check=False)
