"""The server of the policies. Pulumi starts it: `pulumi up --policy-pack deploy/pulumi/policy-pack`."""

from pulumi_policy import EnforcementLevel, PolicyPack

from lockstep_pulumi.rules.pack import policies

PolicyPack(name="lockstep", enforcement_level=EnforcementLevel.MANDATORY, policies=policies())
