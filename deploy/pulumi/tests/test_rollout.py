"""Rollouts with a fake engine, and the Automation API with a program that stands for `pulumi`."""

from __future__ import annotations

import datetime
import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import PACKAGE

from lockstep_pulumi.approvals import NONE, Approval, Approvals
from lockstep_pulumi.changes import Change, Effect, StackChanges
from lockstep_pulumi.deploy import main, waves
from lockstep_pulumi.engine import PulumiEngine, by_command
from lockstep_pulumi.invalid import InvalidError
from lockstep_pulumi.rollout import Outcome, Report, Rollout

NEW, OLD = Path("new"), Path("old")
URN = "urn:pulumi:prod-a::lockstep::"
PODS = Change(f"{URN}kubernetes:apps/v1:StatefulSet::gerrit-a", Effect.REPLACE)
TABLE = Change(f"{URN}aws:dynamodb/table:Table::prod-refs", Effect.DELETE)
FLAG = Approvals(has_flag=True)


@dataclass
class Fake:
    """An engine, checks and traffic that note what they are asked for, and fail where a test wants it."""

    fails: set[tuple[str, str, Path | None]] = field(default_factory=set)
    losses: dict[str, tuple[Change, ...]] = field(default_factory=dict)
    done: list[tuple[str, str, Path | None]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    meet: threading.Barrier | None = None

    def _take(self, step: str, stack: str, program: Path | None) -> None:
        with self.lock:
            self.done.append((step, stack, program))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if self.meet and step == "up" and stack != "shared":
            self.meet.wait(60)
        with self.lock:
            self.at_once -= 1
        if (step, stack, program) in self.fails:
            raise RuntimeError(f"{step} of {stack} fails")

    def preview(self, stack: str, program: Path) -> StackChanges:
        self._take("preview", stack, program)
        return StackChanges(stack, self.losses.get(stack, ()))

    def up(self, stack: str, program: Path) -> None:
        self._take("up", stack, program)

    def verify(self, site: str) -> Sequence[str]:
        try:
            self._take("verify", site, None)
        except RuntimeError as error:
            return [str(error)]
        return []

    def forward(self) -> None:
        self._take("forward", "", None)

    def back(self) -> None:
        self._take("back", "", None)

    def changes(self) -> list[tuple[str, str, Path | None]]:
        return [one for one in self.done if one[0] != "preview"]


def rolled(
    fake: Fake, waves: Sequence[Sequence[str]] = (("a", "b"),), old: Path | None = OLD, approvals: Approvals = NONE
) -> Report:
    return Rollout(fake, "shared", waves, fake.verify, traffic=fake).run(NEW, old, approvals)


def test_shared_comes_first_then_sites_then_checks_then_traffic():
    fake = Fake()
    report = rolled(fake)
    assert report.outcome is Outcome.DONE
    assert fake.changes()[0] == ("up", "shared", NEW)
    assert sorted(fake.changes()[1:3]) == [("up", "a", NEW), ("up", "b", NEW)]
    assert sorted(fake.changes()[3:5]) == [("verify", "a", None), ("verify", "b", None)]
    assert fake.changes()[5:] == [("forward", "", None)]


def test_sites_of_a_wave_are_deployed_at_once_and_waves_one_after_the_other():
    fake = Fake(meet=threading.Barrier(3))
    assert rolled(fake, (("a", "b", "c"),)).outcome is Outcome.DONE
    assert fake.most_at_once >= 3
    fake = Fake()
    rolled(fake, (("a",), ("b",)))
    assert fake.changes()[1:5] == [("up", "a", NEW), ("verify", "a", None), ("up", "b", NEW), ("verify", "b", None)]


def test_a_failed_check_takes_every_stack_back():
    fake = Fake(fails={("verify", "b", None)})
    report = rolled(fake)
    assert report.outcome is Outcome.ROLLED_BACK
    assert [(one.name, one.stack, one.problem) for one in report.problems] == [("verify", "b", "verify of b fails")]
    after = fake.changes()[5:]
    assert sorted(after[:2]) == [("up", "a", OLD), ("up", "b", OLD)]
    assert after[2:] == [("up", "shared", OLD)]
    assert ("forward", "", None) not in fake.done


def test_a_failed_check_of_the_first_wave_spares_the_second():
    fake = Fake(fails={("verify", "a", None)})
    assert rolled(fake, (("a",), ("b",))).outcome is Outcome.ROLLED_BACK
    assert not any(stack == "b" for _, stack, _ in fake.changes())


@pytest.mark.parametrize("stack", ["shared", "a"])
def test_a_failed_deployment_takes_back_what_may_have_changed(stack: str):
    fake = Fake(fails={("up", stack, NEW)})
    assert rolled(fake).outcome is Outcome.ROLLED_BACK
    back = {one for _, one, program in fake.changes() if program == OLD}
    assert back == ({"shared"} if stack == "shared" else {"shared", "a", "b"})
    assert not any(step == "verify" for step, _, _ in fake.done)


def test_failed_traffic_goes_back_before_the_stacks():
    fake = Fake(fails={("forward", "", None)})
    assert rolled(fake).outcome is Outcome.ROLLED_BACK
    assert fake.changes()[5:7] == [("forward", "", None), ("back", "", None)]
    assert fake.changes()[-1] == ("up", "shared", OLD)


def test_a_loss_needs_consent_before_anything_is_deployed():
    fake = Fake(losses={"a": (PODS,)})
    report = rolled(fake)
    assert report.outcome is Outcome.REFUSED
    assert f"1 resources would be deleted or replaced without approval: {PODS.urn}" in report.problems[0].problem
    assert fake.changes() == []
    assert rolled(Fake(losses={"a": (PODS,)}), approvals=FLAG).outcome is Outcome.DONE


def test_the_option_consents_to_no_loss_of_data():
    fake = Fake(losses={"a": (PODS, TABLE)})
    report = rolled(fake, approvals=FLAG)
    assert report.outcome is Outcome.REFUSED
    assert TABLE.urn in report.problems[0].problem
    assert PODS.urn not in report.problems[0].problem
    assert fake.changes() == []


def test_a_rollback_deploys_the_sites_before_the_shared_stack_and_verifies():
    fake = Fake()
    report = Rollout(fake, "shared", [["a"]], fake.verify, traffic=fake).back(OLD)
    assert report.outcome is Outcome.DONE
    assert fake.changes() == [("back", "", None), ("up", "a", OLD), ("up", "shared", OLD), ("verify", "a", None)]


def test_a_rollback_needs_consent_to_losses_too_and_tells_what_failed():
    fake = Fake(losses={"shared": (TABLE,)})
    report = Rollout(fake, "shared", [["a"]], fake.verify).back(OLD)
    assert report.outcome is Outcome.REFUSED
    assert fake.changes() == []
    fake = Fake(fails={("up", "a", OLD)})
    report = Rollout(fake, "shared", [["a"]], fake.verify).back(OLD)
    assert report.outcome is Outcome.STUCK
    assert fake.changes() == [("up", "a", OLD)]
    fake = Fake(fails={("verify", "a", None)})
    report = Rollout(fake, "shared", [["a"]], fake.verify).back(OLD)
    assert report.outcome is Outcome.STUCK
    assert [(one.name, one.stack) for one in report.problems] == [("verify", "a")]


def test_a_loss_that_only_the_new_shared_stack_causes_stops_the_sites():
    class Later(Fake):
        def preview(self, stack: str, program: Path) -> StackChanges:
            is_up = ("up", "shared", NEW) in self.done
            super().preview(stack, program)
            return StackChanges(stack, (TABLE,) if is_up and stack == "a" else ())

    fake = Later()
    assert rolled(fake).outcome is Outcome.ROLLED_BACK
    assert fake.changes() == [("up", "shared", NEW), ("up", "shared", OLD)]


def test_a_preview_that_fails_deploys_nothing():
    fake = Fake(fails={("preview", "b", NEW)})
    assert rolled(fake).outcome is Outcome.REFUSED
    assert fake.changes() == []


def test_a_way_back_that_fails_names_the_stacks():
    fake = Fake(fails={("verify", "a", None), ("up", "b", OLD)})
    report = rolled(fake)
    assert report.outcome is Outcome.STUCK
    assert "these stacks may have the new version: b, shared" in report.advice


def test_a_first_deployment_has_no_way_back_and_says_so():
    report = rolled(Fake(fails={("verify", "a", None)}), old=None)
    assert report.outcome is Outcome.STUCK
    assert report.advice.startswith("there is no version before")


def test_a_check_is_repeated_while_there_is_patience(tmp_path: Path):
    # The command succeeds when it is run for the third time.
    count = tmp_path / "count"
    script = "import sys,pathlib; p=pathlib.Path(sys.argv[1]); n=len(p.read_text()) if p.exists() else 0; "
    script += "p.write_text('x'*(n+1)); print('not yet', file=sys.stderr); sys.exit(n<2)"
    clock = iter(range(100))
    command = f'{sys.executable} -c "{script}" {count}'
    slept: list[float] = []
    check = by_command(command, patience=50, sleep=slept.append, now=lambda: float(next(clock)))
    assert check("muc-1") == []
    assert slept == [5, 5]
    impatient = by_command(f"{sys.executable} -c 'import sys; sys.exit(\"no {{site}}\")'", 0, sleep=slept.append)
    (problem,) = impatient("muc-1")
    assert problem.endswith("ends with 1: no muc-1")


def test_a_check_that_hangs_or_is_not_there_fails():
    sleeps = f"{sys.executable} -c 'import time; time.sleep(60)'"
    (problem,) = by_command(sleeps, patience=0, attempt=0.2)("muc-1")
    assert "does not end within 0.2 s" in problem
    (problem,) = by_command("no-such-command {site}", patience=0)("muc-1")
    assert problem.startswith("`no-such-command muc-1` does not start")


def test_waves_name_sites_of_the_estate():
    assert waves(["a", "b", "c"], ["b"]) == [["b"], ["a", "c"]]
    with pytest.raises(InvalidError, match="x is not in the estate"):
        waves(["a"], ["x"])


def test_the_command_prints_each_step_and_ends_with_the_code_of_the_outcome(capsys: pytest.CaptureFixture[str]):
    words = ["rollout", "--estate", str(PACKAGE / "program/prod.yaml"), "--stacks", "prod-", "--new", "new"]
    words += ["--old", "old"]
    succeeds, fails = f"{sys.executable} -c ''", f"{sys.executable} -c 'import sys; sys.exit(3)'"
    assert main([*words, "--verify", succeeds, "--wave", "muc-2"], Fake()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "done"
    assert lines[0].split()[:2] == ["preview", "prod-shared"]
    assert main([*words, "--verify", fails, "--patience", "0"], Fake()) == 1
    assert "rolled back: every stack has the version before" in capsys.readouterr().out
    assert main([*words, "--verify", succeeds], Fake(losses={"prod-muc-1": (PODS,)})) == 2
    assert main([*words, "--verify", succeeds, "--approve-losses"], Fake(losses={"prod-muc-1": (PODS,)})) == 0
    assert main([*words, "--verify", succeeds, "--wave", "ber-1"], Fake()) == 64
    with pytest.raises(SystemExit) as ended:
        main([*words, "--verify", " "], Fake())
    assert ended.value.code == 64
    assert "the command is empty" in capsys.readouterr().err


def test_the_command_rolls_back_checks_and_drills(capsys: pytest.CaptureFixture[str]):
    estate = ["--estate", str(PACKAGE / "program/prod.yaml")]
    # The check of one site alone is red.
    script = "import sys; sys.exit('too old' if sys.argv[1] == 'muc-1' else 0)"
    check = f'{sys.executable} -c "{script}" {{site}}'
    assert main(["verify", *estate, "--verify", check, "--patience", "0"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["eu-aws", "muc-1", "muc-2"]
    assert lines[0].split()[1:] == lines[2].split()[1:] == ["ok"]
    assert lines[1].endswith("ends with 1: too old")
    assert main(["drill", *estate, "--drill", check]) == 0
    assert main(["drill", *estate, "--drill", check, "--at", "muc-1"]) == 1
    assert main(["drill", *estate, "--drill", check, "--at", "ber-1"]) == 64
    fake = Fake()
    words = ["rollback", *estate, "--stacks", "prod-", "--old", "old", "--verify", f"{sys.executable} -c ''"]
    assert main(words, fake) == 0
    assert fake.changes()[-1] == ("up", "prod-shared", OLD)
    assert main(words, Fake(losses={"prod-shared": (TABLE,)})) == 2


STUB = """#!{python}
# Stands for `pulumi`: notes its arguments, and tells the Automation API of one replaced table.
import json, os, sys
words = sys.argv[1:]
with open(os.environ["STUB_LOG"], "a") as log:
    log.write(json.dumps([os.path.basename(os.getcwd()), *words]) + "\\n")
command = next((word for word in words if not word.startswith("-")), "")
if command == "version":
    print("v3.272.0")
elif command == "preview" or command == "up":
    if "fail" in os.environ.get("STUB_FAIL", "") and command == "up":
        sys.exit("error: the update failed")
    if "--event-log" in words:
        import grpc
        from pulumi.runtime.proto import events_pb2, events_pb2_grpc
        urn = "urn:pulumi:prod::lockstep::aws:dynamodb/table:Table::prod-refs"
        def step(op, urn):
            metadata = {{"op": op, "urn": urn, "type": "aws:dynamodb/table:Table", "provider": ""}}
            return {{"sequence": 1, "timestamp": 1, "resourcePreEvent": {{"metadata": metadata, "planning": True}}}}
        told = [
            step("replace", urn), step("delete", urn + "-old"), step("create", urn + "-new"), step("same", urn + "-x"),
            {{"sequence": 2, "timestamp": 1, "summaryEvent": {{"maybeCorrupt": False, "durationSeconds": 1,
             "resourceChanges": {{"replace": 1, "same": 9, "create": 2, "delete": 1}}, "policyPacks": {{}}}}}},
        ]
        address = words[words.index("--event-log") + 1].removeprefix("tcp://")
        with grpc.insecure_channel(address) as channel:
            events = events_pb2_grpc.EventsStub(channel)
            events.StreamEvents(iter([events_pb2.EventRequest(event=json.dumps(one)) for one in told]))
elif "history" in words:
    print(json.dumps([{{"kind": "update", "startTime": "2026-11-30T00:00:00.000Z", "message": "", "environment": {{}},
        "config": {{}}, "result": "succeeded", "endTime": "2026-11-30T00:00:01.000Z", "version": 1,
        "resourceChanges": {{}}}}]))
elif "output" in words:
    print("{{}}")
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program in the place of `pulumi`. Returns the file with its calls."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "pulumi").write_text(STUB.format(python=sys.executable))
    (place / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "calls"))
    for version in ("new", "old"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "Pulumi.yaml").write_text((PACKAGE / "program/Pulumi.yaml").read_text())
    return tmp_path / "calls"


# Consent to the losses of the program that stands for `pulumi`.
REFS = "urn:pulumi:prod::lockstep::aws:dynamodb/table:Table::prod-refs"
LOST = Approvals(
    tuple(
        Approval(urn, effect, "a test", "alice", datetime.date.max)
        for urn, effect in ((REFS, Effect.REPLACE), (f"{REFS}-old", Effect.DELETE))
    )
)


def calls(log: Path, command: str) -> list[list[str]]:
    return [words for words in map(json.loads, log.read_text().splitlines()) if command in words]


def test_the_automation_api_lists_losses_and_takes_the_policy_pack(stub: Path):
    engine = PulumiEngine(PACKAGE / "policy-pack")
    found = engine.preview("prod-shared", stub.parent / "new")
    table = "urn:pulumi:prod::lockstep::aws:dynamodb/table:Table::prod-refs"
    effects = {change.urn: change.effect for change in found.changes}
    assert effects == {table: Effect.REPLACE, f"{table}-old": Effect.DELETE, f"{table}-new": Effect.CREATE}
    assert (found.stack, found.same) == ("prod-shared", 1)
    engine.up("prod-shared", stub.parent / "new")
    (up,) = calls(stub, "up")
    assert up[up.index("--policy-pack") + 1] == str(PACKAGE / "policy-pack")
    assert "prod-shared" in up


def test_a_rollout_through_the_automation_api_goes_back_to_the_folder_before(stub: Path):
    engine = PulumiEngine()
    fake = Fake(fails={("verify", "a", None)})
    rollout = Rollout(engine, "shared", [["a"]], fake.verify)
    report = rollout.run(stub.parent / "new", stub.parent / "old", LOST)
    assert report.outcome is Outcome.ROLLED_BACK, report.problems
    assert [words[0] for words in calls(stub, "up")] == ["new", "new", "old", "old"]


def test_a_failed_update_is_told_with_the_words_of_pulumi(stub: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUB_FAIL", "fail")
    rollout = Rollout(PulumiEngine(), "shared", [["a"]], lambda site: [])
    report = rollout.run(stub.parent / "new", None, LOST)
    assert report.outcome is Outcome.STUCK
    assert "the update failed" in report.problems[0].problem


def test_without_pulumi_nothing_is_deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    rollout = Rollout(PulumiEngine(), "shared", [["a"]], lambda site: [])
    report = rollout.run(PACKAGE / "program", None)
    assert report.outcome is Outcome.REFUSED
    assert "pulumi" in report.problems[0].problem
