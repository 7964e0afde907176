"""Consent to losses: a file beside the estate, in which each entry consents to the loss of one resource.

```
- urn: urn:pulumi:prod-muc-1::lockstep::kubernetes:apps/v1:StatefulSet::gerrit-muc-1
  effect: replace
  reason: another name of its Service
  approved_by: alice
  until: 2026-12-24
```
The file is reviewed like a program, so the history has the consent. An entry that has ended, or that names another
effect, consents to nothing. `--approve-losses` consents to all losses but those of data, which only an entry covers.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from lockstep_pulumi.changes import Change, Cost, Effect
from lockstep_pulumi.invalid import InvalidError


@dataclass(frozen=True)
class Approval:
    """Consent to the loss of one resource."""

    urn: str
    effect: Effect
    reason: str
    approved_by: str
    # The last day on which it counts.
    until: datetime.date


@dataclass(frozen=True)
class Approvals:
    """The losses to which somebody consents."""

    entries: tuple[Approval, ...] = ()
    # Every loss but those of data.
    has_flag: bool = False
    today: datetime.date = datetime.date.min

    def of(self, change: Change) -> Approval | None:
        """The entry that consents to a loss."""
        fitting = (one for one in self.entries if one.urn == change.urn and one.effect is change.effect)
        return next((one for one in fitting if self.today <= one.until), None)

    def has(self, change: Change) -> bool:
        """Whether somebody consents to a loss."""
        return self.of(change) is not None or (self.has_flag and change.cost is not Cost.DATA)

    def missing(self, changes: Iterable[Change]) -> list[Change]:
        """The losses to which nobody consents."""
        return [change for change in changes if change.effect.is_loss and not self.has(change)]

    def unused(self, changes: Iterable[Change]) -> list[Approval]:
        """The entries that fit no loss: the change is made, or an entry is wrong."""
        losses = {(change.urn, change.effect) for change in changes}
        return [one for one in self.entries if (one.urn, one.effect) not in losses]


NONE = Approvals()


def read(path: Path | None, today: datetime.date, *, has_flag: bool = False) -> Approvals:
    """The approvals of a file. A file that is not there has none. All wrong entries are told at once."""
    value = yaml.safe_load(path.read_text()) if path and path.exists() else None
    if not isinstance(value, list | None):
        raise InvalidError([f"{path}: write a list of approvals"])
    problems: list[str] = []
    entries = [_entry(one, f"{path}[{at}]", problems) for at, one in enumerate(value or ())]
    if problems:
        raise InvalidError(problems)
    return Approvals(tuple(one for one in entries if one), has_flag, today)


def _entry(value: Any, where: str, problems: list[str]) -> Approval | None:
    known = {one.name for one in fields(Approval)}
    if not isinstance(value, Mapping) or set(value) != known:
        problems.append(f"{where}: write exactly {', '.join(sorted(known))}")
        return None
    before = len(problems)
    for name in ("urn", "reason", "approved_by"):
        if not isinstance(value[name], str) or not value[name].strip():
            problems.append(f"{where}.{name}: {value[name]!r}; write a text")
    effects = {one.name.lower(): one for one in Effect if one.is_loss}
    if value["effect"] not in effects:
        problems.append(f"{where}.effect: {value['effect']!r}; write {' or '.join(effects)}")
    if not isinstance(value["until"], datetime.date) or isinstance(value["until"], datetime.datetime):
        problems.append(f"{where}.until: {value['until']!r}; write a day, such as 2026-12-24")
    if len(problems) > before:
        return None
    return Approval(value["urn"], effects[value["effect"]], value["reason"], value["approved_by"], value["until"])
