"""Pulumi components for Lockstep.

| component | content |
|---|---|
| `EstateKey` | the key for tables, streams and blobs, with a replica in each Region |
| `SharedRefDb` | the two tables of the refdb |
| `BlobBucket` | the bucket of the blob store |
| `OperatorTokens` | random tokens of operators, replaced without a failed call |
| `SiteStream` | the stream of a site |
| `Site` | stream, role and trust of a site in EKS or OpenStack, and its endpoints |
| `Sidecar` | Gerrit with the sidecar in Kubernetes |
| `KarpenterPools` | pools of nodes, and the notices before a node goes |
"""

from lockstep_pulumi.blobs import BlobBucket, BucketArgs
from lockstep_pulumi.endpoints import EndpointArgs, Endpoints
from lockstep_pulumi.iam import Grants, site_policy
from lockstep_pulumi.invalid import InvalidError
from lockstep_pulumi.karpenter import KarpenterPools, PoolsArgs
from lockstep_pulumi.key import EstateKey
from lockstep_pulumi.names import Names
from lockstep_pulumi.objects.args import GerritArgs, NetworkArgs, PlacementArgs, SidecarArgs, TlsArgs
from lockstep_pulumi.refdb import Provisioned, RefDbArgs, SharedRefDb
from lockstep_pulumi.sidecar import Sidecar
from lockstep_pulumi.site import Site, SiteArgs
from lockstep_pulumi.stream import SiteStream, StreamArgs
from lockstep_pulumi.tokens import OperatorTokens, Rotation, next_step
from lockstep_pulumi.trust import EksCluster, OpenStackCluster, ServiceAccount

__all__ = [
    "BlobBucket",
    "BucketArgs",
    "EksCluster",
    "EndpointArgs",
    "Endpoints",
    "EstateKey",
    "GerritArgs",
    "Grants",
    "InvalidError",
    "KarpenterPools",
    "Names",
    "NetworkArgs",
    "OpenStackCluster",
    "OperatorTokens",
    "PlacementArgs",
    "PoolsArgs",
    "Provisioned",
    "RefDbArgs",
    "Rotation",
    "ServiceAccount",
    "SharedRefDb",
    "Sidecar",
    "SidecarArgs",
    "Site",
    "SiteArgs",
    "SiteStream",
    "StreamArgs",
    "TlsArgs",
    "next_step",
    "site_policy",
]
