"""Rules for who may do what in AWS, and for the names of things."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lockstep_pulumi.names import TAGS
from lockstep_pulumi.rules.model import Rule, Thing

# Kinds of AWS that have no tags, or belong to another resource.
UNTAGGED = (
    "Alias", "BucketLifecycleConfiguration", "BucketOwnershipControls", "BucketPolicy", "BucketPublicAccessBlock",
    "BucketServerSideEncryptionConfiguration", "BucketVersioning", "EventTarget", "Policy", "QueuePolicy", "RolePolicy",
    "RolePolicyAttachment", "SecretVersion",
)  # fmt: skip


def listed(value: Any) -> list[Any]:
    """A value, or a list of values, as a list."""
    return list(value) if isinstance(value, list) else [value]


def statements(text: str) -> list[dict[str, Any]]:
    """The statements of a policy that allow something."""
    found = listed(json.loads(text).get("Statement", []))
    return [one for one in found if one.get("Effect") == "Allow"]


def no_wildcards(thing: Thing) -> Iterator[str]:
    """Actions and resources by name."""
    for one in statements(thing.props.get("policy", "{}")):
        if "NotAction" in one or "NotResource" in one:
            yield "NotAction and NotResource allow what nobody listed"
        for action in listed(one.get("Action", [])):
            if "*" in action:
                yield f"the action {action} allows more than the calls of a sidecar"
        for resource in listed(one.get("Resource", [])):
            if resource == "*" or resource.endswith((":*", ":table/*", ":stream/*")):
                yield f"the resource {resource} is everything of its kind"


def narrow_trust(thing: Thing) -> Iterator[str]:
    """A role for one service account, or for a service with the source named."""
    for one in statements(thing.props.get("assumeRolePolicy", "{}")):
        principal, condition = one.get("Principal", {}), one.get("Condition", {})
        equals = {**condition.get("StringEquals", {}), **condition.get("ArnEquals", {})}
        if principal == "*" or "*" in listed(principal.get("AWS", [])):
            yield "everybody may take the role"
        if "Federated" in principal:
            ends = {key.rpartition(":")[2] for key, value in equals.items() if "*" not in "".join(listed(value))}
            if not {"sub", "aud"} <= ends:
                yield "every token of the issuer may take the role"
        if principal.get("Service") == "pods.eks.amazonaws.com" and "aws:SourceArn" not in equals:
            yield "the pods of every cluster may take the role"


def no_static_keys(thing: Thing) -> Iterator[str]:
    """No keys that live until somebody removes them."""
    yield f"{thing.kind} has a key that never expires"


def tagged(thing: Thing) -> Iterator[str]:
    """The tags of the estate."""
    if not thing.type.startswith("aws:") or thing.kind in UNTAGGED:
        return
    missing = [tag for tag in TAGS if not thing.props.get("tags", {}).get(tag)]
    if missing:
        yield f"the tags {', '.join(missing)} are missing"


def closed_network(thing: Thing) -> Iterator[str]:
    """No way in from everywhere."""
    inline = [cidr for rule in thing.props.get("ingress", []) for cidr in rule.get("cidrBlocks", [])]
    for cidr in (*inline, thing.props.get("cidrIpv4", ""), thing.props.get("cidrIpv6", "")):
        if cidr in ("0.0.0.0/0", "::/0"):
            yield f"{cidr} may connect"


RULES = (
    Rule(
        "policy-names-all", "Policies name each action and each resource",
        "Use site_policy, or list what is called", "critical", no_wildcards, kinds=("RolePolicy", "Policy"),
    ),
    Rule(
        "trust-is-narrow", "A role belongs to one service account of one cluster",
        "Add conditions: sub and aud of the issuer, or aws:SourceArn of the cluster", "critical", narrow_trust,
        kinds=("Role",),
    ),
    Rule(
        "no-static-keys", "Nothing has an access key that lives for ever",
        "Use Pod Identity, or a role with the cluster's OIDC issuer", "critical", no_static_keys,
        kinds=("AccessKey", "User"),
    ),
    Rule(
        "tagged", "Everything says to which project, environment and site it belongs",
        "Set tags=names.tagged(site)", "low", tagged, is_mandatory=False,
    ),
    Rule(
        "network-closed", "Security groups let nobody in from everywhere",
        "Name the networks of the pods", "high", closed_network, kinds=("SecurityGroup", "SecurityGroupIngressRule"),
    ),
)  # fmt: skip
