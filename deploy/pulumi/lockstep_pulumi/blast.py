"""The blast radius of a deployment, as a page in Markdown: what it changes, and which losses need consent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lockstep_pulumi.approvals import Approvals
from lockstep_pulumi.changes import Change, Cost, Effect, StackChanges

# More changes of a stack than this are counted by type, and not listed.
LISTED = 50
COST_WORDS = {
    Cost.DATA: "data",
    Cost.ACCESS: "access",
    Cost.SERVICE: "service",
}


@dataclass(frozen=True)
class Radius:
    """The changes of all stacks of an environment, and the approvals for them."""

    stacks: Sequence[StackChanges]
    approvals: Approvals
    # Stacks of the environment of which no preview is known, with the reason.
    unknown: tuple[tuple[str, str], ...] = ()

    @property
    def changes(self) -> list[Change]:
        """All changes."""
        return [change for of in self.stacks for change in of.changes]

    @property
    def losses(self) -> list[Change]:
        """The losses, the dearest ones first."""
        found = [change for change in self.changes if change.effect.is_loss]
        return sorted(found, key=lambda change: (-change.cost, -change.effect, change.urn))

    @property
    def missing(self) -> list[Change]:
        """The losses to which nobody consents."""
        return self.approvals.missing(self.losses)

    def verdict(self) -> str:
        """The result in one sentence."""
        if self.unknown:
            return f"Not known: {len(self.unknown)} stacks have no preview. Nothing may be deployed."
        if self.missing:
            return f"Refused: {len(self.missing)} of {len(self.losses)} losses need approval. Nothing may be deployed."
        if self.losses:
            return f"Approved: {len(self.losses)} losses, each with consent."
        return "Harmless: nothing is deleted or replaced." if self.changes else "No changes."

    def markdown(self, title: str) -> str:
        """The page."""
        parts = [f"# {title}", self.verdict(), self._stacks()]
        if self.losses:
            parts += ["## Losses", self._losses()]
        if self.missing:
            parts += ["## Approval", self._template()]
        unused = self.approvals.unused(self.changes)
        if unused:
            lines = [f"- `{one.urn}` ({one.effect.name.lower()})" for one in unused]
            parts += ["## Approvals that fit no loss", "Remove them, or correct them.\n\n" + "\n".join(lines)]
        for of in self.stacks:
            rest = [change for change in of.changes if not change.effect.is_loss]
            if rest:
                parts += [f"## Other changes of {of.stack}", _listed(rest)]
        return "\n\n".join(parts) + "\n"

    def _stacks(self) -> str:
        rows = ["| stack | create | update | replace | delete | unchanged |", "|---|---|---|---|---|---|"]
        for of in self.stacks:
            count = Counter(change.effect for change in of.changes)
            shown = [count[one] for one in (Effect.CREATE, Effect.UPDATE, Effect.REPLACE, Effect.DELETE)]
            rows.append(f"| {of.stack} | {' | '.join(map(str, shown))} | {of.same} |")
        rows += [f"| {stack} | not known: {_cell(why)} | | | | |" for stack, why in self.unknown]
        return "\n".join(rows)

    def _losses(self) -> str:
        rows = [
            "| stack | resource | type | effect | cost | because of | approved by |",
            "|---|---|---|---|---|---|---|",
        ]
        for change in self.losses:
            entry = self.approvals.of(change)
            by = f"{entry.approved_by}: {entry.reason}" if entry else "**nobody**"
            if not entry and self.approvals.has(change):
                by = "the option of the command"
            cells = [change.stack, change.name, change.type, change.effect.name.lower(), COST_WORDS[change.cost]]
            rows.append(f"| {' | '.join(map(_cell, [*cells, ', '.join(change.reasons) or '-', by]))} |")
        return "\n".join(rows)

    def _template(self) -> str:
        """The entries that would consent, for the file of approvals."""
        said = "Add these entries to the file of approvals, with your name and reason, and have them reviewed:"
        lines = [
            f"- urn: {change.urn}\n  effect: {change.effect.name.lower()}\n  reason: \n  approved_by: \n  until: "
            for change in self.missing
        ]
        return said + "\n```yaml\n" + "\n".join(lines) + "\n```"


def _listed(changes: Sequence[Change]) -> str:
    if len(changes) <= LISTED:
        rows = ["| resource | type | effect | because of |", "|---|---|---|---|"]
        for change in changes:
            cells = [change.name, change.type, change.effect.name.lower(), ", ".join(change.reasons) or "-"]
            rows.append(f"| {' | '.join(map(_cell, cells))} |")
        return "\n".join(rows)
    rows = ["| type | effect | number |", "|---|---|---|"]
    count = Counter((change.type, change.effect.name.lower()) for change in changes)
    return "\n".join(
        [*rows, *(f"| {kind} | {effect} | {number} |" for (kind, effect), number in sorted(count.items()))]
    )


def _cell(text: str) -> str:
    """A text in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
