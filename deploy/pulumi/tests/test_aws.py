"""The components of AWS, as the engine sees them."""

from __future__ import annotations

import json
from typing import Any

import pulumi_kubernetes as kubernetes
import pytest
from conftest import TOP, Run, Runner
from estates import eks, estate, openstack

from lockstep_pulumi import program
from lockstep_pulumi.alarms import stream_alarms, table_alarms
from lockstep_pulumi.blobs import BlobBucket, BucketArgs
from lockstep_pulumi.estate import Estate
from lockstep_pulumi.invalid import InvalidError
from lockstep_pulumi.key import EstateKey
from lockstep_pulumi.names import TAGS, Names
from lockstep_pulumi.refdb import Provisioned, RefDbArgs, SharedRefDb
from lockstep_pulumi.rules.access import UNTAGGED
from lockstep_pulumi.site import SiteArgs
from lockstep_pulumi.stream import SiteStream, StreamArgs
from lockstep_pulumi.trust import EksCluster, OpenStackCluster, ServiceAccount

NAMES = Names("prod", "prod", "123456789012", "eu-central-1", tags={"cost-centre": "42"})
KEY = "arn:aws:kms:eu-central-1:123456789012:key/mrk-1"


def whole(of: Estate) -> None:
    shared = program.shared(of)
    for entry in of.sites:
        cluster = kubernetes.Provider(f"cluster-{entry.site}", kubeconfig="{}")
        program.site(of, entry, shared, cluster)


def one_site(run: Runner, entry: dict[str, Any]) -> Run:
    """The stack of one site of an estate, without what is shared."""
    of = estate(entry)
    shared = program.Shared({"eu-central-1": KEY, "eu-west-1": KEY}, "")
    return run(lambda: program.site(of, of.sites[0], shared, kubernetes.Provider("cluster", kubeconfig="{}")))


def test_the_tables_are_those_that_a_sidecar_takes(run: Runner):
    found = run(lambda: SharedRefDb("r", NAMES, KEY))
    refs, journal = found.one("Table", "refs").props, found.one("Table", "journal").props
    assert (refs["name"], journal["name"]) == ("prod-refs", "prod-journal")
    assert (refs["hashKey"], refs["rangeKey"], journal["hashKey"]) == ("pk", "sk", "pk")
    assert "rangeKey" not in journal
    source = (TOP / "daemon/src/seams/refdb/dynamo/tables.rs").read_text()
    assert '[(&tables.refs, &["pk", "sk"]), (&tables.journal, &["pk"])]' in source
    for table in (refs, journal):
        assert {(one["name"], one["type"]) for one in table["attributes"]} <= {("pk", "S"), ("sk", "S")}
        assert table["billingMode"] == "PAY_PER_REQUEST"
        assert table["deletionProtectionEnabled"] is True
        assert table["pointInTimeRecovery"] == {"enabled": True, "recoveryPeriodInDays": 35}
        assert table["serverSideEncryption"] == {"enabled": True, "kmsKeyArn": KEY}
        assert "replicas" not in table
    assert all(one.protect for one in found.all("Table"))


def test_a_provisioned_table_scales_in_both_ways(run: Runner):
    found = run(lambda: SharedRefDb("r", NAMES, KEY, RefDbArgs(provisioned=Provisioned(10, 400))))
    assert found.one("Table", "refs").props["writeCapacity"] == 10
    targets = {(one.props["resourceId"], one.props["scalableDimension"]) for one in found.all("Target")}
    assert targets == {
        (f"table/prod-{table}", f"dynamodb:table:{way}CapacityUnits")
        for table in ("refs", "journal")
        for way in ("Read", "Write")
    }
    assert len(found.all("Policy")) == 4
    assert {one.props["maxCapacity"] for one in found.all("Target")} == {400}


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"recovery_days": 36}, "recovery_days: 36; write 1 to 35"),
        ({"warm": (1, 1), "provisioned": Provisioned(1, 2)}, "remove one of warm and provisioned"),
    ],
)
def test_wrong_settings_of_the_refdb_are_refused(args: dict[str, Any], told: str):
    with pytest.raises(InvalidError, match=told):
        RefDbArgs(**args)


def test_warm_tables_have_the_throughput_of_the_setting(run: Runner):
    found = run(lambda: SharedRefDb("r", NAMES, KEY, RefDbArgs(warm=(12000, 4000))))
    warm = found.one("Table", "refs").props["warmThroughput"]
    assert warm == {"readUnitsPerSecond": 12000, "writeUnitsPerSecond": 4000}


def test_a_stream_is_encrypted_and_keeps_records_for_a_week(run: Runner):
    found = run(lambda: SiteStream("s", NAMES, "muc-1", "eu-west-1", KEY)).one("Stream")
    assert found.props["name"] == "prod-muc-1"
    assert found.props["region"] == "eu-west-1"
    assert found.props["streamModeDetails"] == {"streamMode": "ON_DEMAND"}
    assert (found.props["encryptionType"], found.props["kmsKeyId"]) == ("KMS", KEY)
    assert found.props["retentionPeriod"] == 168
    assert "shardCount" not in found.props
    assert found.protect


