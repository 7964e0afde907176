"""Rules for the objects beside pods."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lockstep_pulumi.rules.model import Rule, Thing, of_kind
from lockstep_pulumi.rules.pods import WORKLOADS, containers, has_sidecar

# The names of settings whose values are secrets, and texts that are secrets by their form.
NAMES = re.compile(r"(password|passwd|secret|token|private_?key|api_?key|credential)s?$", re.IGNORECASE)
TEXTS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|lockstep-operator-[0-9a-f]{16}|gh[pousr]_[A-Za-z0-9]{36}"
)
SETTING = re.compile(r"""^\s*["']?([\w.-]+)["']?\s*[=:]\s*["']?([^"'\s]+)""", re.MULTILINE)


def no_secrets(thing: Thing) -> Iterator[str]:
    """No secret in a ConfigMap or a variable."""
    for key, text in thing.props.get("data", {}).items() if thing.kind == "ConfigMap" else ():
        if TEXTS.search(str(text)):
            yield f"{key} has a secret"
        for name, _ in SETTING.findall(str(text)) if not key.endswith(".json") else ():
            if NAMES.search(name):
                yield f"{key} has the setting {name}"
    for one in containers(thing) if thing.kind in WORKLOADS else ():
        for variable in one.get("env", []):
            value = str(variable.get("value", ""))
            if value and (TEXTS.search(value) or NAMES.search(variable.get("name", ""))):
                yield f"the variable {variable.get('name')} of {one.get('name')} has a secret"


def narrow_rights(thing: Thing) -> Iterator[str]:
    """No right on everything, on secrets, or beyond named pods."""
    for rule in thing.props.get("rules", []):
        if "*" in [*rule.get("verbs", []), *rule.get("resources", []), *rule.get("apiGroups", [])]:
            yield "a rule allows everything"
        if "secrets" in rule.get("resources", []):
            yield "a rule gives access to Secrets"
        if "pods" in rule.get("resources", []) and not rule.get("resourceNames"):
            yield "a rule gives access to all pods of the namespace"


def _names(thing: Thing) -> dict[str, str]:
    labels: dict[str, str] = dict(thing.props.get("spec", {}).get("selector", {}).get("matchLabels", {}))
    return labels


def budgeted(things: Sequence[Thing]) -> Iterator[tuple[Thing | None, str]]:
    """A disruption budget of one pod."""
    budgets = of_kind(things, "PodDisruptionBudget")
    for workload in of_kind(things, "StatefulSet"):
        if not has_sidecar(workload):
            continue
        own = [one for one in budgets if _names(one) == _names(workload)]
        if not any(one.props.get("spec", {}).get("maxUnavailable") == 1 for one in own):
            yield workload, "more than one of its pods may be evicted at once"


def fenced(things: Sequence[Thing]) -> Iterator[tuple[Thing | None, str]]:
    """A NetworkPolicy for both directions."""
    policies = [one.props.get("spec", {}) for one in of_kind(things, "NetworkPolicy")]
    for workload in of_kind(things, "StatefulSet"):
        own = [one for one in policies if dict(one.get("podSelector", {}).get("matchLabels", {})) == _names(workload)]
        ways = {way for one in own for way in one.get("policyTypes", [])}
        if has_sidecar(workload) and not {"Ingress", "Egress"} <= ways:
            yield workload, "no NetworkPolicy limits who reaches its pods and what they reach"


def spread(thing: Thing) -> Iterator[str]:
    """Pods of a site on different nodes."""
    inside = thing.props.get("spec", {}).get("template", {}).get("spec", {})
    keys = {one.get("topologyKey"): one.get("whenUnsatisfiable") for one in inside.get("topologySpreadConstraints", [])}
    if has_sidecar(thing) and keys.get("kubernetes.io/hostname") != "DoNotSchedule":
        yield "two of its pods may run on one node"


RULES = (
    Rule(
        "no-secrets-in-clear", "Secrets are in Secrets", "Put it into a Secret, and name its file in the configuration",
        "critical", no_secrets, kinds=("ConfigMap", *WORKLOADS),
    ),
    Rule(
        "rights-are-narrow", "Roles give access to named pods alone", "Name verbs, resources and resourceNames", "high",
        narrow_rights, kinds=("ClusterRole", "Role"),
    ),
    Rule(
        "evicted-one-by-one", "One pod of a site is evicted at a time",
        "Add a PodDisruptionBudget with maxUnavailable 1 and the labels of the StatefulSet", "high", all=budgeted,
    ),
    Rule(
        "network-limited", "A NetworkPolicy limits both directions",
        "Add a NetworkPolicy with the labels of the StatefulSet, for Ingress and Egress", "medium", all=fenced,
    ),
    Rule(
        "spread-over-nodes", "The pods of a site run on different nodes",
        "Add a topologySpreadConstraint for kubernetes.io/hostname with DoNotSchedule", "medium", spread,
        kinds=("StatefulSet",),
    ),
)  # fmt: skip
