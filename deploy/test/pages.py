"""The commands of a page: its blocks, and shells that take them one after the other."""

import os
import re
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# The reasons for which a block is not run, each with a command that needs it. A block that names another reason, or
# that has none of these commands, is refused: then it could be run.
REASONS = {
    "AWS": r"^(aws|lockstep aws (apply|check|plan)) ",
    "a cluster": r"^(kubectl (?!kustomize)|helm (?!template|lint))",
    "a registry": r"^(skopeo|podman|docker) ",
    "a build": r"^(cargo|sudo install) ",
    "another machine": r"^(rsync|scp|ssh) ",
    "systemd": r"^sudo (systemctl|tee /etc/systemd) ?",
    "a Gerrit": r"^(bin/gerrit\.sh|make gerrit-|java )",
    "Pulumi": r"^(pulumi|make infra-) ?",
    "Pulumi's packages": r"^deploy/pulumi/run ",
    "minutes": r"^make ",
}


@dataclass(frozen=True)
class Block:
    """A block of a page."""

    page: str
    line: int
    # The words behind the language.
    mark: str
    text: str

    @property
    def where(self):
        return f"{self.page}:{self.line}"

    @property
    def reason(self):
        """The thing that the block needs and the machine of the test does not have."""
        return self.mark.removeprefix("needs ") if self.mark.startswith("needs ") else ""

    def commands(self):
        """Its commands, one per line, without variables before them and without what is piped into."""
        joined = re.sub(r"\\\n\s*", "", re.sub(r"<<-?'?(\w+)'?.*?\n.*?\n\1$", "", self.text, flags=re.S | re.M))
        return [line.strip() for line in joined.splitlines() if line.strip()]


def blocks(path):
    """The blocks of a page. A block that is no command of a shell is `text` or has no language."""
    found, inside, start, mark, indent = [], None, 0, "", 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            if inside is None:
                indent = len(line) - len(line.lstrip())
                language, _, mark = line.strip()[3:].partition(" ")
                assert language in ("sh", "text"), f"{path.name}:{number}: {language!r} is no language of these pages"
                inside, start = [], number
            else:
                if language == "sh":
                    found.append(Block(path.name, start, mark, "\n".join(inside)))
                inside = None
        elif inside is not None:
            # A block in a list is indented as the list is.
            assert not line[:indent].strip(), f"{path.name}:{number}: the block is indented by {indent}"
            inside.append(line[indent:])
    assert inside is None, f"{path.name}: a block does not end"
    return found


class Shell:
    """A bash that runs one block after the other, and stops at the first command that fails."""

    MARK = "==block-has-ended=="

    def __init__(self, folder, variables, path, log):
        keep = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
        keep["PATH"] = f"{path}{os.pathsep}{keep['PATH']}"
        git = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        for role in ("AUTHOR", "COMMITTER"):
            git |= {f"GIT_{role}_NAME": "Ada", f"GIT_{role}_EMAIL": "ada@example.org"}
        self.log = open(log, "w+")
        self.process = subprocess.Popen(
            ["bash", "-euo", "pipefail"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=folder,
            env={**keep, "HOME": str(folder), **git, **variables},
            start_new_session=True,
        )

    def run(self, text, seconds=60):
        """Runs a block. Returns its output."""
        # A function, so that bash has read the whole block before it runs a part of it.
        self.process.stdin.write(f"{text}\necho {self.MARK}\n")
        self.process.stdin.flush()
        out, end = "", time.monotonic() + seconds
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.process.stdout, selectors.EVENT_READ)
            while self.MARK not in out:
                assert waiting.select(max(0, end - time.monotonic())), f"not within {seconds} s:\n{self.told(out)}"
                part = os.read(self.process.stdout.fileno(), 65536).decode()
                assert part, f"a command failed:\n{self.told(out)}"
                out += part
        return out.partition(self.MARK)[0]

    def told(self, out):
        self.log.flush()
        return f"{out}\n{Path(self.log.name).read_text()[-3000:]}"

    def stop(self):
        """Ends the shell and everything that it started."""
        for name in ("SIGTERM", "SIGKILL"):
            subprocess.run(["kill", f"-{name[3:]}", "--", f"-{self.process.pid}"], capture_output=True, check=False)
            try:
                self.process.wait(timeout=20)
                break
            except subprocess.TimeoutExpired:
                continue
        self.log.close()
