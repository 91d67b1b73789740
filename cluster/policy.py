"""What every pod of ours owes: nobody is root, nothing is written but volumes, every resource has a limit, images are pinned,
long-running ones are probed, jobs end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from cluster.finding import Finding, name_of
from cluster.helm import Object
from cluster.workloads import Workload, variables, workloads

PINNED = re.compile(r"[\w./:-]+/[\w./-]+(:[\w.-]+|@sha256:[0-9a-f]{64})")
SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_KEY|ACCESS_KEY|PRIVATE|REDISCLI_AUTH")
SECRET_VALUE = re.compile(r"://[^/@\s]*:(?!\$\()[^/@\s]+@")
GRACE_S, CLOSING_S = 10.0, 5.0  # WINNOW_GRACE_S where nothing is said; what waits is written, and Kafka gets the rest
TOKENS = {"secrets"}  # asks the cluster to keep a Secret; its token is a volume that it names

ALONE = {"stream"}  # two drivers must not meet on one set of checkpoints, wherever those lie


def check(objects: Sequence[Object]) -> Iterator[Finding]:
    for one in objects:
        if one["kind"] == "Secret":
            yield Finding(name_of(one), "secret", "a Secret with values is part of the release; name an existing one")
    for work in workloads(objects):
        yield from (Finding(work.where, rule, detail) for rule, detail in wrong_with(work))


def wrong_with(work: Workload) -> Iterator[tuple[str, str]]:
    yield from pod_faults(work)
    for container in work.containers:
        for rule, detail in container_faults(container):
            yield rule, f"{container['name']}: {detail}"
    for container in work.spec["containers"] if work.lasting else ():
        for rule, detail in probe_faults(container):
            yield rule, f"{container['name']}: {detail}"
    yield from ending_faults(work)


def pod_faults(work: Workload) -> Iterator[tuple[str, str]]:
    security = work.spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "root", "the pod may run as root: runAsNonRoot and a runAsUser above 0 are wanted"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccomp", "no seccompProfile of RuntimeDefault"
    if work.spec.get("automountServiceAccountToken") is not False:
        yield "token", "the pod holds a token of the cluster"
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        if work.spec.get(shared):
            yield "host", f"{shared} is set"
    for volume in volumes(work):
        if "hostPath" in volume:
            yield "host", f"volume {volume['name']} is a folder of the node"
        if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit"):
            yield "limit", f"volume {volume['name']} has no sizeLimit"
        if "projected" in volume and work.component not in TOKENS:
            yield "token", f"volume {volume['name']} may hold a token of the cluster"


def volumes(work: Workload) -> list[Any]:
    found: list[Any] = work.spec.get("volumes", [])
    return found


def container_faults(container: Object) -> Iterator[tuple[str, str]]:
    security = container.get("securityContext", {})
    if security.get("runAsUser") == 0 or security.get("privileged") or security.get("runAsNonRoot") is False:
        yield "root", "runs as root"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "read-only", "its root file system can be written"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "privilege", "it may gain privileges"
    if "ALL" not in security.get("capabilities", {}).get("drop", []) or security["capabilities"].get("add"):
        yield "privilege", "it keeps capabilities"
    for kind in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            if not container.get("resources", {}).get(kind, {}).get(resource):
                yield "limit", f"no {kind} of {resource}"
    image = str(container.get("image", ""))
    if not PINNED.fullmatch(image) or image.endswith(":latest"):
        yield "image", f"{image!r} is not pinned: registry/name:tag or @sha256"
    for name, variable in variables(container).items():
        value = variable.get("value")
        place = name.endswith("_FILE") and str(value).startswith("/")
        if value and not place and (SECRET_NAME.search(name) or SECRET_VALUE.search(value)):
            yield "secret", f"{name} holds a secret by value"


def probe_faults(container: Object) -> Iterator[tuple[str, str]]:
    for probe in ("livenessProbe", "readinessProbe"):
        if probe not in container:
            yield "probe", f"no {probe}"


def leaving_faults(work: Workload) -> Iterator[tuple[str, str]]:
    """A service drains by itself: `preStop` would add up with that, and who ends it must wait for it."""
    granted = work.spec.get("terminationGracePeriodSeconds", 30)
    for container in work.spec["containers"]:
        told = {name: str(variable.get("value", "")) for name, variable in variables(container).items()}
        if "WINNOW_DRAIN_S" not in told:
            continue
        needed = float(told["WINNOW_DRAIN_S"]) + float(told.get("WINNOW_GRACE_S", GRACE_S)) + CLOSING_S
        if granted < needed:
            yield (
                "grace",
                f"{granted} s are too short to drain and for requests in flight, which take up to {needed:g} s",
            )
        if "preStop" in container.get("lifecycle", {}):
            yield "grace", f"{container['name']}: preStop only delays the draining that it does by itself"


def ending_faults(work: Workload) -> Iterator[tuple[str, str]]:
    """Deployments roll without a gap unless they hold something alone; jobs end."""
    spec = work.owner["spec"]
    yield from leaving_faults(work)
    if work.kind == "Deployment" and "selector" in spec:
        strategy = spec.get("strategy", {})
        claims = [v for v in volumes(work) if "persistentVolumeClaim" in v and v["name"] in ("home", "root")]
        if claims and strategy.get("type") != "Recreate":
            yield "writer", "two of its pods may write one volume: strategy Recreate"
        if claims and spec.get("replicas", 1) > 1:
            yield "writer", f"{spec['replicas']} pods would write one volume"
        if not claims and work.component not in ALONE and "rollingUpdate" not in strategy:
            yield "roll", "no surge: a roll would leave a gap"
    jobs = {"Job": spec, "CronJob": spec.get("jobTemplate", {}).get("spec", {})}
    if work.kind in jobs and not jobs[work.kind].get("activeDeadlineSeconds"):
        yield "deadline", "the job may run for ever"
