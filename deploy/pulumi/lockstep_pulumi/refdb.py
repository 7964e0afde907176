"""The refdb: two tables of one Region, for all sites.

A sidecar refuses a table that is replicated to other Regions: eventual consistency has no compare-and-set, and strong
consistency has no transactions. So there are no replicas here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from lockstep_pulumi.alarms import raise_alarms, table_alarms
from lockstep_pulumi.invalid import refuse, unless
from lockstep_pulumi.names import Names
from lockstep_pulumi.options import below, kept

# The share of the provisioned capacity at which a table grows.
TARGET = 60


@dataclass(frozen=True)
class Provisioned:
    """A provisioned table that scales between these bounds, in units per second. On-demand is the default."""

    least: int
    most: int

    def __post_init__(self) -> None:
        """Refuses bounds that leave no room."""
        refuse(unless(0 < self.least <= self.most, f"least {self.least} and most {self.most}: write 0 < least <= most"))


@dataclass(frozen=True)
class RefDbArgs:
    """The settings of a refdb."""

    # Without it, the tables are on-demand.
    provisioned: Provisioned | None = None
    # Reads and writes per second that a new on-demand table takes at once, as `refdb.warm_throughput` of a sidecar.
    warm: tuple[int, int] | None = None
    # How far back a backup can be restored, in days.
    recovery_days: int = 35
    # Whether to take over existing tables of these names.
    adopt: bool = False
    # The SNS topic per severity, "page" and "ticket".
    topics: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses values that AWS would refuse."""
        refuse(
            unless(1 <= self.recovery_days <= 35, f"recovery_days: {self.recovery_days}; write 1 to 35"),
            unless(
                self.warm is None or self.provisioned is None,
                "warm: only a table that is on-demand has it; remove one of warm and provisioned",
            ),
        )


class SharedRefDb(pulumi.ComponentResource):
    """The two tables, with backups, alarms and protection against deletion."""

    # The ARNs of the tables, by "refs" and "journal".
    arns: Mapping[str, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        names: Names,
        key_arn: pulumi.Input[str],
        args: RefDbArgs | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Creates the tables in the home Region, encrypted with the key."""
        super().__init__("lockstep:index:SharedRefDb", name, None, opts)
        self._names, self._args = names, args or RefDbArgs()
        refs = self._table(f"{name}-refs", names.refs, ("pk", "sk"), key_arn)
        journal = self._table(f"{name}-journal", names.journal, ("pk",), key_arn)
        self.arns = {"refs": refs.arn, "journal": journal.arn}
        self.register_outputs({"arns": dict(self.arns)})

    def _table(self, name: str, table: str, keys: tuple[str, ...], key_arn: pulumi.Input[str]) -> aws.dynamodb.Table:
        names, args = self._names, self._args
        provisioned, warm = args.provisioned, args.warm
        # A change by autoscaling is not a difference.
        ignored = ["readCapacity", "writeCapacity"] if provisioned else None
        found = aws.dynamodb.Table(
            name,
            name=table,
            attributes=[aws.dynamodb.TableAttributeArgs(name=key, type="S") for key in keys],
            hash_key=keys[0],
            range_key=keys[1] if len(keys) > 1 else None,
            billing_mode="PROVISIONED" if provisioned else "PAY_PER_REQUEST",
            read_capacity=provisioned.least if provisioned else None,
            write_capacity=provisioned.least if provisioned else None,
            warm_throughput=warm
            and aws.dynamodb.TableWarmThroughputArgs(read_units_per_second=warm[0], write_units_per_second=warm[1]),
            deletion_protection_enabled=True,
            point_in_time_recovery=aws.dynamodb.TablePointInTimeRecoveryArgs(
                enabled=True, recovery_period_in_days=args.recovery_days
            ),
            server_side_encryption=aws.dynamodb.TableServerSideEncryptionArgs(enabled=True, kms_key_arn=key_arn),
            region=names.region,
            tags=names.tagged(),
            opts=pulumi.ResourceOptions.merge(
                kept(self, table if args.adopt else None), pulumi.ResourceOptions(ignore_changes=ignored)
            ),
        )
        if provisioned:
            self._scaled(name, table, provisioned, found)
        raise_alarms(self, name, table_alarms(), {"TableName": table}, names.region, names.tagged(), args.topics)
        return found

    def _scaled(self, name: str, table: str, bounds: Provisioned, depends: aws.dynamodb.Table) -> None:
        for way, metric in (("Read", "DynamoDBReadCapacityUtilization"), ("Write", "DynamoDBWriteCapacityUtilization")):
            target = aws.appautoscaling.Target(
                f"{name}-{way.lower()}",
                service_namespace="dynamodb",
                resource_id=f"table/{table}",
                scalable_dimension=f"dynamodb:table:{way}CapacityUnits",
                min_capacity=bounds.least,
                max_capacity=bounds.most,
                region=self._names.region,
                tags=self._names.tagged(),
                opts=pulumi.ResourceOptions(parent=self, depends_on=[depends]),
            )
            aws.appautoscaling.Policy(
                f"{name}-{way.lower()}",
                name=f"{table}-{way.lower()}",
                policy_type="TargetTrackingScaling",
                service_namespace=target.service_namespace,
                resource_id=target.resource_id,
                scalable_dimension=target.scalable_dimension,
                target_tracking_scaling_policy_configuration={
                    "predefined_metric_specification": {"predefined_metric_type": metric},
                    "target_value": TARGET,
                },
                region=self._names.region,
                opts=below(self),
            )
