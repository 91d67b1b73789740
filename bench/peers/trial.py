"""One peer, from its environment to its row: installed, asked, judged, and asked again over HTTP where it has a server.

Whatever goes wrong on its side, in whichever way, ends in a row that says so in one line; none of it ends the run. Every
wait has an end, and what a peer left running is killed with all that it started.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from bench.load import Load
from bench.measure import Measured, measure
from bench.peers.question import Question, judged
from bench.peers.roster import PINS, Peer
from parts.program import HOST, Program, free_ports, group_of, running
from winnow.errors import Unavailable

ROOT = Path(__file__).parents[2]
MEASURED = ("fit_s", "fit_cpu_s", "one_cpu_ms", "batch_cpu_ms", "rss_mb")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", "OMP_WAIT_POLICY": "PASSIVE"}
LINE = 160  # characters of an error
LARGEST = 64 * 2**20  # bytes of a result


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to install, to fit and answer, to start a server; and the load of a server."""

    install_s: float = 300.0
    answer_s: float = 240.0
    start_s: float = 120.0
    rate: float = 20.0  # requests per second: every server here can keep up with it
    window_s: float = 8.0


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of a peer; `fault` is empty unless it failed, and then it has no figures."""

    key: str
    title: str
    figures: Mapping[str, float] = field(default_factory=dict)
    fault: str = ""


class Failed(Exception):
    """A peer did not do what it was asked to; the message is one line."""


def trial(peer: Peer, asked: Question, root: Path, limits: Limits) -> Row:
    """The peer's row. Its environment lies in `root/<pins>`, what it wrote in `root/answers/<key>`."""
    out = root / "answers" / peer.key
    out.mkdir(parents=True, exist_ok=True)
    try:
        install(peer, root, out, limits)
        figures = answered(peer, asked, root, out, limits)
        if peer.served:
            figures |= over_http(peer, asked, root, out, limits)
    except (Failed, Unavailable) as failed:
        return Row(peer.key, peer.title, fault=one_line(str(failed)))
    return Row(peer.key, peer.title, figures)


def install(peer: Peer, root: Path, out: Path, limits: Limits) -> None:
    """Its environment as its pins say, unless it is there."""
    if peer.pins:
        script, pins = ROOT / "scripts" / "environment.py", PINS / f"{peer.pins}.lock"
        command = [sys.executable, str(script), "apart", str(root / peer.pins), str(pins)]
        bounded(command, out / "install.log", limits.install_s)


def answered(peer: Peer, asked: Question, root: Path, out: Path, limits: Limits) -> dict[str, float]:
    """Fit and ask in process: what it costs, and how good the answers are."""
    for old in ("result.json", "answers.npy"):
        (out / old).unlink(missing_ok=True)
    bounded(command_of(peer, asked, root, out), out / "answer.log", limits.answer_s)
    told, answers = result_of(out)
    verdict = judged(asked, answers)
    if verdict.fault:
        raise Failed(verdict.fault)
    one_ms = np.asarray(told["one_ms"], np.float64)
    return {
        "ndcg_at_10": verdict.ndcg,
        "ndcg_error": verdict.error,
        "one_p50_ms": float(np.median(one_ms)),
        "one_p99_ms": float(np.percentile(one_ms, 99)),
        **{name: float(told[name]) for name in MEASURED},
        "one_per_core_s": 1000 / max(float(told["one_cpu_ms"]), 1e-6),
    }


def result_of(out: Path) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
    """What a driver wrote: numbers and an array, of a sane size, and nothing that has to be unpickled."""
    files = out / "result.json", out / "answers.npy"
    try:
        if max(file.stat().st_size for file in files) > LARGEST:
            raise Failed("a result without a sensible size")
        told = json.loads(files[0].read_text(encoding="utf-8"))
        answers = np.load(files[1], allow_pickle=False)
        numbers = [*told["one_ms"], *(told[name] for name in MEASURED)]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise Failed("a figure that is no number")
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise Failed(f"no result that can be read: {type(wrong).__name__}: {wrong}") from wrong
    return told, answers


def over_http(peer: Peer, asked: Question, root: Path, out: Path, limits: Limits) -> dict[str, float]:
    """The peer's own server under a steady load."""
    [port] = free_ports(1)
    command = (*command_of(peer, asked, root, out), "--port", str(port))
    server = Program(
        f"{peer.key}-server", command, out, lambda: answers_at(port), environment(), ready_s=limits.start_s
    )
    people = tuple(str(user) for user in asked.data.asked)
    with running(server) as [started]:
        load = Load("corerec", HOST, port, limits.rate, limits.window_s, people)
        try:
            return http_figures(measure(load, group_of(started.process.pid)))
        except RuntimeError as ended:  # the generator, by an answer that it could not read
            raise Failed(str(ended)) from ended


def http_figures(measured: Measured) -> dict[str, float]:
    """Of a window in which every answer was right; Failed says what was wrong with one."""
    outcome = measured.outcome
    if outcome.faults:
        [(fault, times)] = outcome.faults.most_common(1)
        raise Failed(f"over HTTP {times} of {len(outcome)} answers: {fault}")
    cpu_ms = measured.cpu_ms_per_request
    return {
        "http_p50_ms": outcome.percentile(50),
        "http_p99_ms": outcome.percentile(99),
        "http_cpu_ms": cpu_ms,
        "http_per_core_s": 1000 / max(cpu_ms, 1e-6),
    }


def answers_at(port: int) -> str:
    """Whether a server answers at all (a `parts.program.Probe`)."""
    try:
        httpx.get(f"http://{HOST}:{port}/health", timeout=1.0, trust_env=False)
    except httpx.TransportError as away:
        return str(away) or type(away).__name__
    return ""


# ---------------------------------------------------------------------------------------------- processes


def command_of(peer: Peer, asked: Question, root: Path, out: Path) -> tuple[str, ...]:
    places = (asked.folder, out)
    return (
        str(peer.python(root).absolute()),
        *("-m", "bench.peers.driver", peer.module, peer.model),
        *(str(place.absolute()) for place in places),
    )


def environment() -> dict[str, str]:
    """One thread for everybody; no proxy of ours."""
    return {**ONE_THREAD, **QUIET, "PYTHONPATH": str(ROOT)}


def bounded(command: Sequence[str], log: Path, limit_s: float) -> None:
    """Run it with its output in `log`. Failed when it ends badly or not at all, and then nothing of it is left."""
    try:
        with log.open("wb") as stream:
            started = subprocess.Popen(
                command,
                env={**os.environ, **environment()},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # also a group, so that all of it can be killed
            )
    except OSError as absent:
        raise Failed(f"{command[0]}: {absent.strerror}") from absent
    try:
        status = started.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"no result within {limit_s:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    if status:
        raise Failed(last_line(log) or f"ended with {status}")


def last_line(log: Path) -> str:
    """What a failed program said last, which of a Python traceback is the error."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else ""


def one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LINE else words[: LINE - 1] + "…"
