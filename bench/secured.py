"""What it costs that nobody is let in: the same question to three platforms in turn. `off` lets everybody in and keeps no
audit log; `mtls` differs by certificates between its five processes; `on` has those, TLS before its REST face, an API key
that every request must bring, its rate limit, and the audit log. All run all the time, so that they meet the same machine.

Stopwatch times of one caller over one kept connection: nothing waits for anything but the answer itself.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson

from bench.faces import RestFace
from bench.processes import Platform, running
from parts.program import HOST
from parts.services import INNER
from services.gateway.api_keys import create
from winnow.authority import certify
from winnow.serving.guard import API_KEY

WARM = 30
CALLS = 300
ITEMS = 10
SERVICES = (*INNER, "gateway")
PUBLIC = "face"  # the certificate that callers see
OFF = {"WINNOW_AUDIT": "off", "WINNOW_AUTH": "off"}
GENEROUS = {"WINNOW_RATE_PER_S": "100000"}  # counted all the same

Times = Mapping[str, list[float]]


@dataclass(frozen=True)
class Way:
    """How a platform is closed: settings of all its processes, whether peers prove who they are, and what callers need."""

    settings: Mapping[str, str]
    mtls: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None


def secured_here(home: Path, people: Sequence[str], folder: Path, calls: int = CALLS) -> dict[str, float]:
    """Figures by dotted names, milliseconds; RuntimeError where an answer is not complete."""
    certificates = folder / "certificates"
    names = {name: (f"{name}.winnow",) for name in SERVICES} | {PUBLIC: (HOST,)}
    certify(certificates, names, lifetime=timedelta(days=1))
    ways = ways_of(certificates, folder)
    registry = {"WINNOW_MLFLOW_URI": f"sqlite:///{home.absolute()}/mlflow.db"}
    with ExitStack() as stack:
        platforms = {}
        for name, way in ways.items():
            proven = (lambda service: identity(certificates, service)) if way.mtls else (lambda service: {})
            platform = running(
                twin(home, folder / name / "home"),
                "five_processes",
                folder / name,
                {**registry, **way.settings},
                proven,
                way.tls,
            )
            platforms[name] = stack.enter_context(platform)
        return figures(asyncio.run(in_turn(platforms, ways, people, calls)))


def ways_of(certificates: Path, folder: Path) -> dict[str, Way]:
    """With a key that is made anew, and forgotten with the run."""
    key, row = create("bench", ("recommend",), None)
    keys = folder / "keys.json"
    keys.write_bytes(orjson.dumps({"keys": [row.model_dump(mode="json")]}))
    closed = {
        "WINNOW_AUDIT": "on",
        "WINNOW_AUTH": "on",
        "WINNOW_API_KEYS_FILE": str(keys.absolute()),
        "WINNOW_FACE_TLS_FOLDER": str((certificates / PUBLIC).absolute()),
        **GENEROUS,
    }
    tls = ssl.create_default_context(cafile=certificates / PUBLIC / "ca.crt")
    return {"off": Way(OFF), "mtls": Way(OFF, mtls=True), "on": Way(closed, True, {API_KEY: key}, tls)}


def identity(certificates: Path, service: str) -> dict[str, str]:
    return {"WINNOW_TLS_FOLDER": str((certificates / service).absolute())}


def twin(home: Path, into: Path) -> Path:
    """A home of its own for a platform: two must not write one log."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(home / "log", into / "log")
    shutil.copy(home / "dataset.json", into / "dataset.json")
    return into


async def in_turn(
    platforms: Mapping[str, Platform], ways: Mapping[str, Way], people: Sequence[str], calls: int
) -> Times:
    """Milliseconds per answer of each, the first ones left out."""
    faces = {
        name: RestFace(HOST, platform.rest, ITEMS, 1, headers=ways[name].headers, tls=ways[name].tls)
        for name, platform in platforms.items()
    }
    took: dict[str, list[float]] = {name: [] for name in platforms}
    for n in range(WARM + calls):
        for name, face in faces.items():
            began = time.perf_counter()
            reply = await face.ask(people[n % len(people)])
            took[name].append((time.perf_counter() - began) * 1000)
            if reply.fault and n >= WARM:
                raise RuntimeError(f"{name}: {reply.fault}")
    for face in faces.values():
        await face.close()
    return {name: times[WARM:] for name, times in took.items()}


def figures(took: Times) -> dict[str, float]:
    """Medians, and what a way costs: the median of pairs, since what the machine did meanwhile it did to both."""
    found = {f"security.{way}.p50_ms": float(np.median(times)) for way, times in took.items()}
    found |= {f"security.{way}.p99_ms": float(np.percentile(times, 99)) for way, times in took.items()}
    costs = {way: np.subtract(times, took["off"]) for way, times in took.items() if way != "off"}
    return found | {f"security.{way}.cost_p50_ms": float(np.median(cost)) for way, cost in costs.items()}
