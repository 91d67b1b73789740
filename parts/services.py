"""Winnow's own five services as programs: each a process, or all in one."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from parts.probe import PROBE_S, answers
from parts.program import HOST, Probe, Program

INNER = ("feature", "retrieval", "ranking", "explanation")
ROOT = Path(__file__).parents[1]
READY_S = 180.0  # a large catalogue is read, and its item states computed, before the platform is ready


def environment(home: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """Settings of all services: the home, and where each listens and finds the others."""
    addresses = {f"WINNOW_{name.upper()}_ADDRESS": f"{HOST}:{ports[name]}" for name in INNER}
    faces = {"WINNOW_REST_ADDRESS": f"{HOST}:{ports['rest']}", "WINNOW_GATEWAY_ADDRESS": f"{HOST}:{ports['gateway']}"}
    return {"WINNOW_HOME": str(home.resolve()), "ORT_DISABLE_TELEMETRY": "1", **addresses, **faces}


def inner(name: str, folder: Path, port: int, settings: Mapping[str, str]) -> Program:
    """One of the four behind the gateway; whether it has a bundle is for the gateway to say."""
    return program(name, folder, settings, lambda: listens(port))


def gateway(folder: Path, rest: int, settings: Mapping[str, str]) -> Program:
    """The gateway; it answers once all five are ready."""
    return program("gateway", folder, settings, lambda: answers(rest, "/readyz"))


def program(name: str, folder: Path, settings: Mapping[str, str], probe: Probe) -> Program:
    command = (sys.executable, "-m", f"services.{name}")
    env = {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE", **settings}
    return Program(name, command, folder, probe, env, ready_s=READY_S)


def listens(port: int) -> str:
    try:
        socket.create_connection((HOST, port), PROBE_S).close()
    except OSError as away:
        return str(away)
    return ""
