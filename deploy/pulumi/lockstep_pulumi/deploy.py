"""Deploys an estate: python -m lockstep_pulumi.deploy --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lockstep_pulumi.engine import CommandTraffic, PulumiEngine, by_command
from lockstep_pulumi.estate import read
from lockstep_pulumi.rollout import Engine, Outcome, Report, Rollout

EXITS = {Outcome.DONE: 0, Outcome.ROLLED_BACK: 1, Outcome.REFUSED: 2, Outcome.STUCK: 3}
EPILOG = """\
Exit codes: 0 done, 1 rolled back, 2 refused (nothing was deployed), 3 stuck (an operator must look).

Example:
  python -m lockstep_pulumi.deploy --estate new/prod.yaml --stacks example/prod- --new new --old old \\
    --wave muc-2 --verify 'lockstep --operator-url https://{site}.example.org:7423 ... status'
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m lockstep_pulumi.deploy",
        description="Deploys the shared stack, then the sites in waves; verifies each site; goes back on a failure",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--estate", type=Path, required=True, help="the file of the environment")
    parser.add_argument("--stacks", required=True, help="beginning of the names of the stacks: ORGANIZATION/prod-")
    parser.add_argument("--new", type=Path, required=True, help="folder with the program to deploy")
    parser.add_argument("--old", type=Path, help="folder with the program that runs now, to go back to")
    parser.add_argument("--verify", required=True, help="command that checks a site; {site} is its name")
    parser.add_argument("--patience", type=float, default=300, help="seconds for which a check is repeated")
    parser.add_argument("--traffic", help="command at the end; {way} is forward, or back after a failure")
    parser.add_argument("--wave", action="append", default=[], help="sites that go first: muc-1,muc-2 (repeatable)")
    parser.add_argument("--policy-pack", type=Path, help="folder with the policy pack")
    parser.add_argument("--approve-losses", action="store_true", help="consent to deletes and replacements")
    return parser


def waves(sites: Sequence[str], first: Sequence[str]) -> list[list[str]]:
    """The waves that were named, and one with all other sites."""
    named = [wave.split(",") for wave in first]
    listed = [site for wave in named for site in wave]
    unknown = sorted(set(listed) - set(sites))
    if unknown:
        raise SystemExit(f"--wave: {', '.join(unknown)} is not in the estate; its sites are {', '.join(sites)}")
    return [*named, [site for site in sites if site not in listed]]


def show(report: Report) -> str:
    """The report as text, one step per line."""
    lines = [
        f"{step.name:<13}{step.stack or '-':<20}{step.seconds:7.1f} s  {step.problem or 'ok'}" for step in report.steps
    ]
    end = f"{report.outcome.value}: {report.advice}" if report.advice else report.outcome.value
    return "\n".join([*lines, end])


def main(words: Sequence[str] | None = None, engine: Engine | None = None) -> int:
    """Runs the command. Returns its exit code."""
    options = arguments().parse_args(words)
    sites = [one.site for one in read(options.estate).sites]
    rollout = Rollout(
        engine=engine or PulumiEngine(options.policy_pack),
        shared=f"{options.stacks}shared",
        waves=[wave for wave in waves(sites, options.wave) if wave],
        verify=by_command(options.verify, options.patience),
        stack=lambda site: f"{options.stacks}{site}",
        traffic=CommandTraffic(options.traffic) if options.traffic else None,
    )
    report = rollout.run(options.new, options.old, approved=options.approve_losses)
    print(show(report))
    return EXITS[report.outcome]


if __name__ == "__main__":
    sys.exit(main())
