"""Pulumi and `lockstep aws` make the same tables, streams and bucket. Both work on an emulator of AWS here."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, Runner, Seen
from emulator import Emulator, emulator
from estates import eks, estate, openstack
from test_aws import whole

from lockstep_pulumi import program
from lockstep_pulumi.estate import Estate
from lockstep_pulumi.objects import settings

HOME, AWAY = "eu-central-1", "eu-west-1"
KEYS = tuple(f"arn:aws:kms:{region}:123456789012:key/mrk-1" for region in (HOME, AWAY))
# The tags that all resources have. `site` differs, and `lockstep aws` asks all resources for the same ones.
TAGS = ("project=lockstep", "environment=prod", "managed-by=pulumi")
TABLES = ("table prod-refs", "table prod-journal")
STREAMS = ("stream prod-eu-aws", "stream prod-muc-1")
BUCKET = "bucket example-lockstep-packs"


@pytest.fixture(scope="module")
def running() -> Iterator[Emulator]:
    with emulator() as found:
        yield found


@pytest.fixture
def aws(running: Emulator) -> Emulator:
    """An account with nothing in it."""
    running.forget()
    return running


def at_the_emulator(aws: Emulator, muc: dict[str, Any] | None = None, **more: Any) -> Estate:
    """An estate of two sites, whose sidecars find the tables and streams at the emulator."""
    streams = {"eu-aws": {"region": AWAY, "endpoint": aws.url}}
    config = {"refdb": {"endpoint": aws.url}, "eventlog": {"endpoint": aws.url, "streams": streams}}
    sites = eks("eu-aws", region=AWAY, config=config), openstack("muc-1", config=config, **(muc or {}))
    return estate(*sites, **more)


class Command:
    """`lockstep aws` with the configuration that the program gives to the pods of a site."""

    def __init__(self, binary: Path, folder: Path, aws: Emulator, of: Estate) -> None:
        self.binary, self.file, self.aws = binary, folder / "lockstep.toml", aws
        self.file.write_text(settings.toml(settings.settings(program.sidecar(of, of.site("muc-1")))))

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """The exit code and the answer."""
        keys = [word for key in KEYS for word in ("--kms-key", key)]
        tags = [word for tag in TAGS for word in ("--tag", tag)]
        command = [self.binary, "aws", *words, "--json", "--all-sites", *keys, *tags, "--config", self.file]
        node = {"LOCKSTEP_NODE": "gerrit-muc-1-0", "LOCKSTEP_HANDOVER__POD": "gerrit/gerrit-muc-1-0"}
        env = {"PATH": os.environ["PATH"], **node, **self.aws.environment(HOME)}
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert ran.stdout.startswith("{"), ran.stderr
        return ran.returncode, json.loads(ran.stdout)


def drifted(answer: dict[str, Any]) -> set[tuple[str, str]]:
    """The resources and properties that are not as wanted."""
    rows = answer["properties"]
    return {(row["resource"], row["property"]) for row in rows if row["verdict"] in ("missing", "differs")}


def provisioned(run: Runner, aws: Emulator, of: Estate) -> list[Seen]:
    found: Run = run(lambda: whole(of))
    aws.provision(found.seen)
    return found.seen


@pytest.mark.parametrize(
    ("muc", "mode"), [({}, "on-demand"), ({"shards": 4, "retention_hours": 200}, "")], ids=["on-demand", "shards"]
)
def test_what_pulumi_makes_is_what_lockstep_wants(
    run: Runner, aws: Emulator, lockstep: Path, tmp_path: Path, muc: dict[str, Any], mode: str
):
    of = at_the_emulator(aws, muc)
    provisioned(run, aws, of)
    words = ("--stream-mode", mode) if mode else ()
    code, answer = Command(lockstep, tmp_path, aws, of).run("check", *words)
    assert (code, answer["differs"], answer["failures"], drifted(answer)) == (0, False, [], set())
    # Nothing was left out: every resource has every property, and this emulator answers all but one of them.
    rows = answer["properties"]
    assert {row["resource"] for row in rows} == {*TABLES, *STREAMS, BUCKET}
    properties = {row["property"] for row in rows if row["resource"] == TABLES[0]}
    assert properties >= {"keys", "encryption", "point-in-time recovery", "deletion protection", "tag project"}
    assert {row["property"] for row in rows if row["verdict"] == "not_answered"} <= {"record size"}


def test_a_table_that_scales_is_told_as_the_choice_of_an_operator(
    run: Runner, aws: Emulator, lockstep: Path, tmp_path: Path
):
    of = at_the_emulator(aws, provisioned={"least": 10, "most": 400})
    provisioned(run, aws, of)
    code, answer = Command(lockstep, tmp_path, aws, of).run("check")
    assert code == 2
    assert drifted(answer) == {(table, "billing mode") for table in TABLES}
    (remedy, _) = [row["remedy"] for row in answer["properties"] if row["property"] == "billing mode"]
    assert remedy.startswith("keep it if its capacity follows the load")


def state(aws: Emulator) -> dict[str, Any]:
    """The emulator's answers about the resources: everything that both ways set."""
    found: dict[str, Any] = {}
    dynamo = aws.client("dynamodb", HOME)
    for name in ("prod-refs", "prod-journal"):
        of = dynamo.describe_table(TableName=name)["Table"]
        backups = dynamo.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        found[name] = {
            "keys": of["KeySchema"],
            "attributes": sorted(one["AttributeName"] for one in of["AttributeDefinitions"]),
            "billing": of["BillingModeSummary"]["BillingMode"],
            "encryption": of["SSEDescription"],
            "protected": of["DeletionProtectionEnabled"],
            "recovery": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
            "tags": common(dynamo.list_tags_of_resource(ResourceArn=of["TableArn"])["Tags"]),
        }
    for name, region in (("prod-eu-aws", AWAY), ("prod-muc-1", HOME)):
        kinesis = aws.client("kinesis", region)
        of = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        fields = ("StreamModeDetails", "RetentionPeriodHours", "EncryptionType", "KeyId", "OpenShardCount")
        found[name] = {field: of[field] for field in fields}
        found[name]["tags"] = common(kinesis.list_tags_for_stream(StreamName=name)["Tags"])
    s3, bucket = aws.client("s3", HOME), "example-lockstep-packs"
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    found[bucket] = {
        "encryption": rules[0]["ApplyServerSideEncryptionByDefault"],
        "access": s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"],
        "place": s3.get_bucket_location(Bucket=bucket)["LocationConstraint"],
        "tags": common(s3.get_bucket_tagging(Bucket=bucket)["TagSet"]),
    }
    return found


