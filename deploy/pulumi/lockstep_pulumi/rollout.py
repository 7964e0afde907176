"""A deployment of a whole estate: the shared stack, the sites in waves, a check of each site, and traffic at the end.

It stops at the first failure and goes back: traffic, then the sites, then the shared stack, each with the program of
the version before. Pulumi itself has no way back. Nothing is ever destroyed, and a deployment that deletes or replaces
resources needs the consent of an operator before it begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from lockstep_pulumi.approvals import NONE, Approvals
from lockstep_pulumi.changes import StackChanges


class Engine(Protocol):
    """Deploys stacks. A program is a folder: a checkout of one version, with the files of its stacks."""

    def preview(self, stack: str, program: Path) -> StackChanges:
        """Finds the changes. Raises an error if it cannot."""

    def up(self, stack: str, program: Path) -> None:
        """Makes the changes. After an error some of them may be made."""


class Traffic(Protocol):
    """Leads users to the sites."""

    def forward(self) -> None:
        """Makes the change that belongs to the new version."""

    def back(self) -> None:
        """Undoes it. It is also called when `forward` failed."""


# Checks a site. Returns the problems that it found, each as a sentence.
Verify = Callable[[str], Sequence[str]]


class Outcome(Enum):
    """The end of a rollout."""

    DONE = "done"
    REFUSED = "refused"
    ROLLED_BACK = "rolled back"
    STUCK = "stuck"


@dataclass(frozen=True)
class Step:
    """A step that was taken."""

    name: str
    stack: str
    problem: str = ""
    seconds: float = 0.0


@dataclass
class Report:
    """The steps of a rollout, in the order of their ends, and its outcome."""

    outcome: Outcome = Outcome.DONE
    steps: list[Step] = field(default_factory=list)
    # The next step of an operator, with its reason.
    advice: str = ""

    @property
    def problems(self) -> list[Step]:
        """The steps that failed."""
        return [step for step in self.steps if step.problem]


class _StopError(Exception):
    """A step failed, and the report has the reason."""


@dataclass
class Rollout:
    """The stacks of an estate and the means to deploy them."""

    engine: Engine
    shared: str
    # Groups of sites. A group begins when every site of the one before is verified.
    waves: Sequence[Sequence[str]]
    verify: Verify
    # The stack of a site.
    stack: Callable[[str], str] = str
    traffic: Traffic | None = None
    # How many stacks are deployed at once.
    parallel: int = 8

    def run(self, new: Path, old: Path | None, approvals: Approvals = NONE) -> Report:
        """Deploys `new`. Goes back to `old` on a failure. Losses need the approvals."""
        return _Run(self, new, old, approvals).run()

    def back(self, old: Path, approvals: Approvals = NONE) -> Report:
        """Deploys the version before in the order of a way back, when a rollout that had ended turns out to be bad."""
        return _Run(self, old, None, approvals).back()


@dataclass
class _Run:
    rollout: Rollout
    new: Path
    old: Path | None
    approvals: Approvals
    report: Report = field(default_factory=Report)
    # The stacks that may have changed.
    touched: list[str] = field(default_factory=list)
    has_moved_traffic: bool = False

    def run(self) -> Report:
        sites = [self.rollout.stack(site) for wave in self.rollout.waves for site in wave]
        try:
            self._each("preview", [self.rollout.shared, *sites], self._harmless)
        except _StopError:
            self.report.outcome = Outcome.REFUSED
            self.report.advice = "nothing was deployed; read the problems, and consent to the losses if they are meant"
            return self.report
        try:
            self._each("up", [self.rollout.shared], self._up)
            for wave in self.rollout.waves:
                stacks = [self.rollout.stack(site) for site in wave]
                # Now the outputs of the shared stack are the new ones.
                self._each("preview", stacks, self._harmless)
                self._each("up", stacks, self._up)
                self._each("verify", wave, self._verified)
            if self.rollout.traffic:
                self._each("traffic", [""], self._forward)
        except _StopError:
            self._back()
        return self.report

    def back(self) -> Report:
        """Traffic, sites, shared stack, and a check of each site."""
        sites = [self.rollout.stack(site) for wave in self.rollout.waves for site in wave]
        try:
            self._each("preview", [*sites, self.rollout.shared], self._harmless)
        except _StopError:
            self.report.outcome = Outcome.REFUSED
            self.report.advice = "nothing was deployed; read the problems, and consent to the losses if they are meant"
            return self.report
        try:
            traffic = self.rollout.traffic
            if traffic:
                self._each("traffic back", [""], lambda _: traffic.back())
            self._each("back", sites, self._up)
            self._each("back", [self.rollout.shared], self._up)
            self._each("verify", [site for wave in self.rollout.waves for site in wave], self._verified)
        except _StopError:
            self.report.outcome = Outcome.STUCK
            self.report.advice = "the way back failed; read the problems, and deploy the stacks by hand"
        return self.report

    def _each(self, name: str, stacks: Sequence[str], work: Callable[[str], None]) -> None:
        """Takes a step for all stacks at once. All of them end before a failure stops the rollout."""

        def one(stack: str) -> Step:
            began = time.monotonic()
            try:
                work(stack)
            # After any failure, the rollout goes back.
            except Exception as error:
                return Step(name, stack, str(error) or type(error).__name__, time.monotonic() - began)
            return Step(name, stack, "", time.monotonic() - began)

        with ThreadPoolExecutor(max_workers=self.rollout.parallel) as pool:
            steps = list(pool.map(one, stacks))
        self.report.steps += steps
        if any(step.problem for step in steps):
            raise _StopError

    def _harmless(self, stack: str) -> None:
        missing = self.approvals.missing(self.rollout.engine.preview(stack, self.new).changes)
        if missing:
            told = ", ".join(change.urn for change in missing)
            raise RuntimeError(f"{len(missing)} resources would be deleted or replaced without approval: {told}")

    def _up(self, stack: str) -> None:
        self.touched.append(stack)
        self.rollout.engine.up(stack, self.new)

    def _verified(self, site: str) -> None:
        problems = self.rollout.verify(site)
        if problems:
            raise RuntimeError("; ".join(problems))

    def _forward(self, _: str) -> None:
        self.has_moved_traffic = True
        if self.rollout.traffic:
            self.rollout.traffic.forward()

    def _back(self) -> None:
        report, old = self.report, self.old
        try:
            if self.has_moved_traffic and self.rollout.traffic:
                traffic = self.rollout.traffic
                self._each("traffic back", [""], lambda _: traffic.back())
            if old is None:
                raise _StopError
            sites = [stack for stack in self.touched if stack != self.rollout.shared]
            self._each("back", sites, lambda stack: self.rollout.engine.up(stack, old))
            if self.rollout.shared in self.touched:
                self._each("back", [self.rollout.shared], lambda stack: self.rollout.engine.up(stack, old))
        except _StopError:
            report.outcome = Outcome.STUCK
            left = sorted(
                set(self.touched) - {step.stack for step in report.steps if step.name == "back" and not step.problem}
            )
            why = "there is no version before" if old is None else "going back failed, too"
            report.advice = f"{why}: these stacks may have the new version: {', '.join(left)}. Deploy them by hand"
            return
        report.outcome = Outcome.ROLLED_BACK
        report.advice = "every stack has the version before; read the problems"
