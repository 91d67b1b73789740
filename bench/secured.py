"""What it costs that services prove who they are: the same question to two platforms in turn, one with mTLS between its
five processes and one without. Both run all the time, so that they meet the same machine.

Stopwatch times of one caller over one kept connection: nothing waits for anything but the answer itself.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from bench.faces import RestFace
from bench.processes import Platform, running
from parts.program import HOST
from parts.services import INNER
from winnow.authority import certify

WARM = 30
CALLS = 300
ITEMS = 10
WAYS = ("clear", "mtls")

Times = Mapping[str, list[float]]


def mtls_here(home: Path, people: Sequence[str], folder: Path, calls: int = CALLS) -> dict[str, float]:
    """Figures by dotted names, milliseconds; RuntimeError where an answer is not complete."""
    services = (*INNER, "gateway")
    certify(folder / "certificates", {name: (f"{name}.winnow",) for name in services}, lifetime=timedelta(days=1))
    registry = {"WINNOW_MLFLOW_URI": f"sqlite:///{home.absolute()}/mlflow.db"}
    homes = {way: twin(home, folder / way / "home") for way in WAYS}

    def proven(name: str) -> dict[str, str]:
        return {"WINNOW_TLS_FOLDER": str((folder / "certificates" / name).absolute())}

    with (
        running(homes["clear"], "five_processes", folder / "clear", registry) as clear,
        running(homes["mtls"], "five_processes", folder / "mtls", registry, proven) as mtls,
    ):
        return figures(asyncio.run(in_turn({"clear": clear, "mtls": mtls}, people, calls)))


def twin(home: Path, into: Path) -> Path:
    """A home of its own for a platform: two must not write one log."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(home / "log", into / "log")
    shutil.copy(home / "dataset.json", into / "dataset.json")
    return into


async def in_turn(platforms: Mapping[str, Platform], people: Sequence[str], calls: int) -> Times:
    """Milliseconds per answer of each, the first ones left out."""
    faces = {way: RestFace(HOST, platform.rest, ITEMS, 1) for way, platform in platforms.items()}
    took: dict[str, list[float]] = {way: [] for way in platforms}
    for n in range(WARM + calls):
        for way, face in faces.items():
            began = time.perf_counter()
            reply = await face.ask(people[n % len(people)])
            took[way].append((time.perf_counter() - began) * 1000)
            if reply.fault and n >= WARM:
                raise RuntimeError(f"{way}: {reply.fault}")
    for face in faces.values():
        await face.close()
    return {way: times[WARM:] for way, times in took.items()}


def figures(took: Times) -> dict[str, float]:
    found = {f"mtls.{way}.p50_ms": float(np.median(times)) for way, times in took.items()}
    found |= {f"mtls.{way}.p99_ms": float(np.percentile(times, 99)) for way, times in took.items()}
    # of pairs: what the machine did meanwhile, it did to both
    found["mtls.cost_p50_ms"] = float(np.median(np.subtract(took["mtls"], took["clear"])))
    return found
