"""Names, ARNs and tags. A sidecar derives the names of tables and streams from its configuration, so they are fixed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lockstep_pulumi.invalid import refuse, unless

SITE = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
PREFIX = re.compile(r"[a-zA-Z0-9_.-]{1,60}")
REGION = re.compile(r"[a-z0-9-]{1,63}")

# The tags of every resource that can have tags. The rule `tagged` asks for them.
TAGS = ("project", "environment", "site", "managed-by")


def site_problem(field_name: str, site: str) -> str | None:
    """The problem with the name of a site, if there is one."""
    return unless(
        SITE.fullmatch(site) is not None,
        f"{field_name}: {site!r} is no name of a site; write 1 to 48 of the characters a-z, 0-9 and -",
    )


@dataclass(frozen=True)
class Names:
    """The names of everything that all sites share."""

    environment: str
    prefix: str
    account: str
    region: str
    partition: str = "aws"
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses values that AWS or the sidecar would refuse."""
        refuse(
            site_problem("environment", self.environment),
            unless(
                PREFIX.fullmatch(self.prefix) is not None,
                f"prefix: {self.prefix!r}; write 1 to 60 of the characters a-z A-Z 0-9 _ . -",
            ),
            unless(
                re.fullmatch("[0-9]{12}", self.account) is not None,
                f"account: {self.account!r} is no account of AWS; write its 12 digits, in quotes",
            ),
            unless(REGION.fullmatch(self.region) is not None, f"region: {self.region!r} is no Region of AWS"),
        )

    def length_problem(self, site: str) -> str | None:
        """The problem with a site whose roles and rules would have names that AWS refuses (64 characters)."""
        longest = len(f"{self.prefix}-{site}-interruption")
        return unless(longest <= 64, f"site {site}: prefix and name have more than 50 characters; shorten one of them")

    @property
    def refs(self) -> str:
        """The name of the table of refs."""
        return f"{self.prefix}-refs"

    @property
    def journal(self) -> str:
        """The name of the table of journal slots."""
        return f"{self.prefix}-journal"

    def stream(self, site: str) -> str:
        """The name of a site's stream."""
        return f"{self.prefix}-{site}"

    def table_arn(self, table: str) -> str:
        """The ARN of a table. Both tables are in the home Region."""
        return f"arn:{self.partition}:dynamodb:{self.region}:{self.account}:table/{table}"

    def stream_arn(self, site: str, region: str) -> str:
        """The ARN of a site's stream."""
        return f"arn:{self.partition}:kinesis:{region}:{self.account}:stream/{self.stream(site)}"

    def bucket_arn(self, bucket: str) -> str:
        """The ARN of a bucket."""
        return f"arn:{self.partition}:s3:::{bucket}"

    def tagged(self, site: str = "shared", **more: str) -> dict[str, str]:
        """The tags of a resource of a site, or of the resources that all sites share."""
        own = {"project": "lockstep", "environment": self.environment, "site": site, "managed-by": "pulumi"}
        return {**self.tags, **more, **own}
