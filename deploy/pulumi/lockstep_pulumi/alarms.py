"""Alarms of CloudWatch for facts that only AWS sees. The rules for Prometheus have the facts that a sidecar sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from lockstep_pulumi.iam import calls
from lockstep_pulumi.options import below

# The share of a stream's retention at which a reader that is so far behind is reported.
LATE = 0.5


@dataclass(frozen=True)
class Alarm:
    """An alarm: it fires when the metric was above the threshold in every one of the last `periods` minutes."""

    name: str
    namespace: str
    metric: str
    statistic: str
    threshold: float
    periods: int
    severity: str
    meaning: str
    # The heading in docs/operations.md that says what to do.
    runbook: str
    # DynamoDB counts some metrics per operation alone. These are summed up.
    operations: tuple[str, ...] = ()


def operations() -> tuple[str, ...]:
    """The operations on items that a sidecar calls."""
    found = {call.call.removeprefix("DynamoDB.").partition("/")[0] for call in calls() if call.purpose == "run"}
    return tuple(sorted(name for name in found if "." not in name and not name.startswith("Describe")))


def table_alarms() -> tuple[Alarm, ...]:
    """The alarms of each table."""
    space = "AWS/DynamoDB"
    return (
        Alarm(
            "throttled-writes", space, "WriteThrottleEvents", "Sum", 10, 5, "ticket",
            "The table refuses writes: a hot key, or a table that is not warm", "lockstepcommitsunknown",
        ),
        Alarm(
            "throttled-reads", space, "ReadThrottleEvents", "Sum", 10, 5, "ticket",
            "The table refuses reads", "locksteprefdbfails",
        ),
        Alarm(
            "system-errors", space, "SystemErrors", "Sum", 5, 5, "page",
            "DynamoDB itself fails calls", "locksteprefdbfails", operations(),
        ),
    )  # fmt: skip


def stream_alarms(retention_hours: int) -> tuple[Alarm, ...]:
    """The alarms of each stream."""
    space = "AWS/Kinesis"
    late = retention_hours * 3_600_000 * LATE
    return (
        Alarm(
            "full", space, "WriteProvisionedThroughputExceeded", "Sum", 10, 5, "ticket",
            "A shard is at its limit: split it, or make the stream on-demand", "lockstepstreamfull",
        ),
        Alarm(
            "late-reader", space, "GetRecords.IteratorAgeMilliseconds", "Maximum", late, 15, "page",
            "A node is behind by half of the retention of the stream", "locksteplag",
        ),
    )  # fmt: skip


def raise_alarms(
    parent: pulumi.Resource,
    name: str,
    alarms: tuple[Alarm, ...],
    dimensions: Mapping[str, str],
    region: str,
    tags: Mapping[str, str],
    topics: Mapping[str, pulumi.Input[str]],
) -> None:
    """Creates alarms of one table or stream. `topics` has the SNS topic per severity; without one, nobody is told."""
    for alarm in alarms:
        actions = [topics[alarm.severity]] if alarm.severity in topics else []
        aws.cloudwatch.MetricAlarm(
            f"{name}-{alarm.name}",
            name=f"{'-'.join(dimensions.values())}-{alarm.name}",
            alarm_description=f"{alarm.meaning}. docs/operations.md#{alarm.runbook}",
            **measured(alarm, dimensions),
            comparison_operator="GreaterThanThreshold",
            threshold=alarm.threshold,
            evaluation_periods=alarm.periods,
            treat_missing_data="notBreaching",
            alarm_actions=actions,
            ok_actions=actions,
            region=region,
            tags={**tags, "severity": alarm.severity},
            opts=below(parent),
        )


def measured(alarm: Alarm, dimensions: Mapping[str, str]) -> dict[str, Any]:
    """The metric of an alarm, or the sum of its metrics."""
    one = {"namespace": alarm.namespace, "metric_name": alarm.metric, "period": 60}
    if not alarm.operations:
        return {**one, "dimensions": dict(dimensions), "statistic": alarm.statistic}
    parts = [
        {
            "id": f"m{number}",
            "metric": {**one, "dimensions": {**dimensions, "Operation": name}, "stat": alarm.statistic},
        }
        for number, name in enumerate(alarm.operations)
    ]
    whole = {"id": "sum", "expression": "SUM(METRICS())", "label": alarm.name, "return_data": True}
    return {"metric_queries": [whole, *parts]}
