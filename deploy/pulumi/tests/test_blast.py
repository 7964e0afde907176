"""The blast radius of a deployment: previews in the forms of Pulumi, losses, approvals, and the page."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PACKAGE, Runner
from estates import estate
from pulumi.automation import events
from test_aws import whole

from lockstep_pulumi import approvals
from lockstep_pulumi.approvals import Approval, Approvals
from lockstep_pulumi.blast import LISTED, Radius
from lockstep_pulumi.changes import COSTS, EFFECTS, Change, Cost, Effect, StackChanges, read
from lockstep_pulumi.deploy import main
from lockstep_pulumi.invalid import InvalidError
from lockstep_pulumi.rollout import Rollout

TODAY = datetime.date(2026, 12, 1)
SITES = ("eu-aws", "muc-1", "muc-2")
ESTATE = ["--estate", str(PACKAGE / "program/prod.yaml"), "--stacks", "example/prod-"]
Step = tuple[str, str, list[str]]


def urn(stack: str, kind: str, name: str) -> str:
    return f"urn:pulumi:{stack}::lockstep::{kind}::{name}"


def steps(stack: str) -> list[Step]:
    """The steps of a preview with each effect. A replacement has three."""
    table = urn(stack, "lockstep:index:SharedRefDb$aws:dynamodb/table:Table", "prod-refs")
    return [
        ("same", urn(stack, "pulumi:pulumi:Stack", f"lockstep-{stack}"), []),
        ("same", urn(stack, "aws:kms/key:Key", "key"), []),
        ("refresh", urn(stack, "aws:sqs/queue:Queue", "notices"), []),
        ("create", urn(stack, "aws:cloudwatch/metricAlarm:MetricAlarm", "alarm|1"), []),
        ("update", urn(stack, "kubernetes:apps/v1:StatefulSet", "gerrit"), ["spec"]),
        ("create-replacement", table, ["hashKey"]),
        ("replace", table, ["hashKey"]),
        ("delete-replaced", table, ["hashKey"]),
        ("delete", urn(stack, "aws:iam/role:Role", "old"), []),
    ]


def digest(of: list[Step], **more: Any) -> str:
    """The document of `pulumi preview --json`."""
    told = [
        {
            "op": op,
            "urn": at,
            "detailedDiff": None,
            **({"replaceReasons": why} if "replace" in op else {"diffReasons": why}),
        }
        for op, at, why in of
    ]
    return json.dumps({"config": {}, "steps": told, "duration": 1, "changeSummary": {}, **more}, indent=4)


def summary(of: list[Step], **more: Any) -> str:
    """The document of `pulumi events summary`."""
    told = [{"op": op, "urn": at, "type": at.split("::")[2], "keys": why, "failed": False} for op, at, why in of]
    return json.dumps({"version": 1, "isPreview": True, "steps": told, **more})


def lines(of: list[Step], *more: dict[str, Any]) -> str:
    """The engine's events, one per line."""
    told = [
        {
            "sequence": at,
            "timestamp": 1,
            "resourcePreEvent": {"metadata": {"op": op, "urn": where, "keys": why}, "planning": True},
        }
        for at, (op, where, why) in enumerate(of)
    ]
    end = more or ({"summaryEvent": {"maybeCorrupt": False, "resourceChanges": {}}},)
    return "\n".join(json.dumps(one) for one in ({"preludeEvent": {"config": {}}}, *told, *end))


@pytest.mark.parametrize("form", [digest, summary, lines])
def test_each_form_of_a_preview_tells_the_same_changes(form: Callable[[list[Step]], str]):
    found = read(form(steps("prod-shared")))
    effects = {change.name: change.effect for change in found.changes}
    assert effects == {
        "alarm|1": Effect.CREATE,
        "gerrit": Effect.UPDATE,
        "prod-refs": Effect.REPLACE,
        "old": Effect.DELETE,
    }
    table = next(change for change in found.changes if change.name == "prod-refs")
    assert (table.type, table.stack, table.reasons) == ("aws:dynamodb/table:Table", "prod-shared", ("hashKey",))
    assert (found.stack, found.same) == ("prod-shared", 2)


