"""The rules, through the server that Pulumi's engine would start."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
import yaml
from cases import Case, cases, changed, thing
from conftest import PACKAGE, TOP, Run, Runner
from estates import estate
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc
from test_aws import whole

from lockstep_pulumi import check
from lockstep_pulumi.rules.model import Thing
from lockstep_pulumi.rules.pack import RULES, rendered, violations

MANDATORY, ADVISORY = analyzer_pb2.MANDATORY, analyzer_pb2.ADVISORY


class Analyzer:
    """The server of the policies, as the engine speaks to it."""

    def __init__(self, port: int) -> None:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_send_message_length", 1 << 28)])
        self.calls = analyzer_pb2_grpc.AnalyzerStub(channel)

    def violations(self, things: Sequence[Thing]) -> list[Any]:
        """The diagnostics for each thing, and for all of them together."""
        found = []
        for one in things:
            request = analyzer_pb2.AnalyzeRequest(**self._fields(one))
            found += list(self.calls.Analyze(request).diagnostics)
        resources = [analyzer_pb2.AnalyzerResource(**self._fields(one)) for one in things]
        return found + list(self.calls.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=resources)).diagnostics)

    def _fields(self, one: Thing) -> dict[str, Any]:
        properties = struct_pb2.Struct()
        properties.update(one.props)
        options = analyzer_pb2.AnalyzerResourceOptions(protect=one.protect)
        return {"type": one.type, "urn": one.urn, "name": one.name, "properties": properties, "options": options}


@pytest.fixture(scope="session")
def analyzer() -> Iterator[Analyzer]:
    env = {**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen([sys.executable, PACKAGE / "policy-pack"], stdout=subprocess.PIPE, env=env)
    assert server.stdout is not None
    try:
        yield Analyzer(int(server.stdout.readline()))
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


@pytest.fixture(scope="session")
def every_case() -> list[Case]:
    return cases()


def test_every_rule_has_a_case(every_case: list[Case]):
    assert [rule.name for rule in RULES] == list(dict.fromkeys(case.rule for case in every_case))


def test_each_rule_passes_what_is_right_and_finds_one_change(analyzer: Analyzer, every_case: list[Case]):
    levels = {rule.name: MANDATORY if rule.is_mandatory else ADVISORY for rule in RULES}
    remedies = {rule.name: rule.remedy for rule in RULES}
    for case in every_case:
        first, *rest = case.passes
        right = [first] if case.rule == "no-static-keys" else [first, *rest]
        passed = [found for found in analyzer.violations(right) if found.policyName == case.rule]
        assert passed == [], case.rule
        wrong = [changed(first, case.change, case.protect), *rest]
        found = [one for one in analyzer.violations(wrong) if one.policyName == case.rule]
        assert found, f"{case.rule} did not find its case"
        assert any(case.told in one.message for one in found), (case.rule, [one.message for one in found])
        for one in found:
            assert remedies[case.rule] in one.message
            assert one.enforcementLevel == levels[case.rule], case.rule


def test_the_server_lists_the_rules_with_their_levels_and_remedies(analyzer: Analyzer):
    info = analyzer.calls.GetAnalyzerInfo(empty_pb2.Empty())
    assert info.name == "lockstep"
    listed = {one.name: (one.enforcementLevel, one.remediation_steps) for one in info.policies}
    assert listed == {rule.name: (MANDATORY if rule.is_mandatory else ADVISORY, rule.remedy) for rule in RULES}
    assert sum(rule.is_mandatory for rule in RULES) >= 25


def things(run: Run) -> list[Thing]:
    return [thing(one) for one in run.seen if one.is_custom]


def test_the_program_violates_no_rule(analyzer: Analyzer, run: Runner):
    found = run(lambda: whole(estate()))
    assert [one.message for one in analyzer.violations(things(found))] == []


@pytest.mark.parametrize("case", ["full", "least", "off", "plain-git"])
def test_the_objects_of_the_chart_violate_only_what_a_case_switches_off(analyzer: Analyzer, case: str):
    text = (TOP / f"deploy/test/golden/{case}.yaml").read_text()
    parts = rendered(part for part in yaml.safe_load_all(text) if part)
    found = analyzer.violations(parts)
    mandatory = {one.policyName for one in found if one.enforcementLevel == MANDATORY}
    advisory = {one.policyName for one in found if one.enforcementLevel == ADVISORY}
    # The case without a disruption budget, a NetworkPolicy and spread is there to show that they can be left out.
    off = {"evicted-one-by-one", "network-limited", "spread-over-nodes"}
    assert mandatory == (off if case == "plain-git" else set())
    # The chart's example images have tags.
    assert advisory <= {"image-pinned"}
    # The server and the plain functions agree.
    assert {rule.name for rule, _ in violations(parts)} == mandatory | advisory


def test_the_command_checks_what_helm_rendered():
    out = io.StringIO()
    golden = TOP / "deploy/test/golden"
    assert check.main([str(golden / "full.yaml")], io.StringIO(), out) == 0
    assert out.getvalue().startswith("warning: image-pinned: gerrit-muc-1: the image")
    text = (golden / "plain-git.yaml").read_text()
    assert check.main([], io.StringIO(text), out) == 1
    assert "error: network-limited: gerrit-ber-1: no NetworkPolicy" in out.getvalue()
    assert check.main([], io.StringIO(""), out) == 2


def test_a_value_that_is_not_known_in_a_preview_is_told_and_stops_nothing(analyzer: Analyzer):
    unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
    props = {"serverSideEncryption": {"enabled": True, "kmsKeyArn": unknown}}
    found = analyzer.violations([Thing("aws:dynamodb/table:Table", "t", props, protect=True)])
    told = [one for one in found if one.policyName == "table-encrypted"]
    assert [one.enforcementLevel for one in told] == [ADVISORY]
    assert "can't be known during preview" in told[0].message
