"""Objects against the schemas of Kubernetes, of several versions, and of the custom resources that the chart uses.

Every error of an object is told, unknown fields and unknown kinds are errors, and so is what schemas leave out and a
server refuses: nulls, names and quantities that are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions
from referencing import Registry, Resource

from cluster.finding import Finding, name_of
from cluster.helm import Object

OLDEST, MIDDLE = "1.29", "1.32"
BASE = "https://kubernetes.io/api/custom"  # so that references lead to the definitions
META = "/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
CUSTOM = Path(__file__).with_name("crds.yaml")
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
PORT_NAME = re.compile(r"(?=.{1,15}$)[a-z0-9]+(-[a-z0-9]+)*")
LONGEST_NAME, LONGEST_CRON_JOB = 63, 52
SHOWN = 200  # characters of one error


def versions() -> tuple[str, str, str]:
    """1.29, 1.32, and the newest that there are schemas of."""
    known = [".".join(one.split(".")[:2]) for one in all_versions()]
    return OLDEST, MIDDLE, known[-1]


def check(objects: Sequence[Object]) -> Iterator[Finding]:
    for one in objects:
        whole = json.dumps(one, sort_keys=True)
        yield from (Finding(name_of(one), rule, detail) for rule, detail in wrong_with(whole))


@cache
def wrong_with(whole: str) -> tuple[tuple[str, str], ...]:
    """Rule and detail of all that is wrong with an object, which most combinations of values share."""
    one = json.loads(whole)
    found = [("schema", f"Kubernetes {version}: {error}") for version in versions() for error in errors(one, version)]
    return (*found, *plain_errors(one))


def errors(one: Object, version: str) -> Iterator[str]:
    found = validator(str(one.get("apiVersion", "")), str(one.get("kind", "")), version)
    if found is None:
        yield f"no such kind: {one.get('apiVersion')} {one.get('kind')}"
        return
    for error in found.iter_errors(one):
        yield f"{'.'.join(map(str, error.absolute_path)) or 'object'}: {error.message[:SHOWN]}"


@cache
def validator(api_version: str, kind: str, version: str) -> Draft202012Validator | None:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)  # rbac.authorization.k8s.io/v1 lies under rbac-v1
    file = folder / f"{kind.lower()}-{group}.json"
    custom = custom_kinds().get(f"{api_version}/{kind}")
    if custom is not None:
        schema = whole_schema(custom)
    elif file.is_file():
        schema = json.loads(file.read_text("utf-8"))
    else:
        return None
    return Draft202012Validator(schema, registry=definitions(version))


@cache
def definitions(version: str) -> Registry[Any]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    known = Resource.from_contents(json.loads((folder / "_definitions.json").read_text("utf-8")))
    return known @ Registry()


@cache
def custom_kinds() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(CUSTOM.read_text("utf-8"))
    return found


def whole_schema(spec: Any) -> dict[str, Any]:
    return {
        "$id": BASE,
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {"apiVersion": {}, "kind": {}, "metadata": {"$ref": META}, "spec": spec},
    }


def plain_errors(one: Object) -> Iterator[tuple[str, str]]:
    """What no schema says."""
    name = str(one.get("metadata", {}).get("name", ""))
    longest = LONGEST_CRON_JOB if one.get("kind") == "CronJob" else LONGEST_NAME
    if not NAME.fullmatch(name) or len(name) > longest:
        yield "name", f"{name!r} is no name of at most {longest} characters"
    for path, key, value in leaves(one):
        if value is None:
            yield "null", f"{path}: nothing is said"
        elif path.endswith("abels") and not LABEL.fullmatch(str(value)):
            yield "label", f"{path}.{key}: {value!r} is no label"
        elif re.search(r"(requests|limits)$|sizeLimit$", path) and not QUANTITY.fullmatch(str(value)):
            yield "quantity", f"{path}.{key}: {value!r} is no quantity"
        elif path.endswith(".ports") and key == "name" and not PORT_NAME.fullmatch(str(value)):
            yield "port", f"{path}: {value!r} is no name of a port"


def leaves(tree: Any, path: str = "", key: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every value that holds no others: the path of what it stands in, its key there, itself. Lists add nothing to a path."""
    if isinstance(tree, dict) and tree:
        below = f"{path}.{key}".strip(".")
        for name, value in tree.items():
            yield from leaves(value, below, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from leaves(value, path, key)
    elif not isinstance(tree, dict):
        yield path, key, tree
