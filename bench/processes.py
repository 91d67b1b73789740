"""Starts the platform as an operator would, in one process or in five, and always stops what it started."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import psutil

from parts.program import HOST, free_ports, tail
from parts.services import INNER, READY_S, environment

Wiring = Literal["one_process", "five_processes"]
WIRINGS: tuple[Wiring, ...] = ("one_process", "five_processes")

STOP_S = 15.0


class NotReady(RuntimeError):
    """The platform did not come up; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A running platform: where it listens, and its processes by the name of what runs in them."""

    rest: int
    grpc: int
    processes: Mapping[str, psutil.Process]

    @property
    def all(self) -> list[psutil.Process]:
        return list(self.processes.values())

    def rss_mb(self) -> dict[str, float]:
        """Resident memory per process, MiB."""
        return {name: process.memory_info().rss / 2**20 for name, process in self.processes.items()}


@contextmanager
def running(
    home: Path,
    wiring: Wiring,
    logs: Path,
    settings: Mapping[str, str] | None = None,
    own: Callable[[str], Mapping[str, str]] = lambda name: {},
    tls: ssl.SSLContext | None = None,
) -> Iterator[Platform]:
    """The platform over the home `home`, ready to answer; `own` are settings of one process, by its name, and `tls` is for
    a REST face that has a certificate. Raises NotReady when a process ends or time runs out."""
    ports = dict(zip(("rest", "gateway", *INNER), free_ports(2 + len(INNER)), strict=True))
    env = {**os.environ, **environment(home, ports), **(settings or {})}
    modules = {"all": "services"} if wiring == "one_process" else {n: f"services.{n}" for n in (*INNER, "gateway")}
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(process(module, {**env, **own(name)}, logs / f"{name}.log"))
            for name, module in modules.items()
        }
        wait_until_ready(ports["rest"], started, logs, tls)
        yield Platform(ports["rest"], ports["gateway"], {n: psutil.Process(p.pid) for n, p in started.items()})


@contextmanager
def process(module: str, env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module` with its output in `log`; SIGTERM at the end, SIGKILL when that is not enough."""
    with log.open("wb") as stream:
        started = subprocess.Popen([sys.executable, "-m", module], env=dict(env), stdout=stream, stderr=stream)
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(STOP_S)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait(STOP_S)


def wait_until_ready(
    port: int, started: Mapping[str, subprocess.Popen[bytes]], logs: Path, tls: ssl.SSLContext | None = None
) -> None:
    """Return when `/readyz` says so."""
    until, said = time.monotonic() + READY_S, ""
    address, verify = (f"https://{HOST}:{port}", tls) if tls else (f"http://{HOST}:{port}", True)
    with httpx.Client(base_url=address, timeout=2.0, trust_env=False, verify=verify) as client:
        while time.monotonic() < until:
            for name, one in started.items():
                if one.poll() is not None:
                    raise NotReady(f"{name} ended with {one.returncode}\n{tail(logs / f'{name}.log')}")
            try:
                answer = client.get("/readyz")
            except httpx.TransportError as away:
                said = repr(away)
            else:
                if answer.status_code == 200:
                    return
                said = answer.text
            time.sleep(0.2)
    raise NotReady(f"not ready after {READY_S:g} s: {said}\n" + "\n".join(tail(logs / f"{n}.log") for n in started))
