"""The measured costs that capacity is computed from: of this machine's own runs, else those that are checked in.

`build/bench*.json` are dotted names to numbers, written by the benchmarks; `docs/capacity.figures.json` has the same names
under `figures`, with the date and the machine. A figure that is in neither is an error that says how to measure it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.capacity.model import Cost
from winnow.errors import NotFound

ROOT = Path(__file__).parents[2]
CHECKED_IN = ROOT / "docs" / "capacity.figures.json"
SERVICES = ("gateway", "feature", "retrieval", "ranking", "explanation")
WORLD, WORLD_ITEMS, WORLD_USERS, WORLD_EVENTS = "100k", 100_000, 20_000, 1_000_000
HOW = {
    "e2e": "`make bench` measures it",
    "scale": "`make bench-scale` measures it",
    "gpu": "`make bench-gpu` measures it, where there is a card",
}
GPU = "gpu.rank.500.requests_per_s"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and where it comes from."""

    value: float
    source: str


class Measurements:
    """Every figure that is known, by name."""

    def __init__(self, figures: Mapping[str, Figure]) -> None:
        self._figures = figures
        self.used: dict[str, Figure] = {}

    @classmethod
    def read(cls, build: Path = ROOT / "build", checked_in: Path = CHECKED_IN) -> Measurements:
        """This machine's figures win over those that are checked in. NotFound for a file that cannot be read."""
        found: dict[str, Figure] = {}
        if checked_in.is_file():
            about = document(checked_in)
            said = f"docs, {about['date']}, {about['machine']}"
            found |= {name: Figure(float(value), said) for name, value in about["figures"].items()}
        for file in sorted(build.glob("bench*.json")):
            if not file.name.endswith(".machine.json"):
                numbers = {name: value for name, value in document(file).items() if is_number(value)}
                found |= {name: Figure(float(value), f"build/{file.name}") for name, value in numbers.items()}
        return cls(found)

    def get(self, name: str) -> float:
        """NotFound says which command measures it."""
        if name not in self._figures:
            raise NotFound(f"no figure {name}: {HOW[name.partition('.')[0]]}", field=name)
        self.used[name] = self._figures[name]
        return self._figures[name].value


def document(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise NotFound(f"{file.name} cannot be read: {wrong}; measure again", field=file.name) from wrong
    return found


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def costs(measured: Measurements) -> dict[str, Cost]:
    """By service. Every process holds the catalogue (ADR 0003); only the feature service people and their events, only
    retrieval the index and its vectors, only ranking the item states. What a process was seen to use over the measured
    world, less what that world's items and people take in it, is what it needs empty."""
    where = f"five_processes.{WORLD}"
    shared = {name: measured.get(f"scale.memory.feature.{name}_mb") for name in ("items", "users", "events")}
    own = {name: measured.get(f"scale.memory.columns.{name}_mb") for name in ("index", "vectors", "item_states")}
    columns = {"retrieval": own["index"] + own["vectors"], "ranking": own["item_states"]}
    found = {}
    for service in SERVICES:
        cpu_ms = measured.get(f"e2e.rest.{where}.50rps.cpu_ms.{service}")
        seen_mb = measured.get(f"e2e.{where}.rss_mb.{service}")
        items_mb = shared["items"] + columns.get(service, 0.0)
        users_mb, events_mb = (shared["users"], shared["events"]) if service == "feature" else (0.0, 0.0)
        inside = (WORLD_ITEMS * items_mb + WORLD_USERS * users_mb + WORLD_EVENTS * events_mb) / 1e6
        found[service] = Cost(cpu_ms, max(seen_mb - inside, 0.0), items_mb, users_mb, events_mb)
    return found
