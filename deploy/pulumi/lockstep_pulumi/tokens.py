"""Random tokens of operators, and their replacement without a failed call.

A sidecar accepts every token whose hash is a line of `operators.token_file`, and reads that file on each request. A
token has a generation. A replacement takes three deployments:

| step | accepted | used |
|---|---|---|
| before | 1 | 1 |
| 1: every sidecar learns the new token | 1, 2 | 1 |
| 2: the holders move | 1, 2 | 2 |
| 3: the old token ends | 2 | 2 |

Callers and sidecars move at different times within a step, so the tokens that are used before and after a step must be
accepted before and after it. `next_step` makes the steps.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import pulumi
import pulumi_aws as aws
import pulumi_random as random

from lockstep_pulumi.invalid import refuse, unless
from lockstep_pulumi.names import Names
from lockstep_pulumi.options import below

# The beginnings of a token and of a hash, as `lockstep operators token` writes them.
TOKEN = "lockstep-operator-"
HASH = "sha256:"


@dataclass(frozen=True)
class Rotation:
    """The generations of a token that sidecars accept, and the one that its holder uses."""

    accepted: tuple[int, ...] = (1,)
    used: int = 1

    def __post_init__(self) -> None:
        """Refuses a state in which the holder's calls fail."""
        refuse(
            unless(self.used in self.accepted, f"used: {self.used}; write one of accepted, {list(self.accepted)}"),
            unless(
                1 <= len(set(self.accepted)) <= 2 and len(set(self.accepted)) == len(self.accepted),
                f"accepted: {list(self.accepted)}; write one generation, or the old and the new one",
            ),
        )


def next_step(now: Rotation) -> Rotation:
    """The next step of the replacement. From the last step it begins the next replacement."""
    newest = max(now.accepted)
    if len(now.accepted) == 1:
        return Rotation((newest, newest + 1), newest)
    return Rotation((newest,), newest) if now.used == newest else Rotation(now.accepted, newest)


def line(holder: str, token: str) -> str:
    """The line of `operators.token_file` for a token."""
    return f"{holder} {HASH}{hashlib.sha256(token.encode()).hexdigest()}"


class OperatorTokens(pulumi.ComponentResource):
    """Tokens of holders: the file of the sidecars, and a secret in AWS per holder."""

    # The text of `operators.token_file`. It has hashes only, and is a secret nevertheless.
    file: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        names: Names,
        holders: Mapping[str, Rotation],
        key_arn: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Creates the tokens of all holders, and stores the one that each holder uses."""
        super().__init__("lockstep:index:OperatorTokens", name, None, opts)
        refuse(
            *(
                unless(
                    re.fullmatch(r"[a-zA-Z0-9_.@-]{1,64}", holder) is not None,
                    f"holder {holder!r}: write 1 to 64 of the characters a-z A-Z 0-9 - _ . @",
                )
                for holder in holders
            )
        )
        lines = []
        for holder, rotation in sorted(holders.items()):
            tokens = {number: self._token(f"{name}-{holder}", number) for number in rotation.accepted}
            lines += [token.apply(partial(line, holder)) for token in tokens.values()]
            self._stored(f"{name}-{holder}", names, holder, tokens[rotation.used], key_arn)
        file = pulumi.Output.all(*lines).apply(lambda lines: "".join(f"{one}\n" for one in lines))
        self.file = pulumi.Output.secret(file)
        self.register_outputs({"file": self.file})

    def _token(self, name: str, generation: int) -> pulumi.Output[str]:
        made = random.RandomBytes(
            f"{name}-{generation}", length=32, keepers={"generation": str(generation)}, opts=below(self)
        )
        return pulumi.Output.secret(made.hex.apply(lambda secret: f"{TOKEN}{secret}"))

    def _stored(
        self, name: str, names: Names, holder: str, token: pulumi.Output[str], key_arn: pulumi.Input[str]
    ) -> None:
        secret = aws.secretsmanager.Secret(
            name,
            name=f"{names.prefix}/operators/{holder}",
            description="The token of an operator of Lockstep",
            kms_key_id=key_arn,
            recovery_window_in_days=7,
            region=names.region,
            tags=names.tagged(),
            opts=below(self),
        )
        aws.secretsmanager.SecretVersion(
            name, secret_id=secret.id, secret_string=token, region=names.region, opts=below(self)
        )
