"""The program of all stacks: one stack for the parts that sites share, and one per site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from lockstep_pulumi.blobs import BlobBucket
from lockstep_pulumi.estate import Estate, SiteEntry, read
from lockstep_pulumi.iam import Document
from lockstep_pulumi.karpenter import KarpenterPools, PoolsArgs
from lockstep_pulumi.key import EstateKey
from lockstep_pulumi.objects.args import GerritArgs, PlacementArgs, SidecarArgs, TlsArgs
from lockstep_pulumi.objects.karpenter import placement
from lockstep_pulumi.objects.settings import merged
from lockstep_pulumi.refdb import RefDbArgs, SharedRefDb
from lockstep_pulumi.sidecar import Sidecar
from lockstep_pulumi.site import Site, SiteArgs
from lockstep_pulumi.stream import StreamArgs
from lockstep_pulumi.tokens import OperatorTokens
from lockstep_pulumi.trust import ServiceAccount

SECRETS = "/etc/lockstep-secrets"


@dataclass(frozen=True)
class Shared:
    """The outputs of the shared stack that sites need."""

    # The ARN of the key per Region.
    keys: Mapping[str, pulumi.Input[str]]
    # The text of operators.token_file.
    operators: pulumi.Input[str]


def shared(estate: Estate, topics: Mapping[str, str] | None = None) -> Shared:
    """Creates the key, the refdb, the bucket and the tokens of operators."""
    names = estate.names
    key = EstateKey(names.prefix, names, tuple(estate.streams.values()))
    home = key.arns[names.region]
    settings = RefDbArgs(estate.provisioned, estate.warm, adopt=estate.adopt, topics=topics or {})
    refdb = SharedRefDb(names.prefix, names, home, settings)
    bucket = BlobBucket(f"{names.prefix}-blobs", names, home, estate.bucket)
    tokens = OperatorTokens(f"{names.prefix}-operator", names, estate.operators, home)
    pulumi.export("keys", dict(key.arns))
    pulumi.export("tables", dict(refdb.arns))
    pulumi.export("bucket", bucket.bucket)
    pulumi.export("operators", tokens.file)
    return Shared(key.arns, tokens.file)


def site(
    estate: Estate,
    entry: SiteEntry,
    of: Shared,
    cluster: kubernetes.Provider,
    topics: Mapping[str, str] | None = None,
) -> Site:
    """Creates a site: in AWS, and in its cluster."""
    names = estate.names
    account = ServiceAccount(entry.namespace, f"gerrit-{entry.site}")
    stream = StreamArgs(entry.shards, entry.retention_hours, entry.adopt, topics or {}, entry.scales())
    found = Site(
        f"{names.prefix}-{entry.site}",
        names,
        SiteArgs(
            site=entry.site,
            streams=estate.streams,
            keys={region: of.keys[region] for region in sorted({names.region, *estate.streams.values()})},
            account=account,
            eks=entry.eks,
            openstack=entry.openstack,
            provider_arn=entry.provider_arn,
            bucket=estate.bucket.bucket,
            blobs=estate.blobs,
            adopts=entry.adopts,
            fan_out=entry.fan_out(estate.streams),
            endpoints=entry.endpoints,
            stream=stream,
        ),
    )
    inside = pulumi.ResourceOptions(providers=[cluster])
    if entry.eks and entry.karpenter_ami:
        pools = PoolsArgs(entry.site, entry.eks.name, entry.eks.region, entry.karpenter_ami)
        KarpenterPools(f"{names.prefix}-{entry.site}-pools", names, pools, inside)
    Sidecar(f"{names.prefix}-{entry.site}-gerrit", sidecar(estate, entry), {"operators": of.operators}, inside)
    pulumi.export("stream", found.stream.name)
    pulumi.export("role", found.role_arn)
    return found


def sidecar(estate: Estate, entry: SiteEntry) -> SidecarArgs:
    """The settings of a site's pods."""
    names = estate.names
    tolerations, labels = placement() if entry.eks and entry.karpenter_ami else ([], {})
    role = f"arn:{names.partition}:iam::{names.account}:role/{names.prefix}-{entry.site}"
    return SidecarArgs(
        site=entry.site,
        sites=[one.site for one in estate.sites],
        namespace=entry.namespace,
        image=estate.image,
        gerrit=GerritArgs(image=estate.gerrit_image),
        config=merged(config(estate), entry.config),
        mode=entry.mode,
        replicas=entry.replicas,
        most_replicas=max(3, entry.replicas),
        aws_region=names.region,
        role_arn="" if entry.eks else role,
        tls=TlsArgs(issuer=estate.issuer),
        placement=PlacementArgs(tolerations=tolerations, node_selector=labels),
        monitors=estate.monitoring,
        rules=estate.monitoring,
        dashboards=estate.monitoring,
    )


def config(estate: Estate) -> Document:
    """The sidecar's settings that follow from the estate."""
    names = estate.names
    elsewhere = {site: {"region": region} for site, region in estate.streams.items() if region != names.region}
    eventlog: dict[str, Any] = {"prefix": names.prefix, "region": names.region}
    url = f"s3://{estate.bucket.bucket}/{estate.blobs}".rstrip("/")
    return {
        "refdb": {"prefix": names.prefix, "region": names.region},
        "eventlog": {**eventlog, "streams": elsewhere} if elsewhere else eventlog,
        "blobs": {"url": url},
        "operators": {"listen": "0.0.0.0:7423", "token_file": f"{SECRETS}/operators"},
    }


def cluster(settings: pulumi.Config) -> kubernetes.Provider:
    """The cluster of a site.

    ConfigMaps and Secrets are changed in place. By default Pulumi would replace them, and a pod that starts meanwhile
    would not find them.
    """
    return kubernetes.Provider(
        "cluster",
        kubeconfig=settings.require_secret("kubeconfig"),
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
    )


def main() -> None:
    """Creates the stack that the configuration names: `estate` is a file, `part` is "shared" or a site."""
    settings = pulumi.Config("lockstep")
    estate = read(Path(settings.require("estate")))
    topics: dict[str, str] = settings.get_object("topics") or {}
    part = settings.require("part")
    if part == "shared":
        shared(estate, topics)
        return
    entry = estate.site(part)
    stack = pulumi.StackReference(settings.require("shared"))
    keys = stack.require_output("keys")
    regions = sorted({estate.names.region, *estate.streams.values()})
    arns = {region: keys[region] for region in regions}
    site(estate, entry, Shared(arns, stack.require_output("operators")), cluster(settings), topics)
