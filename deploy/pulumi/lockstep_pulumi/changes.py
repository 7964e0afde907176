"""The changes of a preview: which resources they touch, and which of them are losses.

A change that deletes or replaces a resource is a loss. `read` takes a preview in each form in which Pulumi tells it:
the document of `pulumi preview --json`, the summary of `pulumi events summary`, and the engine's events, one per line
(`PULUMI_ENABLE_STREAMING_JSON_PREVIEW=true pulumi preview --json`). It refuses a preview that failed, that ended early,
or that has an operation which this version does not know: then nobody knows the changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from lockstep_pulumi.invalid import InvalidError


class Effect(IntEnum):
    """The effect of an operation on a resource, the gravest one last."""

    NOTHING = 0
    CREATE = 1
    UPDATE = 2
    REPLACE = 3
    DELETE = 4

    @property
    def is_loss(self) -> bool:
        """Whether the resource would be gone, or be another one."""
        return self >= Effect.REPLACE


# The operations of Pulumi's engine. A replacement is told as several of them, all with one URN.
EFFECTS: Mapping[str, Effect] = {
    "same": Effect.NOTHING,
    "read": Effect.NOTHING,
    "refresh": Effect.NOTHING,
    # A resource that was only read leaves the state. It stays where it is.
    "discard": Effect.NOTHING,
    "remove-pending-replace": Effect.NOTHING,
    "create": Effect.CREATE,
    "import": Effect.CREATE,
    "update": Effect.UPDATE,
    "replace": Effect.REPLACE,
    "create-replacement": Effect.REPLACE,
    "delete-replaced": Effect.REPLACE,
    "discard-replaced": Effect.REPLACE,
    "read-replacement": Effect.REPLACE,
    "import-replacement": Effect.REPLACE,
    "delete": Effect.DELETE,
}
# The resource that each stack has.
ROOT = "pulumi:pulumi:Stack"


class Cost(IntEnum):
    """The cost of a loss, the dearest one last."""

    # Pods restart, traffic or alarms are away for a while.
    SERVICE = 0
    # Somebody is locked out until other parts follow: roles, tokens, certificates.
    ACCESS = 1
    # Data is gone, or cannot be read any more. So it is for a type that is not listed here.
    DATA = 2


# Types by their beginnings. The longest beginning counts.
COSTS: Mapping[str, Cost] = {
    "aws:appautoscaling/": Cost.SERVICE,
    "aws:cloudwatch/": Cost.SERVICE,
    "aws:ec2/": Cost.SERVICE,
    "aws:eks/": Cost.ACCESS,
    "aws:iam/": Cost.ACCESS,
    "aws:kms/alias": Cost.SERVICE,
    "aws:s3/bucketOwnershipControls": Cost.ACCESS,
    "aws:s3/bucketPolicy": Cost.ACCESS,
    "aws:s3/bucketPublicAccessBlock": Cost.ACCESS,
    "aws:secretsmanager/": Cost.ACCESS,
    "aws:sqs/": Cost.SERVICE,
    "aws:vpc/": Cost.SERVICE,
    "kubernetes:apps/": Cost.SERVICE,
    "kubernetes:cert-manager.io/": Cost.ACCESS,
    "kubernetes:core/v1:ConfigMap": Cost.SERVICE,
    "kubernetes:core/v1:Secret": Cost.ACCESS,
    "kubernetes:core/v1:Service": Cost.SERVICE,
    "kubernetes:core/v1:ServiceAccount": Cost.ACCESS,
    "kubernetes:karpenter": Cost.SERVICE,
    "kubernetes:monitoring.coreos.com/": Cost.SERVICE,
    "kubernetes:networking.k8s.io/": Cost.ACCESS,
    "kubernetes:policy/": Cost.SERVICE,
    "kubernetes:rbac.authorization.k8s.io/": Cost.ACCESS,
    "lockstep:": Cost.SERVICE,
    "pulumi:providers:": Cost.SERVICE,
    "random:": Cost.ACCESS,
}


@dataclass(frozen=True)
class Change:
    """A resource that a deployment would touch."""

    urn: str
    effect: Effect
    # The properties that cause it, if the preview names them.
    reasons: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """Pulumi's type of the resource, without those of the components around it."""
        parts = self.urn.split("::")
        return parts[2].rpartition("$")[2] if len(parts) > 3 else ""

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.split("::", 3)[-1]

    @property
    def stack(self) -> str:
        """The stack, without project and organization."""
        return self.urn.split("::")[0].removeprefix("urn:pulumi:")

    @property
    def cost(self) -> Cost:
        """The cost of its loss."""
        found = [beginning for beginning in COSTS if self.type.startswith(beginning)]
        return COSTS[max(found, key=len)] if found else Cost.DATA


