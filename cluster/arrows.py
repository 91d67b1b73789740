"""Which pods may reach which ports, as the policies say, against the arrows of the diagram.

The arrows of services are read from their Settings: who has an address of another calls it. Those between parts are listed
here. A policy that lets more through is as wrong as one that lets less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from cluster.finding import Finding
from cluster.helm import Object
from cluster.told import PARTS, settings_of
from cluster.workloads import Workload, of_kind, selects, variables, workloads

BETWEEN_PARTS: Mapping[str, frozenset[str]] = {
    "stream": frozenset({"kafka", "redis"}),
    "jobs": frozenset({"mlflow", "kafka"}),
    "topics": frozenset({"kafka"}),
    "database": frozenset({"postgres"}),
    "mlflow": frozenset({"postgres", "objects"}),
    "redis": frozenset({"redis-nodes"}),
    "redis-nodes": frozenset({"redis-nodes"}),
    "kafka": frozenset({"kafka"}),
    "training": frozenset({"training"}),
}
INNER = {"kafka": {"controller"}, "redis-nodes": {"sentinel"}}
"""Ports that a part opens for its own kind alone."""
UNSEEN = {"metrics", "health"}
"""Ports that no arrow leads to: the monitoring's, and a kubelet's, whom policies do not hold."""
FREE = {"secrets"}
"""Without a policy: it speaks with the cluster itself, at an address that policies cannot name."""

STRANGER = {"app": "of-somebody-else"}

Arrow = tuple[str, str, int]


def check(objects: Sequence[Object]) -> Iterator[Finding]:
    policies = of_kind(objects, "NetworkPolicy")
    if not policies:
        return
    works = {work.component: work for work in workloads(objects)}
    for work in works.values():
        if work.component not in FREE and not any(selects(p["spec"]["podSelector"], work.labels) for p in policies):
            yield Finding(work.where, "network", "no policy holds its pods")
    wanted, allowed = set(expected(works)), set(permitted(works, policies))
    for source, target, port in sorted(allowed - wanted):
        what = f"{source} may reach {target}:{port}, and no arrow leads there"
        yield Finding(f"NetworkPolicy/{target}", "network", what)
    for source, target, port in sorted(wanted - allowed):
        yield Finding(f"NetworkPolicy/{target}", "network", f"{source} cannot reach {target}:{port}, which it calls")
    yield from shut_off(works, policies)
    yield from open_doors(works, policies)
    yield from unwatched(works, policies, of_kind(objects, "ServiceMonitor"))


def unwatched(
    works: Mapping[str, Workload], policies: Sequence[Object], monitors: Sequence[Object]
) -> Iterator[Finding]:
    """What Prometheus is sent to, some pod outside may enter."""
    for work in works.values():
        for monitor in (one for one in monitors if selects(one["spec"]["selector"], work.labels)):
            held = [p["spec"] for p in policies if selects(p["spec"]["podSelector"], work.labels)]
            rules = [rule for spec in held for rule in spec.get("ingress") or []]
            abroad = [
                r for r in rules if any("namespaceSelector" in peer or "ipBlock" in peer for peer in r.get("from", []))
            ]
            for port in (work.ports.get(endpoint["port"], 0) for endpoint in monitor["spec"]["endpoints"]):
                if not any(has(rule.get("ports"), port) for rule in abroad):
                    yield Finding(work.where, "network", f"the monitoring cannot reach port {port}")


def expected(works: Mapping[str, Workload]) -> Iterator[Arrow]:
    for source, work in works.items():
        for target in calls_of(source, work, tuple(works)):
            for name, port in works[target].ports.items():
                if name not in UNSEEN and (source == target or name not in INNER.get(target, ())):
                    yield source, target, port


def calls_of(source: str, work: Workload, components: Sequence[str]) -> frozenset[str]:
    """Components that this one calls, of those that there are."""
    settings = settings_of(module_of(work))
    if settings is not None:
        own = {name.removesuffix("_ADDRESS").removeprefix("WINNOW_").lower() for name in listens(work)}
        peers = {name.removesuffix("_address") for name in settings.model_fields if name.endswith("_address")}
        called = (peers - own) | {part for field, part in PARTS.items() if field in settings.model_fields}
    elif source == "test":
        called = {component for component in components if faces_outside(component)}
    else:
        called = set(BETWEEN_PARTS.get(source, ()))
    return frozenset(called & set(components))


@cache
def faces_outside(component: str) -> bool:
    return component in ("gateway", "all")


def module_of(work: Workload) -> str:
    command = work.spec["containers"][0].get("command", [])
    return str(command[2]) if command[:2] == ["python", "-m"] else ""


def listens(work: Workload) -> list[str]:
    told = variables(work.spec["containers"][0])
    return [name for name, variable in told.items() if str(variable.get("value", "")).startswith("0.0.0.0:")]


def permitted(works: Mapping[str, Workload], policies: Sequence[Object]) -> Iterator[Arrow]:
    """An arrow is open where neither end's policies forbid it. Ports for monitoring and the outside do not count."""
    for source, one in works.items():
        for target, other in works.items():
            for name, port in other.ports.items():
                if name in UNSEEN or source in FREE or (faces_outside(target) and source != "test"):
                    continue
                leaves = open_to(one.labels, other.labels, port, policies, "Egress", "to")
                if leaves and open_to(other.labels, one.labels, port, policies, "Ingress", "from"):
                    yield source, target, port


def open_to(
    own: Mapping[str, str], peer: Mapping[str, str], port: int, policies: Sequence[Object], way: str, side: str
) -> bool:
    held = [p["spec"] for p in policies if selects(p["spec"]["podSelector"], own) and way in p["spec"]["policyTypes"]]
    if not held:
        return True
    rules = [rule for spec in held for rule in spec.get(way.lower()) or []]
    return any(admits(rule.get(side), peer) and has(rule.get("ports"), port) for rule in rules)


def admits(peers: Any, labels: Mapping[str, str]) -> bool:
    """Whether one of the peers is a pod of this namespace with these labels; no peers are everybody."""
    if not peers:
        return True
    return any(
        "podSelector" in peer and "namespaceSelector" not in peer and selects(peer["podSelector"], labels)
        for peer in peers
    )


def has(ports: Any, port: int) -> bool:
    return not ports or any(port == one.get("port") for one in ports if one.get("protocol", "TCP") == "TCP")


def open_doors(works: Mapping[str, Workload], policies: Sequence[Object]) -> Iterator[Finding]:
    """No pod but ours enters, except where the platform is called from outside; metrics are for the monitoring alone."""
    for target, work in works.items():
        for name, port in work.ports.items():
            if target in FREE or name == "health" or (faces_outside(target) and name != "metrics"):
                continue
            if open_to(work.labels, STRANGER, port, policies, "Ingress", "from"):
                yield Finding(f"NetworkPolicy/{target}", "network", f"anybody may reach {target}:{port}")


def shut_off(works: Mapping[str, Workload], policies: Sequence[Object]) -> Iterator[Finding]:
    """Names must be looked up, and the outside reaches the gateway."""
    for work in works.values():
        held = [p["spec"] for p in policies if selects(p["spec"]["podSelector"], work.labels)]
        rules = [rule for spec in held for rule in spec.get("egress") or []]
        if held and not any(one.get("port") == 53 for rule in rules for one in rule.get("ports", [])):
            yield Finding(work.where, "network", "it cannot look up names")
