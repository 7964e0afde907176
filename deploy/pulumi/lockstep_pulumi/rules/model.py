"""Things and rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Props = Mapping[str, Any]


@dataclass(frozen=True)
class Thing:
    """A resource with its inputs, or a Kubernetes object. Its type is Pulumi's: kubernetes:apps/v1:StatefulSet."""

    type: str
    name: str
    props: Props
    urn: str = ""
    # Whether Pulumi refuses to delete it.
    protect: bool = False

    @property
    def kind(self) -> str:
        """The last part of the type."""
        return self.type.rpartition(":")[2]


# The problems of a thing, each as a sentence without its end.
OneCheck = Callable[[Thing], Iterator[str]]
# The problems of all things together: the thing at fault, if there is one, and the sentence.
AllCheck = Callable[[Sequence[Thing]], Iterator[tuple[Thing | None, str]]]


@dataclass(frozen=True)
class Rule:
    """A rule. A mandatory one stops a deployment; an advisory one is printed."""

    name: str
    description: str
    # The remedy, as a sentence.
    remedy: str
    severity: str
    one: OneCheck | None = None
    all: AllCheck | None = None
    # The kinds of things that `one` looks at. Without them, all.
    kinds: tuple[str, ...] = ()
    is_mandatory: bool = True

    def problems(self, thing: Thing) -> list[str]:
        """The problems of one thing."""
        if self.one is None or (self.kinds and thing.kind not in self.kinds):
            return []
        return [f"{thing.name}: {problem}. {self.remedy}" for problem in self.one(thing)]

    def common_problems(self, things: Sequence[Thing]) -> list[tuple[str, str]]:
        """The problems of all things together: the URN of the one at fault, and the text."""
        if self.all is None:
            return []
        return [
            (found.urn if found else "", f"{found.name if found else 'the stack'}: {problem}. {self.remedy}")
            for found, problem in self.all(things)
        ]


def of_kind(things: Sequence[Thing], *kinds: str) -> list[Thing]:
    """The things of some kinds."""
    return [thing for thing in things if thing.kind in kinds]
