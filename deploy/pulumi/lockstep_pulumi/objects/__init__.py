"""The Kubernetes objects of a site, as plain values. Nothing here knows Pulumi.

They are those of the chart `deploy/helm/lockstep`: a test compares them with those that the chart renders.
"""
