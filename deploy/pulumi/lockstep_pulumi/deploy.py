"""The steps of the infrastructure pipeline, by command: python -m lockstep_pulumi.deploy --help.

| command | what it does |
|---|---|
| `preview`, `report` | the blast radius, from Pulumi's engine or from previews that were made before |
| `rollout`, `rollback` | deploys an estate in steps, or the version before |
| `verify`, `drill` | checks every site, or takes a drill at one |
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from lockstep_pulumi import approvals, changes
from lockstep_pulumi.approvals import Approvals
from lockstep_pulumi.blast import Radius
from lockstep_pulumi.changes import StackChanges
from lockstep_pulumi.engine import CommandTraffic, PulumiEngine, by_command
from lockstep_pulumi.estate import read
from lockstep_pulumi.invalid import InvalidError
from lockstep_pulumi.rollout import Engine, Outcome, Report, Rollout

EXITS = {Outcome.DONE: 0, Outcome.ROLLED_BACK: 1, Outcome.REFUSED: 2, Outcome.STUCK: 3}
# The time of one drill, in seconds. The sidecar ends it after a minute.
DRILL = 180
EPILOG = """\
Exit codes:
  rollout          0 done, 1 rolled back, 2 refused (nothing was deployed), 3 stuck (an operator must look)
  rollback         0 done, 2 refused (nothing was deployed), 3 stuck
  preview, report  0 harmless or approved, 1 not known (a preview failed), 2 refused: losses need approval
  verify, drill    0 green, 1 red
  64 wrong usage

Examples:
  python -m lockstep_pulumi.deploy preview --estate new/prod.yaml --stacks example/prod- --new new --report blast.md
  python -m lockstep_pulumi.deploy rollout --estate new/prod.yaml --stacks example/prod- --new new --old old \\
    --wave muc-2 --verify 'lockstep --operator-url https://{site}.example.org:7423 ... status'
"""
USAGE = 64


class Parser(argparse.ArgumentParser):
    """Wrong usage ends with a code of its own, because 2 means refused."""

    def error(self, message: str) -> NoReturn:
        """Prints the problem, and ends."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def arguments() -> argparse.ArgumentParser:
    """The options of the commands."""
    parser = Parser(
        prog="python -m lockstep_pulumi.deploy",
        description="The steps of the infrastructure pipeline",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, what: str, *parts: Callable[[argparse.ArgumentParser], None]) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=what, description=what)
        one.add_argument("--estate", type=Path, required=True, help="the file of the environment")
        for part in parts:
            part(one)
        return one

    preview = command("preview", "Preview all stacks, and report the blast radius", _stacks, _losses, _report, _pack)
    preview.add_argument("--new", type=Path, required=True, help="folder with the program to deploy")
    report = command("report", "Report the blast radius of previews that were made before", _stacks, _losses, _report)
    report.add_argument("previews", type=Path, nargs="+", help="files with a preview of one stack each")
    rollout = command(
        "rollout",
        "Deploy the shared stack, then the sites in waves; verify each site; go back on a failure",
        _stacks, _losses, _pack, _verify, _traffic,
    )  # fmt: skip
    rollout.add_argument("--new", type=Path, required=True, help="folder with the program to deploy")
    rollout.add_argument("--old", type=Path, help="folder with the program that runs now, to go back to")
    rollout.add_argument("--wave", action="append", default=[], help="sites that go first: muc-1,muc-2 (repeatable)")
    back = command(
        "rollback",
        "Deploy the version before: sites, then the shared stack; verify each site",
        _stacks, _losses, _pack, _verify, _traffic,
    )  # fmt: skip
    back.add_argument("--old", type=Path, required=True, help="folder with the program of the version before")
    command("verify", "Check every site", _verify)
    drill = command("drill", "Take a drill of a failover at one site")
    drill.add_argument(
        "--drill", type=words, required=True, help="command of the drill; {site} is the name of the site"
    )
    drill.add_argument("--at", help="the site [default: the first one of the estate]")
    return parser


