"""An estate: everything of one environment, as one file describes it. `read` reports all wrong values at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from lockstep_pulumi.blobs import BucketArgs
from lockstep_pulumi.endpoints import EndpointArgs
from lockstep_pulumi.invalid import InvalidError, refuse, unless
from lockstep_pulumi.names import Names
from lockstep_pulumi.objects.args import mode_problem
from lockstep_pulumi.refdb import Provisioned
from lockstep_pulumi.tokens import Rotation
from lockstep_pulumi.trust import EksCluster, OpenStackCluster


@dataclass(frozen=True)
class SiteEntry:
    """A site of the file."""

    site: str
    eks: EksCluster | None = None
    openstack: OpenStackCluster | None = None
    # The provider for the issuer in AWS, if another stack has created it.
    provider_arn: str | None = None
    # The Region of the stream. Without it, the home Region.
    region: str = ""
    namespace: str = "gerrit"
    # "active", "shadow" (the sidecar watches another replication) or "off".
    mode: str = "active"
    replicas: int = 2
    shards: int | None = None
    retention_hours: int = 168
    adopt: bool = False
    adopts: bool = True
    endpoints: EndpointArgs | None = None
    # The version of AL2023 for Karpenter's nodes. Without it, there are no pools.
    karpenter_ami: str = ""
    # Settings of the sidecar, as docs/configuration.md lists them.
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses a mode that is none."""
        refuse(mode_problem(self.mode))

    def fan_out(self, sites: Iterable[str]) -> list[str]:
        """The sites whose streams this site's sidecars may read by enhanced fan-out, by their settings."""
        eventlog = self.config.get("eventlog", {})
        usual, streams = eventlog.get("reading", "polling"), eventlog.get("streams", {})
        return [site for site in sites if streams.get(site, {}).get("reading", usual) != "polling"]

    def scales(self) -> bool:
        """Whether this site's sidecars set the number of shards of its stream, by their settings."""
        mode = self.config.get("eventlog", {}).get("autoscale", {}).get("mode", "off")
        return bool(mode == "on")


@dataclass(frozen=True)
class Estate:
    """An environment."""

    names: Names
    bucket: BucketArgs
    image: str
    gerrit_image: str
    sites: tuple[SiteEntry, ...]
    # The prefix of the blobs in the bucket.
    blobs: str = ""
    provisioned: Provisioned | None = None
    warm: tuple[int, int] | None = None
    adopt: bool = False
    issuer: str = "lockstep"
    operators: Mapping[str, Rotation] = field(default_factory=dict)
    # Prometheus operator and Grafana are there.
    monitoring: bool = True

    def __post_init__(self) -> None:
        """Refuses what does not fit together."""
        listed = [one.site for one in self.sites]
        twice = repeated(listed)
        issuers = repeated([one.openstack.issuer for one in self.sites if one.openstack and not one.provider_arn])
        pooled = repeated([one.eks.name for one in self.sites if one.eks and one.karpenter_ami])
        refuse(
            unless(bool(listed), "sites: none; name one"),
            *(self.names.length_problem(site) for site in listed),
            unless(not twice, f"sites: {', '.join(twice)} twice; each site has a name of its own"),
            unless(
                not issuers,
                f"sites: {', '.join(issuers)} twice as an issuer; AWS has one provider for it: set provider_arn in one",
            ),
            unless(
                not pooled,
                f"sites: {', '.join(pooled)} twice with karpenter_ami; pools belong to a cluster: set it in one site",
            ),
        )

    @property
    def streams(self) -> dict[str, str]:
        """The Region of each site's stream."""
        return {one.site: one.region or self.names.region for one in self.sites}

    def site(self, name: str) -> SiteEntry:
        """The site of this name."""
        found = [one for one in self.sites if one.site == name]
        known = ", ".join(one.site for one in self.sites)
        refuse(unless(bool(found), f"site {name!r} is not in the estate; its sites are {known}"))
        return found[0]


def repeated(names: list[str]) -> list[str]:
    """The names that are in the list twice."""
    return sorted({name for name in names if names.count(name) > 1})


# The parts of the file that are values of a class of their own.
NESTED: Mapping[type, Mapping[str, Any]] = {
    Estate: {"names": Names, "bucket": BucketArgs, "provisioned": Provisioned},
    SiteEntry: {"eks": EksCluster, "openstack": OpenStackCluster, "endpoints": EndpointArgs},
}


def read(path: Path) -> Estate:
    """The estate of a file."""
    return parse(yaml.safe_load(path.read_text()))


def parse(value: Mapping[str, Any]) -> Estate:
    """The estate of a parsed file."""
    problems: list[str] = []
    whole = dict(value)
    listed, named = whole.pop("sites", None) or [], whole.pop("operators", None) or {}
    if not isinstance(listed, list) or not isinstance(named, Mapping):
        raise InvalidError(["sites is a list, and operators a table of names"])
    sites = [built(SiteEntry, one, f"sites[{at}]", problems) for at, one in enumerate(listed)]
    holders = {holder: built(Rotation, one, f"operators.{holder}", problems) for holder, one in named.items()}
    whole |= {"sites": tuple(sites), "operators": holders}
    # Without a part, there is no estate to look at.
    estate: Estate | None = built(Estate, whole, "", problems, before=0)
    if problems or estate is None:
        raise InvalidError(problems)
    return estate


def built(kind: type[Any], value: Any, path: str, problems: list[str], before: int | None = None) -> Any:
    """A value of a class. Its errors are added to the problems, and the value is then None.

    `before` is the number of problems with which a value can still be made: by default, all that are there.
    """
    here = f"{path}." if path else ""
    if not isinstance(value, Mapping):
        problems.append(f"{path}: {value!r}; write its fields")
        return None
    known = {one.name for one in fields(kind)}
    unknown = sorted(set(value) - known)
    problems += [f"{here}{name} is no setting; the settings are {', '.join(sorted(known))}" for name in unknown]
    before = len(problems) if before is None else before
    inner = {
        name: built(NESTED[kind][name], part, f"{here}{name}", problems)
        if name in NESTED.get(kind, {}) and part is not None
        else part
        for name, part in value.items()
        if name in known
    }
    if len(problems) > before:
        return None
    try:
        return kind(**{name: tuple(part) if isinstance(part, list) else part for name, part in inner.items()})
    except InvalidError as error:
        problems += [f"{here}{problem}" for problem in error.problems]
    except TypeError as error:
        problems.append(f"{path or 'the file'}: {error}".replace("__init__() ", ""))
    return None
