"""Checks rendered Kubernetes objects: helm template ... | python -m lockstep_pulumi.check [FILE...]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import yaml

from lockstep_pulumi.rules.pack import rendered, violations


def main(paths: Sequence[str], given: TextIO, out: TextIO) -> int:
    """Prints the violations, one per line. Returns 1 if one of them is of a mandatory rule, and 2 without objects."""
    texts = [Path(path).read_text() for path in paths] or [given.read()]
    parts: list[Any] = [part for text in texts for part in yaml.safe_load_all(text) if part]
    if not parts:
        print("there are no objects: name files, or give them on standard input", file=out)
        return 2
    found = violations(rendered(parts))
    for rule, problem in found:
        print(f"{'error' if rule.is_mandatory else 'warning'}: {rule.name}: {problem}", file=out)
    return 1 if any(rule.is_mandatory for rule, _ in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin, sys.stdout))
