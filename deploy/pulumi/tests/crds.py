"""Karpenter's objects, held against the schemas of its CRDs: unknown fields are refused, as by the API server."""

from __future__ import annotations

import importlib.util
from typing import Any

import jsonschema
import yaml
from conftest import TOOLS, TOP

KARPENTER = "1.12.0"
FOLDER = TOOLS / f"crds-karpenter-{KARPENTER}"


def problems(part: Any) -> list[str]:
    """The problems of an object. An object without a CRD has one."""
    for path in sorted(FOLDER.glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())["spec"]
        for version in crd["versions"]:
            if (f"{crd['group']}/{version['name']}", crd["names"]["kind"]) == (part["apiVersion"], part["kind"]):
                schema = closed(version["schema"]["openAPIV3Schema"])
                found = jsonschema.Draft202012Validator(schema).iter_errors(part)
                return [f"{error.json_path}: {error.message}" for error in found]
    return [f"no CRD for {part['apiVersion']} {part['kind']} in {FOLDER}"]


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as the tests of the chart have it."""
    spec = importlib.util.spec_from_file_location("chart_crds", TOP / "deploy/test/crds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.closed(schema)
