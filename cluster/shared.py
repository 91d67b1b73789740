"""What all our own processes must know alike, services, streams and jobs: how brokers are spoken to, and where traces go.

One that lacks it does not fail where it is installed: a broker refuses it later, or its spans are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.finding import Finding
from cluster.helm import Object
from cluster.told import SHARED
from cluster.workloads import Workload, of_kind, selects, variables, workloads

OURS = {"services", "cli", "jobs", "torch"}
"""First names of the modules that our pods start; torchrun starts a training."""
LEADING = ("WINNOW_KAFKA_BOOTSTRAP", "WINNOW_OTLP_ENDPOINT")
BOOTSTRAP = "--bootstrap"


def check(objects: Sequence[Object]) -> Iterator[Finding]:
    own = [(work, container) for work in workloads(objects) for container in work.containers if ours(container)]
    told = {name for _, container in own for name in variables(container)} & SHARED
    policies = of_kind(objects, "NetworkPolicy")
    services = {one["metadata"]["name"] for one in of_kind(objects, "Service")}
    for work, container in own:
        for name in sorted(told - variables(container).keys()):
            yield Finding(work.where, "unset variable", f"{container['name']}: {name} is not set, and others are told")
        for host, port in outside(container, services):
            if policies and not leaves(work, port, policies):
                yield Finding(
                    work.where, "network", f"{container['name']} cannot reach {host}:{port}, which it is told"
                )


def ours(container: Object) -> bool:
    command = container.get("command", [])
    return command[:2] == ["python", "-m"] and command[2].partition(".")[0] in OURS


def outside(container: Object, services: set[str]) -> Iterator[tuple[str, int]]:
    """Brokers and collectors that it is led to, and that are none of the installation's."""
    told = [str(variables(container).get(name, {}).get("value", "")) for name in LEADING]
    words = [*container.get("args", []), ""]
    told += [words[at + 1] for at, word in enumerate(words) if word == BOOTSTRAP]
    told += [word.partition("=")[2] for word in words if word.startswith(f"{BOOTSTRAP}=")]
    for address in ",".join(filter(None, told)).split(","):
        host, _, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
        if host and not services.intersection(host.split(".")):
            yield host, int(port)


def leaves(work: Workload, port: int, policies: Sequence[Object]) -> bool:
    """Whether the pod's policies let it out of the namespace to this port."""
    held = [p["spec"] for p in policies if selects(p["spec"]["podSelector"], work.labels)]
    rules = [rule for spec in held for rule in spec.get("egress") or [] if abroad(rule.get("to"))]
    return any(port == one.get("port") for rule in rules for one in rule.get("ports", []))


def abroad(peers: Any) -> bool:
    """Whether somebody of another namespace is among them; no peers are everybody."""
    return not peers or any("namespaceSelector" in peer or "ipBlock" in peer for peer in peers)
