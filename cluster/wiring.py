"""Whether objects find each other: selectors select, ports exist where they lead, what is mounted and named is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from cluster.finding import Finding, name_of
from cluster.helm import Object
from cluster.workloads import Workload, of_kind, selects, variables, workloads

PREFIX = "WINNOW_"
OWN_LABEL = "app.kubernetes.io/component"


def check(objects: Sequence[Object], named: str = "") -> Iterator[Finding]:
    """`named` is the text of the values: Secrets and claims that stand there are somebody else's and exist."""
    works = list(workloads(objects))
    yield from twice(objects)
    for work in works:
        yield from (Finding(work.where, "selector", detail) for detail in own_selector(work))
        yield from (Finding(work.where, "port", detail) for detail in probed_ports(work))
        yield from (Finding(work.where, "missing", detail) for detail in missing(work, objects, named))
    for service in of_kind(objects, "Service"):
        yield from (Finding(name_of(service), rule, detail) for rule, detail in service_faults(service, works))
    yield from followers(objects, works)


def twice(objects: Sequence[Object]) -> Iterator[Finding]:
    names = [name_of(one) for one in objects]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Finding(name, "twice", "two objects have this name")


def own_selector(work: Workload) -> Iterator[str]:
    if work.lasting and not selects(work.owner["spec"]["selector"], work.labels):
        yield "it does not select the pods that its template makes"
    for constraint in work.spec.get("topologySpreadConstraints", []):
        if not selects(constraint["labelSelector"], work.labels):
            yield f"pods are spread over {constraint['topologyKey']} by another's labels"


def probed_ports(work: Workload) -> Iterator[str]:
    for container in work.spec["containers"]:
        ports = container.get("ports", [])
        known = {p["name"] for p in ports} | {p["containerPort"] for p in ports}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for how in ("grpc", "httpGet", "tcpSocket"):
                asked = container.get(probe, {}).get(how, {}).get("port")
                if asked is not None and asked not in known:
                    yield f"{container['name']}: {probe} asks port {asked}, which the container does not open"
                if asked is not None and asked in spoken_by_tls(container):
                    yield f"{container['name']}: {probe} asks port {asked}, where TLS is spoken and a kubelet has none"


def spoken_by_tls(container: Object) -> set[int]:
    """Ports of a service whose callers must speak TLS: those of strangers by one switch, its own by the other."""
    told = {name: str(variable.get("value", "")) for name, variable in variables(container).items()}
    outside = ("WINNOW_REST_ADDRESS", "WINNOW_GATEWAY_ADDRESS")
    found = {name: int(value.rpartition(":")[2]) for name, value in told.items() if value.startswith("0.0.0.0:")}
    clear = {"WINNOW_HEALTH_ADDRESS", "WINNOW_METRICS_ADDRESS"}
    clear |= set(outside) if "WINNOW_FACE_TLS_FOLDER" not in told else set()
    clear |= found.keys() - set(outside) if "WINNOW_TLS_FOLDER" not in told else set()
    return {port for name, port in found.items() if name not in clear}


def service_faults(service: Object, works: Sequence[Workload]) -> Iterator[tuple[str, str]]:
    behind = [work for work in works if selects(service["spec"]["selector"], work.labels)]
    if not behind:
        yield "selector", "no pod is behind it"
    for port in service["spec"]["ports"]:
        target = port.get("targetPort", port["port"])
        for work in behind:
            if target not in work.ports and target not in work.ports.values():
                yield "port", f"port {port['name']} leads to {target}, which {work.where} does not open"
            elif work.ports.get(target, target) != port["port"]:
                yield "port", f"port {port['port']} leads to another number in {work.where}; policies name one of them"


def missing(work: Workload, objects: Sequence[Object], named: str) -> Iterator[str]:
    """What the pod names and nobody makes."""
    account = work.spec.get("serviceAccountName", "")
    if f"ServiceAccount/{account}" not in {name_of(one) for one in objects}:
        yield f"service account {account!r}"
    made = {kind: made_of(objects, kind) for kind in ("ConfigMap", "PersistentVolumeClaim", "Secret")}
    for kind, name in named_by(work):
        own = kind == "PersistentVolumeClaim" and name in claims_of(work)
        if name not in made[kind] and not own and f'"{name}"' not in named:
            yield f"{kind} {name!r} is neither made here nor named by the values"
    volumes = {volume["name"] for volume in work.spec.get("volumes", [])} | claims_of(work)
    for container in work.containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{container['name']} mounts {mount['name']}, which is no volume"
            if "subPath" in mount:
                yield f"{container['name']} mounts {mount['name']} by subPath, which never changes: mount it as a folder"
        yield from unmounted(container)


