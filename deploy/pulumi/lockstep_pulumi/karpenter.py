"""Karpenter's pools for a site in EKS, the role of its nodes, and the notices before a node goes.

Karpenter itself, its controller's role and its CRDs belong to the cluster and must be there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from lockstep_pulumi.names import Names
from lockstep_pulumi.objects import karpenter as objects
from lockstep_pulumi.objects.karpenter import KarpenterArgs
from lockstep_pulumi.options import below
from lockstep_pulumi.sidecar import created

# The events that tell of the end of a node.
NOTICES: Mapping[str, tuple[str, str]] = {
    "interruption": ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "rebalance": ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
    "state": ("aws.ec2", "EC2 Instance State-change Notification"),
    "health": ("aws.health", "AWS Health Event"),
}
NODE_POLICIES = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonSSMManagedInstanceCore",
)


@dataclass(frozen=True)
class PoolsArgs:
    """The pools of a site's cluster."""

    site: str
    cluster: str
    region: str
    ami: str
    pools: tuple[str, ...] = ("gerrit", "stateless", "ci")


class KarpenterPools(pulumi.ComponentResource):
    """The pools, their nodes' role with its access to the cluster, and a queue with the notices for Karpenter."""

    # The name of the queue: `settings.interruptionQueue` of Karpenter's chart.
    queue: pulumi.Output[str]

    def __init__(self, name: str, names: Names, args: PoolsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Creates the pools in the cluster that `opts` names by its provider."""
        super().__init__("lockstep:index:KarpenterPools", name, None, opts)
        self._name, self._names, self._args = name, names, args
        tags = names.tagged(args.site)
        role = self._role()
        self.queue = self._notices()
        settings = KarpenterArgs(cluster=args.cluster, node_role=self._role_name, ami=args.ami, pools=args.pools)
        machines = created(
            f"{name}-nodeclass",
            objects.node_class(settings, tags),
            pulumi.ResourceOptions(parent=self, depends_on=[role]),
        )
        for value in objects.pools(settings):
            waits = pulumi.ResourceOptions(parent=self, depends_on=[machines])
            created(f"{name}-nodepool-{value['metadata']['name']}", value, waits)
        self.register_outputs({"queue": self.queue})

    @property
    def _role_name(self) -> str:
        return f"{self._names.prefix}-{self._args.site}-node"

    def _role(self) -> pulumi.Resource:
        names, args, name = self._names, self._args, self._name
        allowed = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        role = aws.iam.Role(
            f"{name}-node",
            name=self._role_name,
            description=f"The nodes of Karpenter in {args.cluster}",
            assume_role_policy=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
            tags=names.tagged(args.site),
            opts=below(self),
        )
        for policy in NODE_POLICIES:
            aws.iam.RolePolicyAttachment(
                f"{name}-node-{policy}",
                role=role.name,
                policy_arn=f"arn:{names.partition}:iam::aws:policy/{policy}",
                opts=below(self),
            )
        return aws.eks.AccessEntry(
            f"{name}-node",
            cluster_name=args.cluster,
            principal_arn=role.arn,
            type="EC2_LINUX",
            region=args.region,
            tags=names.tagged(args.site),
            opts=below(self),
        )

    def _notices(self) -> pulumi.Output[str]:
        names, args, name = self._names, self._args, self._name
        tags = names.tagged(args.site)
        queue = aws.sqs.Queue(
            f"{name}-notices",
            name=f"{names.prefix}-{args.site}-notices",
            message_retention_seconds=300,
            sqs_managed_sse_enabled=True,
            region=args.region,
            tags=tags,
            opts=below(self),
        )
        aws.sqs.QueuePolicy(
            f"{name}-notices",
            queue_url=queue.url,
            policy=queue.arn.apply(lambda arn: queue_policy(names, args.region, arn)),
            region=args.region,
            opts=below(self),
        )
        for key, (source, kind) in NOTICES.items():
            rule = aws.cloudwatch.EventRule(
                f"{name}-{key}",
                name=f"{names.prefix}-{args.site}-{key}",
                event_pattern=json.dumps({"source": [source], "detail-type": [kind]}),
                region=args.region,
                tags=tags,
                opts=below(self),
            )
            aws.cloudwatch.EventTarget(
                f"{name}-{key}", rule=rule.name, arn=queue.arn, region=args.region, opts=below(self)
            )
        return queue.name


def queue_policy(names: Names, region: str, arn: str) -> str:
    """The rules of this account may write into the queue, with TLS alone."""
    rules = f"arn:{names.partition}:events:{region}:{names.account}:rule/{names.prefix}-*"
    allowed = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnLike": {"aws:SourceArn": rules}},
    }
    refused = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": arn,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [allowed, refused]})
