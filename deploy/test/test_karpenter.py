"""The scripts of deploy/karpenter with programs in the place of kubectl, aws and helm: the gate before a drain, and the
four steps back."""

import json
import os
import stat

import pytest
from conftest import DEPLOY, run

# In the place of kubectl: answers with the cluster in a file, changes it, and notes each call. An eviction gives the
# pod a new identity, as its StatefulSet would.
KUBECTL = """\
#!/usr/bin/env python3
import json, os, sys
words, path = sys.argv[1:], os.environ["FAKE"]
state = json.load(open(path))
state["calls"].append(" ".join(["kubectl", *words]))
answer, code = "", 0
if state["fails"] and state["fails"] in " ".join(words):
    answer, code = "the server is away", 1
elif "exec" in words:
    answer = json.dumps(state["overview" if "--all" in words else "status"])
elif words[:2] == ["create", "--raw"]:
    name = words[2].split("/")[-2]
    for pod in state["pods"]:
        if pod["metadata"]["name"] == name:
            pod["metadata"]["uid"] += "-again"
            pod["spec"]["nodeName"] = "elsewhere"
elif "get" in words and "json" in words:
    kind = next(one for one in ("pods", "statefulset", "poddisruptionbudgets") if one in words)
    if kind == "pods" and "--all-namespaces" in words:
        node = words[words.index("--field-selector") + 1].partition("=")[2]
        answer = json.dumps({"items": [one for one in state["pods"] if one["spec"]["nodeName"] == node]})
    else:
        answer = json.dumps({"items": state[kind]} if kind != "statefulset" else state[kind])
elif words[:2] == ["get", "crd"]:
    answer = "crd" if state["pools"] else ""
elif words[:2] == ["get", "nodepools"]:
    mine = words[2] != "--output"
    answer = "\\n".join(f"nodepool.karpenter.sh/{one}" for one in state["pools"] if not mine or one in words)
elif words[:2] == ["get", "nodes"]:
    answer = "\\n".join(f"node/{one}" for one in state["nodes"])
elif words[0] == "delete" and words[1].startswith("nodepool.karpenter.sh/"):
    state["pools"].remove(words[1].partition("/")[2])
json.dump(state, open(path, "w"))
print(answer, file=sys.stderr if code else sys.stdout)
sys.exit(code)
"""
OTHER = """\
#!/usr/bin/env python3
import json, os, sys
state = json.load(open(os.environ["FAKE"]))
state["calls"].append(" ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]))
json.dump(state, open(os.environ["FAKE"], "w"))
"""
LABELS = {"app.kubernetes.io/name": "lockstep"}


def pod(number, node="n-1"):
    owner = {"kind": "StatefulSet", "name": "muc-1"}
    metadata = {"name": f"muc-1-{number}", "namespace": "gerrit", "uid": str(number), "labels": LABELS}
    containers = {"initContainers": [{"name": "lockstep"}], "containers": [{"name": "gerrit"}]}
    spec = {**containers, "nodeName": node}
    return {"metadata": {**metadata, "ownerReferences": [owner]}, "spec": spec, "status": {"phase": "Running"}}


def node(name, **more):
    lag = {"behind": [], "is_old": False, "digest": {"streams": [{"site": "muc-1", "transactions": 0}]}}
    return {"node": name, "lives": True, "takes_writes": True, "expelled": False, **lag, **more}


def cluster():
    """A cluster in which every gate is open."""
    budget = {"spec": {"selector": {"matchLabels": LABELS}}, "status": {"disruptionsAllowed": 1}}
    sites = [{"nodes": [node("muc-1-0"), node("muc-1-1")]}, {"nodes": [node("ber-1-0")]}]
    return {
        "calls": [],
        "fails": "",
        "pods": [pod(0), pod(1, "n-2")],
        "statefulset": {"spec": {"replicas": 2}, "status": {"readyReplicas": 2}},
        "poddisruptionbudgets": [{"metadata": {"name": "lockstep"}, **budget}],
        "status": {"node": "muc-1-0", "site": "muc-1", "lanes": [{"settled": 7, "published": 7, "in_flight": 0}]},
        "overview": {"failover": None, "sites": sites},
        "pools": ["gerrit", "stateless"],
        "nodes": ["n-1"],
    }