def unmounted(container: Object) -> Iterator[str]:
    """Folders and files that the process is told of, and that are in none of its volumes."""
    places = [PurePosixPath(mount["mountPath"]) for mount in container.get("volumeMounts", [])]
    for name, variable in variables(container).items():
        if name.startswith(PREFIX) and name.endswith(("_FOLDER", "_FILE", "_HOME")):
            path = PurePosixPath(str(variable.get("value")))
            if not any(path.is_relative_to(place) for place in places):
                yield f"{container['name']}: {name} is {path}, which is in no volume"


def claims_of(work: Workload) -> set[str]:
    return {claim["metadata"]["name"] for claim in work.owner["spec"].get("volumeClaimTemplates", [])}


def made_of(objects: Sequence[Object], kind: str) -> set[str]:
    """Names of this kind that objects make, also through an operator or a job."""
    names = {one["metadata"]["name"] for one in of_kind(objects, kind)}
    if kind == "ConfigMap":
        names.add("kube-root-ca.crt")  # every namespace has it
    if kind == "Secret":
        names |= {one["spec"]["secretName"] for one in of_kind(objects, "Certificate")}
        names |= {one["spec"]["target"]["name"] for one in of_kind(objects, "ExternalSecret")}
        for job in workloads(of_kind(objects, "Job")):
            if job.component == "secrets":
                names |= {v["value"] for v in job.containers[0]["env"] if v["name"] == "NAME"}
    return names


def named_by(work: Workload) -> Iterator[tuple[str, str]]:
    """Kind and name of whatever the pod reads."""
    for volume in work.spec.get("volumes", []):
        for source, kind, key in (
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
        ):
            if source in volume:
                yield kind, volume[source][key]
    for container in work.containers:
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                yield "Secret", reference["name"]


def followers(objects: Sequence[Object], works: Sequence[Workload]) -> Iterator[Finding]:
    """Objects that stand beside a workload: budgets, autoscalers, monitors, policies."""
    names = {name_of(one) for one in objects}
    for one in of_kind(objects, "PodDisruptionBudget", "NetworkPolicy"):
        selector = one["spec"].get("selector", one["spec"].get("podSelector"))
        if not any(selects(selector, work.labels) for work in works):
            yield Finding(name_of(one), "selector", "it selects no pod")
    for one in of_kind(objects, "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        if f"{target['kind']}/{target['name']}" not in names:
            yield Finding(name_of(one), "missing", f"nothing to scale: {target['kind']}/{target['name']}")
    for one in of_kind(objects, "ServiceMonitor"):
        yield from monitored(one, of_kind(objects, "Service"), works)
    for one in of_kind(objects, "Ingress"):
        for rule in one["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                yield from backed(one, path["backend"]["service"], of_kind(objects, "Service"))


def monitored(monitor: Object, services: Sequence[Object], works: Sequence[Workload]) -> Iterator[Finding]:
    found = [s for s in services if selects(monitor["spec"]["selector"], s["metadata"]["labels"])]
    if not found:
        yield Finding(name_of(monitor), "selector", "it selects no Service")
    for service in found:
        ports = {port["name"] for port in service["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["port"] not in ports:
                yield Finding(name_of(monitor), "port", f"{name_of(service)} has no port {endpoint['port']}")
            behind = [work for work in works if selects(service["spec"]["selector"], work.labels)]
            for detail in locked(behind, endpoint["port"]):
                yield Finding(name_of(monitor), "credential", detail)


def locked(behind: Sequence[Workload], port: str) -> Iterator[str]:
    """Services show their metrics to who has no credential and no TLS on a port of their own, and on no other."""
    for work in behind:
        for container in work.containers:
            told = {name: str(one.get("value", "")) for name, one in variables(container).items()}
            own = told.get("WINNOW_METRICS_ADDRESS", "")
            serves = "WINNOW_REST_ADDRESS" in told or own
            if serves and own.rpartition(":")[2] != str(work.ports.get(port, port)):
                yield f"{port} of {work.where} is not where it shows metrics without a credential ({own or 'nowhere'})"


def backed(ingress: Object, wanted: Any, services: Sequence[Object]) -> Iterator[Finding]:
    for service in services:
        if service["metadata"]["name"] == wanted["name"]:
            if wanted["port"]["name"] not in {port["name"] for port in service["spec"]["ports"]}:
                yield Finding(name_of(ingress), "port", f"{name_of(service)} has no port {wanted['port']['name']}")
            return
    yield Finding(name_of(ingress), "missing", f"Service {wanted['name']}")
