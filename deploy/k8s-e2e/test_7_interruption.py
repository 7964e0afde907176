"""The notice that a node of the cluster ends in two minutes, as of a spot instance: its pod is evicted with that grace,
hands over, and users go on with the other replica and the other site."""

import json
import time

import client
import kube
import pytest
from conftest import ready

SITE, OTHER = "muc-1", "ber-1"
# EC2 gives this time between the notice and the end of a spot instance.
NOTICE_SECONDS = 120
# The node without the emulators.
ENDS = "node-2"


@pytest.fixture(scope="module")
def replica(two_sites):
    """A site with two nodes; the number of the one whose cluster node ends."""
    kube.kubectl("--namespace", SITE, "scale", "statefulset", SITE, "--replicas=2")
    ready(SITE, 2)
    place = {number: kube.get(SITE, "pod", f"{SITE}-{number}")["spec"]["nodeName"] for number in range(2)}
    assert ENDS in place.values(), f"the replicas of {SITE} are spread over the cluster's nodes: {place}"
    yield next(number for number, node in place.items() if node == ENDS)
    kube.kubectl("uncordon", ENDS)


def notice(pod):
    """Drains as on a notice: no new pod on the node, and an eviction with the time that is left as its grace. The
    machine would be gone at its end, so nothing may last longer."""
    kube.kubectl("cordon", ENDS)
    metadata = {"name": pod, "namespace": SITE}
    grace = {"gracePeriodSeconds": NOTICE_SECONDS}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": grace}
    path = f"/api/v1/namespaces/{SITE}/pods/{pod}/eviction"
    kube.kubectl("create", "--raw", path, "--filename", "-", input=json.dumps(body))


def identity(pod):
    """The identity of a pod; None while there is none of the name."""
    found = kube.get(SITE, "pods")["items"]
    return next((one["metadata"]["uid"] for one in found if one["metadata"]["name"] == pod), None)


def writers(stays):
    """Where users may write: the replica that stays, and the other site unless an earlier test made it a standby."""
    found = json.loads(kube.lockstep(OTHER, 0, "sites", "--json"))["sites"]
    role = next(one["role"] for one in found if one["site"] == OTHER)
    return [client.pod(SITE, stays), *([client.service(OTHER)] if role == "active" else [])]


def unpublished():
    """The committed slots of the site that are in no stream yet, as the other site sees them."""
    overview = json.loads(kube.lockstep(OTHER, 0, "status", "--all", "--json", check=False).stdout)
    return next(of["status"]["unpublished"] for of in overview["sites"] if of["status"]["site"] == SITE)


def test_an_interrupted_node_hands_over_within_two_minutes(replica):
    pod, stays = f"{SITE}-{replica}", 1 - replica
    clone = client.Clone("demo", "interrupted")
    ref = f"refs/heads/{clone.branch}"
    with client.Load(client.service(SITE), "demo", "while-interrupted") as user:
        # The last thing that the node took, through its own address.
        last = clone.commit("just before the notice")
        clone.push_patiently(client.pod(SITE, replica))
        before, began = identity(pod), time.monotonic()
        notice(pod)
        kube.until("the pod has ended", NOTICE_SECONDS, lambda: identity(pod) != before)
        for url in (client.pod(SITE, stays), client.service(OTHER)):
            shows = lambda: client.value(url, "demo", ref) == last
            kube.until(f"{url} shows its last push", NOTICE_SECONDS, shows)
        for url in writers(stays):
            clone.commit(f"after the notice, at {url}")
            clone.push_patiently(url)
        took = time.monotonic() - began
        print(f"    {took:.1f} s from the notice until both have everything, and each that takes writes took a push")
        assert took < NOTICE_SECONDS
    # The user's script had no failed push: Load would have raised.
    kube.until("nothing of the site waits to be published", 30, lambda: unpublished() == 0)
    ready(SITE, 2)
    assert kube.get(SITE, "pod", pod)["spec"]["nodeName"] != ENDS
    for url in (client.pod(SITE, replica), client.service(OTHER)):
        branch = f"refs/heads/{user.clone.branch}"
        kube.until(f"{url} shows the user's last push", 30, lambda: client.value(url, "demo", branch) == user.last)