def words(text: str) -> str:
    """A command that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the command is empty; name the program and its arguments")
    return text


def _stacks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stacks", required=True, help="beginning of the names of the stacks: ORGANIZATION/prod-")


def _losses(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--approvals", type=Path, help="file with the losses to which somebody consents")
    parser.add_argument("--approve-losses", action="store_true", help="consent to all losses but those of data")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--report", type=Path, help="file to which the page is appended, beside standard output")


def _pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy-pack", type=Path, help="folder with the policy pack")


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verify", type=words, required=True, help="command that checks a site; {site} is its name")
    parser.add_argument("--patience", type=float, default=300, help="seconds for which a check is repeated")


def _traffic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--traffic", help="command at the end; {way} is forward, or back after a failure")


def waves(sites: Sequence[str], first: Sequence[str]) -> list[list[str]]:
    """The waves that were named, and one with all other sites."""
    named = [wave.split(",") for wave in first]
    listed = [site for wave in named for site in wave]
    unknown = sorted(set(listed) - set(sites))
    if unknown:
        raise InvalidError([f"--wave: {', '.join(unknown)} is not in the estate; its sites are {', '.join(sites)}"])
    return [*named, [site for site in sites if site not in listed]]


def show(report: Report) -> str:
    """The report as text, one step per line."""
    lines = [
        f"{step.name:<13}{step.stack or '-':<20}{step.seconds:7.1f} s  {step.problem or 'ok'}" for step in report.steps
    ]
    end = f"{report.outcome.value}: {report.advice}" if report.advice else report.outcome.value
    return "\n".join([*lines, end])


def previewed(stacks: Sequence[str], engine: Engine, new: Path, given: Approvals) -> Radius:
    """Previews all stacks at once. A preview that fails makes the stack unknown."""

    def one(stack: str) -> StackChanges | str:
        try:
            return engine.preview(stack, new)
        # After any failure, the changes of this stack are not known.
        except Exception as error:
            return str(error) or type(error).__name__

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(one, stacks))
    unknown = [(stack, of) for stack, of in zip(stacks, found, strict=True) if isinstance(of, str)]
    return Radius([of for of in found if isinstance(of, StackChanges)], given, tuple(unknown))


def told(stacks: Sequence[str], files: Sequence[Path], given: Approvals) -> Radius:
    """The radius of previews in files. A stack without a whole preview is unknown."""
    found: dict[str, StackChanges] = {}
    unknown: list[tuple[str, str]] = []
    for file in files:
        try:
            of = changes.read(file.read_text(), str(file))
        except (InvalidError, OSError) as error:
            unknown.append((file.name, str(error)))
            continue
        found[of.stack] = of
    # The engine's names have no organization.
    short = [stack.rpartition("/")[2] for stack in stacks]
    unknown += [(stack, "no file has its preview") for stack in short if stack not in found]
    unknown += [(stack, "it is no stack of the estate") for stack in found if stack not in short]
    return Radius([found[stack] for stack in short if stack in found], given, tuple(unknown))


def shown(radius: Radius, title: str, to: Path | None) -> int:
    """Prints the page, and appends it to a file. Returns the exit code."""
    page = radius.markdown(title)
    print(page)
    if to:
        with to.open("a") as file:
            file.write(page)
    if radius.unknown:
        return 1
    return 2 if radius.missing else 0


def checked(sites: Sequence[str], command: str, patience: float) -> int:
    """Checks sites at once, and prints the result of each. Returns the exit code."""
    check = by_command(command, patience)
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(check, sites))
    for site, problems in zip(sites, found, strict=True):
        print(f"{site:<20}{'; '.join(problems) or 'ok'}")
    return 1 if any(found) else 0


def drilled(sites: Sequence[str], command: str, at: str | None) -> int:
    """Takes a drill at one site. Returns the exit code."""
    site = at or sites[0]
    if site not in sites:
        raise InvalidError([f"--at: {site} is not in the estate; its sites are {', '.join(sites)}"])
    problems = by_command(command, patience=0, attempt=DRILL)(site)
    print(f"{site:<20}{'; '.join(problems) or 'green'}")
    return 1 if problems else 0


def run(options: argparse.Namespace, engine: Engine | None, today: datetime.date) -> int:
    """Runs a command. Returns its exit code."""
    sites = [one.site for one in read(options.estate).sites]
    if options.command == "verify":
        return checked(sites, options.verify, options.patience)
    if options.command == "drill":
        return drilled(sites, options.drill, options.at)
    stacks = [f"{options.stacks}{part}" for part in ("shared", *sites)]
    given = approvals.read(options.approvals, today, has_flag=options.approve_losses)
    title = f"Blast radius of {options.estate.stem}"
    if options.command == "report":
        return shown(told(stacks, options.previews, given), title, options.report)
    engine = engine or PulumiEngine(options.policy_pack)
    if options.command == "preview":
        return shown(previewed(stacks, engine, options.new, given), title, options.report)
    named = options.wave if options.command == "rollout" else []
    rollout = Rollout(
        engine=engine,
        shared=stacks[0],
        waves=[wave for wave in waves(sites, named) if wave],
        verify=by_command(options.verify, options.patience),
        stack=lambda site: f"{options.stacks}{site}",
        traffic=CommandTraffic(options.traffic) if options.traffic else None,
    )
    is_back = options.command == "rollback"
    report = rollout.back(options.old, given) if is_back else rollout.run(options.new, options.old, given)
    print(show(report))
    return EXITS[report.outcome]


def main(given: Sequence[str] | None = None, engine: Engine | None = None, today: datetime.date | None = None) -> int:
    """Runs the command. Returns its exit code."""
    options = arguments().parse_args(given)
    try:
        return run(options, engine, today or datetime.date.today())
    except InvalidError as error:
        print(f"python -m lockstep_pulumi.deploy: {error}", file=sys.stderr)
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
