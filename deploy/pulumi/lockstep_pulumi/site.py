"""A site: its stream, its role, and the trust of its cluster. A site outside of AWS has nothing else in AWS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from lockstep_pulumi.endpoints import EndpointArgs, Endpoints
from lockstep_pulumi.iam import Grants, site_policy
from lockstep_pulumi.invalid import refuse, unless
from lockstep_pulumi.names import Names, site_problem
from lockstep_pulumi.options import below
from lockstep_pulumi.stream import SiteStream, StreamArgs
from lockstep_pulumi.trust import (
    AUDIENCE,
    EksCluster,
    OpenStackCluster,
    ServiceAccount,
    pod_identity_trust,
    web_identity_trust,
)


@dataclass(frozen=True)
class SiteArgs:
    """The settings of a site. It has exactly one of `eks` and `openstack`, which decides its kind."""

    site: str
    # The Region of each site's stream, this one included.
    streams: Mapping[str, str]
    # The ARN of the key per Region, as `EstateKey` has them.
    keys: Mapping[str, pulumi.Input[str]]
    account: ServiceAccount
    eks: EksCluster | None = None
    openstack: OpenStackCluster | None = None
    # The provider for the issuer, if another site of the same cluster has created it.
    provider_arn: str | None = None
    bucket: str | None = None
    blobs: str = ""
    # Whether this site may publish what a dead node of another site left.
    adopts: bool = True
    # The sites whose streams the sidecars may read by enhanced fan-out.
    fan_out: Sequence[str] = ()
    endpoints: EndpointArgs | None = None
    stream: StreamArgs = field(default_factory=StreamArgs)

    def __post_init__(self) -> None:
        """Refuses what does not fit together."""
        refuse(
            site_problem("site", self.site),
            unless(
                (self.eks is None) != (self.openstack is None),
                f"site {self.site}: name its cluster in exactly one of eks and openstack",
            ),
            unless(self.site in self.streams, f"streams: {self.site} is missing; name the Region of its stream"),
            unless(
                self.endpoints is None or self.eks is not None,
                f"site {self.site}: endpoints belong to a VPC; a site in OpenStack has none",
            ),
            *(
                unless(region in self.keys, f"keys: none for {region}, the Region of the stream of {site}")
                for site, region in self.streams.items()
            ),
        )

    @property
    def kind(self) -> str:
        """The kind of the site."""
        return "eks" if self.eks else "openstack"


class Site(pulumi.ComponentResource):
    """The resources of a site in AWS."""

    stream: SiteStream
    role_arn: pulumi.Output[str]
    policy: pulumi.Output[str]

    def __init__(self, name: str, names: Names, args: SiteArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Creates stream, role and trust, and for a site in EKS the association and the endpoints."""
        super().__init__("lockstep:index:Site", name, None, opts)
        refuse(names.length_problem(args.site))
        self._name, self._names, self._args = name, names, args
        region = args.streams[args.site]
        self.stream = SiteStream(name, names, args.site, region, args.keys[region], args.stream, below(self))
        role = aws.iam.Role(
            f"{name}-role",
            name=f"{names.prefix}-{args.site}",
            description=f"The sidecars of site {args.site}",
            assume_role_policy=self._trust(),
            max_session_duration=3600,
            tags=names.tagged(args.site),
            opts=below(self),
        )
        self.policy = pulumi.Output.all(*args.keys.values()).apply(self._policy)
        aws.iam.RolePolicy(f"{name}-policy", name="sidecar", role=role.name, policy=self.policy, opts=below(self))
        if args.eks:
            aws.eks.PodIdentityAssociation(
                f"{name}-identity",
                cluster_name=args.eks.name,
                namespace=args.account.namespace,
                service_account=args.account.name,
                role_arn=role.arn,
                region=args.eks.region,
                tags=names.tagged(args.site),
                opts=below(self),
            )
        if args.eks and args.endpoints:
            Endpoints(name, names, args.site, args.eks.region, args.endpoints, below(self))
        self.role_arn = role.arn
        self.register_outputs({"stream": self.stream.name, "roleArn": role.arn})

    def _policy(self, keys: list[str]) -> str:
        args = self._args
        grants = Grants(
            self._names,
            args.site,
            args.streams,
            args.bucket,
            args.blobs,
            keys,
            args.adopts,
            fan_out=args.fan_out,
            scales=args.stream.scales,
        )
        return json.dumps(site_policy(grants))

    def _trust(self) -> pulumi.Input[str]:
        args, names = self._args, self._names
        if args.eks:
            return json.dumps(pod_identity_trust(args.eks, names.account, names.partition))
        cluster, account = args.openstack, args.account
        assert cluster is not None, "SiteArgs refuses a site without a cluster"
        provider: pulumi.Input[str]
        if args.provider_arn:
            provider = args.provider_arn
        else:
            provider = aws.iam.OpenIdConnectProvider(
                f"{self._name}-issuer",
                url=cluster.issuer,
                client_id_lists=[AUDIENCE],
                tags=names.tagged(args.site),
                opts=below(self),
            ).arn
        return pulumi.Output.from_input(provider).apply(
            lambda arn: json.dumps(web_identity_trust(cluster, arn, account))
        )
