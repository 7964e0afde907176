"""All rules: as policies of Pulumi, and over objects that were rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pulumi_policy as policy

from lockstep_pulumi.rules import access, nodes, objects, pods, store
from lockstep_pulumi.rules.model import Rule, Thing

RULES: tuple[Rule, ...] = (*store.RULES, *access.RULES, *pods.RULES, *objects.RULES, *nodes.RULES)


def level(rule: Rule) -> policy.EnforcementLevel:
    """The effect of a violation."""
    return policy.EnforcementLevel.MANDATORY if rule.is_mandatory else policy.EnforcementLevel.ADVISORY


def policies() -> list[policy.Policy]:
    """The rules as policies of Pulumi."""
    return [_of_one(rule) if rule.one else _of_all(rule) for rule in RULES]


def _common(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "description": rule.description,
        "enforcement_level": level(rule),
        "severity": policy.Severity(rule.severity),
        "remediation_steps": rule.remedy,
    }


def _of_one(rule: Rule) -> policy.Policy:
    def validate(args: policy.ResourceValidationArgs, report: policy.ReportViolation) -> None:
        thing = Thing(args.resource_type, args.name, args.props, args.urn, args.opts.protect)
        for problem in rule.problems(thing):
            report(problem, None)

    return policy.ResourceValidationPolicy(validate=validate, **_common(rule))


def _of_all(rule: Rule) -> policy.Policy:
    def validate(args: policy.StackValidationArgs, report: policy.ReportViolation) -> None:
        things = [Thing(one.resource_type, one.name, one.props, one.urn, one.opts.protect) for one in args.resources]
        for urn, problem in rule.common_problems(things):
            report(problem, urn or None)

    return policy.StackValidationPolicy(validate=validate, **_common(rule))


def rendered(values: Iterable[Mapping[str, Any]]) -> list[Thing]:
    """Kubernetes objects as things, with the types that Pulumi gives them."""
    things = []
    for value in values:
        version = value["apiVersion"] if "/" in value["apiVersion"] else f"core/{value['apiVersion']}"
        kind, name = f"kubernetes:{version}:{value['kind']}", value["metadata"]["name"]
        urn = f"urn:pulumi:rendered::lockstep::{kind}::{name}"
        things.append(Thing(kind, name, value, urn))
    return things


def violations(things: Sequence[Thing]) -> list[tuple[Rule, str]]:
    """The violations of all rules, without a server."""
    found = [(rule, problem) for rule in RULES for thing in things for problem in rule.problems(thing)]
    return found + [(rule, problem) for rule in RULES for _, problem in rule.common_problems(things)]