def test_every_operation_of_the_engine_has_an_effect():
    assert {one.value for one in events.OpType} <= set(EFFECTS)
    losses = {name for name, effect in EFFECTS.items() if effect.is_loss}
    assert {"delete", "replace", "import-replacement", "delete-replaced", "create-replacement"} <= losses


ROOT: Step = steps("s")[0]
ERROR = {"diagnosticEvent": {"severity": "error", "message": "error: no rights", "urn": "urn:x"}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the events end before the summary"),
        ("{}", "the events end before the summary"),
        ("no access", "no JSON in line 1"),
        ('{"steps": []}', "is no whole preview of one stack"),
        (digest(steps("s")[1:]), "is no whole preview of one stack"),
        (digest([*steps("s"), *steps("t")]), "stacks: s, t"),
        (digest([ROOT, ("explode", "urn:pulumi:s::lockstep::a:b:C::d", [])]), "operation 'explode' is not known here"),
        (digest([ROOT], maybeCorrupt=True), "the preview failed"),
        (digest([ROOT], diagnostics=[{"severity": "error", "message": "no rights"}]), "the preview failed: no rights"),
        (summary([ROOT], failed=True, error="timeout"), "the preview failed: timeout"),
        (digest([ROOT])[:-20], "no JSON"),
        (lines([ROOT], {"summaryEvent": {"maybeCorrupt": True}}), "the preview failed"),
        (lines([ROOT], ERROR), "the preview failed: urn:x: error: no rights"),
        (lines([ROOT], {"errorEvent": {"error": "boom"}}), "the preview failed: boom"),
        (lines([ROOT]).rpartition("\n")[0], "the events end before the summary"),
        ('{"steps": [{"op": "create"}]}', "has no form of Pulumi's"),
        ("[1]", "has no form of Pulumi's"),
    ],
)
def test_a_preview_that_is_not_whole_is_never_read_as_harmless(text: str, told: str):
    with pytest.raises(InvalidError, match=r"x\.json") as error:
        read(text, "x.json")
    assert told in str(error.value)


def test_a_warning_does_not_fail_a_preview():
    found = read(digest([ROOT], diagnostics=[{"severity": "warning", "message": "old"}]))
    assert found.changes == ()


def test_every_type_of_an_estate_has_the_cost_that_its_loss_has(run: Runner):
    of = estate()
    found = run(lambda: whole(of))
    kinds = {Change(one.urn, Effect.DELETE).type for one in found.seen if not one.type.startswith("pulumi:pulumi:")}
    data = {kind.rpartition(":")[2] for kind in kinds if Change(urn("s", kind, "n"), Effect.DELETE).cost is Cost.DATA}
    # Tables, streams, keys, and the bucket with its versions and its encryption. Everything else is listed.
    assert data == {
        "Table",
        "Stream",
        "Key",
        "ReplicaKey",
        "Bucket",
        "BucketVersioning",
        "BucketServerSideEncryptionConfiguration",
        "BucketLifecycleConfiguration",
    }
    assert Change(urn("s", "kubernetes:core/v1:PersistentVolumeClaim", "v"), Effect.DELETE).cost is Cost.DATA
    assert Change(urn("s", "kubernetes:core/v1:Namespace", "v"), Effect.DELETE).cost is Cost.DATA
    assert Change(urn("s", "nobody:knows/this:One", "v"), Effect.DELETE).cost is Cost.DATA
    assert Change(urn("s", "kubernetes:core/v1:ServiceAccount", "v"), Effect.DELETE).cost is Cost.ACCESS
    unused = [beginning for beginning in COSTS if not any(kind.startswith(beginning) for kind in kinds)]
    # Only with provisioned tables.
    assert unused == ["aws:appautoscaling/"]