def test_a_provisioned_stream_has_its_shards(run: Runner):
    found = run(lambda: SiteStream("s", NAMES, "muc-1", "eu-west-1", KEY, StreamArgs(shards=4))).one("Stream")
    assert found.props["streamModeDetails"] == {"streamMode": "PROVISIONED"}
    assert found.props["shardCount"] == 4


def test_a_stream_that_forgets_before_a_node_is_expelled_is_refused():
    example = (TOP / "daemon/src/node/config/example.toml").read_text()
    assert '# expelled_after = "6d"' in example
    with pytest.raises(InvalidError, match="write more than 144"):
        StreamArgs(retention_hours=144)


def test_the_bucket_is_private_encrypted_and_keeps_blobs(run: Runner):
    found = run(lambda: BlobBucket("b", NAMES, KEY, BucketArgs("example-packs")))
    assert found.one("Bucket").protect
    blocked = found.one("BucketPublicAccessBlock").props
    assert all(blocked[key] for key in blocked if key.startswith(("block", "ignore", "restrict")))
    assert sum(value is True for value in blocked.values()) == 4
    (rule,) = found.one("BucketServerSideEncryptionConfiguration").props["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": KEY}
    (rule,) = found.one("BucketLifecycleConfiguration").props["rules"]
    assert rule["expiration"] == {"expiredObjectDeleteMarker": True}
    assert rule["noncurrentVersionExpiration"] == {"noncurrentDays": 14}
    (refused,) = json.loads(found.one("BucketPolicy").props["policy"])["Statement"]
    assert refused["Effect"] == "Deny"
    assert refused["Resource"] == ["arn:aws:s3:::example-packs", "arn:aws:s3:::example-packs/*"]


def test_existing_resources_are_taken_over_by_their_names(run: Runner):
    def adopt() -> None:
        SharedRefDb("r", NAMES, KEY, RefDbArgs(adopt=True))
        SiteStream("s", NAMES, "muc-1", "eu-west-1", KEY, StreamArgs(adopt=True))
        BlobBucket("b", NAMES, KEY, BucketArgs("example-packs", adopt=True))

    found = run(adopt)
    imported = {one.imported for one in found.seen if one.imported}
    assert imported == {"prod-refs", "prod-journal", "prod-muc-1", "example-packs"}
    fresh = run(lambda: whole(estate()))
    assert not any(one.imported for one in fresh.seen)


def test_the_key_has_a_replica_in_each_region_with_a_stream(run: Runner):
    found = run(lambda: EstateKey("k", NAMES, ["eu-west-1", "eu-central-1", "eu-west-1"]))
    assert found.one("Key").props["multiRegion"] is True
    assert found.one("Key").props["enableKeyRotation"] is True
    assert [one.props["region"] for one in found.all("ReplicaKey")] == ["eu-west-1"]


def test_a_site_in_openstack_has_a_stream_a_role_and_trust_in_aws_and_nothing_else(run: Runner):
    found = one_site(run, openstack("muc-1"))
    assert {one.type for one in found.seen if one.type.startswith("aws:")} == {
        "aws:kinesis/stream:Stream",
        "aws:iam/role:Role",
        "aws:iam/rolePolicy:RolePolicy",
        "aws:iam/openIdConnectProvider:OpenIdConnectProvider",
        "aws:cloudwatch/metricAlarm:MetricAlarm",
    }
    (trust,) = json.loads(found.one("Role", "muc-1-role").props["assumeRolePolicy"])["Statement"]
    assert trust["Principal"] == {"Federated": "arn:aws:iam::123456789012:oidc-provider/issuer.example.org/muc-1"}
    assert trust["Action"] == ["sts:AssumeRoleWithWebIdentity"]
    assert trust["Condition"] == {
        "StringEquals": {
            "issuer.example.org/muc-1:sub": "system:serviceaccount:gerrit:gerrit-muc-1",
            "issuer.example.org/muc-1:aud": "sts.amazonaws.com",
        }
    }
    account = found.one("ServiceAccount").props["metadata"]
    assert (account["namespace"], account["name"]) == ("gerrit", "gerrit-muc-1")


def test_a_site_in_a_cluster_whose_issuer_is_known_uses_its_provider(run: Runner):
    arn = "arn:aws:iam::123456789012:oidc-provider/issuer.example.org/muc-1"
    found = one_site(run, openstack("muc-1", provider_arn=arn))
    assert not found.all("OpenIdConnectProvider")
    (trust,) = json.loads(found.one("Role", "muc-1-role").props["assumeRolePolicy"])["Statement"]
    assert trust["Principal"] == {"Federated": arn}


def test_a_site_in_eks_has_pod_identity_for_its_service_account(run: Runner):
    found = one_site(run, eks("eu-aws"))
    identity = found.one("PodIdentityAssociation").props
    assert (identity["clusterName"], identity["namespace"]) == ("eu-aws-cluster", "gerrit")
    assert identity["serviceAccount"] == found.one("ServiceAccount").props["metadata"]["name"]
    (trust,) = json.loads(found.one("Role", "eu-aws-role").props["assumeRolePolicy"])["Statement"]
    assert trust["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert trust["Condition"]["ArnEquals"] == {
        "aws:SourceArn": "arn:aws:eks:eu-central-1:123456789012:cluster/eu-aws-cluster"
    }
    assert not found.all("OpenIdConnectProvider")


