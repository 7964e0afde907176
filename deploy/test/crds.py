"""Objects of operators, held against the schemas of their CRDs: unknown fields are refused, as by the API server."""

import jsonschema
import yaml
from conftest import TOOLS


class Crds:
    """The schemas of all CRDs that deploy/test/tools brings."""

    _schemas = None

    def __init__(self):
        if Crds._schemas is None:
            Crds._schemas = dict(self._read())

    @staticmethod
    def _read():
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        wanted = ("podmonitors", "servicemonitors", "prometheusrules", "certificates", "_issuers", "externalsecrets")
        for path in sorted(TOOLS.glob("crds-*/*.yaml")):
            if not path.stem.endswith(wanted):
                continue
            for crd in yaml.load_all(path.read_text(), loader):
                for version in crd["spec"]["versions"]:
                    key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                    yield key, closed(version["schema"]["openAPIV3Schema"])

    def has(self, part):
        return (part["apiVersion"], part["kind"]) in self._schemas

    def problems(self, part):
        schema = self._schemas[part["apiVersion"], part["kind"]]
        return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(part)]


def closed(schema):
    """The schema with unknown fields refused, where Kubernetes would drop them."""
    if not isinstance(schema, dict):
        return schema
    schema = {key: schema[key] for key in schema if key != "format"}
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("anyOf", None)
        schema.pop("type", None)
        return {**schema, "type": ["integer", "string"]}
    keep = schema.pop("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in schema:
        properties = schema["properties"]
        schema["properties"] = {name: closed(of) for name, of in properties.items()}
        # The metadata of an object has a schema elsewhere.
        if "metadata" in properties and properties["metadata"] == {"type": "object"}:
            schema["properties"]["metadata"] = {"type": "object"}
        if not keep and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = closed(schema["additionalProperties"])
    if "items" in schema:
        schema["items"] = closed(schema["items"])
    return schema
