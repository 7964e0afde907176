"""The fixtures of the tests of deploy/: the tools, the tree, and rendered objects."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
DEPLOY = TOP / "deploy"
CHART = DEPLOY / "helm/lockstep"
TOOLS = TOP / ".cache/tools/deploy"
CASES = sorted((DEPLOY / "test/cases").glob("*.yaml"))
LEAST = DEPLOY / "test/cases/least.yaml"
# The versions of Kubernetes for which the chart is rendered: the last one without native sidecars, and later ones.
NATIVE = "1.34.0"
BEFORE_NATIVE = "1.28.0"


def run(*command, **more):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)


def helm(values, *args, kubernetes=NATIVE):
    """Renders the chart. Returns the finished process."""
    files = [part for path in values for part in ("--values", path)]
    return run(
        TOOLS / "helm",
        "template",
        "lockstep",
        CHART,
        "--namespace",
        "gerrit",
        "--kube-version",
        kubernetes,
        *files,
        *args,
    )


def objects(text):
    return [part for part in yaml.safe_load_all(text) if part]


def rendered(case, *args, kubernetes=NATIVE):
    ran = helm([case], *args, kubernetes=kubernetes)
    assert ran.returncode == 0, f"{case}: {ran.stderr}"
    return objects(ran.stdout)


def kustomized(folder):
    ran = run(TOOLS / "kustomize", "build", DEPLOY / "kustomize" / folder)
    assert ran.returncode == 0, ran.stderr
    return objects(ran.stdout)


def only(parts, kind, name=None):
    found = [part for part in parts if part["kind"] == kind and name in (None, part["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} {name or ''}"
    return found[0]


def pod(parts):
    return only(parts, "StatefulSet")["spec"]["template"]["spec"]


def containers(of):
    return {part["name"]: part for part in of.get("initContainers", []) + of["containers"]}


@pytest.fixture(scope="session")
def spec():
    return yaml.safe_load((DEPLOY / "spec/spec.yaml").read_text())


@pytest.fixture(scope="session")
def lockstep():
    """The real command."""
    named = os.environ.get("LOCKSTEP_BINARY")
    found = [Path(named)] if named else [TOP / "target/debug" / name for name in ("lockstep", "lockstep-under-test")]
    found = [path for path in found if path.exists()]
    assert found, "there is no lockstep: cargo build --package lockstep, or set LOCKSTEP_BINARY"
    return max(found, key=lambda path: path.stat().st_mtime)


def pytest_addoption(parser):
    parser.addoption("--write-golden", action="store_true", help="write the golden files instead of comparing them")
