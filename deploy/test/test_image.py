"""The Dockerfile gives the image of deploy/image/build: the same files, user, command and labels."""

import importlib.machinery
import importlib.util
import re
import shlex
import sys
from types import SimpleNamespace

import pytest
import yaml
from conftest import DEPLOY, TOOLS, TOP, run

IMAGE = DEPLOY / "image"
TEXT = (IMAGE / "Dockerfile").read_text()
# The options of deploy/image/build that choose the way of an image, and none of its files.
OF_THE_WAY = {"--unpinned", "--rootfs", "--name", "--out"}


def builder():
    """The program deploy/image/build, as a module."""
    sys.path.insert(0, str(IMAGE))
    try:
        loader = importlib.machinery.SourceFileLoader("image_build", str(IMAGE / "build"))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader("image_build", loader))
        loader.exec_module(module)
    finally:
        sys.path.remove(str(IMAGE))
    return module


def instructions(text):
    """The instructions of a Dockerfile, each as its name and the rest."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def stages(text):
    """The instructions of each stage, behind its FROM. The first entry has those before any."""
    found = [[]]
    for name, rest in instructions(text):
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def configured(text, arguments):
    """The configuration of the last stage, in the form of an OCI image."""
    config = {"Labels": {}, "Env": []}
    for name, rest in stages(text)[-1]:
        rest = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], rest)
        match name:
            case "LABEL":
                config["Labels"] |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "ENV":
                config["Env"] += shlex.split(rest)
            case "USER" | "STOPSIGNAL" | "WORKDIR":
                config[{"USER": "User", "STOPSIGNAL": "StopSignal", "WORKDIR": "WorkingDir"}[name]] = rest
            case "ENTRYPOINT" | "CMD":
                config[name.capitalize()] = yaml.safe_load(rest)
    return config


def expected():
    args = SimpleNamespace(variant="sidecar", program="lockstep", revision="abc", epoch=86_400, env=[], volume=[])
    return builder().run(args)


def test_the_dockerfile_sets_what_the_image_has():
    assert configured(TEXT, {"REVISION": "abc", "CREATED": "1970-01-02T00:00:00Z"}) == expected()


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("USER 1000:1000", "USER 0:0"),
        ('title="lockstep"', 'title="other"'),
        ('"run", "--config"', '"run", "--settings"'),
        ('version="0.1.0"', 'version="0.0.9"'),
    ],
)
def test_a_dockerfile_that_sets_something_else_is_found(part, other):
    assert part in TEXT
    arguments = {"REVISION": "abc", "CREATED": "1970-01-02T00:00:00Z"}
    assert configured(TEXT.replace(part, other), arguments) != expected()


def options(command):
    """The options of deploy/image/build in a command, but for those of the way."""
    words = shlex.split(command.split("deploy/image/build", 1)[1].split("&&")[0].split("\n")[0])
    return {word for word in words if word.startswith("--")} - OF_THE_WAY


def test_the_same_program_writes_the_files_of_both_images():
    (ours,) = [rest for name, rest in stages(TEXT)[-2] if name == "RUN" and "deploy/image/build" in rest]
    make = (TOP / "Makefile").read_text()
    line = re.search(r"^BUILD_IMAGE = (.*)$", make, re.MULTILINE)[1]
    assert options(ours) == options(line + " --program") == {"--program", "--bridge"}
    assert "program=$(deploy/image/binary)" in ours and "program=$$(deploy/image/binary)" in make


def test_the_last_stage_is_empty_but_for_these_files():
    copies = [rest for name, rest in stages(TEXT)[-1] if name in ("COPY", "ADD", "RUN")]
    assert stages(TEXT)[-1][0] == ("FROM", "scratch")
    owned = [f"--from=build --chown=1000:1000 /owned/{path} /{path}" for path in ("run/lockstep", "var/gerrit")]
    assert copies == ["--from=build /rootfs/ /", *owned]


def test_base_images_are_arguments_and_the_toolchain_is_the_one_of_the_tree():
    images = dict(rest.split("=", 1) for name, rest in stages(TEXT)[0] if name == "ARG")
    bases = [stage[0][1].split()[0] for stage in stages(TEXT)[1:]]
    assert set(bases) == {"scratch", *("${" + name + "}" for name in images)}
    toolchain = re.search(r'channel = "(\d+\.\d+)', (TOP / "rust-toolchain.toml").read_text())[1]
    assert images["RUST"] == f"docker.io/library/rust:{toolchain}-bookworm", "Debian 12, as packages.txt has it"


def test_hadolint_finds_nothing():
    ran = run(TOOLS / "python/bin/hadolint", IMAGE / "Dockerfile")
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stdout + ran.stderr


def test_hadolint_finds_an_image_without_a_version(tmp_path):
    file = tmp_path / "Dockerfile"
    file.write_text("FROM debian\nRUN cd /tmp && apt-get install git\n")
    found = run(TOOLS / "python/bin/hadolint", file)
    assert found.returncode == 1 and "DL3006" in found.stdout and "DL3003" in found.stdout
