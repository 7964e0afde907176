"""The fixtures of the tests: a cluster that runs, images that its nodes have, and two sites."""

import json
import os

import pytest

import client
import kube
import sites


@pytest.fixture(scope="session")
def program():
    """The program `lockstep` on this machine, for certificates."""
    return os.environ["LOCKSTEP_PROGRAM"]


@pytest.fixture(scope="session")
def aws(program):
    sites.clear()
    kube.apply(sites.emulators())
    kube.until("the emulators answer", 60, lambda: kube.available("front") and kube.available("emulators"))


def ready(site, replicas, seconds=240):
    """Waits until a site has so many ready nodes, and no other."""

    def is_so():
        status = kube.get(site, "statefulset", site)["status"]
        if status.get("readyReplicas", 0) == replicas == status.get("replicas"):
            return True
        pods = kube.get(site, "pods")["items"]
        return [] if not pods else shown(pods)

    def condition():
        answer = is_so()
        if answer is True:
            return True
        raise kube.Failed(f"the pods are {answer}")

    kube.until(f"{site} has {replicas} ready nodes", seconds, condition)


def shown(pods):
    """Each pod with the state of its containers, short enough for a message."""
    lines = []
    for pod in pods:
        status = pod["status"]
        both = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
        states = {one["name"]: (next(iter(one["state"])), one["ready"], one["restartCount"]) for one in both}
        lines.append(f"{pod['metadata']['name']} {status['phase']} {json.dumps(states)}")
    return lines


@pytest.fixture(scope="session")
def two_sites(aws, program):
    """muc-1 and ber-1, with one node each, and the project `demo`."""
    both = sites.SITES[:2]
    for site in both:
        kube.apply(sites.site(site, both, 1, program))
    for site in both:
        ready(site, 1)
    kube.lockstep("muc-1", 0, "project", "create", "demo")
    for site in both:
        url = client.service(site)
        kube.until(f"{site} has the project", 60, lambda: client.value(url, "demo", "HEAD") is None)
    return both
