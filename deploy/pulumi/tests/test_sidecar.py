"""The Kubernetes objects are those of the chart, and no secret is in clear."""

from __future__ import annotations

import copy
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TOP, Runner
from estates import DIGEST, estate, openstack

from lockstep_pulumi import program
from lockstep_pulumi.estate import read
from lockstep_pulumi.invalid import InvalidError
from lockstep_pulumi.objects import settings
from lockstep_pulumi.objects.args import GerritArgs, NetworkArgs, PlacementArgs, SidecarArgs, TlsArgs
from lockstep_pulumi.objects.pod import sidecar, spec
from lockstep_pulumi.objects.site import objects
from lockstep_pulumi.sidecar import Sidecar

CASE = yaml.safe_load((TOP / "deploy/test/cases/full.yaml").read_text())


def golden(case: str) -> list[Any]:
    """The objects that the chart renders for a case."""
    text = (TOP / f"deploy/test/golden/{case}.yaml").read_text()
    return [part for part in yaml.safe_load_all(text) if part]


GOLDEN = golden("full")
# Labels that name the tool, and the hash of the configuration, whose text has another form.
OWN = ("app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart", "lockstep/config")


def full(**more: Any) -> SidecarArgs:
    """The settings of the chart's case `full`."""
    network, gerrit = CASE["networkPolicy"], CASE["gerrit"]
    args = SidecarArgs(
        site=CASE["site"],
        sites=CASE["sites"],
        namespace="gerrit",
        image=f"{CASE['image']['repository']}@{CASE['image']['digest']}",
        gerrit=GerritArgs(
            gerrit["image"],
            config=gerrit["config"],
            env=gerrit["env"],
            shared_secret=gerrit["shared"]["secretName"],
            shared_files=gerrit["shared"]["files"],
        ),
        config=CASE["config"],
        replicas=CASE["replicas"],
        partition=CASE["canary"]["partition"],
        aws_region=CASE["aws"]["region"],
        annotated_role=CASE["serviceAccount"]["annotations"]["eks.amazonaws.com/role-arn"],
        tls=TlsArgs(issuer=CASE["tls"]["certManager"]["issuer"]["name"]),
        pull_secrets=[one["name"] for one in CASE["imagePullSecrets"]],
        cpu=CASE["sidecar"]["resources"]["limits"]["cpu"],
        memory=CASE["sidecar"]["resources"]["limits"]["memory"],
        env=CASE["sidecar"]["env"],
        storage=CASE["storage"]["size"],
        storage_class=CASE["storage"]["className"],
        service_type=CASE["services"]["type"],
        service_annotations=CASE["services"]["annotations"],
        peers_service="LoadBalancer",
        placement=PlacementArgs(
            tolerations=CASE["tolerations"], priority_class=CASE["priorityClassName"], zones="DoNotSchedule"
        ),
        network=NetworkArgs(
            network["clients"], network["peers"], network["monitoring"], network["aws"], network["extraEgress"]
        ),
        monitors=True,
        rules=True,
        dashboards="gerrit-muc-1-dashboards" in str(GOLDEN),
        rules_labels=CASE["monitoring"]["rules"]["labels"],
    )
    return replace(args, **more)


def bare(value: Any) -> Any:
    """An object without what differs between the tools."""
    if isinstance(value, dict):
        return {key: bare(part) for key, part in value.items() if key not in OWN}
    return [bare(part) for part in value] if isinstance(value, list) else value


def by_name(parts: list[Any]) -> dict[tuple[str, str], Any]:
    found = {}
    for part in parts:
        part = bare(copy.deepcopy(part))
        # The chart gets the namespace from the command.
        part["metadata"].pop("namespace", None)
        found[part["kind"], part["metadata"]["name"]] = part
    return found


def least(**more: Any) -> SidecarArgs:
    """The settings of the chart's case `least`."""
    gerrit = GerritArgs("registry.example.org/gerrit:3.13.5")
    config = {"blobs": {"url": "s3://example-lockstep-packs/prod"}}
    return replace(SidecarArgs("muc-1", ["muc-1"], "gerrit", "lockstep:0.1.0", gerrit, config), **more)


def shadow() -> SidecarArgs:
    """The settings of the chart's case `shadow`."""
    config = {"blobs": {"url": "s3://lockstep/blobs"}}
    return least(sites=["muc-1", "ber-1"], mode="shadow", config=config, monitors=True)


