"""What processes are told against what they can be told: every variable is one that the service's own Settings know, every
one that a cluster needs is set, the whole environment is read by those Settings, and every command line by its program.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from cluster.finding import Finding
from cluster.helm import Object
from cluster.workloads import Workload, of_kind, variables, workloads
from winnow.audit.settings import AuditSettings
from winnow.errors import WinnowError
from winnow.kafka_security import KafkaSecurity
from winnow.serving.trace_settings import TraceSettings

PREFIX = "WINNOW_"
BESIDE = {"WINNOW_METRICS_ADDRESS"}  # winnow.serving.process reads it itself, before any settings
QUIET = {
    "ORT_DISABLE_TELEMETRY",
    "MLFLOW_DISABLE_TELEMETRY",
    "DO_NOT_TRACK",
    "OMP_WAIT_POLICY",
    "HOME",
    "REDIS_PASSWORD",
}
PARTS = {"redis_url": "redis", "kafka_bootstrap": "kafka", "mlflow_uri": "mlflow", "triton_address": "triton"}
"""Settings that lead to a part, and the part."""
SHARED = frozenset(f"{PREFIX}{name.upper()}" for one in (KafkaSecurity, TraceSettings) for name in one.model_fields)
"""Settings that all of ours are given alike; who speaks with no broker reads nothing of them."""
EXPANDED = re.compile(r"\$\((\w+)\)")
HIDDEN = "0123456789abcdef"  # stands for what only a Secret knows


def check(objects: Sequence[Object], parts: frozenset[str]) -> Iterator[Finding]:
    """`parts` are those that the platform has, bundled or not."""
    for work in workloads(objects):
        for container in work.containers:
            for rule, detail in container_faults(work, container, objects, parts):
                yield Finding(work.where, rule, f"{container['name']}: {detail}")


def container_faults(
    work: Workload, container: Object, objects: Sequence[Object], parts: frozenset[str]
) -> Iterator[tuple[str, str]]:
    command = [*container.get("command", []), *container.get("args", [])]
    module = command[2] if command[:2] == ["python", "-m"] else ""
    settings = settings_of(module)
    told = environment(container)
    if settings is not None:
        yield from unknown(settings, told)
        yield from unset(settings, told, parts)
        yield from unread(settings, told)
        yield from frozen(settings, container)
        yield from addresses(settings, told, work, objects)
    elif module == "cli":
        yield from (("unknown variable", name) for name in told if name not in known_to_verbs() | QUIET | SHARED)
        yield from command_faults(command[3:], told)
        if "WINNOW_HOME" in told and "kafka" in parts and "WINNOW_KAFKA_BOOTSTRAP" not in told:
            yield "unset variable", "WINNOW_KAFKA_BOOTSTRAP is not set: what it records stays in its files"
    elif module in ("jobs.stream", "torch.distributed.run"):
        yield from option_faults(module, command[3:], told)
    if settings is None and (module == "cli" or module.startswith("jobs.")):
        yield from (fault for part in (KafkaSecurity, TraceSettings) for fault in unread(part, told))
    yield from undefined(container)


def environment(container: Object) -> dict[str, str]:
    """As the process finds it; a Secret's value is a stand-in, an address from one has a password."""
    found: dict[str, str] = {}
    for name, variable in variables(container).items():
        value = variable.get("value")
        if value is None:
            value = f"redis://:{HIDDEN}@away:6379/0" if name == "WINNOW_REDIS_URL" else HIDDEN
        found[name] = EXPANDED.sub(lambda match: found.get(match[1], match[0]), value)
    return found


def undefined(container: Object) -> Iterator[tuple[str, str]]:
    """Kubernetes expands only what stands before, and leaves the rest as it is."""
    before: set[str] = {"JOB_COMPLETION_INDEX"}
    for variable in container.get("env", []):
        for name in EXPANDED.findall(variable.get("value") or ""):
            if name not in before:
                yield "undefined variable", f"{variable['name']} uses $({name}) before it is set"
        before.add(variable["name"])
    for word in [*container.get("command", []), *container.get("args", [])]:
        for name in EXPANDED.findall(word):
            if name not in before:
                yield "undefined variable", f"the command uses $({name}), which is not set"


# ---------------------------------------------------------------------------------------------------- settings


@cache
def settings_of(module: str) -> type[BaseSettings] | None:
    """The Settings of what `python -m module` starts, where it is a service."""
    if module != "services" and not module.startswith("services."):
        return None
    found = import_module("services.all" if module == "services" else f"{module}.settings")
    settings: type[BaseSettings] = found.Settings
    return settings


def fields(settings: type[BaseSettings]) -> dict[str, str]:
    """Variable to field."""
    return {f"{PREFIX}{name.upper()}": name for name in settings.model_fields}


