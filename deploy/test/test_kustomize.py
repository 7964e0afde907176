"""The Kustomize component beside a server that was there before, and policy and webhook for pods of an operator."""

import importlib.util
import json
import tomllib
from importlib.machinery import SourceFileLoader

import kubernetes_validate
import pytest
from conftest import DEPLOY, containers, kustomized, only, pod, run
from crds import Crds


@pytest.mark.parametrize("kubernetes", ["1.29", "1.34", "1.36"])
def test_every_object_of_the_site_has_the_form_that_kubernetes_takes(kubernetes):
    for part in kustomized("site"):
        kubernetes_validate.validate(part, kubernetes, strict=True)


@pytest.mark.parametrize("folder, kubernetes", [("operator", "1.36"), ("operator/beta", "1.34")])
def test_the_policy_has_the_form_that_kubernetes_takes(folder, kubernetes):
    parts = kustomized(folder)
    assert [part["kind"] for part in parts] == ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"]
    for part in parts:
        kubernetes_validate.validate(part, kubernetes, strict=True)


def test_the_policy_has_every_field_of_the_spec(spec):
    mutations = only(kustomized("operator"), "MutatingAdmissionPolicy")["spec"]["mutations"]
    text = mutations[0]["jsonPatch"]["expression"]
    assert text.count("/-\", value: ") == len(spec["volumes"]) + 2
    assert 'restartPolicy: "Always"' in text

    def leaves(value):
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in leaves(item)]
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]

    for leaf in leaves([spec["sidecar"], spec["bridge"], spec["volumes"]]):
        shown = f'"{leaf}"' if isinstance(leaf, str) else str(leaf).lower()
        assert shown in text, leaf
    for mutation in mutations:
        kind = "jsonPatch" if mutation["patchType"] == "JSONPatch" else "applyConfiguration"
        expression = mutation[kind]["expression"]
        assert expression.count("{") == expression.count("}") and expression.count("[") == expression.count("]")


@pytest.mark.parametrize("kubernetes", ["1.29", "1.34", "1.36"])
@pytest.mark.parametrize("folder", ["operator/webhook", "operator/webhook-cert-manager"])
def test_the_webhook_has_the_form_that_kubernetes_takes(folder, kubernetes):
    parts = kustomized(folder)
    crds = Crds()
    assert len(parts) == (11 if folder.endswith("cert-manager") else 7)
    for part in parts:
        if crds.has(part):
            assert crds.problems(part) == [], part["metadata"]["name"]
        else:
            kubernetes_validate.validate(part, kubernetes, strict=True)


def test_the_webhook_adds_the_parts_of_the_policy_to_the_pods_of_the_policy(spec):
    parts, policies = kustomized("operator/webhook"), kustomized("operator")
    policy = only(policies, "MutatingAdmissionPolicy")["spec"]
    hook = only(parts, "MutatingWebhookConfiguration")["webhooks"][0]
    assert hook["rules"] == policy["matchConstraints"]["resourceRules"]
    assert hook["objectSelector"] == policy["matchConstraints"]["objectSelector"]
    binding = only(policies, "MutatingAdmissionPolicyBinding")["spec"]
    assert hook["namespaceSelector"] == binding["matchResources"]["namespaceSelector"]
    for field in ("failurePolicy", "reinvocationPolicy"):
        assert hook[field] == policy[field], field
    added = json.loads(only(parts, "ConfigMap")["data"]["injection.json"])
    assert added == {
        "spec": {"enableServiceLinks": False, "terminationGracePeriodSeconds": 180},
        "volumes": spec["volumes"],
        "initContainers": [spec["bridge"], {**spec["sidecar"], "restartPolicy": "Always"}],
        "container": {"name": "gerrit", **spec["gerrit"]},
    }
    # The policy has each of these parts, in this order and with every field, as an expression of CEL.
    generate = generator()
    text = policy["mutations"][0]["jsonPatch"]["expression"]
    lines = [line.strip().rstrip(",") for line in text.splitlines() if line.strip().startswith("JSONPatch{")]
    assert lines == [generate.each(name, part) for name in ("volumes", "initContainers") for part in added[name]]
    whole = generate.cel({"spec": {**added["spec"], "containers": [added["container"]]}}, "Object")
    assert policy["mutations"][1]["applyConfiguration"]["expression"] == whole


