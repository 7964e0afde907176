"""The policy of a site has the calls that the daemon makes, and no more."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from lockstep_pulumi.iam import Grants, site_policy
from lockstep_pulumi.names import Names

NAMES = Names("prod", "prod", "123456789012", "eu-central-1")
STREAMS = {"eu-aws": "eu-west-1", "muc-1": "eu-central-1"}
KEYS = [f"arn:aws:kms:{region}:123456789012:key/mrk-1" for region in ("eu-central-1", "eu-west-1")]
TABLE = "arn:aws:dynamodb:eu-central-1:123456789012:table/prod-"
STREAM = "arn:aws:kinesis:{}:123456789012:stream/prod-{}"


def granted(statements: list[dict[str, list[str]]]) -> set[tuple[str, str]]:
    """Each action with each resource on which it is allowed."""
    return {(action, arn) for one in statements for action in one["Action"] for arn in one["Resource"]}


def test_the_policy_is_that_of_the_real_command(lockstep: Path, tmp_path: Path):
    """The command makes it from the daemon's own table of calls, which its tests compare with the calls of a run."""
    file = tmp_path / "lockstep.toml"
    file.write_text(
        'site = "muc-1"\nnode = "muc-1-0"\nsites = ["eu-aws", "muc-1"]\nroot = "/git"\nstate = "/git/.lockstep"\n'
        '[refdb]\nprefix = "prod"\nregion = "eu-central-1"\n[eventlog]\nprefix = "prod"\nregion = "eu-central-1"\n'
        '[eventlog.streams.eu-aws]\nregion = "eu-west-1"\nreading = "auto"\n[blobs]\nurl = "s3://packs/prod"\n'
    )
    for who, creates in (("run", False), ("run-and-create", True)):
        options = ["--config", file, "--account", "123456789012", "--for", who]
        command = [lockstep, "aws", "policy", *options]
        ran = subprocess.run(command, env={}, capture_output=True, text=True, check=True)
        of_command = granted(json.loads(ran.stdout)["Statement"])
        ours = site_policy(Grants(NAMES, "muc-1", STREAMS, "packs", "prod", creates=creates, fan_out=["eu-aws"]))
        assert granted(ours["Statement"]) == of_command, who


def policy(site: str = "muc-1", **more: object) -> dict[tuple[str, ...], list[str]]:
    grants = Grants(NAMES, site, STREAMS, "packs", "prod", KEYS, **more)  # type: ignore[arg-type]
    document = site_policy(grants)
    assert all(one["Effect"] == "Allow" for one in document["Statement"])
    return {tuple(one["Resource"]): one["Action"] for one in document["Statement"]}


def test_a_site_may_do_this_and_nothing_else():
    eu, muc = STREAM.format("eu-west-1", "eu-aws"), STREAM.format("eu-central-1", "muc-1")
    assert policy() == {
        (f"{TABLE}journal", f"{TABLE}refs"): [
            "dynamodb:DeleteItem",
            "dynamodb:DescribeTable",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
        ],
        (f"{TABLE}refs",): [
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        ],
        (muc, eu): [
            "kinesis:DescribeStreamSummary",
            "kinesis:GetRecords",
            "kinesis:GetShardIterator",
            "kinesis:ListShards",
            "kinesis:PutRecords",
        ],
        tuple(KEYS): ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"],
        ("arn:aws:s3:::packs",): ["s3:ListBucket"],
        ("arn:aws:s3:::packs/prod/*",): ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
    }


def test_a_site_that_reads_by_fan_out_may_use_the_consumers_of_those_streams_alone():
    found = policy(fan_out=["eu-aws"])
    stream = STREAM.format("eu-west-1", "eu-aws")
    assert found[(f"{stream}/consumer/*",)] == ["kinesis:SubscribeToShard"]
    assert found[(stream,)] == ["kinesis:ListStreamConsumers"]
    assert found[(stream, f"{stream}/consumer/*")] == [
        "kinesis:DeregisterStreamConsumer",
        "kinesis:DescribeStreamConsumer",
        "kinesis:RegisterStreamConsumer",
    ]
    assert not any("onsumer" in action for actions in policy().values() for action in actions)


def test_a_site_with_an_autoscaler_sets_the_shards_of_its_own_stream_alone():
    found = policy(scales=True)
    assert found[(STREAM.format("eu-central-1", "muc-1"),)] == ["kinesis:UpdateShardCount"]
    assert not any("UpdateShardCount" in action for actions in policy().values() for action in actions)


def test_a_site_that_does_not_adopt_writes_into_its_own_stream_alone():
    found = policy(adopts=False)
    assert found[(STREAM.format("eu-central-1", "muc-1"),)] == ["kinesis:PutRecords"]
    assert not any("kinesis:PutRecords" in actions for arns, actions in found.items() if len(arns) > 1)


def test_only_a_site_that_creates_may_create():
    creates = {"dynamodb:CreateTable", "kinesis:CreateStream"}
    assert not creates & {action for actions in policy().values() for action in actions}
    assert creates <= {action for actions in policy(creates=True).values() for action in actions}


def test_the_key_is_usable_through_the_three_services_alone():
    document = site_policy(Grants(NAMES, "muc-1", STREAMS, "packs", "prod", KEYS))
    of_key = next(one for one in document["Statement"] if "kms:Decrypt" in one["Action"])
    via = of_key["Condition"]["StringEquals"]["kms:ViaService"]
    assert "kinesis.eu-west-1.amazonaws.com" in via
    assert len(via) == 6


def test_a_policy_fits_the_limit_of_aws_for_a_hundred_sites():
    streams = {f"site-{number}": "eu-central-1" for number in range(100)}
    document = site_policy(Grants(NAMES, "site-1", streams, "packs", "prod", KEYS))
    # Inline policies of a role: 10,240 characters without spaces.
    assert len(json.dumps(document, separators=(",", ":"))) < 10_240
