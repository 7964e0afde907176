"""Tokens of operators, and their replacement."""

from __future__ import annotations

import hashlib

import pytest
from conftest import TOP, Runner

from lockstep_pulumi.invalid import InvalidError
from lockstep_pulumi.names import Names
from lockstep_pulumi.tokens import HASH, TOKEN, OperatorTokens, Rotation, line, next_step

NAMES = Names("prod", "prod", "123456789012", "eu-central-1")


def made(run: Runner, rotation: Rotation) -> tuple[list[str], str]:
    """The lines that sidecars read, and the token that the holder reads."""
    lines: list[str] = []

    def program() -> None:
        tokens = OperatorTokens("t", NAMES, {"pipeline": rotation}, "arn:key")
        tokens.file.apply(lambda text: lines.extend(text.splitlines()))

    found = run(program)
    return lines, found.one("SecretVersion").props["secretString"]


def test_the_form_of_tokens_is_that_of_the_sidecar():
    source = (TOP / "daemon/src/stages/api/operator_tokens.rs").read_text()
    assert f'const TOKEN: &str = "{TOKEN}";' in source
    assert f'const HASH: &str = "{HASH}";' in source
    assert 'let line = format!("{holder} {HASH}{}", hex::encode(Sha256::digest(&token)));' in source
    assert line("bob", "t") == f"bob sha256:{hashlib.sha256(b't').hexdigest()}"


def test_no_call_fails_in_any_step_of_a_replacement(run: Runner):
    now = Rotation()
    for _ in range(6):
        after = next_step(now)
        for used in (now, after):
            for accepts in (now, after):
                # The holder and the sidecar are each before or behind the step.
                lines, _ = made(run, accepts)
                _, token = made(run, used)
                assert line("pipeline", token) in lines, (used, accepts)
        now = after
    assert now == Rotation((3,), 3)


def test_an_old_token_ends(run: Runner):
    _, old = made(run, Rotation((1,), 1))
    lines, _ = made(run, Rotation((2,), 2))
    assert line("pipeline", old) not in lines


@pytest.mark.parametrize("accepted", [(), (1, 2, 3), (2, 2)])
def test_a_state_in_which_calls_fail_is_refused(accepted: tuple[int, ...]):
    with pytest.raises(InvalidError):
        Rotation(accepted, 1)


def test_a_token_is_a_secret_everywhere(run: Runner):
    found = run(lambda: OperatorTokens("t", NAMES, {"bob": Rotation((1, 2), 1)}, "arn:key"))
    version = found.one("SecretVersion")
    assert version.props["secretString"].startswith(TOKEN)
    assert TOKEN not in version.secrets()
    assert found.one("Secret").props["name"] == "prod/operators/bob"
    assert {one.props["keepers"]["generation"] for one in found.all("RandomBytes")} == {"1", "2"}


def test_a_holder_with_a_name_that_the_sidecar_refuses_is_refused(run: Runner):
    with pytest.raises(InvalidError, match="holder 'a b'"):
        run(lambda: OperatorTokens("t", NAMES, {"a b": Rotation()}, "arn:key"))
