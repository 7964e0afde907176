"""The policy of a site has the calls that the daemon makes, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path

from conftest import TOP

from lockstep_pulumi.iam import Grants, calls, site_policy
from lockstep_pulumi.names import Names

NAMES = Names("prod", "prod", "123456789012", "eu-central-1")
STREAMS = {"eu-aws": "eu-west-1", "muc-1": "eu-central-1"}
KEYS = [f"arn:aws:kms:{region}:123456789012:key/mrk-1" for region in ("eu-central-1", "eu-west-1")]
TABLE = "arn:aws:dynamodb:eu-central-1:123456789012:table/prod-"
STREAM = "arn:aws:kinesis:{}:123456789012:stream/prod-{}"


def sources(folder: str) -> str:
    files = sorted((TOP / "daemon/src/seams" / folder).rglob("*.rs"))
    return "\n".join(without_tests(path) for path in files)


def without_tests(path: Path) -> str:
    return "" if path.name == "tests.rs" else path.read_text().split("#[cfg(test)]\nmod tests")[0]


def pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def called(folder: str) -> set[str]:
    """The operations of the SDK that the sources of a seam call."""
    found = set(re.findall(r"\bclient\s*\.(\w+)\(\)", sources(folder))) - {"clone", "config"}
    return {pascal(name) for name in found}


def listed(service: str) -> set[str]:
    prefix = f"{service}."
    found = {call.call.removeprefix(prefix).partition("/")[0] for call in calls() if call.call.startswith(prefix)}
    return {name.partition(" ")[0] for name in found}


def test_the_calls_are_those_of_the_sources():
    assert called("refdb/dynamo") == listed("DynamoDB")
    assert called("eventlog/kinesis") == listed("Kinesis")


def test_the_writes_of_transactions_are_those_of_the_sources():
    kinds = re.findall(r"TransactWriteItem::builder\(\)\s*\.(\w+)\(", sources("refdb/dynamo"))
    parts = {call.call.partition("/")[2] for call in calls() if "TransactWriteItems/" in call.call}
    assert {pascal(kind) for kind in kinds} == parts


def test_the_calls_of_the_blob_store_are_those_of_the_sources():
    text = sources("blob")
    made = {
        name for name in ("put", "put_multipart", "get", "delete", "list", "copy", "head") if f"store.{name}(" in text
    }
    assert made == {"put", "put_multipart", "get", "delete"}
    assert {"GetObject", "PutObject", "CreateMultipartUpload", "AbortMultipartUpload", "DeleteObject"} <= listed("S3")


def test_the_journal_is_never_updated_nor_queried():
    text = sources("refdb/dynamo")
    on_journal = {call.action for call in calls() if "journal" in call.on}
    assert "query(client, &tables.journal" not in text
    assert not re.search(r"Update::builder\(\)\s*\.table_name\(&tables\.journal\)", text)
    assert not on_journal & {
        "dynamodb:UpdateItem",
        "dynamodb:Query",
        "dynamodb:BatchGetItem",
        "dynamodb:ConditionCheckItem",
    }


def test_the_page_for_operators_lists_the_same_actions():
    page = (TOP / "docs/operations.md").read_text().split("## Requirements in AWS")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+), .*? \| (.*) \|$", page, re.MULTILINE)
    listed = {service.lower(): set(re.findall(r"`(\w+)`", actions)) for service, actions in rows}
    ours: dict[str, set[str]] = {}
    for call in calls():
        service, _, action = call.action.partition(":")
        ours.setdefault(service, set()).add(action)
    assert listed == ours


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
