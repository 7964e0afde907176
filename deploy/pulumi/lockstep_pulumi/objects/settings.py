"""The sidecar's configuration file and gerrit.config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema

from lockstep_pulumi.invalid import refuse
from lockstep_pulumi.objects.args import SidecarArgs


@cache
def schema() -> dict[str, Any]:
    """The settings that a sidecar knows. `deploy/spec/generate` makes it from docs/configuration.md."""
    text = files("lockstep_pulumi").joinpath("data/settings.schema.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def settings(args: SidecarArgs) -> dict[str, Any]:
    """The whole configuration: what follows from the site, and above it what the user gave."""
    found = jsonschema.Draft7Validator(schema()).iter_errors(args.config)
    refuse(*(f"config.{'.'.join(str(part) for part in error.absolute_path)}: {error.message}" for error in found))
    own: dict[str, Any] = {
        "site": args.site,
        "sites": list(args.sites),
        "root": "/var/gerrit/git",
        "state": "/var/gerrit/git/.lockstep",
        "git": {"install_hooks": False},
        "gerrit": {"refresh": "bridge"},
        "handover": {"pod_label": "lockstep/role"},
    }
    if args.tls:
        domain, folder = args.tls.trust_domain, "/etc/lockstep-tls"
        own["tls"] = {
            "certificate_file": f"{folder}/tls.crt",
            "key_file": f"{folder}/tls.key",
            "trust_file": f"{folder}/ca.crt",
            "listen": "0.0.0.0:7422",
            "allow": [f"spiffe://{domain}/{site}/*" for site in args.sites],
        }
        # The nodes of the site find each other by their names, so their number may change.
        if not args.section("embedded").get("dir"):
            own["siblings"] = {
                "url": f"https://{{node}}.{args.name}.{args.namespace}.svc:7422",
                "identity": f"spiffe://{domain}/{args.site}/{args.name}",
            }
    return merged(own, args.config)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two configurations. Values of the second one win."""
    result = dict(under)
    for key, value in over.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = merged(before, value) if both and isinstance(before, Mapping) else value
    return result


def toml(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """A configuration as TOML: first the values of a table, then the tables in it."""
    own = {key: item for key, item in sorted(value.items()) if not isinstance(item, Mapping)}
    lines = [f"{quoted(key)} = {json.dumps(item, ensure_ascii=False)}" for key, item in own.items()]
    text = "".join(f"{line}\n" for line in lines)
    for key, item in sorted(value.items()):
        if isinstance(item, Mapping):
            inner = (*path, key)
            text += f"\n[{'.'.join(quoted(part) for part in inner)}]\n{toml(item, inner)}"
    return text


def quoted(key: str) -> str:
    """A key of TOML, in quotes where it needs them."""
    bare = key.isascii() and all(letter.isalnum() or letter in "-_" for letter in key)
    return key if bare and key else json.dumps(key)


def gerrit_config(args: SidecarArgs) -> str:
    """gerrit.config: the user's text, and the part that docs/gerrit.md asks for."""
    user = f"{args.gerrit.config.strip()}\n" if args.gerrit.config.strip() else ""
    text = f"{user}[gerrit]\n\tbasePath = git"
    if args.is_active:
        text += (
            "\n\tinstallDbModule = io.lockstep.bridge.BridgeDbModule"
            "\n\tinstallModule = io.lockstep.bridge.BridgeModule"
            "\n[core]\n\tusePerRequestRefCache = false"
            "\n[lockstep]\n\tsocket = /run/lockstep/api.sock"
        )
    return f"{text}\n"