def common(tags: list[dict[str, str]]) -> dict[str, str]:
    return {one["Key"]: one["Value"] for one in tags if f"{one['Key']}={one['Value']}" in TAGS}


def test_both_ways_from_nothing_end_in_the_same(run: Runner, aws: Emulator, lockstep: Path, tmp_path: Path):
    of = at_the_emulator(aws)
    command, mode = Command(lockstep, tmp_path, aws, of), ("--stream-mode", "on-demand")
    code, answer = command.run("plan", *mode)
    assert code == 0
    assert drifted(answer) == {(resource, "existence") for resource in (*TABLES, *STREAMS, BUCKET)}
    code, answer = command.run("apply", "--yes", *mode)
    assert (code, answer["failures"], drifted(answer)) == (0, [], set())
    applied = state(aws)
    aws.forget()
    provisioned(run, aws, of)
    assert applied == state(aws)


def test_lockstep_changes_nothing_of_what_pulumi_made(run: Runner, aws: Emulator, lockstep: Path, tmp_path: Path):
    of = at_the_emulator(aws)
    provisioned(run, aws, of)
    before = state(aws)
    code, answer = Command(lockstep, tmp_path, aws, of).run("apply", "--yes", "--stream-mode", "on-demand")
    assert (code, answer["applied"]) == (0, [])
    assert state(aws) == before


def planted(kind: str, name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[list[Seen]], list[Seen]]:
    """A change of the inputs of one resource."""

    def plant(seen: list[Seen]) -> list[Seen]:
        copied = copy.deepcopy([one for one in seen if one.type.startswith("aws:")])
        (one,) = [one for one in copied if one.type.endswith(f":{kind}") and name in one.name]
        change(one.props)
        return copied

    return plant


OTHER = "arn:aws:kms:eu-central-1:123456789012:key/other"


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (planted("Stream", "muc-1", lambda of: of.update(retentionPeriod=24)), (STREAMS[1], "retention")),
        (planted("Stream", "muc-1", lambda of: of.update(kmsKeyId=OTHER)), (STREAMS[1], "encryption")),
        (
            planted("Stream", "eu-aws", lambda of: (of.update(encryptionType="NONE"), of.pop("kmsKeyId"))),
            (STREAMS[0], "encryption"),
        ),
        (
            planted(
                "Stream", "eu-aws", lambda of: of.update(streamModeDetails={"streamMode": "PROVISIONED"}, shardCount=1)
            ),
            (STREAMS[0], "mode"),
        ),
        (
            planted("Table", "refs", lambda of: of.update(deletionProtectionEnabled=False)),
            (TABLES[0], "deletion protection"),
        ),
        (
            planted("Table", "journal", lambda of: of.update(pointInTimeRecovery={"enabled": False})),
            (TABLES[1], "point-in-time recovery"),
        ),
        (
            planted("Table", "journal", lambda of: of["serverSideEncryption"].update(kmsKeyArn=OTHER)),
            (TABLES[1], "encryption"),
        ),
        (planted("Table", "journal", lambda of: of["tags"].pop("environment")), (TABLES[1], "tag environment")),
        (
            planted("BucketPublicAccessBlock", "", lambda of: of.update(blockPublicPolicy=False)),
            (BUCKET, "public access"),
        ),
        (planted("Bucket", "blobs-bucket", lambda of: of["tags"].update(project="x")), (BUCKET, "tag project")),
    ],
    ids=lambda part: f"{part[1]} of {part[0]}" if isinstance(part, tuple) else "",
)
def test_a_planted_drift_is_found(
    run: Runner,
    aws: Emulator,
    lockstep: Path,
    tmp_path: Path,
    plant: Callable[[list[Seen]], list[Seen]],
    told: tuple[str, str],
):
    of = at_the_emulator(aws)
    seen = plant(run(lambda: whole(of)).seen)
    aws.provision(seen)
    code, answer = Command(lockstep, tmp_path, aws, of).run("check", "--stream-mode", "on-demand")
    assert (code, drifted(answer)) == (2, {told})
