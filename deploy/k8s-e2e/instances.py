"""Prints the machines that Karpenter's provider for KWOK offers, as JSON: one kind, as a spot and an on-demand node.

It has the labels of an EC2 instance that the pools of deploy/karpenter ask for.
"""

import json

LABELS = {
    "karpenter.k8s.aws/instance-category": "m",
    "karpenter.k8s.aws/instance-generation": "7",
    "topology.kubernetes.io/zone": "zone-a",
}


def offering(capacity, price):
    labels = {**LABELS, "karpenter.sh/capacity-type": capacity}
    needs = [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()]
    return {"Price": price, "Available": True, "Requirements": needs}


def machine(name, cpus):
    return {
        "name": name,
        "offerings": [offering("spot", 0.03 * cpus), offering("on-demand", 0.05 * cpus)],
        "architecture": "amd64",
        "operatingSystems": ["linux"],
        "resources": {"cpu": str(cpus), "memory": f"{4 * cpus}Gi", "ephemeral-storage": "100Gi"},
    }


if __name__ == "__main__":
    print(json.dumps([machine("m7i.xlarge", 4)]))
