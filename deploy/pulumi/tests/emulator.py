"""An emulator of AWS, and the calls that make resources there from their registered inputs, as the engine's provider
would make them.

Every input must be translated: one that is not known here fails the test, and so does not drop out of the comparison.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from conftest import Seen

# The port is chosen by the system, and told on the first line.
SERVER = """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(3600)
"""


@dataclass(frozen=True)
class Emulator:
    """A running emulator."""

    url: str

    def client(self, service: str, region: str) -> Any:
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        return boto3.client(service, region_name=region, endpoint_url=self.url, **keys)

    def forget(self) -> None:
        """Removes all resources."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def environment(self, region: str) -> dict[str, str]:
        """The variables by which a command finds the bucket here."""
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        return {**keys, "AWS_REGION": region, "AWS_ENDPOINT": self.url, "AWS_ALLOW_HTTP": "true"}

    def provision(self, seen: list[Seen]) -> None:
        """Makes the tables, streams and buckets. Everything else of an estate belongs to Pulumi alone."""
        for one in seen:
            kind = one.type.rpartition(":")[2]
            if one.type.startswith("aws:") and kind in MAKERS:
                left = dict(one.props)
                MAKERS[kind](self, left)
                assert not left, f"{one.name}: the inputs {sorted(left)} are not translated"


@contextmanager
def emulator() -> Iterator[Emulator]:
    """Starts an emulator, and ends its process."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Emulator(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.terminate()
        process.wait(timeout=10)


def listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def table(at: Emulator, left: dict[str, Any]) -> None:
    client, name = at.client("dynamodb", left.pop("region")), left.pop("name")
    keys = [{"AttributeName": left.pop("hashKey"), "KeyType": "HASH"}]
    if "rangeKey" in left:
        keys.append({"AttributeName": left.pop("rangeKey"), "KeyType": "RANGE"})
    attributes = [{"AttributeName": one["name"], "AttributeType": one["type"]} for one in left.pop("attributes")]
    more: dict[str, Any] = {}
    if "readCapacity" in left:
        units = {"ReadCapacityUnits": left.pop("readCapacity"), "WriteCapacityUnits": left.pop("writeCapacity")}
        more["ProvisionedThroughput"] = units
    encryption = left.pop("serverSideEncryption")
    if encryption["enabled"]:
        more["SSESpecification"] = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": encryption["kmsKeyArn"]}
    client.create_table(
        TableName=name,
        KeySchema=keys,
        AttributeDefinitions=attributes,
        BillingMode=left.pop("billingMode"),
        DeletionProtectionEnabled=left.pop("deletionProtectionEnabled"),
        Tags=listed(left.pop("tags")),
        **more,
    )
    recovery = left.pop("pointInTimeRecovery")
    wanted: dict[str, Any] = {"PointInTimeRecoveryEnabled": recovery["enabled"]}
    if recovery["enabled"]:
        wanted["RecoveryPeriodInDays"] = recovery["recoveryPeriodInDays"]
    client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=wanted)


def stream(at: Emulator, left: dict[str, Any]) -> None:
    client, name = at.client("kinesis", left.pop("region")), left.pop("name")
    mode = {"StreamMode": left.pop("streamModeDetails")["streamMode"]}
    shards = {"ShardCount": left.pop("shardCount")} if "shardCount" in left else {}
    client.create_stream(StreamName=name, StreamModeDetails=mode, **shards)
    if (hours := left.pop("retentionPeriod")) > 24:
        client.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=hours)
    if left.pop("encryptionType") == "KMS":
        client.start_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId=left.pop("kmsKeyId"))
    client.add_tags_to_stream(StreamName=name, Tags=left.pop("tags"))
    # It tells Pulumi how to delete.
    left.pop("enforceConsumerDeletion")


def bucket(at: Emulator, left: dict[str, Any]) -> None:
    region, name = left.pop("region"), left.pop("bucket")
    client = at.client("s3", region)
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": listed(left.pop("tags"))})


def private(at: Emulator, left: dict[str, Any]) -> None:
    client, name = at.client("s3", left.pop("region")), left.pop("bucket")
    fields = ("blockPublicAcls", "ignorePublicAcls", "blockPublicPolicy", "restrictPublicBuckets")
    switches = {f"{field[0].upper()}{field[1:]}": left.pop(field) for field in fields}
    client.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=switches)


def encrypted(at: Emulator, left: dict[str, Any]) -> None:
    client, name = at.client("s3", left.pop("region")), left.pop("bucket")
    (rule,) = left.pop("rules")
    own = rule["applyServerSideEncryptionByDefault"]
    default = {"SSEAlgorithm": own["sseAlgorithm"], "KMSMasterKeyID": own["kmsMasterKeyId"]}
    rules = [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": rule["bucketKeyEnabled"]}]
    client.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": rules})


def owned(at: Emulator, left: dict[str, Any]) -> None:
    client, name = at.client("s3", left.pop("region")), left.pop("bucket")
    rules = [{"ObjectOwnership": left.pop("rule")["objectOwnership"]}]
    client.put_bucket_ownership_controls(Bucket=name, OwnershipControls={"Rules": rules})


def versioned(at: Emulator, left: dict[str, Any]) -> None:
    client, name = at.client("s3", left.pop("region")), left.pop("bucket")
    status = left.pop("versioningConfiguration")["status"]
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})


def expiring(at: Emulator, left: dict[str, Any]) -> None:
    client, name = at.client("s3", left.pop("region")), left.pop("bucket")
    (rule,) = left.pop("rules")
    days = rule["abortIncompleteMultipartUpload"]["daysAfterInitiation"]
    own = {
        "ID": rule["id"],
        "Status": rule["status"],
        "Filter": {"Prefix": rule["filter"]["prefix"]},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
        "Expiration": {"ExpiredObjectDeleteMarker": rule["expiration"]["expiredObjectDeleteMarker"]},
        "NoncurrentVersionExpiration": {"NoncurrentDays": rule["noncurrentVersionExpiration"]["noncurrentDays"]},
    }
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [own]})


def guarded(at: Emulator, left: dict[str, Any]) -> None:
    client, name = at.client("s3", left.pop("region")), left.pop("bucket")
    client.put_bucket_policy(Bucket=name, Policy=left.pop("policy"))


MAKERS = {
    "Table": table,
    "Stream": stream,
    "Bucket": bucket,
    "BucketPublicAccessBlock": private,
    "BucketOwnershipControls": owned,
    "BucketServerSideEncryptionConfiguration": encrypted,
    "BucketVersioning": versioned,
    "BucketLifecycleConfiguration": expiring,
    "BucketPolicy": guarded,
}
