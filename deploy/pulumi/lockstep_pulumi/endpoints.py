"""Private ways from a VPC to the services that a sidecar calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from lockstep_pulumi.invalid import refuse, unless
from lockstep_pulumi.names import Names
from lockstep_pulumi.options import below

# Services with a gateway in the routes, and services with an address in each subnet. A sidecar takes its credentials
# from the agent of EKS Pod Identity (eks-auth) or from a web identity (sts).
GATEWAYS = ("dynamodb", "s3")
INTERFACES = ("eks-auth", "kinesis-streams", "sts")


@dataclass(frozen=True)
class EndpointArgs:
    """The network of a site in AWS."""

    vpc_id: str
    subnet_ids: Sequence[str]
    route_table_ids: Sequence[str]
    # The networks whose pods may use the endpoints.
    client_cidrs: Sequence[str]

    def __post_init__(self) -> None:
        """Refuses a network that lets everybody in, or nobody."""
        refuse(
            unless(bool(self.subnet_ids), "subnet_ids: none; name one subnet per zone"),
            unless(bool(self.client_cidrs), "client_cidrs: none; name the networks of the pods"),
            unless(
                not any(cidr.endswith("/0") for cidr in self.client_cidrs),
                "client_cidrs: 0.0.0.0/0 lets everybody in; name the networks of the pods",
            ),
        )


class Endpoints(pulumi.ComponentResource):
    """Endpoints for DynamoDB, Kinesis, S3 and the services that give credentials."""

    def __init__(
        self,
        name: str,
        names: Names,
        site: str,
        region: str,
        args: EndpointArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Creates the endpoints in the VPC. Those of interfaces answer on port 443 to the networks of the pods."""
        super().__init__("lockstep:index:Endpoints", name, None, opts)
        tags = names.tagged(site)
        group = aws.ec2.SecurityGroup(
            f"{name}-endpoints",
            name=f"{names.prefix}-{site}-endpoints",
            description="Endpoints of AWS for sidecars",
            vpc_id=args.vpc_id,
            region=region,
            tags=tags,
            opts=below(self),
        )
        for number, cidr in enumerate(args.client_cidrs):
            aws.vpc.SecurityGroupIngressRule(
                f"{name}-endpoints-{number}",
                security_group_id=group.id,
                cidr_ipv4=cidr,
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                description="pods",
                region=region,
                tags=tags,
                opts=below(self),
            )
        for service in GATEWAYS:
            aws.ec2.VpcEndpoint(
                f"{name}-{service}",
                vpc_id=args.vpc_id,
                service_name=f"com.amazonaws.{region}.{service}",
                vpc_endpoint_type="Gateway",
                route_table_ids=list(args.route_table_ids),
                region=region,
                tags=tags,
                opts=below(self),
            )
        for service in INTERFACES:
            aws.ec2.VpcEndpoint(
                f"{name}-{service}",
                vpc_id=args.vpc_id,
                service_name=f"com.amazonaws.{region}.{service}",
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=list(args.subnet_ids),
                security_group_ids=[group.id],
                region=region,
                tags=tags,
                opts=below(self),
            )
        self.register_outputs({})
