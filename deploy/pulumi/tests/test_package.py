"""The package can be installed, and has what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import PACKAGE

PROGRAM = """
import pathlib, lockstep_pulumi
from lockstep_pulumi.iam import calls
from lockstep_pulumi.objects.pod import spec
from lockstep_pulumi.objects.settings import schema
assert calls() and spec()["sidecar"]["name"] == "lockstep" and "refdb" in schema()["properties"]
print(pathlib.Path(lockstep_pulumi.__file__).parent)
"""


def test_a_wheel_can_be_built_and_imported_elsewhere(tmp_path: Path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *offline, "--wheel-dir", tmp_path, PACKAGE], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = set(zipfile.ZipFile(wheel).namelist())
    data = {f"lockstep_pulumi/data/{path.name}" for path in (PACKAGE / "lockstep_pulumi/data").iterdir()}
    assert data | {"lockstep_pulumi/py.typed"} <= files
    assert not any(name.startswith(("tests", "program")) for name in files)
    target = tmp_path / "installed"
    subprocess.run([*pip, "install", *offline, "--target", target, wheel], check=True)
    env = {**os.environ, "PYTHONPATH": str(target)}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == str(target / "lockstep_pulumi")


def test_no_name_of_the_package_is_missing():
    import lockstep_pulumi

    for name in lockstep_pulumi.__all__:
        assert getattr(lockstep_pulumi, name), name