def generator():
    """deploy/spec/generate as a module."""
    loader = SourceFileLoader("generate", str(DEPLOY / "spec/generate"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("generate", loader))
    loader.exec_module(module)
    return module


def test_the_webhook_has_no_rights_and_its_objects_fit_together(spec):
    parts = kustomized("operator/webhook-cert-manager")
    assert not {part["kind"] for part in parts} & {"ServiceAccount", "Role", "ClusterRole", "RoleBinding"}
    deployment, service = only(parts, "Deployment")["spec"], only(parts, "Service")["spec"]
    inside, labels = deployment["template"]["spec"], deployment["template"]["metadata"]["labels"]
    assert inside["automountServiceAccountToken"] is False and "serviceAccountName" not in inside
    container = inside["containers"][0]
    assert container["securityContext"] == spec["sidecar"]["securityContext"]
    assert container["image"] == spec["sidecar"]["image"] and inside["nodeSelector"] == spec["nodes"]
    # Its own pods do not wait for it.
    namespace = only(parts, "Namespace")["metadata"]
    assert "lockstep/inject" not in namespace.get("labels", {})
    assert deployment["replicas"] > only(parts, "PodDisruptionBudget")["spec"]["maxUnavailable"]
    for selector in (
        service["selector"],
        only(parts, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(parts, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        deployment["selector"]["matchLabels"],
    ):
        assert selector == labels
    port = next(port for port in container["ports"] if port["name"] == service["ports"][0]["targetPort"])
    assert f"--listen=0.0.0.0:{port['containerPort']}" in container["args"]
    assert only(parts, "NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] == port["containerPort"]
    hook = only(parts, "MutatingWebhookConfiguration")
    called = hook["webhooks"][0]["clientConfig"]["service"]
    assert called == {**WEBHOOK, "path": "/v1/pods", "port": service["ports"][0]["port"]}
    certificate = only(parts, "Certificate", WEBHOOK["name"])
    assert certificate["spec"]["dnsNames"] == [f"{WEBHOOK['name']}.{WEBHOOK['namespace']}.svc"]
    injected = hook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert injected == f"{WEBHOOK['namespace']}/{certificate['metadata']['name']}"
    volumes = {volume["name"]: volume for volume in inside["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == certificate["spec"]["secretName"]
    config = only(parts, "ConfigMap")["metadata"]["name"]
    assert volumes["injection"]["configMap"]["name"] == config != WEBHOOK["name"], "new parts are new pods"


WEBHOOK = {"name": "lockstep-inject", "namespace": "lockstep-system"}


def test_the_component_adds_the_sidecar_and_keeps_the_server():
    parts = kustomized("site")
    inside = pod(parts)
    assert [part["name"] for part in inside["initContainers"]] == ["lockstep"]
    assert [part["name"] for part in inside["containers"]] == ["gerrit"]
    assert inside["serviceAccountName"] == "lockstep"
    config = only(parts, "ConfigMap")
    volume = next(volume for volume in inside["volumes"] if volume["name"] == "lockstep-config")
    assert volume["configMap"]["name"] == config["metadata"]["name"] != "lockstep", "a new configuration is a new pod"
    names = only(parts, "Role")["rules"][0]["resourceNames"]
    assert names[0] == f"{only(parts, 'StatefulSet')['metadata']['name']}-0"
    subject = only(parts, "RoleBinding")["subjects"][0]
    assert subject == {"kind": "ServiceAccount", "name": "lockstep", "namespace": "muc-1"}


def test_the_configuration_passes_the_check_of_the_real_command(lockstep, tmp_path):
    text = only(kustomized("site"), "ConfigMap")["data"]["lockstep.toml"]
    (tmp_path / "lockstep.toml").write_text(text)
    names = {"LOCKSTEP_NODE": "gerrit-muc-1-0", "LOCKSTEP_HANDOVER__POD": "muc-1/gerrit-muc-1-0"}
    ran = run(lockstep, "config", "check", "--config", tmp_path / "lockstep.toml", env=names)
    assert ran.returncode == 0 and "(site muc-1, node gerrit-muc-1-0)" in ran.stdout, ran.stderr
    assert tomllib.loads(text)["handover"]["pod_label"] == "lockstep/role"


def test_the_nodes_of_the_site_reach_each_other_by_the_names_of_their_pods():
    parts = kustomized("site")
    config = tomllib.loads(only(parts, "ConfigMap")["data"]["lockstep.toml"])
    site = only(parts, "StatefulSet")
    name, namespace = site["metadata"]["name"], site["metadata"]["namespace"]
    service = only(parts, "Service", site["spec"]["serviceName"])["spec"]
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"] is True
    assert service["selector"].items() <= site["spec"]["template"]["metadata"]["labels"].items()
    port = next(port["port"] for port in service["ports"] if port["targetPort"] == "peers")
    host = f"{name}-2.{site['spec']['serviceName']}.{namespace}.svc"
    assert config["siblings"]["url"].replace("{node}", f"{name}-2") == f"https://{host}:{port}"
    assert config["tls"]["listen"] == f"0.0.0.0:{port}"
    assert f"spiffe://lockstep/{config['site']}/*" in config["tls"]["allow"]
    sidecar = containers(pod(parts))["lockstep"]
    assert "/etc/lockstep-tls" in [mount["mountPath"] for mount in sidecar["volumeMounts"]]


def test_every_container_is_confined():
    for container in containers(pod(kustomized("site"))).values():
        context = container["securityContext"]
        assert context["runAsUser"] == 1000 and context["readOnlyRootFilesystem"] is True, container["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
