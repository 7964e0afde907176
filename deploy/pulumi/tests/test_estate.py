"""Estates: their file, the program of each stack, and large ones."""

from __future__ import annotations

import json
import time
from typing import Any

import pulumi
import pytest
import yaml
from cases import thing
from conftest import PACKAGE, Run, Runner
from estates import eks, estate, openstack
from test_aws import whole

from lockstep_pulumi import program
from lockstep_pulumi.estate import Estate, parse, read
from lockstep_pulumi.invalid import InvalidError
from lockstep_pulumi.rules.pack import violations

EXAMPLE = PACKAGE / "program/prod.yaml"
STACKS = sorted((PACKAGE / "program").glob("Pulumi.*-*.yaml"))


def test_all_wrong_values_of_a_file_are_told_at_once():
    value: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    value["names"]["account"] = 12
    value["names"] |= {"account": "12", "zone": "x"}
    value["bucket"]["bucket"] = "Packs"
    value["sites"][0]["endpoints"]["client_cidrs"] = ["0.0.0.0/0"]
    value["sites"][1]["openstack"]["issuer"] = "http://issuer"
    value["operators"]["pipeline"]["used"] = 2
    with pytest.raises(InvalidError) as error:
        parse(value)
    told = error.value.problems
    for part in (
        "names.zone is no setting",
        "bucket.bucket: 'Packs'",
        "sites[0].endpoints.client_cidrs: 0.0.0.0/0 lets everybody in",
        "sites[1].openstack.issuer: 'http://issuer'",
        "operators.pipeline.used: 2; write one of accepted, [1]",
    ):
        assert any(problem.startswith(part) for problem in told), (part, told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sites": []}, "sites: none"),
        ({"sites": [openstack("a"), openstack("a")]}, "a twice"),
        ({"names": {"environment": "prod", "prefix": "p", "account": "12", "region": "r"}}, "names.account: '12'"),
        ({"names": {"environment": "prod"}}, "names:"),
        ({"sites": [openstack("a"), {**openstack("a"), "site": "b"}]}, "twice as an issuer"),
        ({"sites": [eks("a"), {**eks("a"), "site": "b"}]}, "a-cluster twice with karpenter_ami"),
        ({"sites": {"site": "a"}}, "sites is a list"),
        ({"sites": None}, "sites: none"),
        ({"operators": {"bob": None}}, "operators.bob: None; write its fields"),
        ({"bucket": "x"}, "bucket: 'x'; write its fields"),
    ],
)
def test_a_wrong_value_is_told_with_its_field(change: dict[str, Any], told: str):
    value: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    with pytest.raises(InvalidError, match=told.replace("[", r"\[")):
        parse({**value, **change})


def test_every_stack_file_names_an_estate_and_a_part_of_it():
    known = set(yaml.safe_load((PACKAGE / "program/Pulumi.yaml").read_text())["config"])
    for path in STACKS:
        config = yaml.safe_load(path.read_text())["config"]
        own = {"aws:allowedAccountIds", "aws:region", "lockstep:shared", "lockstep:topics"}
        assert set(config) <= known | own, path.name
        of = read(PACKAGE / "program" / config["lockstep:estate"])
        # Pulumi refuses to work in another account than the one that the estate names.
        assert config["aws:allowedAccountIds"] == [of.names.account]
        assert config["aws:region"] == of.names.region
        part = config["lockstep:part"]
        assert part == "shared" or of.site(part), path.name
        environment = config["lockstep:estate"].removesuffix(".yaml")
        assert (of.names.environment, path.name) == (environment, f"Pulumi.{environment}-{part}.yaml")
    for environment in ("stage", "prod"):
        parts = {path.name.removeprefix(f"Pulumi.{environment}-")[:-5] for path in STACKS if environment in path.name}
        sites = read(PACKAGE / f"program/{environment}.yaml").sites
        assert parts == {"shared", *(one.site for one in sites)}, environment


def run_stack(run: Runner, name: str, outputs: dict[str, Any] | None = None) -> Run:
    """Runs the program of a stack with the configuration of its file."""
    config = yaml.safe_load((PACKAGE / f"program/Pulumi.{name}.yaml").read_text())["config"]
    config = {key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in config.items()}
    config["lockstep:estate"] = str(EXAMPLE)
    config["lockstep:kubeconfig"] = "{}"
    pulumi.runtime.set_all_config(config, ["lockstep:kubeconfig"])
    try:
        return run(program.main, {"example/lockstep/prod-shared": outputs or {}})
    finally:
        pulumi.runtime.set_all_config({})


def test_the_stacks_of_sites_take_the_outputs_of_the_shared_stack(run: Runner):
    shared = run_stack(run, "prod-shared")
    assert {one.props["name"] for one in shared.all("Table")} == {"prod-refs", "prod-journal"}
    assert shared.one("MetricAlarm", "refs-system-errors").props["alarmActions"][0].endswith("lockstep-page")
    exported = shared.outputs
    assert set(exported) == {"keys", "tables", "bucket", "operators"}
    for site in ("eu-aws", "muc-1", "muc-2"):
        found = run_stack(run, f"prod-{site}", exported)
        region = "eu-west-1" if site == "eu-aws" else "eu-central-1"
        assert found.one("Stream").props["kmsKeyId"] == exported["keys"][region]
        assert found.one("Secret").props["stringData"]["operators"] == exported["operators"]
        assert exported["operators"] not in found.one("Secret").secrets()
        assert not found.all("Table")
        # Secrets and ConfigMaps change in place.
        provider = found.one("kubernetes").props
        assert (provider["enableConfigMapMutable"], provider["enableSecretMutable"]) == ("true", "true")
        assert set(found.outputs) == {"stream", "role"}