def approval(change: Change, **more: Any) -> Approval:
    fields = {"reason": "a test", "approved_by": "alice", "until": TODAY, **more}
    return Approval(urn=change.urn, effect=change.effect, **fields)


TABLE = Change(urn("prod-shared", "aws:dynamodb/table:Table", "prod-refs"), Effect.REPLACE, ("hashKey",))
PODS = Change(urn("prod-muc-1", "kubernetes:apps/v1:StatefulSet", "gerrit"), Effect.REPLACE)


def test_an_approval_covers_one_effect_on_one_resource_until_its_day():
    given = Approvals((approval(TABLE),), today=TODAY)
    assert given.missing([TABLE, PODS]) == [PODS]
    assert given.missing([Change(TABLE.urn, Effect.DELETE)]) == [Change(TABLE.urn, Effect.DELETE)]
    assert Approvals((approval(TABLE),), today=TODAY + datetime.timedelta(1)).missing([TABLE]) == [TABLE]
    assert given.missing([Change(PODS.urn, Effect.UPDATE)]) == []
    assert given.unused([PODS]) == [approval(TABLE)]
    assert given.unused([TABLE]) == []


def test_the_option_of_the_command_covers_no_data():
    given = Approvals(has_flag=True, today=TODAY)
    assert given.missing([PODS, TABLE]) == [TABLE]


def test_all_wrong_entries_of_a_file_are_told_at_once(tmp_path: Path):
    file = tmp_path / "prod.yaml"
    good = {"urn": TABLE.urn, "effect": "replace", "reason": "r", "approved_by": "a", "until": TODAY}
    wrong = [{**good, "effect": "update"}, {**good, "until": "soon"}, {**good, "reason": " "}, {"urn": "x"}]
    file.write_text(yaml.safe_dump([good, *wrong]))
    with pytest.raises(InvalidError) as error:
        approvals.read(file, TODAY)
    told = [problem.removeprefix(f"{file}") for problem in error.value.problems]
    assert [problem.partition(":")[0] for problem in told] == ["[1].effect", "[2].until", "[3].reason", "[4]"]
    file.write_text(yaml.safe_dump([good]))
    assert approvals.read(file, TODAY).missing([TABLE]) == []
    file.write_text("prod: yes")
    with pytest.raises(InvalidError, match="write a list"):
        approvals.read(file, TODAY)
    assert approvals.read(tmp_path / "absent.yaml", TODAY) == Approvals(today=TODAY)


def test_the_example_environments_have_files_of_approvals_that_consent_to_nothing():
    for environment in ("stage", "prod"):
        assert approvals.read(PACKAGE / f"program/approvals/{environment}.yaml", TODAY).entries == ()


def previews(folder: Path, losses: bool) -> list[str]:
    """The previews of all stacks of the example, in files. The shared one has the losses."""
    for part in ("shared", *SITES):
        of = steps(f"prod-{part}")
        (folder / f"{part}.json").write_text(digest(of if losses and part == "shared" else of[:5]))
    return [str(path) for path in sorted(folder.glob("*.json"))]


def test_the_report_is_a_page_with_each_loss_and_the_entries_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    page, entries = tmp_path / "page.md", tmp_path / "approvals.yaml"
    words = ["report", *ESTATE, "--approvals", str(entries), "--report", str(page), *previews(tmp_path, losses=True)]
    assert main(words, today=TODAY) == 2
    text = page.read_text()
    assert text.strip() == capsys.readouterr().out.strip()
    assert "Refused: 2 of 2 losses need approval" in text
    assert "| prod-shared | 1 | 1 | 1 | 1 | 2 |" in text
    assert "| prod-shared | prod-refs | aws:dynamodb/table:Table | replace | data | hashKey | **nobody** |" in text
    assert "| alarm\\|1 | aws:cloudwatch/metricAlarm:MetricAlarm | create | - |" in text
    # The page has the entries, to be filled in. With them, the losses are approved.
    template = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert [entry["effect"] for entry in template] == ["replace", "delete"]
    filled = [{**entry, "reason": "wanted", "approved_by": "alice", "until": TODAY} for entry in template]
    entries.write_text(yaml.safe_dump(filled))
    page.unlink()
    assert main(words, today=TODAY) == 0
    assert "Approved: 2 losses, each with consent." in page.read_text()
    assert "| hashKey | alice: wanted |" in page.read_text()
    # The next day they have ended.
    assert main(words, today=TODAY + datetime.timedelta(1)) == 2


