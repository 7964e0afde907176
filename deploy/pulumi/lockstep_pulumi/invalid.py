"""Errors of the values that a user gave."""

from __future__ import annotations

from collections.abc import Iterable


class InvalidError(ValueError):
    """Values are wrong. The message lists all of them, each with its field and the remedy. A retry does not help."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Takes the problems, each a sentence without its end."""
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def refuse(*problems: str | None) -> None:
    """Raises an error with all problems that are not None."""
    found = [problem for problem in problems if problem is not None]
    if found:
        raise InvalidError(found)


def unless(holds: bool, problem: str) -> str | None:
    """The problem, unless the condition holds."""
    return None if holds else problem
