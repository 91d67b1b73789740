"""Views of rendered objects: the pods they make, and what those hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.finding import name_of
from cluster.helm import Object

COMPONENT = "app.kubernetes.io/component"
LASTING = ("Deployment", "StatefulSet")


@dataclass(frozen=True)
class Workload:
    """One object that makes pods: where it is, the pods' labels and their spec."""

    owner: Object
    labels: Mapping[str, str]
    spec: Object

    @property
    def where(self) -> str:
        return name_of(self.owner)

    @property
    def kind(self) -> str:
        return str(self.owner["kind"])

    @property
    def component(self) -> str:
        return self.labels.get(COMPONENT, "")

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        return {p["name"]: p["containerPort"] for c in self.spec["containers"] for p in c.get("ports", [])}

    @property
    def lasting(self) -> bool:
        return self.kind in LASTING


def workloads(objects: Sequence[Object]) -> Iterator[Workload]:
    for one in objects:
        match one["kind"]:
            case "Deployment" | "StatefulSet" | "Job" | "DaemonSet":
                template = one["spec"]["template"]
            case "CronJob":
                template = one["spec"]["jobTemplate"]["spec"]["template"]
            case "Pod":
                template = one
            case _:
                continue
        yield Workload(one, template["metadata"].get("labels", {}), template["spec"])


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector of Kubernetes, or a Service's plain map; an empty one selects all."""
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        return all(labels.get(key) == value for key, value in selector.items())
    if not all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(expressed(one, labels) for one in selector.get("matchExpressions", []))


def expressed(one: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(one["key"])
    match one["operator"]:
        case "In":
            return value in one["values"]
        case "NotIn":
            return value not in one["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None


def variables(container: Mapping[str, Any]) -> dict[str, Object]:
    """The environment by name."""
    return {one["name"]: one for one in container.get("env", [])}
