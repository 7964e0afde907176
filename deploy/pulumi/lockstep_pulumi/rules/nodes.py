"""Rules for Karpenter's pools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lockstep_pulumi.rules.model import Props, Rule, Thing


def template(thing: Thing) -> Props:
    """The nodes of a pool."""
    found: Props = thing.props.get("spec", {}).get("template", {}).get("spec", {})
    return found


def values(thing: Thing, key: str) -> list[Any]:
    """The values that a pool allows for a property of its nodes."""
    return [one for rule in template(thing).get("requirements", []) if rule.get("key") == key for one in rule["values"]]


def holds_gerrit(thing: Thing) -> bool:
    """Whether the pool is the one for Gerrit's pods."""
    taints = template(thing).get("taints", [])
    return any(one.get("key") == "lockstep/pool" and one.get("value") == "gerrit" for one in taints)


def gerrit_nodes_stay(thing: Thing) -> Iterator[str]:
    """Nodes with volumes go only when somebody wants it."""
    if not holds_gerrit(thing):
        return
    nodes, disruption = template(thing), thing.props.get("spec", {}).get("disruption", {})
    if "spot" in values(thing, "karpenter.sh/capacity-type") or not values(thing, "karpenter.sh/capacity-type"):
        yield "its nodes may be spot nodes, which end within two minutes"
    if nodes.get("expireAfter") != "Never":
        yield f"its nodes end by themselves after {nodes.get('expireAfter', '720h')}"
    if disruption.get("consolidationPolicy") != "WhenEmpty":
        yield "nodes with pods are consolidated"
    if nodes.get("terminationGracePeriod"):
        yield f"a drifted node ends after {nodes['terminationGracePeriod']}, whatever its pods and their budget say"


def few_at_a_time(thing: Thing) -> Iterator[str]:
    """A budget of at most one node in ten."""
    budgets = [str(one.get("nodes")) for one in thing.props.get("spec", {}).get("disruption", {}).get("budgets", [])]
    shares = [int(one.removesuffix("%")) for one in budgets if one.endswith("%")]
    if not any(share <= 10 for share in shares) and "1" not in budgets:
        yield "more than one node in ten may be replaced at once"


def nodes_on_amd64(thing: Thing) -> Iterator[str]:
    """The architecture of the image."""
    allowed = values(thing, "kubernetes.io/arch")
    if allowed != ["amd64"]:
        yield f"its nodes may have the architectures {', '.join(allowed) or 'of all machines'}"


def machine_named(thing: Thing) -> Iterator[str]:
    """A version of the machine image."""
    for term in thing.props.get("spec", {}).get("amiSelectorTerms", []):
        alias = str(term.get("alias", ""))
        if alias and alias.partition("@")[2] in ("", "latest"):
            yield f"the machine image {alias} changes by itself, and then all nodes are replaced"


def metadata_closed(thing: Thing) -> Iterator[str]:
    """No pod reaches the credentials of its node."""
    options = thing.props.get("spec", {}).get("metadataOptions", {})
    if options.get("httpTokens") != "required" or options.get("httpPutResponseHopLimit") != 1:
        yield "pods reach the credentials of their node"


RULES = (
    Rule(
        "gerrit-nodes-stay", "Nodes with Gerrit's volumes go only when somebody wants it",
        "Use on-demand nodes, expireAfter Never, WhenEmpty, and no terminationGracePeriod", "critical",
        gerrit_nodes_stay, kinds=("NodePool",),
    ),
    Rule(
        "nodes-few-at-a-time", "At most one node in ten is replaced at once", 'Add the budget {"nodes": "10%"}', "high",
        few_at_a_time, kinds=("NodePool",),
    ),
    Rule(
        "nodes-on-amd64", "Pools have the architecture of the image",
        "Set the requirement kubernetes.io/arch to amd64 alone", "medium", nodes_on_amd64, kinds=("NodePool",),
    ),
    Rule(
        "machine-image-named", "Machine images have a version", "Name one, such as al2023@v20261101", "high",
        machine_named, kinds=("EC2NodeClass",),
    ),
    Rule(
        "node-metadata-closed", "Pods do not reach the credentials of their node",
        "Set metadataOptions: httpTokens required, httpPutResponseHopLimit 1", "high", metadata_closed,
        kinds=("EC2NodeClass",),
    ),
)  # fmt: skip
