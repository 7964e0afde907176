"""Rules for the resources that hold data in AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from lockstep_pulumi.rules.model import Rule, Thing, of_kind
from lockstep_pulumi.stream import EXPELLED_AFTER_HOURS

BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def table_encrypted(thing: Thing) -> Iterator[str]:
    """Encryption with a key of the account."""
    if not thing.props.get("serverSideEncryption", {}).get("kmsKeyArn"):
        yield "the table is not encrypted with a key of this account"


def table_restorable(thing: Thing) -> Iterator[str]:
    """Point-in-time recovery."""
    if not thing.props.get("pointInTimeRecovery", {}).get("enabled"):
        yield "point-in-time recovery is off"


def table_protected(thing: Thing) -> Iterator[str]:
    """Deletion protection of DynamoDB itself."""
    if thing.props.get("deletionProtectionEnabled") is not True:
        yield "deletion protection is off"


def table_in_one_region(thing: Thing) -> Iterator[str]:
    """No replicas."""
    if thing.props.get("replicas") or thing.props.get("globalTableWitness"):
        yield "the table is replicated to other Regions, and a sidecar refuses such a table"


def table_scales(things: Sequence[Thing]) -> Iterator[tuple[Thing | None, str]]:
    """On-demand, or autoscaling of both reads and writes."""
    scaled = {
        (target.props.get("resourceId"), target.props.get("scalableDimension"))
        for target in of_kind(things, "Target")
        if target.type.startswith("aws:appautoscaling")
    }
    for table in of_kind(things, "Table"):
        if table.props.get("billingMode") == "PAY_PER_REQUEST":
            continue
        for way in ("Read", "Write"):
            if (f"table/{table.props.get('name')}", f"dynamodb:table:{way}CapacityUnits") not in scaled:
                yield table, f"it is provisioned, and its {way.lower()} capacity does not scale"


def stream_encrypted(thing: Thing) -> Iterator[str]:
    """Encryption with a key of the account."""
    key = thing.props.get("kmsKeyId", "")
    if thing.props.get("encryptionType") != "KMS" or key in ("", "alias/aws/kinesis"):
        yield "the stream is not encrypted with a key of this account"


def stream_keeps_records(thing: Thing) -> Iterator[str]:
    """A retention above the longest absence of a node."""
    hours = thing.props.get("retentionPeriod", 24)
    if hours <= EXPELLED_AFTER_HOURS:
        yield f"the stream keeps records for {hours:g} hours, and a node may be away for {EXPELLED_AFTER_HOURS}"


def kept(thing: Thing) -> Iterator[str]:
    """Protection by Pulumi."""
    if not thing.protect:
        yield "Pulumi would delete it when it leaves the program"


def _buckets(things: Sequence[Thing], kind: str) -> dict[Any, Thing]:
    return {thing.props.get("bucket"): thing for thing in of_kind(things, kind)}


def bucket_private(things: Sequence[Thing]) -> Iterator[tuple[Thing | None, str]]:
    """All four blocks of public access."""
    blocks = _buckets(things, "BucketPublicAccessBlock")
    for bucket in of_kind(things, "Bucket"):
        block = blocks.get(bucket.props.get("bucket"))
        missing = [name for name in BLOCKS if block is None or block.props.get(name) is not True]
        if missing:
            yield bucket, f"it may become public: {', '.join(missing)} is not set"


def bucket_encrypted(things: Sequence[Thing]) -> Iterator[tuple[Thing | None, str]]:
    """Encryption with a key of the account."""
    settings = _buckets(things, "BucketServerSideEncryptionConfiguration")
    for bucket in of_kind(things, "Bucket"):
        found = settings.get(bucket.props.get("bucket"))
        rules = list(found.props.get("rules", [])) if found else []
        defaults = [rule.get("applyServerSideEncryptionByDefault", {}) for rule in rules]
        if not any(one.get("sseAlgorithm") == "aws:kms" and one.get("kmsMasterKeyId") for one in defaults):
            yield bucket, "it is not encrypted with a key of this account"


def bucket_only_tls(things: Sequence[Thing]) -> Iterator[tuple[Thing | None, str]]:
    """A bucket policy that refuses requests without TLS."""
    policies = _buckets(things, "BucketPolicy")
    for bucket in of_kind(things, "Bucket"):
        found = policies.get(bucket.props.get("bucket"))
        statements = json.loads(found.props.get("policy", "{}")).get("Statement", []) if found else []
        refused = [
            one
            for one in statements
            if one.get("Effect") == "Deny"
            and one.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport") == "false"
        ]
        if not refused:
            yield bucket, "it takes requests without TLS"


def bucket_keeps_blobs(thing: Thing) -> Iterator[str]:
    """No expiration of current blobs."""
    for rule in thing.props.get("rules", []):
        expiration = rule.get("expiration", {})
        if (expiration.get("days") or expiration.get("date")) and rule.get("status") == "Enabled":
            yield f"the rule {rule.get('id')!r} expires blobs that the journal may still name"


def key_rotates(thing: Thing) -> Iterator[str]:
    """Rotation, and a window before deletion."""
    if thing.props.get("enableKeyRotation") is not True:
        yield "the key is not rotated"
    if thing.props.get("deletionWindowInDays", 30) < 30:
        yield "the key is gone earlier than 30 days after its deletion, with everything that it encrypts"


RULES = (
    Rule(
        "table-encrypted", "Tables are encrypted with a key of the account", "Set server_side_encryption.kms_key_arn",
        "high", table_encrypted, kinds=("Table",),
    ),
    Rule(
        "table-restorable", "Tables can be restored to any point in time",
        "Set point_in_time_recovery.enabled", "critical", table_restorable, kinds=("Table",),
    ),
    Rule(
        "table-protected", "Tables cannot be deleted by a call", "Set deletion_protection_enabled", "critical",
        table_protected, kinds=("Table",),
    ),
    Rule(
        "table-in-one-region", "Tables have no replicas",
        "Remove the replicas: an eventually consistent copy has no compare-and-set, and a strongly consistent one no "
        "transactions", "critical", table_in_one_region, kinds=("Table",),
    ),
    Rule(
        "table-scales", "Tables take more load than was planned",
        "Set billing_mode to PAY_PER_REQUEST, or add an appautoscaling Target for reads and one for writes", "medium",
        all=table_scales,
    ),
    Rule(
        "stream-encrypted", "Streams are encrypted with a key of the account",
        "Set encryption_type to KMS, and kms_key_id", "high", stream_encrypted, kinds=("Stream",),
    ),
    Rule(
        "stream-keeps-records", "Streams keep records for longer than a node may be away",
        "Set retention_period to 168", "critical", stream_keeps_records, kinds=("Stream",),
    ),
    Rule(
        "data-protected", "Pulumi does not delete tables, streams, buckets and keys",
        "Set protect in the options of the resource", "critical", kept,
        kinds=("Table", "Stream", "Bucket", "Key", "ReplicaKey"),
    ),
    Rule(
        "bucket-private", "Buckets cannot become public",
        "Add a BucketPublicAccessBlock with all four settings true", "critical", all=bucket_private,
    ),
    Rule(
        "bucket-encrypted", "Buckets are encrypted with a key of the account",
        "Add a BucketServerSideEncryptionConfiguration with aws:kms and the key", "high", all=bucket_encrypted,
    ),
    Rule(
        "bucket-only-tls", "Buckets refuse requests without TLS",
        "Add a BucketPolicy that denies s3:* where aws:SecureTransport is false", "high", all=bucket_only_tls,
    ),
    Rule(
        "bucket-keeps-blobs", "No rule of a bucket expires blobs",
        "Remove the expiration: the sidecars delete blobs that no journal slot names", "critical", bucket_keeps_blobs,
        kinds=("BucketLifecycleConfiguration",),
    ),
    Rule(
        "key-rotates", "Keys rotate, and cannot go suddenly",
        "Set enable_key_rotation, and deletion_window_in_days to 30", "medium", key_rotates, kinds=("Key",),
    ),
)  # fmt: skip