def effect(operation: str) -> Effect:
    """The effect of an operation."""
    if operation not in EFFECTS:
        raise InvalidError(
            [f"operation {operation!r} is not known here; look at the preview, and take a newer Lockstep"]
        )
    return EFFECTS[operation]


def folded(steps: Iterable[Change]) -> tuple[Change, ...]:
    """One change per resource, the gravest one, with the reasons of all.

    Resources that stay are left out, and so is the root, which is the stack itself.
    """
    found: dict[str, Change] = {}
    for step in steps:
        known = found.get(step.urn, step)
        gravest = max(known.effect, step.effect)
        reasons = tuple(dict.fromkeys((*known.reasons, *step.reasons)))
        found[step.urn] = Change(step.urn, gravest, reasons)
    return tuple(one for one in found.values() if one.effect is not Effect.NOTHING and one.type != ROOT)


@dataclass(frozen=True)
class StackChanges:
    """The changes of one stack."""

    stack: str
    changes: tuple[Change, ...]
    # Resources that stay as they are.
    same: int = 0


def read(text: str, source: str = "the preview") -> StackChanges:
    """The changes of a preview. An error names the source."""
    try:
        steps, failures = _steps(_documents(text))
    except InvalidError as error:
        raise InvalidError(f"{source}: {problem}" for problem in error.problems) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidError(
            [f"{source} has no form of Pulumi's ({error}); make it by `pulumi preview --json`"]
        ) from error
    stacks = sorted({step.stack for step in steps})
    roots = [step for step in steps if step.type == ROOT]
    problems = [f"{source}: {failure}" for failure in failures]
    if not problems and (len(stacks) != 1 or not roots):
        told = ", ".join(stacks) or "none"
        problems.append(f"{source} is no whole preview of one stack (stacks: {told}); run the preview again")
    if problems:
        raise InvalidError(problems)
    changes = folded(steps)
    same = {step.urn for step in steps if step.type != ROOT} - {change.urn for change in changes}
    return StackChanges(stacks[0], changes, len(same))


def _documents(text: str) -> list[Any]:
    """The JSON documents of a text, one after the other."""
    decoder, at, found = json.JSONDecoder(), 0, []
    text = text.strip()
    while at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InvalidError([f"no JSON in line {error.lineno}: {error.msg}; run the preview again"]) from error
        found.append(value)
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found


def _steps(documents: list[Any]) -> tuple[list[Change], list[str]]:
    """The steps of a preview, and why it failed, if it did."""
    if len(documents) == 1 and "steps" in documents[0]:
        whole = documents[0]
        failures = [_said(one) for one in whole.get("diagnostics") or () if one.get("severity") == "error"]
        if whole.get("maybeCorrupt") or whole.get("failed") or whole.get("error"):
            failures.append(f"the preview failed: {whole.get('error') or 'it says no more'}; mend that first")
        return [_step(one) for one in whole["steps"]], failures
    steps, failures, is_whole = [], [], False
    for event in documents:
        if "resourcePreEvent" in event:
            steps.append(_step(event["resourcePreEvent"]["metadata"]))
        elif "resOpFailedEvent" in event:
            failures.append(f"{event['resOpFailedEvent']['metadata']['urn']} failed; mend that first")
        elif "errorEvent" in event:
            failures.append(f"the preview failed: {event['errorEvent'].get('error')}; mend that first")
        elif event.get("diagnosticEvent", {}).get("severity") == "error":
            failures.append(_said(event["diagnosticEvent"]))
        elif "summaryEvent" in event:
            is_whole = True
            if event["summaryEvent"].get("maybeCorrupt"):
                failures.append("the preview failed, and says no more; run it again")
    if not is_whole and not failures:
        failures.append("the events end before the summary; run the preview again")
    return steps, failures


def _step(step: Mapping[str, Any]) -> Change:
    reasons = step.get("replaceReasons") or step.get("keys") or step.get("diffReasons") or step.get("diffs") or ()
    return Change(step["urn"], effect(step["op"]), tuple(reasons))


def _said(diagnostic: Mapping[str, Any]) -> str:
    """An error of the preview as a sentence."""
    of = f"{diagnostic['urn']}: " if diagnostic.get("urn") else ""
    return f"the preview failed: {of}{str(diagnostic.get('message', '')).strip()}"