def unknown(settings: type[BaseSettings], told: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in told:
        if name not in fields(settings) and name not in BESIDE | QUIET | SHARED:
            yield "unknown variable", f"{name} is no setting of {settings.__module__}"


def unset(settings: type[BaseSettings], told: Mapping[str, str], parts: frozenset[str]) -> Iterator[tuple[str, str]]:
    """A service that may be led to a part is, where there is the part; and finds its peers and its home."""
    for name, field in fields(settings).items():
        required = settings.model_fields[field].is_required()
        leads = PARTS.get(field) in parts or field == "home" or (field.endswith("_address") and field not in OPTIONAL)
        if settings.__module__ == "services.all" and field.endswith("_address"):
            leads = field in ("rest_address", "gateway_address")  # the inner four have no face
        if (required or leads) and name not in told:
            yield "unset variable", f"{name} is not set"


def frozen(settings: type[BaseSettings], container: Object) -> Iterator[tuple[str, str]]:
    """A Secret as a variable stays what it was when the pod started; as a file it changes, where the service reads one."""
    for name, variable in variables(container).items():
        if "valueFrom" in variable and f"{name}_FILE" in fields(settings):
            yield "secret", f"{name} never changes in a pod: mount the Secret and set {name}_FILE"


OPTIONAL = {"triton_address", "health_address"}


def unread(settings: type[BaseSettings], told: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    with only(told):
        try:
            settings()
        except ValidationError as wrong:
            for error in wrong.errors():
                yield "setting", f"{PREFIX}{'_'.join(map(str, error['loc'])).upper()}: {error['msg']}"
        except WinnowError as wrong:
            yield "setting", wrong.detail


@contextmanager
def only(told: Mapping[str, str]) -> Iterator[None]:
    """This environment and no other."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(told)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def addresses(
    settings: type[BaseSettings], told: Mapping[str, str], work: Workload, objects: Sequence[Object]
) -> Iterator[tuple[str, str]]:
    """Where it listens is a port of the pod; where it calls is a port of a Service, or outside."""
    for name, value in told.items():
        if not name.startswith(PREFIX) or not name.endswith("_ADDRESS"):
            continue
        host, _, port = value.rpartition(":")
        if host in ("0.0.0.0", "[::]"):
            if int(port) not in work.ports.values():
                yield "port", f"{name} listens on {port}, which the container does not open"
        elif name != "WINNOW_TRITON_ADDRESS" or any(s["metadata"]["name"] == host for s in of_kind(objects, "Service")):
            yield from leads_nowhere(name, host, int(port), objects)


def leads_nowhere(name: str, host: str, port: int, objects: Sequence[Object]) -> Iterator[tuple[str, str]]:
    service = next((s for s in of_kind(objects, "Service") if s["metadata"]["name"] == host), None)
    if service is None:
        yield "address", f"{name}: there is no Service {host}"
    elif port not in {one["port"] for one in service["spec"]["ports"]}:
        yield "address", f"{name}: Service {host} has no port {port}"


# ---------------------------------------------------------------------------------------------------- commands


REFUSAL: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What the command line says to words that it does not take; Typer does not show the class itself."""


@cache
def verbs() -> Mapping[str, Any]:
    from cli.main import app

    root: Any = typer.main.get_command(app)
    found: dict[str, Any] = root.commands
    return found


@cache
def known_to_verbs() -> frozenset[str]:
    """Variables that some verb reads by itself, or whoever records what it does."""
    own = frozenset(str(option.envvar) for verb in verbs().values() for option in verb.params if option.envvar)
    return own | frozenset(fields(AuditSettings))


def command_faults(words: Sequence[str], told: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The command line itself reads the words, and does nothing."""
    verb, rest = verbs().get(words[0]), list(words[1:])
    if verb is None:
        yield "command", f"there is no winnow {words[0]}"
        return
    with only(told):
        try:
            verb.make_context(words[0], rest)
        except REFUSAL as wrong:
            yield "command", f"winnow {' '.join(words)}: {wrong.format_message()}"  # type: ignore[attr-defined]


def option_faults(module: str, words: Sequence[str], told: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Programs by argparse: every option is one that the program's source adds. torchrun starts another module."""
    own = list(words)
    if module == "torch.distributed.run":
        at = own.index("--module") + 1
        module, own = own[at], own[at + 1 :]
    if find_spec(module) is None:
        yield "command", f"there is no module {module}"
        return
    known = options_of(module)
    for word in own:
        name = word.partition("=")[0]
        if name.startswith("--") and name not in known:
            yield "command", f"python -m {module} has no option {name}"
    if module == "jobs.stream" and "WINNOW_REDIS_URL" not in told:
        yield "unset variable", "WINNOW_REDIS_URL is not set"


@cache
def options_of(module: str) -> frozenset[str]:
    """Read from the source: importing a training costs the seconds of torch."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    added = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"]
    first = [call.args[0] for call in added if call.args]
    return frozenset(str(word.value) for word in first if isinstance(word, ast.Constant))
