"""The bucket of the blob store: packs that are too large for a transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from lockstep_pulumi.invalid import refuse, unless
from lockstep_pulumi.names import Names
from lockstep_pulumi.options import below, kept


@dataclass(frozen=True)
class BucketArgs:
    """The settings of a bucket."""

    # The name of the bucket, unique over all of S3.
    bucket: str
    # How long a deleted blob can be restored, in days.
    restorable_days: int = 14
    # Whether to take over an existing bucket of this name.
    adopt: bool = False

    def __post_init__(self) -> None:
        """Refuses values that AWS would refuse."""
        fits = 3 <= len(self.bucket) <= 63 and all(part.isalnum() for part in self.bucket.split("-"))
        refuse(
            unless(
                fits and self.bucket == self.bucket.lower(),
                f"bucket: {self.bucket!r}; write 3 to 63 of the characters a-z, 0-9 and -",
            ),
            unless(self.restorable_days > 0, f"restorable_days: {self.restorable_days}; write 1 or more"),
        )


def bucket_policy(arn: str) -> str:
    """Refuses every request without TLS."""
    refused = {
        "Sid": "OnlyTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [refused]})


class BlobBucket(pulumi.ComponentResource):
    """A private, encrypted bucket. The sidecars delete blobs themselves, so no rule expires a current one."""

    bucket: pulumi.Output[str]
    arn: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        names: Names,
        key_arn: pulumi.Input[str],
        args: BucketArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Creates the bucket in the home Region, encrypted with the key."""
        super().__init__("lockstep:index:BlobBucket", name, None, opts)
        region, adopted = names.region, args.bucket if args.adopt else None
        found = aws.s3.Bucket(
            f"{name}-bucket", bucket=args.bucket, region=region, tags=names.tagged(), opts=kept(self, adopted)
        )
        private = aws.s3.BucketPublicAccessBlock(
            f"{name}-private",
            bucket=found.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            region=region,
            opts=below(self),
        )
        aws.s3.BucketOwnershipControls(
            f"{name}-owner",
            bucket=found.bucket,
            rule={"object_ownership": "BucketOwnerEnforced"},
            region=region,
            opts=below(self),
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encrypted",
            bucket=found.bucket,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {
                        "sse_algorithm": "aws:kms",
                        "kms_master_key_id": key_arn,
                    },
                    "bucket_key_enabled": True,
                }
            ],
            region=region,
            opts=below(self),
        )
        versions = aws.s3.BucketVersioning(
            f"{name}-versions",
            bucket=found.bucket,
            versioning_configuration={"status": "Enabled"},
            region=region,
            opts=below(self),
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=found.bucket,
            rules=[
                {
                    "id": "rest",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
                    # The markers of deleted blobs, when their last version is gone.
                    "expiration": {"expired_object_delete_marker": True},
                    "noncurrent_version_expiration": {"noncurrent_days": args.restorable_days},
                }
            ],
            region=region,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[versions]),
        )
        aws.s3.BucketPolicy(
            f"{name}-policy",
            bucket=found.bucket,
            policy=bucket_policy(names.bucket_arn(args.bucket)),
            region=region,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[private]),
        )
        self.bucket, self.arn = found.bucket, found.arn
        self.register_outputs({"bucket": found.bucket, "arn": found.arn})