@pytest.fixture
def fake(tmp_path):
    """Runs a script of deploy/karpenter in a cluster. Returns the process, and the calls that it made."""
    for name, text in (("kubectl", KUBECTL), ("aws", OTHER), ("helm", OTHER)):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def script(state, *words):
        path = tmp_path / "cluster.json"
        path.write_text(json.dumps(state))
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "FAKE": str(path)}
        ran = run(DEPLOY / "karpenter" / words[0], *words[1:], env=env)
        return ran, json.loads(path.read_text())["calls"]

    return script


def changes(calls):
    """The calls that change something, by their first words."""
    return [call for call in calls if " get " not in call and " exec " not in call]


def test_a_drain_evicts_behind_the_gate_and_then_drains_the_rest(fake):
    ran, calls = fake(cluster(), "drain", "n-1", "--wait", "0")
    assert ran.returncode == 0, ran.stderr
    cordon, evict, rest = changes(calls)
    assert cordon == "kubectl cordon n-1"
    assert "/namespaces/gerrit/pods/muc-1-0/eviction" in evict
    assert rest.startswith("kubectl drain n-1 --ignore-daemonsets")


def test_a_check_changes_nothing(fake):
    ran, calls = fake(cluster(), "drain", "n-1", "--check", "--wait", "0")
    assert ran.returncode == 0, ran.stderr
    assert "1 pods with a sidecar may go" in ran.stdout
    assert changes(calls) == []


