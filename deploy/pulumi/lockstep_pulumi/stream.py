"""The stream of a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from lockstep_pulumi.alarms import raise_alarms, stream_alarms
from lockstep_pulumi.invalid import refuse, unless
from lockstep_pulumi.names import Names
from lockstep_pulumi.options import kept

# `lease.expelled_after` of a sidecar, in hours: the longest absence of a node. A stream must keep more than that.
EXPELLED_AFTER_HOURS = 144


@dataclass(frozen=True)
class StreamArgs:
    """The settings of a stream."""

    # The number of shards of a provisioned stream. Without it, the stream is on-demand.
    shards: int | None = None
    retention_hours: int = 168
    # Whether to take over an existing stream of this name.
    adopt: bool = False
    topics: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    # Whether the site's sidecars set the number of shards. A change by them is not a difference.
    scales: bool = False

    def __post_init__(self) -> None:
        """Refuses values that lose records, and values that AWS would refuse."""
        refuse(
            unless(
                EXPELLED_AFTER_HOURS < self.retention_hours <= 8760,
                f"retention_hours: {self.retention_hours}; write more than {EXPELLED_AFTER_HOURS} (the longest absence "
                "of a node, lease.expelled_after) and at most 8760",
            ),
            unless(self.shards is None or self.shards > 0, f"shards: {self.shards}; write 1 or more, or nothing"),
        )


class SiteStream(pulumi.ComponentResource):
    """The stream with the transactions of one site, in the Region of the site."""

    name: pulumi.Output[str]
    arn: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        names: Names,
        site: str,
        region: str,
        key_arn: pulumi.Input[str],
        args: StreamArgs | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Creates the stream, encrypted with the key of its Region."""
        super().__init__("lockstep:index:SiteStream", name, None, opts)
        args = args or StreamArgs()
        stream = names.stream(site)
        tags = names.tagged(site)
        found = aws.kinesis.Stream(
            f"{name}-stream",
            name=stream,
            stream_mode_details=aws.kinesis.StreamStreamModeDetailsArgs(
                stream_mode="PROVISIONED" if args.shards else "ON_DEMAND"
            ),
            shard_count=args.shards,
            retention_period=args.retention_hours,
            encryption_type="KMS",
            kms_key_id=key_arn,
            enforce_consumer_deletion=False,
            region=region,
            tags=tags,
            opts=pulumi.ResourceOptions.merge(
                kept(self, stream if args.adopt else None),
                pulumi.ResourceOptions(ignore_changes=["shardCount"] if args.scales else None),
            ),
        )
        alarms = stream_alarms(args.retention_hours)
        raise_alarms(self, name, alarms, {"StreamName": stream}, region, tags, args.topics)
        self.name, self.arn = found.name, found.arn
        self.register_outputs({"name": found.name, "arn": found.arn})
