"""A passing and a failing case of each rule.

A failing case is the passing one with one change. The things come from the components where these make such a thing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conftest import Seen, under_mocks
from estates import eks, estate, openstack
from test_aws import KEY, NAMES, whole
from test_sidecar import GOLDEN

from lockstep_pulumi.refdb import Provisioned, RefDbArgs, SharedRefDb
from lockstep_pulumi.rules.model import Thing
from lockstep_pulumi.rules.pack import rendered

Change = Callable[[dict[str, Any]], Any]


@dataclass
class Case:
    """A rule, the things that pass, and the change of the first one after which the rule complains with this text."""

    rule: str
    passes: list[Thing]
    change: Change
    told: str
    protect: bool = True


def thing(one: Seen) -> Thing:
    return Thing(one.type, one.name, one.props, one.urn, one.protect)


def changed(of: Thing, change: Change, protect: bool = True) -> Thing:
    props = copy.deepcopy(dict(of.props))
    change(props)
    return Thing(of.type, of.name, props, of.urn, of.protect and protect)


def setting(path: str, value: Any) -> Change:
    """Sets a value: `a.b.0.c`. None removes it."""

    def change(props: dict[str, Any]) -> None:
        *before, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        inside: Any = props
        for part in before:
            inside = inside[part]
        if value is None:
            inside.pop(last)
        else:
            inside[last] = value

    return change


def nodes(key: str, *values: str) -> Change:
    """Changes what a pool requires of its nodes."""

    def change(props: dict[str, Any]) -> None:
        (found,) = [one for one in props["spec"]["template"]["spec"]["requirements"] if one["key"] == key]
        found["values"] = list(values)

    return change


def policy(field: str, **more: Any) -> Change:
    """Changes the first statement of a policy."""

    def change(props: dict[str, Any]) -> None:
        document = json.loads(props[field])
        document["Statement"][0] |= more
        props[field] = json.dumps(document)

    return change


def cases() -> list[Case]:
    """The cases of all rules."""
    of = estate(eks("eu-aws"), monitoring=False)
    found = under_mocks(lambda: whole(of))
    scaled = under_mocks(lambda: SharedRefDb("r", NAMES, KEY, RefDbArgs(provisioned=Provisioned(1, 2))))
    one: Callable[..., Thing] = lambda *names: thing(found.one(*names))  # noqa: E731
    table, stream, bucket = one("Table", "refs"), one("Stream"), one("Bucket")
    site, ours = one("StatefulSet"), [thing(seen) for seen in found.seen if seen.type.startswith("kubernetes:")]
    config = next(of for of in ours if of.kind == "ConfigMap" and "lockstep.toml" in of.props["data"])
    budget, network = one("PodDisruptionBudget"), one("NetworkPolicy")
    pool, machines = one("NodePool", "gerrit"), one("EC2NodeClass")
    key = Thing("aws:iam/accessKey:AccessKey", "k", {"user": "gerrit"})
    role = Thing("aws:iam/role:Role", "r", found.one("Role", "prod-eu-aws-role").props)
    web = program_of_openstack()
    chart = next(of for of in rendered(GOLDEN) if of.kind == "StatefulSet")
    spec = "spec/template/spec"
    sidecar = f"{spec}/initContainers/2"

    # Resources are registered in any order.
    targets = [thing(scaled.one("Target", f"refs-{way}")) for way in ("read", "write")]
    provisioned = thing(scaled.one("Table", "refs"))
    return [
        Case("table-encrypted", [table], setting("serverSideEncryption", None), "not encrypted"),
        Case("table-restorable", [table], setting("pointInTimeRecovery/enabled", False), "point-in-time"),
        Case("table-protected", [table], setting("deletionProtectionEnabled", False), "deletion protection"),
        Case("table-in-one-region", [table], setting("replicas", [{"regionName": "eu-west-1"}]), "replicated"),
        Case("table-scales", [*targets, provisioned], setting("resourceId", "x"), "not scale"),
        Case("stream-encrypted", [stream], setting("kmsKeyId", "alias/aws/kinesis"), "not encrypted"),
        Case("stream-keeps-records", [stream], setting("retentionPeriod", 24), "24 hours"),
        Case("data-protected", [bucket], lambda props: None, "Pulumi would delete", protect=False),
        Case("bucket-private", [one("BucketPublicAccessBlock"), bucket], setting("blockPublicPolicy", False), "public"),
        Case(
            "bucket-encrypted",
            [one("BucketServerSideEncryptionConfiguration"), bucket],
            setting("rules/0/applyServerSideEncryptionByDefault/sseAlgorithm", "AES256"),
            "not encrypted",
        ),
        Case("bucket-only-tls", [one("BucketPolicy"), bucket], policy("policy", Condition={}), "without TLS"),
        Case(
            "bucket-keeps-blobs",
            [one("BucketLifecycleConfiguration")],
            setting("rules/0/expiration", {"days": 30}),
            "expires blobs",
        ),
        Case("key-rotates", [one("Key")], setting("enableKeyRotation", False), "not rotated"),
        Case("policy-names-all", [one("RolePolicy")], policy("policy", Action="dynamodb:*"), "dynamodb:*"),
        Case("policy-names-all", [one("RolePolicy")], policy("policy", Resource=["*"]), "everything of its kind"),
        Case("trust-is-narrow", [role], policy("assumeRolePolicy", Condition={}), "pods of every cluster"),
        Case("trust-is-narrow", [role], policy("assumeRolePolicy", Principal={"AWS": "*"}), "everybody"),
        Case(
            "trust-is-narrow",
            [web],
            policy("assumeRolePolicy", Condition={"StringEquals": {"i:aud": "sts.amazonaws.com"}}),
            "every token of the issuer",
        ),
        Case("no-static-keys", [role, key], lambda props: None, "never expires"),
        Case("tagged", [stream], setting("tags/environment", None), "the tags environment are missing"),
        Case("network-closed", [one("SecurityGroupIngressRule")], setting("cidrIpv4", "0.0.0.0/0"), "may connect"),
        Case("image-named", [site], setting(f"{sidecar}/image", "registry/lockstep"), "has no version"),
        Case("image-named", [chart], setting(f"{sidecar}/image", "lockstep:latest"), "has no version"),
        Case("image-pinned", [site], setting(f"{sidecar}/image", "lockstep:1"), "has no digest"),
        Case("not-root", [site], setting(f"{sidecar}/securityContext/runAsUser", 0), "as root"),
        Case("confined", [chart], setting(f"{sidecar}/securityContext/readOnlyRootFilesystem", False), "writable"),
        Case("confined", [site], setting(f"{sidecar}/securityContext/capabilities", None), "capabilities"),
        Case("apart-from-host", [site], setting(f"{spec}/hostNetwork", True), "hostNetwork"),
        Case("apart-from-host", [chart], setting(f"{spec}/volumes/0/hostPath", {"path": "/"}), "folder of the node"),
        Case("probed", [site], setting(f"{sidecar}/livenessProbe/httpGet/path", "/readyz"), "livenessProbe"),
        Case("memory-bounded", [chart], setting(f"{sidecar}/resources/limits/memory", "8Gi"), "8Gi"),
        Case("ends-slowly", [site], setting(f"{spec}/terminationGracePeriodSeconds", 30), "killed 30 s"),
        Case("no-token", [site], setting(f"{spec}/automountServiceAccountToken", True), "token of the API server"),
        Case("gerrit-stays", [site], setting("spec/template/metadata/annotations", {}), "may move the pod"),
        Case("on-amd64", [chart], setting(f"{spec}/nodeSelector", {}), "architecture"),
        Case(
            "sidecar-native",
            [site],
            lambda props: props["spec"]["template"]["spec"]["containers"].append(
                props["spec"]["template"]["spec"]["initContainers"].pop()
            ),
            "beside Gerrit",
        ),
        Case("no-secrets-in-clear", [config], setting("data/x.toml", 'password = "x"'), "the setting password"),
        Case(
            "no-secrets-in-clear",
            [site],
            setting(f"{sidecar}/env/0", {"name": "API_TOKEN", "value": "x"}),
            "the variable API_TOKEN",
        ),
        Case("rights-are-narrow", [one("Role", "gerrit-role")], setting("rules/0/resourceNames", []), "all pods"),
        Case("evicted-one-by-one", [budget, site], setting("spec/maxUnavailable", 2), "more than one"),
        Case("network-limited", [network, site], setting("spec/policyTypes", ["Ingress"]), "no NetworkPolicy"),
        Case("spread-over-nodes", [site], setting(f"{spec}/topologySpreadConstraints", []), "on one node"),
        Case("gerrit-nodes-stay", [pool], setting("spec/template/spec/expireAfter", "720h"), "by themselves"),
        Case("gerrit-nodes-stay", [pool], setting("spec/template/spec/terminationGracePeriod", "15m"), "after 15m"),
        Case("gerrit-nodes-stay", [pool], nodes("karpenter.sh/capacity-type", "spot"), "spot nodes"),
        Case("nodes-few-at-a-time", [pool], setting("spec/disruption/budgets", [{"nodes": "50%"}]), "one node in ten"),
        Case("nodes-on-amd64", [pool], nodes("kubernetes.io/arch", "amd64", "arm64"), "amd64, arm64"),
        Case(
            "machine-image-named", [machines], setting("spec/amiSelectorTerms", [{"alias": "al2023@latest"}]), "changes"
        ),
        Case("node-metadata-closed", [machines], setting("spec/metadataOptions/httpPutResponseHopLimit", 2), "reach"),
    ]


def program_of_openstack() -> Thing:
    """The role of a site outside of AWS."""
    of = estate(openstack("muc-1"), monitoring=False)
    found = under_mocks(lambda: whole(of))
    return thing(found.one("Role", "muc-1-role"))
