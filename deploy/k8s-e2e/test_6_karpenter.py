"""Karpenter with our pools, on nodes that no machine stands behind: it gives Gerrit's pods nodes, and takes away only
what their annotation, their budget and the work hours allow. Then the way back from it."""

import os

import kube
import pools
import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
# Longer than three looks of Karpenter's at what it could disrupt, and its check of a consolidation after 15 s.
LOOKS = 60


@pytest.fixture(scope="module")
def karpenter():
    kube.command(os.path.join(HERE, "cluster"), "karpenter", seconds=180)
    pools.clear()
    kube.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": pools.NAMESPACE}}, *pools.pools()])
    yield
    pools.clear()


def complete(replicas=3, seconds=180):
    kube.until(f"{replicas} pods are ready", seconds, lambda: len(pools.pods()) == replicas)
    return pools.pods()


def release(names):
    """Takes the annotation from pods, as they live. Their successors have it again."""
    where = ("--namespace", pools.NAMESPACE)
    kube.kubectl(*where, "annotate", "pod", *names, "karpenter.sh/do-not-disrupt-")


def readiness(pod, is_ready):
    patch = f'{{"status": {{"conditions": [{{"type": "Ready", "status": "{is_ready}"}}]}}}}'
    where = ("--namespace", pools.NAMESPACE)
    kube.kubectl(*where, "patch", "pod", pod, "--subresource=status", "--type", "strategic", "--patch", patch)


def scale(replicas):
    kube.kubectl("--namespace", pools.NAMESPACE, "scale", "statefulset", "--all", f"--replicas={replicas}")


def test_gerrits_pods_get_nodes_of_their_own(karpenter):
    kube.apply(pools.site("gerrit", 3, "3"))
    pods = complete()
    nodes = pools.nodes("gerrit")
    assert sorted(node for _, node in pods.values()) == sorted(nodes)
    for node in nodes.values():
        labels = node["metadata"]["labels"]
        assert labels["karpenter.sh/capacity-type"] == "on-demand"
        assert labels["kubernetes.io/arch"] == "amd64"
        assert {"key": "lockstep/pool", "value": "gerrit", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert pools.nodes("stateless") == pools.nodes("ci") == {}


def test_a_node_of_gerrit_goes_only_when_it_is_empty(karpenter):
    before = pools.pods()
    last = max(before)
    scale(2)
    kube.until("the empty node is gone", 180, lambda: len(pools.nodes("gerrit")) == 2)
    assert pools.pods() == {name: at for name, at in before.items() if name != last}
    scale(3)
    complete()


def test_drift_respects_the_annotation_the_work_hours_and_the_budget(karpenter):
    before = complete()
    held, *free = sorted(before)
    drift = '{"spec": {"template": {"metadata": {"labels": {"lockstep/generation": "2"}}}}}'

    def generation(hours):
        kube.apply(pools.pools(hours))
        kube.kubectl("patch", "nodepool", "gerrit", "--type", "merge", "--patch", drift)

    generation("never")
    kube.until("all nodes have drifted", 120, lambda: pools.drifted("gerrit") == 3)
    pools.stays(LOOKS, "pods with the annotation", pools.pods)

    generation("now")
    release(free)
    pools.stays(LOOKS, "pods without it, in work hours", pools.pods)

    # One pod is not ready, so the budget allows no other one to go. Its own node has the annotation.
    readiness(held, False)
    kube.until("the budget is spent", 30, lambda: len(pools.pods()) == 2)
    generation("never")
    pools.stays(LOOKS, "pods without it, when the budget is spent", pools.pods)

    readiness(held, True)
    with pools.Fewest() as fewest:
        moved = lambda: len(pools.pods()) == 3 and all(pools.pods()[name][0] != before[name][0] for name in free)
        kube.until("the two nodes are replaced", 300, moved)
    assert fewest.count >= 2, "two pods were away at once"
    assert pools.pods()[held] == before[held]
    assert pools.drifted("gerrit") == 1


def test_consolidation_respects_the_annotation_and_the_budget(karpenter):
    """In the pool that may be consolidated, so that the annotation alone holds the nodes."""
    kube.kubectl("--namespace", pools.NAMESPACE, "delete", "statefulset", "--all", "--wait=true")
    kube.until("no pod is left", 60, lambda: pools.pods() == {})
    kube.apply([pools.filler("stateless", 3, "3")])
    kube.until("three nodes are there", 180, lambda: len(pools.nodes("stateless")) == 3)
    # Beside a filler, a node has place for one pod.
    kube.apply(pools.site("stateless", 3, "500m"))
    assert len({node for _, node in complete().values()}) == 3
    kube.kubectl("--namespace", pools.NAMESPACE, "delete", "deployment", "filler", "--wait=true")
    pools.stays(LOOKS, "pods with the annotation", pools.pods)

    release(sorted(pools.pods()))
    with pools.Fewest() as fewest:
        kube.until("one node is enough", 300, lambda: len(pools.nodes("stateless")) == 1 and len(pools.pods()) == 3)
    assert fewest.count >= 2, "two pods were away at once"


def test_the_way_back_moves_the_pods_to_the_node_group(karpenter):
    kube.apply([pools.group_node("stateless")])
    status = lambda: kube.get("default", "node", pools.GROUP_NODE)["status"]
    kube.until("the node group has a node", 60, lambda: status().get("conditions"))
    script = os.path.join(HERE, "..", "karpenter", "rollback")
    env = {
        "KUBECONFIG": os.path.join(kube.RUN, "kubeconfig"),
        "PATH": f"{os.path.join(kube.HOME, 'bin')}:{os.environ['PATH']}",
    }
    with pools.Fewest() as fewest:
        for step in ("disable", "remove"):
            said = kube.command(script, step, "--wait", "120", env=env, seconds=900)
            print("   ", said.strip().replace("\n", "\n    "))
        complete()
    assert fewest.count >= 2, "two pods were away at once"
    assert {node for _, node in pools.pods().values()} == {pools.GROUP_NODE}
    assert kube.get("default", "nodeclaims")["items"] == kube.get("default", "nodepools")["items"] == []
