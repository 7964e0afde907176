"""The least-privilege policy of a site, from the calls that a sidecar makes (data/calls.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lockstep_pulumi.names import Names

Document = dict[str, Any]

# The services through which a sidecar uses the key.
VIA = ("dynamodb", "kinesis", "s3")


@dataclass(frozen=True)
class Call:
    """A call of the sidecar."""

    call: str
    action: str
    on: tuple[str, ...]
    # "run": each sidecar. "adopt": a sidecar that publishes for a site that is gone. "create": one that creates its
    # tables and its stream by itself.
    purpose: str


def calls() -> tuple[Call, ...]:
    """The calls that a sidecar makes."""
    text = files("lockstep_pulumi").joinpath("data/calls.json").read_text()
    return tuple(Call(row["call"], row["action"], tuple(row["on"]), row["for"]) for row in json.loads(text)["calls"])


@dataclass(frozen=True)
class Grants:
    """The resources of an estate, as a site uses them."""

    names: Names
    site: str
    # The Region of each site's stream.
    streams: Mapping[str, str]
    bucket: str | None = None
    # The prefix of the blobs in the bucket: the path of blobs.url.
    blobs: str = ""
    # The ARNs of the key, one per Region. None of them if the services use keys of AWS.
    keys: Sequence[str] = ()
    # Whether the site may publish what a dead node of another site committed and did not publish.
    adopts: bool = True
    # Whether a sidecar may create tables and its stream. Pulumi creates them, so it need not.
    creates: bool = False
    # The sites whose streams are read by enhanced fan-out: eventlog.reading is "auto" or "fan-out".
    fan_out: Sequence[str] = ()
    # Whether the sidecars set the number of shards of the site's stream: eventlog.autoscale.mode is "on".
    scales: bool = False

    def arns(self, kind: str) -> list[str]:
        """The ARNs of a kind of resource, as data/calls.json names it."""
        names = self.names
        below = f"{self.blobs.strip('/')}/*" if self.blobs.strip("/") else "*"
        fan_out = sorted(names.stream_arn(site, self.streams[site]) for site in self.fan_out)
        own = [names.stream_arn(self.site, self.streams[self.site])]
        of: dict[str, list[str]] = {
            "refs": [names.table_arn(names.refs)],
            "journal": [names.table_arn(names.journal)],
            "streams": sorted(names.stream_arn(site, region) for site, region in self.streams.items()),
            "fan-out-streams": fan_out,
            "consumers": [f"{arn}/consumer/*" for arn in fan_out],
            "own-stream": own,
            "scaled-stream": own if self.scales else [],
            "bucket": [names.bucket_arn(self.bucket)] if self.bucket else [],
            "blobs": [f"{names.bucket_arn(self.bucket)}/{below}"] if self.bucket else [],
            "key": sorted(self.keys),
        }
        return of[kind]

    def purposes(self) -> set[str]:
        """The purposes whose calls this site may make."""
        return {"run"} | ({"adopt"} if self.adopts else set()) | ({"create"} if self.creates else set())


def site_policy(grants: Grants) -> Document:
    """The policy of a site: one statement per set of resources, with the actions on exactly these."""
    resources: dict[str, set[str]] = {}
    for call in calls():
        if call.purpose in grants.purposes():
            resources.setdefault(call.action, set()).update(arn for kind in call.on for arn in grants.arns(kind))
    statements: dict[tuple[str, ...], list[str]] = {}
    for action, arns in resources.items():
        if arns:
            statements.setdefault(tuple(sorted(arns)), []).append(action)
    return {
        "Version": "2012-10-17",
        "Statement": [statement(grants, sorted(actions), on) for on, actions in sorted(statements.items())],
    }


def statement(grants: Grants, actions: Sequence[str], arns: Sequence[str]) -> Document:
    """A statement. The key is usable through the three services alone."""
    allowed: Document = {"Effect": "Allow", "Action": list(actions), "Resource": list(arns)}
    if actions[0].startswith("kms:"):
        regions = sorted({grants.names.region, *grants.streams.values()})
        via = [f"{service}.{region}.amazonaws.com" for region in regions for service in VIA]
        allowed["Condition"] = {"StringEquals": {"kms:ViaService": via}}
    return allowed
