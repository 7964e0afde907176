"""Estates of the tests."""

from __future__ import annotations

from typing import Any

from lockstep_pulumi.estate import Estate, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


def eks(site: str, **more: Any) -> dict[str, Any]:
    endpoints = {
        "vpc_id": "vpc-1",
        "subnet_ids": ["subnet-1", "subnet-2"],
        "route_table_ids": ["rtb-1"],
        "client_cidrs": ["10.20.0.0/16"],
    }
    cluster = {"name": f"{site}-cluster", "region": "eu-central-1"}
    return {"site": site, "eks": cluster, "endpoints": endpoints, "karpenter_ami": "al2023@v20261101", **more}


def openstack(site: str, **more: Any) -> dict[str, Any]:
    return {"site": site, "openstack": {"issuer": f"https://issuer.example.org/{site}"}, **more}


def estate(*sites: dict[str, Any], **more: Any) -> Estate:
    value = {
        "names": {"environment": "prod", "prefix": "prod", "account": "123456789012", "region": "eu-central-1"},
        "bucket": {"bucket": "example-lockstep-packs"},
        "blobs": "prod",
        "image": f"registry.example.org/lockstep@{DIGEST}",
        "gerrit_image": f"registry.example.org/gerrit@{DIGEST}",
        "operators": {"pipeline": {"accepted": [1], "used": 1}},
        "sites": list(sites) or [eks("eu-aws", region="eu-west-1"), openstack("muc-1"), openstack("muc-2")],
        **more,
    }
    return parse(value)
