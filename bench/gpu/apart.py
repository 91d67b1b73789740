"""A step in a process of its own, or in one per card: what fails there ends that step, and its memory is its own.

The parent's side is `apart`; the child's, a module with `--device` and `--out`, ends with `tell`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.peers.trial import Failed, bounded, one_line

ERROR = re.compile(r"^(?:\[rank\d+\]:? *)?((?:\w+\.)*\w*(?:Error|Exception|Failed|Refused)(?::.*)?)$", re.MULTILINE)
PR_SET_PDEATHSIG = 1  # prctl(2)
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


@dataclass(frozen=True, slots=True)
class Told:
    """What a step measured, by name, and which of its rows could not be, with the reason of each."""

    figures: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def apart(module: str, arguments: Sequence[str], out: Path, limit_s: float, processes: int = 1) -> Told:
    """`python -m module arguments`, under torchrun where there are several processes; Failed says in one line what went
    wrong there. What it printed lies beside `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    log = out.with_suffix(".log")
    launched = (*LAUNCHER, str(processes)) if processes > 1 else ()
    try:
        bounded([sys.executable, *launched, "-m", module, *arguments, "--out", str(out.absolute())], log, limit_s)
        return Told(**json.loads(out.read_text(encoding="utf-8")))
    except Failed as failed:
        raise Failed(error_in(log) or str(failed)) from failed
    except (OSError, ValueError, TypeError) as wrong:
        raise Failed(f"no result that can be read: {wrong}") from wrong


def error_in(log: Path) -> str:
    """The first error in a log: of a chain the cause, and of several processes the one that began it."""
    found = ERROR.search(log.read_text(encoding="utf-8", errors="replace"))
    return one_line(found.group(1)) if found else ""


# ---------------------------------------------------------------------------------------------- the child's side


def options(about: str) -> argparse.ArgumentParser:
    """Of every step; a step adds its own."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--device", choices=("cuda", "cpu"), required=True)
    made.add_argument("--out", type=Path, required=True)
    return made


def chosen(made: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed options; a step that is to stay on the CPU sees no card from here on, and none outlives who began it."""
    found = made.parse_args(argv)
    end_with_parent()
    if found.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return found


def end_with_parent() -> None:
    """Be killed when the process that started this one ends: torchrun puts those of its own into sessions of their own, which
    no signal to its group reaches. On Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tell(out: Path, figures: Mapping[str, float], missing: Mapping[str, str] | None = None) -> None:
    told = {"figures": dict(figures), "missing": dict(missing or {})}
    out.write_text(json.dumps(told), encoding="utf-8")


def wall_ms(step: Callable[[int], Any], seconds: float, at_least: int = 5) -> npt.NDArray[np.float64]:
    """Milliseconds by the clock of call after call: a card's work is no thread's CPU time. The first two are left out."""
    for k in range(2):
        step(k)
    took: list[float] = []
    until = time.perf_counter() + seconds
    while len(took) < at_least or time.perf_counter() < until:
        began = time.perf_counter()
        step(len(took))
        took.append(1000 * (time.perf_counter() - began))
    return np.array(took)
