"""Rules for the resources of a deployment: those of a Pulumi program, and Kubernetes objects that were rendered.

| file | content |
|---|---|
| `model` | a thing, a rule |
| `store`, `access` | rules for AWS: tables, streams, buckets and the key; policies, trust, networks, tags |
| `objects`, `pods`, `nodes` | rules for Kubernetes: what is beside pods, pods, Karpenter's pools |
| `pack` | all rules, as policies of Pulumi, and as plain functions |

Importing `policy-pack/__main__.py` starts the server of the policies and never returns. Import this package instead.
"""
