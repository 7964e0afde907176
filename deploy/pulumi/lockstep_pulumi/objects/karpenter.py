"""Pools of nodes for Karpenter, as plain values.

A site has three classes of pods. Gerrit with its volume must not move by itself: its pool has no spot nodes, no
expiration, no end of a node's patience, and consolidates only empty nodes. Pods without state may move in small steps.
Builds of a CI may lose their node at any time.

`deploy/karpenter/pools.yaml` has the same objects for clusters without Pulumi: `deploy/pulumi/run pools` prints them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lockstep_pulumi.invalid import refuse, unless
from lockstep_pulumi.objects.args import Value
from lockstep_pulumi.objects.pod import spec

GROUP = "karpenter.sh"
# The taint and the label of the nodes for Gerrit.
GERRIT = {"key": "lockstep/pool", "value": "gerrit", "effect": "NoSchedule"}


@dataclass(frozen=True)
class KarpenterArgs:
    """The pools of a cluster."""

    cluster: str
    # The role of the nodes.
    node_role: str
    # A version of AL2023, such as "al2023@v20261101". It is the same one until somebody changes it.
    ami: str
    # Work hours in UTC, in which no node is replaced because of drift or consolidation: a cron line, and their length.
    quiet_from: str = "0 6 * * mon-fri"
    quiet_for: str = "12h"
    gerrit_categories: Sequence[str] = ("m", "r")
    ci_categories: Sequence[str] = ("c", "m")
    # The most CPUs of each pool.
    most_cpus: Mapping[str, int] | None = None
    # Pools that are created. `gerrit` is always one of them.
    pools: Sequence[str] = ("gerrit", "stateless", "ci")

    def __post_init__(self) -> None:
        """Refuses what would replace nodes by surprise."""
        version = self.ami.partition("@")[2]
        refuse(
            unless(
                version not in ("", "latest"),
                f"ami: {self.ami!r}; name a version, such as al2023@v20261101: @latest replaces all nodes by itself",
            ),
            unless("gerrit" in self.pools, "pools: gerrit is missing"),
            *(
                unless(pool in ("gerrit", "stateless", "ci"), f"pools: {pool!r}; write gerrit, stateless or ci")
                for pool in self.pools
            ),
        )


def node_config() -> str:
    """The part of a node's configuration that EC2NodeClass has no field for: how fast images are pulled."""
    config: dict[str, Any] = {
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {"kubelet": {"config": {"registryPullQPS": 50, "registryBurst": 100, "serializeImagePulls": False}}},
    }
    return json.dumps(config, indent=2)


def node_class(args: KarpenterArgs, tags: Mapping[str, str]) -> Value:
    """The machines of all pools."""
    found = [{"tags": {"karpenter.sh/discovery": args.cluster}}]
    disk = {"volumeSize": "100Gi", "volumeType": "gp3", "encrypted": True, "deleteOnTermination": True}
    return {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": "lockstep"},
        "spec": {
            "role": args.node_role,
            "amiFamily": "AL2023",
            "amiSelectorTerms": [{"alias": args.ami}],
            "subnetSelectorTerms": found,
            "securityGroupSelectorTerms": found,
            "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": disk}],
            # A pod cannot reach the credentials of its node.
            "metadataOptions": {
                "httpEndpoint": "enabled",
                "httpTokens": "required",
                "httpPutResponseHopLimit": 1,
            },
            "userData": node_config(),
            "tags": dict(tags),
        },
    }


def requirement(key: str, values: Sequence[str]) -> Value:
    """A property that the nodes of a pool have."""
    return {"key": key, "operator": "In", "values": list(values)}


def pool(args: KarpenterArgs, name: str, template: Value, disruption: Value, more: Sequence[Value]) -> Value:
    """A pool. Its nodes are those for which an image of the sidecar exists."""
    limits = {"cpu": (args.most_cpus or {}).get(name, 256)}
    common = [
        *(requirement(label, [value]) for label, value in spec()["nodes"].items()),
        {"key": "karpenter.k8s.aws/instance-generation", "operator": "Gt", "values": ["4"]},
    ]
    node = {
        "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "lockstep"},
        "requirements": [*common, *more],
        **template,
    }
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": {
            "template": {"metadata": {"labels": {"lockstep/pool": name}}, "spec": node},
            "disruption": disruption,
            "limits": limits,
        },
    }


def budgets(args: KarpenterArgs) -> list[Value]:
    """One node in ten at a time, and none in work hours unless it is empty."""
    quiet = {
        "nodes": "0",
        "schedule": args.quiet_from,
        "duration": args.quiet_for,
        "reasons": ["Drifted", "Underutilized"],
    }
    return [{"nodes": "10%"}, quiet]


def gerrit_pool(args: KarpenterArgs) -> Value:
    """Nodes for Gerrit and its volume.

    They have no `terminationGracePeriod`: with one, Karpenter drains a node that has drifted although its pods have
    `karpenter.sh/do-not-disrupt`, and deletes them at its end although their budget forbids it.
    """
    template = {"taints": [GERRIT], "expireAfter": "Never"}
    disruption = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "10m", "budgets": budgets(args)}
    more = [
        requirement("karpenter.sh/capacity-type", ["on-demand"]),
        requirement("karpenter.k8s.aws/instance-category", args.gerrit_categories),
    ]
    return pool(args, "gerrit", template, disruption, more)


def pools(args: KarpenterArgs) -> list[Value]:
    """All pools."""
    moves = {"consolidationPolicy": "WhenEmptyOrUnderutilized", "consolidateAfter": "5m", "budgets": budgets(args)}
    builds = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "1m", "budgets": [{"nodes": "10%"}]}
    taint = {"key": "lockstep/pool", "value": "ci", "effect": "NoSchedule"}
    of = {
        "gerrit": gerrit_pool(args),
        "stateless": pool(
            args,
            "stateless",
            {"expireAfter": "720h", "terminationGracePeriod": "300s"},
            moves,
            [requirement("karpenter.sh/capacity-type", ["on-demand"])],
        ),
        "ci": pool(
            args,
            "ci",
            {"taints": [taint], "expireAfter": "336h", "terminationGracePeriod": "120s"},
            builds,
            [
                requirement("karpenter.sh/capacity-type", ["spot", "on-demand"]),
                requirement("karpenter.k8s.aws/instance-category", args.ci_categories),
            ],
        ),
    }
    return [of[name] for name in args.pools]


def placement() -> tuple[list[Value], dict[str, str]]:
    """The toleration and the label of nodes that bring Gerrit's pods to their pool, and to no other."""
    return [{**GERRIT, "operator": "Equal"}], {"lockstep/pool": "gerrit"}


class Readable(yaml.SafeDumper):
    """YAML for people: texts in lines, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whether a value that repeats is written again."""
        return True


def in_lines(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """A text; one of several lines as a block."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Readable.add_representer(str, in_lines)


def example() -> str:
    """The file for clusters without Pulumi. Its user replaces the three words in capitals."""
    args = KarpenterArgs(cluster="CLUSTER", node_role="NODE_ROLE", ami="al2023@VERSION")
    objects = [node_class(args, {}), *pools(args)]
    note = "# Made by `deploy/pulumi/run pools`. README.md says how it is used.\n"
    return note + "---\n".join(yaml.dump(one, Dumper=Readable, sort_keys=False) for one in objects)
