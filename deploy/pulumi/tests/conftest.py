"""The fixtures of the tests: the engine's place is taken by mocks, which record every resource."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pytest
from google.protobuf import json_format
from pulumi.runtime import mocks, rpc, stack
from pulumi.runtime.settings import get_root_resource

TOP = Path(__file__).resolve().parents[3]
PACKAGE = TOP / "deploy/pulumi"
TOOLS = TOP / ".cache/tools/deploy"


@dataclass
class Seen:
    """A resource as the program registered it, and so as the engine would see it."""

    type: str
    name: str
    urn: str
    # The inputs, with secrets opened and whole numbers as such.
    props: dict[str, Any]
    # The inputs as they are on the wire.
    raw: Any
    parent: str
    protect: bool
    imported: str
    depends: list[str]
    provider: str
    is_custom: bool

    def secrets(self) -> str:
        """The inputs with every secret replaced, to show that a text is not in clear."""
        return json.dumps(hidden(json_format.MessageToDict(self.raw)))


SECRET = "1b47061264138c4ac30d75fd1eb44270"


def hidden(value: Any) -> Any:
    if isinstance(value, dict):
        kind = value.get("4dabf18193072939515e22adb298388d")
        return "[secret]" if kind == SECRET else {key: hidden(part) for key, part in value.items()}
    return [hidden(part) for part in value] if isinstance(value, list) else value


def whole(value: Any) -> Any:
    """Whole numbers as such: on the wire every number is a float."""
    if isinstance(value, dict):
        return {key: whole(part) for key, part in value.items()}
    if isinstance(value, list):
        return [whole(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass
class World(mocks.Mocks):
    """The provider of every resource: outputs are inputs, with an ARN and an id."""

    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        inputs = dict(args.inputs)
        name = inputs.get("name", args.name)
        if args.typ == "pulumi:pulumi:StackReference":
            return args.name, {"name": args.name, "outputs": self.outputs[args.name]}
        if args.typ == "random:index/randomBytes:RandomBytes":
            inputs["hex"] = f"{abs(hash(args.name)):064x}"[:64]
        if args.typ == "aws:kms/key:Key":
            inputs |= {"keyId": "mrk-1", "arn": f"arn:aws:kms:{inputs['region']}:123456789012:key/mrk-1"}
        if args.typ == "aws:kms/replicaKey:ReplicaKey":
            inputs["arn"] = f"arn:aws:kms:{inputs['region']}:123456789012:key/mrk-1"
        if args.typ == "aws:iam/openIdConnectProvider:OpenIdConnectProvider":
            inputs["arn"] = f"arn:aws:iam::123456789012:oidc-provider/{inputs['url'].removeprefix('https://')}"
        inputs.setdefault("arn", f"arn:aws:{args.typ}:{name}")
        inputs.setdefault("url", f"https://sqs/{name}")
        return f"{args.name}-id", inputs

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"the program asks AWS for {args.token}, so a preview would need rights")


class Monitor(mocks.MockMonitor):
    """Records what is registered."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.seen: list[Seen] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        answer = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            inputs = rpc.deserialize_properties(request.object)
            self.seen.append(
                Seen(
                    request.type,
                    request.name,
                    answer.urn,
                    whole(opened(inputs)),
                    request.object,
                    request.parent,
                    request.protect,
                    request.importId,
                    list(request.dependencies),
                    request.provider,
                    request.custom,
                )
            )
        return answer


def opened(value: Any) -> Any:
    """A value with its secrets opened."""
    if rpc.is_rpc_secret(value):
        return opened(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {key: opened(part) for key, part in value.items()}
    return [opened(part) for part in value] if isinstance(value, list) else value


@dataclass
class Run:
    """The result of a program."""

    seen: list[Seen]
    # The outputs of the stack, with secrets opened.
    outputs: dict[str, Any] = field(default_factory=dict)

    def all(self, kind: str) -> list[Seen]:
        return [one for one in self.seen if one.type.endswith(f":{kind}")]

    def one(self, kind: str, name: str = "") -> Seen:
        found = [one for one in self.all(kind) if name in one.name]
        assert len(found) == 1, f"{[one.name for one in found]} of kind {kind} {name}"
        return found[0]


Runner = Callable[..., Run]


def under_mocks(program: Callable[[], Any], outputs: dict[str, dict[str, Any]] | None = None) -> Run:
    """Runs a program as the engine would, with mocks in the place of all providers."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    monitor = Monitor(World(outputs or {}))
    pulumi.runtime.set_mocks(monitor.mocks, project="lockstep", stack="test", preview=False, monitor=monitor)

    root = get_root_resource()
    assert isinstance(root, stack.Stack)
    root.outputs = {}

    async def run() -> dict[str, Any]:
        await stack.run_pulumi_func(program)
        found = pulumi.Output.all(**root.outputs)
        return dict(await found.future() or {})

    try:
        exported = loop.run_until_complete(run())
    finally:
        loop.close()
    return Run(monitor.seen, exported)


@pytest.fixture
def run() -> Runner:
    return under_mocks


@pytest.fixture
def lockstep() -> Path:
    """The real command."""
    named = os.environ.get("LOCKSTEP_BINARY")
    found = [Path(named)] if named else [TOP / "target/debug" / name for name in ("lockstep", "lockstep-under-test")]
    found = [path for path in found if path.exists()]
    if not found:
        pytest.skip("there is no lockstep: cargo build --package lockstep, or set LOCKSTEP_BINARY")
    return found[0]
