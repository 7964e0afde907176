"""The key that encrypts tables, streams and blobs of all sites."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from lockstep_pulumi.names import Names
from lockstep_pulumi.options import below, kept


def key_policy(names: Names) -> str:
    """The account decides by IAM policies: those of `lockstep_pulumi.iam` for sites, and its own for administrators."""
    root = f"arn:{names.partition}:iam::{names.account}:root"
    owner = {"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [owner]})


class EstateKey(pulumi.ComponentResource):
    """One multi-Region key, with a replica in each other Region that has a stream."""

    # The ARN of the key in each Region.
    arns: Mapping[str, pulumi.Output[str]]

    def __init__(
        self, name: str, names: Names, regions: Sequence[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Creates the key in the home Region, and its replicas in `regions`."""
        super().__init__("lockstep:index:EstateKey", name, None, opts)
        key = aws.kms.Key(
            f"{name}-key",
            description=f"Lockstep, {names.environment}: tables, streams and blobs",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            multi_region=True,
            policy=key_policy(names),
            region=names.region,
            tags=names.tagged(),
            opts=kept(self),
        )
        aws.kms.Alias(
            f"{name}-alias",
            name=f"alias/{names.prefix}",
            target_key_id=key.key_id,
            region=names.region,
            opts=below(self),
        )
        arns = {names.region: key.arn}
        for region in sorted(set(regions) - {names.region}):
            replica = aws.kms.ReplicaKey(
                f"{name}-key-{region}",
                description=f"Lockstep, {names.environment}: streams in {region}",
                primary_key_arn=key.arn,
                deletion_window_in_days=30,
                policy=key_policy(names),
                region=region,
                tags=names.tagged(),
                opts=kept(self),
            )
            arns[region] = replica.arn
        self.arns = arns
        self.register_outputs({"arns": dict(arns)})
