"""A site with more than one node, under the load of a user who repeats a refused push for 30 s at most: it grows,
is restarted in order, loses a node of the cluster, and shrinks."""

import json
import time

import client
import kube
from conftest import ready

SITE = "muc-1"


def scale(replicas):
    kube.kubectl("--namespace", SITE, "scale", "statefulset", SITE, f"--replicas={replicas}")


def load(branch):
    return client.Load(client.service(SITE), "demo", branch)


def holds(number, user):
    """Whether a pod serves what the user pushed last."""
    ref = f"refs/heads/{user.clone.branch}"
    return lambda: client.value(client.pod(SITE, number), "demo", ref) == user.last


def test_a_site_grows_from_one_node_to_three(two_sites):
    """A new node takes everything from the refdb and from peers, and is ready only when it has caught up."""
    before = client.value(client.pod(SITE, 0), "demo", "refs/heads/from-muc-1")
    with load("while-growing") as user:
        scale(3)
        for number in (1, 2):

            def is_there():
                return kube.is_ready(SITE, f"{SITE}-{number}")

            kube.until(f"{SITE}-{number} is ready", 180, is_there)
            # It is ready, so it has what was pushed before it was there.
            assert client.value(client.pod(SITE, number), "demo", "refs/heads/from-muc-1") == before
        ready(SITE, 3)
    for number in range(3):
        kube.until(f"{SITE}-{number} shows the last push", 30, holds(number, user))


def test_a_rolling_update_fails_no_push(two_sites):
    """From the last pod to the first one, one after the other."""
    started = {}

    def order():
        for number in range(3):
            pod = kube.get(SITE, "pod", f"{SITE}-{number}")
            started[number] = (pod["metadata"]["uid"], pod["metadata"]["creationTimestamp"])
        return dict(started)

    before = order()
    with load("while-rolling") as user:
        began = time.monotonic()
        kube.kubectl("--namespace", SITE, "rollout", "restart", f"statefulset/{SITE}")
        kube.kubectl("--namespace", SITE, "rollout", "status", f"statefulset/{SITE}", "--timeout=300s", seconds=320)
        ready(SITE, 3)
        print(f"    three nodes were restarted in {time.monotonic() - began:.1f} s")
    after = order()
    assert all(before[number][0] != after[number][0] for number in range(3))
    assert after[2][1] < after[1][1] < after[0][1], after
    for site in two_sites:
        url, ref = client.service(site), f"refs/heads/{user.clone.branch}"
        kube.until(f"{site} shows the last push", 30, lambda: client.value(url, "demo", ref) == user.last)


def test_a_drained_cluster_node_gives_its_pods_up_one_at_a_time(two_sites):
    """The disruption budget lets one pod go; the next one goes when the first is ready elsewhere."""
    on = lambda node: [
        pod["metadata"]["name"]
        for pod in kube.get(SITE, "pods")["items"]
        if pod["spec"].get("nodeName") == node
    ]
    assert on("node-2"), "the replicas of a site are spread over the cluster's nodes"
    print("    on node-2:", on("node-2"))
    with load("while-draining"):
        began = time.monotonic()
        drain = ("drain", "node-2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s")
        try:
            kube.kubectl(*drain, seconds=320)
            print(f"    node-2 was drained in {time.monotonic() - began:.1f} s")
            ready(SITE, 3)
            assert on("node-2") == []
        finally:
            kube.kubectl("uncordon", "node-2")


def test_the_budget_refuses_to_evict_a_second_pod(two_sites):
    def evict(pod):
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": SITE}}
        path = f"/api/v1/namespaces/{SITE}/pods/{pod}/eviction"
        return kube.kubectl("create", "--raw", path, "--filename", "-", input=json.dumps(body), check=False)

    # The pod alone goes before the controller has replaced it, so the budget is used up.
    first, second = evict(f"{SITE}-2"), evict(f"{SITE}-1")
    print("    the second eviction:", second.stderr.strip())
    assert first.returncode == 0, first.stderr
    assert second.returncode != 0 and "disruption budget" in second.stderr, second
    ready(SITE, 3)


def test_a_site_shrinks_to_one_node_and_waits_for_nobody(two_sites):
    """The nodes that leave publish everything and end their incarnations; nobody adopts them."""
    with load("while-shrinking") as user:
        scale(1)
        ready(SITE, 1)
    kube.until(f"{SITE}-0 shows the last push", 30, holds(0, user))
    url = client.service("ber-1")
    ref = f"refs/heads/{user.clone.branch}"
    kube.until("ber-1 shows the last push", 30, lambda: client.value(url, "demo", ref) == user.last)
    for number in (1, 2):
        gone = ("node", "remove", f"{SITE}-{number}", "--reason", "one node is enough")

        def removed():
            return kube.lockstep(SITE, 0, *gone)

        # It is refused while the heartbeat has not stood still for lease.expires_after.
        kube.until(f"{SITE}-{number} is removed", 120, removed)
    overview = json.loads(kube.lockstep(SITE, 0, "status", "--all", "--json"))
    nodes = [node for site in overview["sites"] for node in site["nodes"]]
    assert sorted(node["node"] for node in nodes if node["expelled"]) == [f"{SITE}-1", f"{SITE}-2"]
    # The journal keeps a transaction until every node has applied it. The nodes that left never applied this one.
    kube.until("the journal of the last push is collected", 300, lambda: "collected" in slots(ref))


def slots(ref):
    """The content of the journal's slots of a ref: the transaction, or that it was collected."""
    explained = json.loads(kube.lockstep(SITE, 0, "explain", "demo", ref, "--json", check=False).stdout)
    found, waiting = [], [explained]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found += [part["content"]] if "slot" in part and "content" in part else []
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def test_the_refs_of_every_site_are_those_of_the_refdb(two_sites):
    for site in two_sites:
        said = kube.lockstep(site, 0, "verify", check=False, seconds=180)
        print("   ", said.stdout.strip().splitlines()[-1])
        assert said.returncode == 0, said.stdout + said.stderr
