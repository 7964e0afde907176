"""Pulumi's engine through its Automation API, and checks by commands.

The engine is the program `pulumi`, which is no Python package: install it first.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pulumi import automation
from pulumi.automation import events

from lockstep_pulumi.changes import ROOT, Change, StackChanges, effect, folded
from lockstep_pulumi.rollout import Verify


class PulumiEngine:
    """The program `pulumi`. The folder of a version has its `Pulumi.yaml` and its `Pulumi.STACK.yaml` files."""

    def __init__(self, policy_pack: Path | None = None) -> None:
        """Every deployment keeps the rules of the pack, if there is one."""
        self._packs = [str(policy_pack)] if policy_pack else None

    def preview(self, stack: str, program: Path) -> StackChanges:
        """Finds the changes. It fails if the engine tells an operation that this version does not know."""
        steps: list[Change] = []

        def seen(event: events.EngineEvent) -> None:
            step = event.resource_pre_event
            if step:
                of = step.metadata
                steps.append(Change(of.urn, effect(str(of.op.value)), tuple(of.keys or of.diffs or ())))

        _stack(stack, program).preview(on_event=seen, policy_packs=self._packs)
        changes = folded(steps)
        same = {step.urn for step in steps if step.type != ROOT} - {change.urn for change in changes}
        return StackChanges(stack, changes, len(same))

    def up(self, stack: str, program: Path) -> None:
        """Makes the changes."""
        _stack(stack, program).up(policy_packs=self._packs, message=f"lockstep rollout of {program.name}")


def _stack(stack: str, program: Path) -> automation.Stack:
    return automation.create_or_select_stack(stack_name=stack, work_dir=str(program))


def by_command(
    command: str,
    patience: float = 300,
    pause: float = 5,
    attempt: float = 60,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Verify:
    """Checks a site by a command, in which {site} is its name.

    It is repeated until it succeeds or patience ends. An attempt that hangs is stopped. Times are in seconds.
    """

    def verify(site: str) -> Sequence[str]:
        ends = now() + patience
        while True:
            words = [word.replace("{site}", site) for word in shlex.split(command)]
            problem = tried(words, attempt)
            if problem is None:
                return []
            if now() >= ends:
                return [f"`{shlex.join(words)}` {problem}"]
            sleep(pause)

    return verify


def tried(words: Sequence[str], seconds: float) -> str | None:
    """Runs a command for a time. Returns the problem with it, or None."""
    try:
        ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"does not end within {seconds:g} s"
    except OSError as error:
        return f"does not start: {error}"
    last = (ran.stderr or ran.stdout).strip().splitlines()[-1:]
    return f"ends with {ran.returncode}: {''.join(last)}" if ran.returncode else None


class CommandTraffic:
    """Leads users by a command, in which {way} is "forward" or "back"."""

    def __init__(self, command: str) -> None:
        """Takes the command."""
        self._command = command

    def forward(self) -> None:
        """Makes the change."""
        self._run("forward")

    def back(self) -> None:
        """Undoes it."""
        self._run("back")

    def _run(self, way: str) -> None:
        words = [word.replace("{way}", way) for word in shlex.split(self._command)]
        subprocess.run(words, check=True)
