"""Karpenter's pools: their form, and which pods can land on which nodes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from conftest import TOP, Runner
from crds import KARPENTER, problems
from estates import eks, estate, openstack
from test_aws import whole

from lockstep_pulumi import program
from lockstep_pulumi.invalid import InvalidError
from lockstep_pulumi.karpenter import NOTICES, KarpenterPools, PoolsArgs
from lockstep_pulumi.names import Names
from lockstep_pulumi.objects.args import PlacementArgs
from lockstep_pulumi.objects.karpenter import (
    KarpenterArgs,
    example,
    node_class,
    placement,
    pools,
)
from lockstep_pulumi.objects.pod import pod

NAMES = Names("prod", "prod", "123456789012", "eu-central-1")
ARGS = KarpenterArgs("c", "node", "al2023@v20261101")
POOLS: dict[str, Any] = {one["metadata"]["name"]: one["spec"] for one in pools(ARGS)}


def requirement(pool: str, key: str) -> list[str]:
    rules = POOLS[pool]["template"]["spec"]["requirements"]
    return [value for rule in rules if rule["key"] == key for value in rule["values"]]


def test_every_object_has_the_form_of_its_crd():
    for part in (node_class(ARGS, NAMES.tagged("eu-aws")), *pools(ARGS)):
        assert problems(part) == [], part["metadata"]["name"]


def test_the_file_for_clusters_without_pulumi_has_the_same_objects():
    path = TOP / "deploy/karpenter/pools.yaml"
    assert path.read_text() == example(), "run deploy/pulumi/run pools > deploy/karpenter/pools.yaml"


def test_the_cluster_of_the_tests_has_the_same_karpenter():
    assert f"karpenter={KARPENTER}\n" in (TOP / "deploy/k8s-e2e/binaries").read_text()


def test_a_field_that_karpenter_does_not_know_is_found():
    part: dict[str, Any] = json.loads(json.dumps(node_class(ARGS, {})))
    part["spec"]["kubelet"] = {"registryPullQPS": 50}
    assert any("registryPullQPS" in problem for problem in problems(part))


def test_nodes_pull_images_faster_by_their_own_configuration():
    config = json.loads(node_class(ARGS, {})["spec"]["userData"])
    assert config["spec"]["kubelet"]["config"]["registryPullQPS"] == 50


def test_gerrit_lands_on_its_own_nodes_alone():
    of = estate(eks("eu-aws"))
    inside = pod(program.sidecar(of, of.sites[0]))
    labels = {name: spec["template"]["metadata"]["labels"]["lockstep/pool"] for name, spec in POOLS.items()}
    fits = [name for name, label in labels.items() if inside["nodeSelector"]["lockstep/pool"] == label]
    assert fits == ["gerrit"]
    (taint,) = POOLS["gerrit"]["template"]["spec"]["taints"]
    (toleration,) = placement()[0]
    assert inside["tolerations"] == [toleration]
    assert {key: toleration[key] for key in taint} == taint


def test_no_pool_and_no_pod_has_an_architecture_without_an_image(run: Runner):
    built = sorted(path.name.split(".")[1] for path in (TOP / "deploy/image").glob("packages.*.lock"))
    assert built == ["amd64"]
    assert all(requirement(name, "kubernetes.io/arch") == built for name in POOLS)
    of = estate(eks("eu-aws"), openstack("muc-1"))
    found = run(lambda: whole(of))
    selectors = [one.props["spec"]["template"]["spec"]["nodeSelector"] for one in found.all("StatefulSet")]
    assert [one["kubernetes.io/arch"] for one in selectors] == built * 2
    # A label of the user does not undo it.
    place = PlacementArgs(node_selector={"kubernetes.io/arch": "arm64"})
    args = dataclasses.replace(program.sidecar(of, of.sites[0]), placement=place)
    assert pod(args)["nodeSelector"]["kubernetes.io/arch"] == "amd64"


def test_only_builds_run_on_spot_nodes():
    spot = [name for name in POOLS if "spot" in requirement(name, "karpenter.sh/capacity-type")]
    assert spot == ["ci"]


def test_nodes_with_volumes_go_only_when_somebody_wants_it():
    nodes, disruption = POOLS["gerrit"]["template"]["spec"], POOLS["gerrit"]["disruption"]
    assert nodes["expireAfter"] == "Never"
    assert disruption["consolidationPolicy"] == "WhenEmpty"
    # With it, drift would end a node in spite of the pods' annotation and budget.
    assert "terminationGracePeriod" not in nodes


def test_work_hours_have_no_disruption_by_drift_or_consolidation():
    for name in ("gerrit", "stateless"):
        share, quiet = POOLS[name]["disruption"]["budgets"]
        assert share == {"nodes": "10%"}
        assert quiet["nodes"] == "0"
        assert quiet["reasons"] == ["Drifted", "Underutilized"]
        assert (quiet["schedule"], quiet["duration"]) == ("0 6 * * mon-fri", "12h")


@pytest.mark.parametrize("ami", ["al2023", "al2023@latest", ""])
def test_a_machine_image_without_a_version_is_refused(ami: str):
    with pytest.raises(InvalidError, match="name a version"):
        KarpenterArgs("c", "node", ami)


def test_notices_of_the_end_of_nodes_reach_the_queue(run: Runner):
    found = run(lambda: KarpenterPools("k", NAMES, PoolsArgs("eu-aws", "c", "eu-west-1", "al2023@v20261101")))
    patterns = [json.loads(one.props["eventPattern"]) for one in found.all("EventRule")]
    assert sorted((one["source"][0], one["detail-type"][0]) for one in patterns) == sorted(NOTICES.values())
    queue = found.one("Queue").props
    assert {one.props["arn"] for one in found.all("EventTarget")} == {"arn:aws:aws:sqs/queue:Queue:prod-eu-aws-notices"}
    assert queue["sqsManagedSseEnabled"] is True
    allowed, refused = json.loads(found.one("QueuePolicy").props["policy"])["Statement"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert refused["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_nodes_may_join_the_cluster(run: Runner):
    found = run(lambda: KarpenterPools("k", NAMES, PoolsArgs("eu-aws", "c", "eu-west-1", "al2023@v20261101")))
    entry = found.one("AccessEntry").props
    assert (entry["clusterName"], entry["type"]) == ("c", "EC2_LINUX")
    assert found.one("EC2NodeClass").props["spec"]["role"] == found.one("Role").props["name"]


def test_pools_are_created_for_the_sites_that_want_them(run: Runner):
    entry = eks("eu-aws")
    entry.pop("karpenter_ami")
    of = estate(entry)
    shared = program.Shared({"eu-central-1": "arn:key"}, "")
    import pulumi_kubernetes as kubernetes

    found = run(lambda: program.site(of, of.sites[0], shared, kubernetes.Provider("c", kubeconfig="{}")))
    assert not found.all("NodePool")
    inside = found.one("StatefulSet").props["spec"]["template"]["spec"]
    assert "tolerations" not in inside
    assert "lockstep/pool" not in inside["nodeSelector"]