FAULTS = {
    "a pod is not ready": (lambda of: of["statefulset"]["status"].update(readyReplicas=1), "1 of 2 pods"),
    "the budget is spent": (
        lambda of: of["poddisruptionbudgets"][0]["status"].update(disruptionsAllowed=0),
        "allows no disruption",
    ),
    "there is no budget": (lambda of: of.update(poddisruptionbudgets=[]), "no PodDisruptionBudget"),
    "the journal is not empty": (lambda of: of["status"]["lanes"][0].update(published=5), "2 slots of its journal"),
    "commits are under way": (lambda of: of["status"]["lanes"][0].update(in_flight=1), "1 slots of its journal"),
    "a peer lacks slots": (
        lambda of: of["overview"]["sites"][1]["nodes"][0].update(behind=[{"site": "muc-1", "slots": 3}]),
        "ber-1-0 lacks 3 transactions of muc-1",
    ),
    "a sibling lacks transactions": (
        lambda of: of["overview"]["sites"][0]["nodes"][1]["digest"]["streams"][0].update(transactions=2),
        "muc-1-1 lacks 2 transactions of muc-1",
    ),
    "a node does not read the stream": (
        lambda of: of["overview"]["sites"][1]["nodes"][0].update(digest={"streams": []}),
        "ber-1-0 does not read the stream of muc-1",
    ),
    "a digest is old": (
        lambda of: of["overview"]["sites"][1]["nodes"][0].update(is_old=True),
        "ber-1-0 has left no fresh digest",
    ),
    "nobody else lives": (
        lambda of: [one.update(lives=False) for site in of["overview"]["sites"] for one in site["nodes"]],
        "no other node lives",
    ),
    "nobody else takes writes": (
        lambda of: [
            one.update(takes_writes=one["node"] == "muc-1-0")
            for site in of["overview"]["sites"]
            for one in site["nodes"]
        ],
        "no other node takes writes",
    ),
    "a failover is in progress": (lambda of: of["overview"].update(failover={"step": "stop"}), "a failover"),
    "nobody starts the pod again": (
        lambda of: of["pods"][0]["metadata"].update(ownerReferences=[]),
        "belongs to no StatefulSet",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_closes_the_gate_and_nothing_is_evicted(fake, fault):
    state = cluster()
    harm, reason = FAULTS[fault]
    harm(state)
    ran, calls = fake(state, "drain", "n-1", "--wait", "0")
    assert ran.returncode == 2, ran.stderr
    assert "gerrit/muc-1-0: " in ran.stderr
    assert reason in ran.stderr
    assert not any("eviction" in call or call.startswith("kubectl drain") for call in calls)


def test_somebody_may_say_that_a_pod_goes_although_it_alone_takes_writes(fake):
    state = cluster()
    FAULTS["nobody else takes writes"][0](state)
    ran, _ = fake(state, "drain", "n-1", "--alone", "--wait", "0")
    assert ran.returncode == 0, ran.stderr


def test_a_cluster_that_does_not_answer_is_unknown(fake):
    ran, calls = fake(cluster() | {"fails": "exec"}, "drain", "n-1", "--wait", "0")
    assert ran.returncode == 1, ran.stderr
    assert "the server is away" in ran.stderr
    assert not any("eviction" in call for call in calls)


GROUP = ("--cluster", "c", "--group", "g", "--sizes", "2:6:3")


def test_the_way_back_has_four_steps_in_order(fake):
    ran, calls = fake(cluster(), "rollback", "all", *GROUP, "--wait", "0")
    assert ran.returncode == 0, ran.stderr
    did = [" ".join(call.split()[:4]) for call in changes(calls)]
    limits = "kubectl patch nodepool.karpenter.sh/{} --type"
    assert did[:2] == [limits.format("gerrit"), limits.format("stateless")]
    assert did[2:6] == [
        "aws eks update-nodegroup-config --cluster-name",
        "aws eks wait nodegroup-active",
        "kubectl --namespace kube-system scale",
        "kubectl --namespace kube-system rollout",
    ]
    removal, words = changes(calls)[6:-2], ("cordon", "eviction", "kubectl delete")
    of = {word: [at for at, call in enumerate(removal) if word in call] for word in words}
    assert of["cordon"][0] < of["eviction"][0] < of["kubectl delete"][0]
    assert removal[of["kubectl delete"][1]] == "kubectl delete nodepool.karpenter.sh/gerrit --wait --timeout=600s"
    assert not any("crd" in call for call in removal)
    assert "minSize=2,maxSize=6,desiredSize=3" in changes(calls)[-2]
    assert "--scaling-config maxSize=6" in changes(calls)[2]


def test_a_closed_gate_stops_the_way_back_and_no_pool_is_removed(fake):
    state = cluster()
    FAULTS["a peer lacks slots"][0](state)
    ran, calls = fake(state, "rollback", "all", *GROUP, "--wait", "0")
    assert ran.returncode == 2, ran.stderr
    assert not any("delete" in call or "minSize" in call for call in calls)


def test_a_step_back_may_be_repeated(fake):
    ran, calls = fake(cluster() | {"pools": []}, "rollback", "remove", "--uninstall")
    assert ran.returncode == 0, ran.stderr
    assert [call.split()[0] for call in changes(calls)] == ["helm", "kubectl"]


def test_karpenter_stays_when_others_have_pools(fake):
    ran, calls = fake(cluster() | {"pools": ["gerrit", "theirs"]}, "rollback", "remove", "--uninstall", "--wait", "0")
    assert ran.returncode == 2, ran.stderr
    assert "theirs" in ran.stderr
    assert not any("helm" in call or "delete crd" in call for call in calls)


@pytest.mark.parametrize("words", [("drain",), ("rollback", "sideways"), ("rollback", "group", "--sizes", "3")])
def test_wrong_usage_has_a_code_of_its_own(fake, words):
    ran, calls = fake(cluster(), *words)
    assert ran.returncode == 64, ran.stderr
    assert calls == []
