"""The figures of a run: dotted names to numbers, the aims they are held against, and the table.

Later versions add names; none is ever renamed, so that two runs a year apart compare.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench.commit import commit

# Of those with a build for cards, a machine has one or the other.
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu12", "grpcio", "uvicorn")
NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


@dataclass(slots=True)
class Figures:
    """What was measured, in the order of measuring."""

    values: dict[str, float] = field(default_factory=dict)

    def put(self, name: str, value: float) -> None:
        """Raises ValueError for a name that is no dotted one or is taken, and for what is not a number."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a dotted name")
        if name in self.values:
            raise ValueError(f"{name} was measured already")
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
        self.values[name] = float(f"{value:.6g}")

    def save(self, file: Path) -> None:
        """Write all at once: a run that is interrupted leaves the last complete one."""
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(self.values, indent=1) + "\n", encoding="utf-8")
        part.replace(file)


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should be: at most, or at least, `bound`."""

    name: str
    bound: float
    at_most: bool = True

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


AIMS = (
    Aim("e2e.rest.one_process.100k.50rps.p50_ms", 5),
    Aim("e2e.rest.one_process.100k.50rps.p99_ms", 12),
    Aim("e2e.rest.five_processes.100k.50rps.p50_ms", 5),
    Aim("e2e.five_processes.100k.max_rps_p99_50ms", 400, at_most=False),
    Aim("e2e.overhead_ratio", 1.5),
    Aim("rank.500.speedup", 2.5, at_most=False),
    Aim("rank.1000.speedup", 2.5, at_most=False),
    Aim("rank.1000.factorised_ms", 2),
    Aim("e2e.rest.one_process.100k.50rps.degraded_percent", 0),
    Aim("slate.200.all_ms", 2),
    Aim("features.user.p50_ms", 0.3),
    Aim("features.user.p99_ms", 1.2),
    Aim("features.items.500.columns.p50_ms", 0.3),
    Aim("features.freshness.item.p99_ms", 100),
    Aim("features.freshness.user.p99_ms", 100),
    Aim("security.on.cost_p50_ms", 1),
    Aim("e2e.faults", 0),
)


def table(values: Mapping[str, float]) -> Table:
    """Every figure, its aim where it has one, and whether that is met."""
    aims = {aim.name: aim for aim in AIMS}
    shown = Table("figure", "measured", "aim", "", title="make bench", title_justify="left")
    shown.columns[1].justify = "right"
    group = ""
    for name, value in values.items():
        if group and name.rpartition(".")[0] != group:
            shown.add_section()
        group = name.rpartition(".")[0]
        aim = aims.get(name)
        verdict = "" if aim is None else "[green]met[/]" if aim.met(value) else "[red]not met[/]"
        shown.add_row(name, f"{value:,.4g}", str(aim or ""), verdict)
    return shown


def show(console: Console, values: Mapping[str, float]) -> None:
    console.print(table(values))
    held = [aim for aim in AIMS if aim.name in values]
    missed = [aim for aim in held if not aim.met(values[aim.name])]
    console.print(f"aims: {len(held) - len(missed)} of {len(held)} met")
    for aim in missed:
        console.print(f"  not met: {aim.name} is {values[aim.name]:.4g}, aim {aim}")


def machine() -> dict[str, object]:
    """What the figures were measured on, and of what code."""
    return {
        "commit": commit(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := installed(name))},
    }


def installed(name: str) -> str:
    """The version of a package; empty where it is not here."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def cpu_model() -> str:
    """As the kernel names it; what Python says where there is no /proc."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor()
