"""`make bench-gpu`: training steps, vector search and models on a card, into build/bench-gpu.json.

Ends with 2 and one line where there is no card. `--device cpu` runs all that a CPU can, in small, to try the code: its figures
are named `try.…` and go to another file, so that nothing takes them for a card's. Ends with 1 when a step failed, or
when the card answers otherwise than the CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Figures
from bench.gpu.apart import Told, apart
from bench.gpu.card import Device, about, cards_of, missing_card
from bench.gpu.inference import wrong
from bench.gpu.plan import CARD, PARTS, ROOT, TRY, Sizes, Step, steps
from bench.gpu.worlds import prepared
from bench.peers.trial import Failed

OUT = {"cuda": Path("build/bench-gpu.json"), "cpu": Path("build/bench-gpu-try.json")}
NAMED = {"cuda": "gpu", "cpu": "try"}
WIDE = 170  # columns that the tables need
INTERRUPTED = 130


@dataclass
class Bench:
    """One run: figures as soon as they are there, which rows are missing and why, and which steps failed."""

    device: Device
    out: Path
    console: Console
    machine: dict[str, Any]
    figures: Figures = field(default_factory=Figures)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.began:6.1f} s[/]  {text}", highlight=False)

    def step(self, step: Step, limit_s: float) -> None:
        """Run it and write down what it said; one that fails ends alone."""
        if step.missing:
            self.missing[step.name] = step.missing
        else:
            self.say(step.name)
            try:
                out = ROOT / f"{step.name}.json"
                self.keep(step, apart(step.module, step.arguments, out, limit_s, step.processes))
            except Failed as failed:
                self.failed[step.name] = str(failed)
                self.say(f"[red]{step.name}:[/] {failed}")
        self.save()

    def keep(self, step: Step, told: Told) -> None:
        for name, value in told.figures.items():
            if math.isfinite(value):
                self.figures.put(self.name_of(step, name), value)
            else:
                self.failed[f"{step.name}.{name}"] = f"is {value}"
        self.missing |= {f"{step.name}.{name}": reason for name, reason in told.missing.items()}
        self.failed |= {f"{step.name}.{name}": f"{off:.2g} off the CPU's" for name, off in wrong(told.figures).items()}

    def name_of(self, step: Step, name: str) -> str:
        whole = name if name.startswith("rank.") else f"{step.name}.{name}"
        return f"{NAMED[self.device]}.{whole}"

    def save(self) -> None:
        """All that is known so far."""
        self.figures.save(self.out)
        told = self.machine | {"missing": self.missing, "failed": self.failed}
        self.out.with_suffix(".machine.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def report(self) -> None:
        wide = Console(file=self.console.file, width=max(self.console.width, WIDE))
        for part in PARTS:
            rows = rows_of(self.figures.values, f"{NAMED[self.device]}.{part}.")
            if rows:
                wide.print(table(part, rows, title_of(part, self.machine)))
        for name, reason in self.missing.items():
            wide.print(f"not measured: {name}: {reason}", highlight=False, markup=False)
        for name, reason in self.failed.items():
            wide.print(f"failed: {name}: {reason}", highlight=False, markup=False)
        rate = self.figures.values.get(f"{NAMED[self.device]}.rank.500.requests_per_s")
        if rate is not None:
            wide.print(f"500 candidates ranked for {rate:,.0f} requests/s")
        wide.print(f"written: {self.out} and {self.out.with_suffix('.machine.json')}")


def main(argv: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(argv)
    device: Device = chosen.device
    console = Console()
    if device == "cuda" and (reason := missing_card()):
        console.print(f"error: no card to measure: {reason}", markup=False, highlight=False, soft_wrap=True)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    bench = Bench(device, chosen.out or OUT[device], console, about(device))
    status = 0
    try:
        run(bench, chosen.only, sizes_of(chosen, CARD if device == "cuda" else TRY))
    except KeyboardInterrupt:
        bench.save()
        console.print("interrupted; what was measured is kept")
        status = INTERRUPTED
    bench.report()
    return status or int(bool(bench.failed))


def run(bench: Bench, parts: Sequence[str], sizes: Sizes) -> None:
    """Every step of these parts."""
    cards = len(cards_of(bench.device))
    world = prepared(ROOT, sizes.items) if set(parts) - {"vectors"} else ROOT
    for part in parts:
        for step in steps(part, world, sizes, bench.device, cards):
            bench.step(step, sizes.limit_s)
    bench.figures.put(f"{NAMED[bench.device]}.run.seconds", time.monotonic() - bench.began)
    bench.save()


def sizes_of(chosen: argparse.Namespace, sizes: Sizes) -> Sizes:
    """As asked for."""
    given = {name: getattr(chosen, name) for name in ("items", "vectors", "seconds")}
    return replace(sizes, **{name: value for name, value in given.items() if value is not None})


# ---------------------------------------------------------------------------------------------- tables


def rows_of(values: Mapping[str, float], start: str) -> dict[str, dict[str, float]]:
    """Figures whose names begin so, by all but the last word and by that."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        if name.startswith(start):
            row, _, column = name.removeprefix(start).rpartition(".")
            rows.setdefault(row, {})[column] = value
    return rows


def title_of(part: str, machine: Mapping[str, Any]) -> str:
    cards = machine["cards"]
    where = f"{len(cards)} × {cards[0]}" if cards else f"cpu: a try in small, no card's figures ({machine['cpu']})"
    return f"{part}, {where}"


def table(part: str, rows: Mapping[str, Mapping[str, float]], title: str) -> Table:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    shown = Table(part, title=title, title_justify="left")
    for column in columns:
        shown.add_column(column.replace("_", " "), justify="right")
    for name, row in rows.items():
        shown.add_row(name, *(f"{row[column]:,.4g}" if column in row else "" for column in columns))
    return shown


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="bench.gpu", description=__doc__.splitlines()[0])
    options.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only to try the code, in small"
    )
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="of all, in this order")
    options.add_argument("--out", type=Path, help=f"by default {OUT['cuda']}, for a try {OUT['cpu']}")
    options.add_argument(
        "--items", type=int, help=f"of the world that is trained on ({CARD.items}, for a try {TRY.items})"
    )
    options.add_argument("--vectors", type=int, help=f"that are searched ({CARD.vectors}, for a try {TRY.vectors})")
    options.add_argument("--seconds", type=float, help=f"that a call is repeated for ({CARD.seconds}, {TRY.seconds})")
    return options