def test_settings_of_a_site_reach_its_resources(run: Runner):
    of = estate(openstack("muc-1", adopts=False, shards=3, retention_hours=200, adopt=True, replicas=5), openstack("b"))
    found = run(lambda: whole(of))
    stream = found.one("Stream", "muc-1")
    assert (stream.props["shardCount"], stream.props["retentionPeriod"], stream.imported) == (3, 200, "prod-muc-1")
    assert found.one("StatefulSet", "muc-1").props["spec"]["replicas"] == 5
    assert len(found.one("Role", "muc-1-gerrit").props["rules"][0]["resourceNames"]) == 5
    writes = [
        one["Resource"]
        for one in json.loads(found.one("RolePolicy", "muc-1").props["policy"])["Statement"]
        if "kinesis:PutRecords" in one["Action"]
    ]
    assert writes == [["arn:aws:kinesis:eu-central-1:123456789012:stream/prod-muc-1"]]


def test_a_site_may_use_consumers_where_its_settings_say_fan_out():
    settings = {"eventlog": {"reading": "auto", "streams": {"b": {"reading": "polling"}}}}
    of = estate(openstack("muc-1", config=settings), openstack("b"))
    assert of.site("muc-1").fan_out(of.streams) == ["muc-1"]
    assert of.site("b").fan_out(of.streams) == []


def test_a_site_sets_its_shards_where_its_settings_say_so():
    on = {"eventlog": {"autoscale": {"mode": "on"}}}
    of = estate(openstack("muc-1", config=on), openstack("b"))
    assert of.site("muc-1").scales()
    assert not of.site("b").scales()


def test_the_mode_of_a_site_is_a_setting_of_the_estate(run: Runner):
    of = estate(openstack("muc-1", mode="shadow"), openstack("ber-1"))
    found = run(lambda: whole(of))
    sidecars = {
        site: next(
            one
            for one in found.one("StatefulSet", site).props["spec"]["template"]["spec"]["initContainers"]
            if one["name"] == "lockstep"
        )
        for site in ("muc-1", "ber-1")
    }
    assert {site: one["args"][0] for site, one in sidecars.items()} == {"muc-1": "shadow", "ber-1": "run"}
    assert violations([thing(one) for one in found.seen if one.is_custom]) == []
    with pytest.raises(InvalidError, match=r"sites\[0\].mode: 'passive'; write active, shadow or off"):
        estate(openstack("muc-1", mode="passive"))


def test_a_part_that_is_no_site_is_told():
    with pytest.raises(InvalidError, match="'ber-1' is not in the estate; its sites are eu-aws, muc-1, muc-2"):
        estate().site("ber-1")


@pytest.mark.parametrize("environment", ["", "stage", "prod"])
def test_the_rules_hold_for_each_stack(run: Runner, environment: str):
    of = read(PACKAGE / f"program/{environment}.yaml") if environment else estate()
    found = run(lambda: whole(of))
    assert violations([thing(one) for one in found.seen if one.is_custom]) == []


def large(sites: int) -> Estate:
    """An estate of many sites, half of them in AWS."""
    entries = [eks(f"aws-{number}") if number % 2 else openstack(f"own-{number}") for number in range(sites)]
    return estate(*entries)


def check_large(run: Runner, sites: int, least: int) -> float:
    """Makes the estate. Returns the seconds of the processor, which do not depend on what else the machine does."""
    started = time.process_time()
    found = run(lambda: whole(large(sites)))
    assert len(found.seen) >= least
    urns = [one.urn for one in found.seen]
    assert len(urns) == len(set(urns)), "two resources have one name"
    physical = [
        (one.type, one.props.get("region"), one.props["name"])
        for one in found.seen
        if one.type.startswith("aws:") and "name" in one.props and one.props["name"] != "sidecar"
    ]
    assert len(physical) == len(set(physical)), "two resources of AWS have one name"
    assert violations([thing(one) for one in found.seen if one.is_custom]) == []
    return time.process_time() - started


def test_an_estate_of_2000_resources_is_made_and_keeps_the_rules(run: Runner):
    assert check_large(run, 55, 2_000) < 60


@pytest.mark.nightly
def test_an_estate_of_20000_resources_is_made_and_keeps_the_rules(run: Runner):
    check_large(run, 550, 20_000)


def test_one_more_site_changes_no_resource_of_the_others_but_their_policies(run: Runner):
    def states(sites: int) -> dict[str, Any]:
        of = large(sites)
        found = run(lambda: whole(of))
        return {one.urn: one.props for one in found.seen}

    before, after = states(2), states(3)
    changed = {urn for urn in before if before[urn] != after[urn]}
    kinds = {urn.rpartition("::")[0].rpartition(":")[2] for urn in changed}
    # The new site's stream is read by all, and its sidecars may ask all.
    assert kinds == {"RolePolicy", "ConfigMap", "StatefulSet"}