@pytest.mark.parametrize(
    ("case", "args"),
    [
        ("full", full()),
        ("least", least()),
        ("off", least(sites=["muc-1", "ber-1"], mode="off", config={})),
        ("shadow", shadow()),
    ],
)
def test_the_objects_are_those_of_the_chart(case: str, args: SidecarArgs):
    ours, chart = by_name(list(objects(args))), by_name(golden(case))
    # Secrets come from the program here, and not from External Secrets.
    chart.pop(("ExternalSecret", "gerrit-muc-1"), None)
    assert set(ours) == set(chart)
    for key in chart:
        mine, theirs = ours[key], chart[key]
        if key == ("ConfigMap", "gerrit-muc-1"):
            mine, theirs = (tomllib.loads(one["data"]["lockstep.toml"]) for one in (mine, theirs))
        if key[0] == "PrometheusRule":
            # The golden file names the source instead of repeating it.
            theirs["spec"] = yaml.safe_load((TOP / "deploy/observability/rules.yaml").read_text())
        assert mine == theirs, key


def test_the_sidecar_is_that_of_the_spec():
    source = yaml.safe_load((TOP / "deploy/spec/spec.yaml").read_text())
    assert spec() == source
    own = {"image": "x@y", "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always"}
    assert sidecar(least(image="x@y")) == {**source["sidecar"], **own}


def test_a_site_outside_of_aws_takes_its_role_with_a_token_of_its_cluster():
    role = "arn:aws:iam::123456789012:role/prod-muc-1"
    parts = by_name(list(objects(full(role_arn=role))))
    pod = parts["StatefulSet", "gerrit-muc-1"]["spec"]["template"]["spec"]
    container = next(one for one in pod["initContainers"] if one["name"] == "lockstep")
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert (env["AWS_ROLE_ARN"], env["AWS_WEB_IDENTITY_TOKEN_FILE"]) == (role, "/var/run/secrets/aws/token")
    (volume,) = (one for one in pod["volumes"] if one["name"] == "aws-token")
    (source,) = volume["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "sts.amazonaws.com"
    assert not any("aws-token" in str(one["volumeMounts"]) for one in pod["containers"])


def test_off_is_gerrit_alone():
    parts = by_name(list(objects(full(mode="off"))))
    pod = parts["StatefulSet", "gerrit-muc-1"]["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["initContainers"] + pod["containers"]] == ["gerrit-config", "gerrit"]
    assert "lockstep" not in parts["ConfigMap", "gerrit-muc-1-gerrit"]["data"]["gerrit.config"]
    assert not any(kind == "Role" for kind, _ in parts)


def test_a_shadow_watches_beside_gerrit_and_waits_for_no_certificate():
    def tls(**more: Any) -> Any:
        parts = by_name(list(objects(full(**more))))
        pod = parts["StatefulSet", "gerrit-muc-1"]["spec"]["template"]["spec"]
        return next(one["secret"]["optional"] for one in pod["volumes"] if one["name"] == "lockstep-tls")

    # cert-manager makes no certificate for a sidecar that watches: a pod that needs it would never start.
    assert (tls(), tls(mode="shadow")) == (False, True)
    assert tls(mode="shadow", tls=TlsArgs(secret="ours")) is False
    parts = by_name(list(objects(full(mode="shadow"))))
    assert not {kind for kind, _ in parts} & {"Role", "RoleBinding", "Certificate"}
    pod = parts["StatefulSet", "gerrit-muc-1"]["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["initContainers"]] == ["gerrit-config", "lockstep"]
    mounts = {one["mountPath"]: one for one in pod["initContainers"][1]["volumeMounts"]}
    assert mounts["/var/gerrit"]["readOnly"] is True
    assert "lockstep" not in parts["ConfigMap", "gerrit-muc-1-gerrit"]["data"]["gerrit.config"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"config": {"blobs": {"url": "s3://b"}, "comit": {}}}, "'comit' was unexpected"),
        ({"config": {"blobs": {"url": "s3://b"}, "commit": {"lanes": True}}}, "config.commit.lanes"),
        ({"config": {"blobs": {"url": "s3://b"}, "tls": "on"}}, "config.tls: 'on' is not of type 'object'"),
        ({"config": {}}, "config.blobs.url: name the blob store"),
        ({"config": {"blobs": {"url": "s3://b"}, "health": {"listen": "x"}}}, "config.health.listen"),
        ({"config": {"blobs": {"url": "s3://b"}, "tls": {"listen": "0.0.0.0:1"}}}, "0.0.0.0:7422"),
        ({"site": "Muc"}, "site: 'Muc' is no name"),
        ({"site": "ber-9"}, "sites: ber-9 is missing"),
        ({"mode": "shade"}, "mode: 'shade'; write active, shadow or off"),
        ({"mode": "shadow", "config": {}}, "config.blobs.url: name the blob store"),
        ({"replicas": 4}, "raise most_replicas"),
        ({"tls": None}, "https needs a certificate"),
    ],
)
def test_wrong_settings_are_refused_with_the_remedy(more: dict[str, Any], told: str):
    with pytest.raises(InvalidError) as error:
        objects(full(**more))
    assert told in str(error.value)