def test_endpoints_answer_to_the_pods_alone(run: Runner):
    found = one_site(run, eks("eu-aws"))
    services = {one.props["serviceName"]: one.props["vpcEndpointType"] for one in found.all("VpcEndpoint")}
    region = "com.amazonaws.eu-central-1"
    assert services == {
        f"{region}.dynamodb": "Gateway",
        f"{region}.s3": "Gateway",
        f"{region}.kinesis-streams": "Interface",
        f"{region}.sts": "Interface",
        f"{region}.eks-auth": "Interface",
    }
    for one in found.all("VpcEndpoint"):
        if one.props["vpcEndpointType"] == "Interface":
            # The names of the services lead to the endpoint, so no sidecar needs a setting.
            assert one.props["privateDnsEnabled"] is True
            assert one.props["subnetIds"] == ["subnet-1", "subnet-2"]
    (rule,) = found.all("SecurityGroupIngressRule")
    assert (rule.props["cidrIpv4"], rule.props["fromPort"], rule.props["toPort"]) == ("10.20.0.0/16", 443, 443)


def test_a_site_has_exactly_one_cluster():
    common: dict[str, Any] = {
        "site": "muc-1",
        "streams": {"muc-1": "eu-west-1"},
        "keys": {"eu-west-1": KEY},
        "account": ServiceAccount("gerrit", "gerrit"),
    }
    aws, other = EksCluster("c", "eu-west-1"), OpenStackCluster("https://issuer.example.org")
    for clusters in ({}, {"eks": aws, "openstack": other}):
        with pytest.raises(InvalidError, match="exactly one of eks and openstack"):
            SiteArgs(**common, **clusters)
    assert [SiteArgs(**common, eks=aws).kind, SiteArgs(**common, openstack=other).kind] == ["eks", "openstack"]


@pytest.mark.parametrize("issuer", ["http://issuer.example.org", "https://issuer.example.org/", "https://a/?b"])
def test_an_issuer_that_aws_refuses_is_refused_before(issuer: str):
    with pytest.raises(InvalidError, match="service-account-issuer"):
        OpenStackCluster(issuer)


def test_everything_that_can_have_tags_has_those_of_the_estate(run: Runner):
    found = run(lambda: whole(estate()))
    for one in found.seen:
        if one.type.startswith("aws:") and one.type.rpartition(":")[2] not in UNTAGGED:
            assert set(TAGS) <= set(one.props["tags"]), one.name
    stream = found.one("Stream", "muc-1").props["tags"]
    assert (stream["site"], stream["environment"], stream["project"]) == ("muc-1", "prod", "lockstep")


def test_every_alarm_has_a_runbook_and_tells_the_topic_of_its_severity(run: Runner):
    headings = (TOP / "docs/operations.md").read_text().splitlines()
    anchors = {line.removeprefix("### ").lower() for line in headings if line.startswith("### Lockstep")}
    assert {alarm.runbook for alarm in (*table_alarms(), *stream_alarms(168))} <= anchors
    topics = {"page": "arn:page", "ticket": "arn:ticket"}
    found = run(lambda: SiteStream("s", NAMES, "muc-1", "eu-west-1", KEY, StreamArgs(topics=topics)))
    late = found.one("MetricAlarm", "late-reader").props
    assert late["alarmActions"] == ["arn:page"]
    assert late["threshold"] == 168 * 3_600_000 / 2
    assert found.one("MetricAlarm", "full").props["alarmActions"] == ["arn:ticket"]


def test_errors_of_dynamodb_are_summed_over_the_operations_of_a_sidecar(run: Runner):
    # CloudWatch has this metric per operation, and an alarm without that dimension would never fire.
    found = run(lambda: SharedRefDb("r", NAMES, KEY)).one("MetricAlarm", "journal-system-errors").props
    whole, *parts = found["metricQueries"]
    assert whole["expression"] == "SUM(METRICS())"
    dimensions = [part["metric"]["dimensions"] for part in parts]
    assert {one["TableName"] for one in dimensions} == {"prod-journal"}
    assert {one["Operation"] for one in dimensions} >= {"GetItem", "TransactWriteItems", "Query"}
    # CloudWatch takes ten.
    assert len(parts) < 10
    assert "metricName" not in found


def test_names_that_aws_refuses_are_refused_before():
    names = {"environment": "prod", "prefix": "p" * 30, "account": "123456789012", "region": "eu-central-1"}
    with pytest.raises(InvalidError, match="prefix and name have more than 50 characters"):
        estate(openstack("s" * 21), names=names)
    assert estate(openstack("s" * 20), names=names)


def test_the_program_asks_aws_for_nothing(run: Runner):
    # `World.call` fails the test if the program looks something up.
    assert len(run(lambda: whole(estate())).seen) > 100
