"""The Kustomize component beside a server that was there before, and the policy for pods of an operator."""

import tomllib

import kubernetes_validate
import pytest
from conftest import containers, kustomized, only, pod, run


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


def test_every_container_is_confined():
    for container in containers(pod(kustomized("site"))).values():
        context = container["securityContext"]
        assert context["runAsUser"] == 1000 and context["readOnlyRootFilesystem"] is True, container["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