def test_the_configuration_survives_its_file():
    value = {"a": 1, "t": {"x.y": {"z": ["b", "c"]}, "s": 'q"\\'}, "e": {}, "b": True}
    assert tomllib.loads(settings.toml(value)) == value


def test_secrets_are_in_a_secret_alone(run: Runner):
    of = estate(openstack("muc-1"))
    args = program.sidecar(of, of.sites[0])
    found = run(lambda: Sidecar("s", args, {"operators": "pipeline sha256:feed"}))
    secret = found.one("Secret")
    assert secret.props["stringData"] == {"operators": "pipeline sha256:feed"}
    assert "sha256:feed" not in secret.secrets()
    for one in found.seen:
        assert "sha256:feed" not in one.secrets()
    mounts = sidecar(args)["volumeMounts"]
    assert {"name": "lockstep-secrets", "mountPath": "/etc/lockstep-secrets", "readOnly": True} in mounts
    assert args.config["operators"]["token_file"] == "/etc/lockstep-secrets/operators"
    # The pod starts when its Secret is there.
    assert secret.urn in found.one("StatefulSet").depends


def test_every_site_finds_the_streams_of_all_sites():
    of = estate()
    for entry in of.sites:
        config = settings.settings(program.sidecar(of, entry))
        assert config["sites"] == ["eu-aws", "muc-1", "muc-2"]
        assert config["refdb"] == {"prefix": "prod", "region": "eu-central-1"}
        streams = {"eu-aws": {"region": "eu-west-1"}}
        assert config["eventlog"] == {"prefix": "prod", "region": "eu-central-1", "streams": streams}
        assert config["blobs"]["url"] == "s3://example-lockstep-packs/prod"
        assert config["tls"]["allow"] == [f"spiffe://lockstep/{site}/*" for site in config["sites"]]


def test_any_number_of_nodes_of_a_site_find_each_other():
    one, three = (full(replicas=replicas, partition=0) for replicas in (1, 3))
    config = settings.settings(three)
    assert config == settings.settings(one), "another configuration would restart every node"
    assert config["siblings"]["url"] == "https://{node}.gerrit-muc-1.gerrit.svc:7422"
    found = {(part["kind"], part["metadata"]["name"]): part for part in objects(three)}
    certificate = found["Certificate", "gerrit-muc-1"]["spec"]
    assert certificate["uris"] == [config["siblings"]["identity"]]
    ingress = found["NetworkPolicy", "gerrit-muc-1"]["spec"]["ingress"]
    rule = next(rule for rule in ingress if rule["ports"] == [{"port": "peers", "protocol": "TCP"}])
    assert {"podSelector": {"matchLabels": three.selector}} in rule["from"]
    assert "siblings" not in settings.settings(least(replicas=3)), "without a certificate nobody is reached"


def test_the_configuration_passes_the_check_of_the_real_command(lockstep: Path, tmp_path: Path):
    of = read(TOP / "deploy/pulumi/program/prod.yaml")
    for entry in of.sites:
        file = tmp_path / f"{entry.site}.toml"
        file.write_text(settings.toml(settings.settings(program.sidecar(of, entry))))
        node = f"gerrit-{entry.site}-0"
        env = {"LOCKSTEP_NODE": node, "LOCKSTEP_HANDOVER__POD": f"gerrit/{node}"}
        command = [lockstep, "config", "check", "--config", file]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert f"(site {entry.site}, node {node})" in ran.stdout


def test_the_images_are_pinned(run: Runner):
    of = estate(openstack("muc-1"))
    found = run(lambda: Sidecar("s", program.sidecar(of, of.sites[0])))
    pod = found.one("StatefulSet").props["spec"]["template"]["spec"]
    assert all(one["image"].endswith(DIGEST) for one in pod["initContainers"] + pod["containers"])
