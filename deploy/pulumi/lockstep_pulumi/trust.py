"""Trust in a site's role: only the pods of one service account of one cluster may take it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lockstep_pulumi.invalid import refuse, unless

# The audience of the tokens that AWS takes.
AUDIENCE = "sts.amazonaws.com"


@dataclass(frozen=True)
class ServiceAccount:
    """The service account of a site's pods."""

    namespace: str
    name: str

    @property
    def subject(self) -> str:
        """Its name in tokens."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


@dataclass(frozen=True)
class EksCluster:
    """A cluster of EKS, with the add-on for Pod Identity."""

    name: str
    region: str

    def arn(self, account: str, partition: str) -> str:
        """The ARN of the cluster."""
        return f"arn:{partition}:eks:{self.region}:{account}:cluster/{self.name}"


@dataclass(frozen=True)
class OpenStackCluster:
    """A cluster outside of AWS, whose service accounts have an issuer of their own.

    The issuer's keys must be readable for AWS without a password, at ISSUER/.well-known/openid-configuration.
    """

    issuer: str

    def __post_init__(self) -> None:
        """Refuses an issuer that AWS would refuse."""
        fits = re.fullmatch(r"https://[a-zA-Z0-9.-]+(/[^?#]*)?", self.issuer) is not None
        refuse(
            unless(
                fits and not self.issuer.endswith("/"),
                f"issuer: {self.issuer!r}; write the --service-account-issuer of the cluster, https://HOST/PATH, "
                "without a / at its end",
            )
        )

    @property
    def host(self) -> str:
        """The issuer without its scheme, as conditions name it."""
        return self.issuer.removeprefix("https://")


def pod_identity_trust(cluster: EksCluster, account: str, partition: str = "aws") -> dict[str, Any]:
    """The agent of Pod Identity of this cluster may take the role."""
    return trust(
        {"Service": "pods.eks.amazonaws.com"},
        ["sts:AssumeRole", "sts:TagSession"],
        {
            "StringEquals": {"aws:SourceAccount": account},
            "ArnEquals": {"aws:SourceArn": cluster.arn(account, partition)},
        },
    )


def web_identity_trust(cluster: OpenStackCluster, provider_arn: str, account: ServiceAccount) -> dict[str, Any]:
    """A token of this service account, made for AWS, may take the role."""
    return trust(
        {"Federated": provider_arn},
        ["sts:AssumeRoleWithWebIdentity"],
        {"StringEquals": {f"{cluster.host}:sub": account.subject, f"{cluster.host}:aud": AUDIENCE}},
    )


def trust(principal: dict[str, str], actions: list[str], condition: dict[str, Any]) -> dict[str, Any]:
    """A trust policy with one statement."""
    statement = {"Effect": "Allow", "Principal": principal, "Action": actions, "Condition": condition}
    return {"Version": "2012-10-17", "Statement": [statement]}