def test_a_report_without_losses_is_green_and_one_without_a_preview_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    files = previews(tmp_path, losses=False)
    assert main(["report", *ESTATE, *files], today=TODAY) == 0
    assert "Harmless: nothing is deleted or replaced." in capsys.readouterr().out
    assert main(["report", *ESTATE, *files[1:]], today=TODAY) == 1
    assert "| prod-eu-aws | not known: no file has its preview |" in capsys.readouterr().out
    (tmp_path / "muc-2.json").write_text("{}")
    assert main(["report", *ESTATE, *files], today=TODAY) == 1
    assert "Nothing may be deployed" in capsys.readouterr().out
    assert main(["report", *ESTATE, *files, str(tmp_path / "absent.json")], today=TODAY) == 1
    assert "absent.json" in capsys.readouterr().out


class Previews:
    """An engine that previews, and fails for some stacks."""

    def __init__(self, found: dict[str, StackChanges]) -> None:
        self.found = found

    def preview(self, stack: str, program: Path) -> StackChanges:
        if stack not in self.found:
            raise RuntimeError(f"{stack} does not answer")
        return self.found[stack]

    def up(self, stack: str, program: Path) -> None:
        raise AssertionError("a preview deploys nothing")


def test_the_command_previews_all_stacks_and_deploys_nothing(capsys: pytest.CaptureFixture[str]):
    harmless = {f"example/prod-{part}": StackChanges(f"example/prod-{part}", ()) for part in ("shared", *SITES)}
    words = ["preview", *ESTATE, "--new", "new"]
    assert main(words, Previews(harmless), TODAY) == 0
    assert "No changes." in capsys.readouterr().out
    lost = {**harmless, "example/prod-shared": StackChanges("example/prod-shared", (TABLE,))}
    assert main(words, Previews(lost), TODAY) == 2
    assert TABLE.urn in capsys.readouterr().out
    assert main([*words, "--approve-losses"], Previews(lost), TODAY) == 2
    harmless.pop("example/prod-muc-2")
    assert main(words, Previews(harmless), TODAY) == 1
    assert "not known: example/prod-muc-2 does not answer" in capsys.readouterr().out


def test_a_page_counts_many_changes_by_type():
    many = [Change(urn("s", "aws:sqs/queue:Queue", str(number)), Effect.CREATE) for number in range(LISTED + 1)]
    page = Radius([StackChanges("s", tuple(many))], Approvals()).markdown("x")
    assert f"| aws:sqs/queue:Queue | create | {LISTED + 1} |" in page
    assert len(page.splitlines()) < 20


def test_a_page_lists_entries_that_fit_no_loss():
    page = Radius([StackChanges("s", (PODS,))], Approvals((approval(TABLE),), today=TODAY)).markdown("x")
    assert f"- `{TABLE.urn}` (replace)" in page.partition("## Approvals that fit no loss")[2]


def test_the_losses_of_a_report_are_those_that_a_rollout_refuses():
    found = read(digest(steps("prod-shared")))
    radius = Radius([found], Approvals())
    engine = Previews({"shared": found})
    report = Rollout(engine, "shared", [], lambda site: []).run(Path("new"), None)
    (problem,) = [step.problem for step in report.problems]
    assert all(change.urn in problem for change in radius.missing)
    assert len(radius.missing) == problem.count("urn:pulumi") == 2
