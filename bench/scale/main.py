"""`make bench-scale`: generated worlds of more and more items, every step in a process of its own, into build/bench-scale.json.

Ends with 1 when a cost grows worse than n log n, or when a step did not end as it should, and with 130 after Ctrl-C. Of a run
that is not whole the figures go into build/scale-incomplete.json, which nothing computes with, and the last whole run's stay. The
largest worlds take long and much memory: `--most` says how many events are worth it.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figures import Figures, machine
from bench.peers.trial import last_line
from bench.scale.growth import LEAST_S, Growth, growth, per_million
from bench.scale.plot import drawn
from bench.scale.serving import columns_mb_per_million, feature_rss_mb
from bench.scale.worlds import lopsided, name_of, worlds
from training.data.generated import World
from winnow.errors import Unavailable

OUT = Path("build/bench-scale.json")
INCOMPLETE = Path("build/scale-incomplete.json")  # no name that `make capacity` reads
ROOT = Path("build/scale")
PLOT = Path("docs/scaling.svg")
GROWS_WITH = {
    "ingest": "events",
    "load": "events",
    "features": "events",
    "train": "items",
    "index": "items",
    "request": "items",
}
MOST = 3_000_000  # events: what ten minutes of two cores allow
AIM_EVENTS_PER_S = 100_000
STEP_S = 7_200.0
SERVED = 10_000_000  # events up to which a feature service is started over the world: it keeps every act in memory

Points = dict[str, list[tuple[float, float, float]]]


class StepFailed(Exception):
    """A step's process did not end as it should; the message is what it said last."""


@dataclass
class Scale:
    """One run: figures as soon as they are there, what was wrong, and (size, CPU seconds, peak MB) by step."""

    console: Console
    figures: Figures = field(default_factory=Figures)
    points: Points = field(default_factory=lambda: defaultdict(list))
    memory: list[tuple[World, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    exact: dict[float, bool] = field(default_factory=dict)  # items -> whether their index compares all
    bytes_per_item: float = math.nan

    def world(self, world: World, steps: Sequence[str], of_the_ladder: bool = True) -> None:
        """Every step on one world; one that fails ends this world, not the run. Costs grow along a ladder of like worlds."""
        name, folder = name_of(world), ROOT / name_of(world)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / "home", ignore_errors=True)
        try:
            step("world", folder)
            for what in steps:
                self.keep(what, world, step(what, folder), of_the_ladder)
            rss_mb = feature_rss_mb(folder / "home", folder / "logs") if world.events <= SERVED else math.nan
        except (StepFailed, Unavailable) as failed:
            self.wrong.append(f"{name}: {failed}")
            self.console.print(f"[red]{name}:[/] {failed}", highlight=False)
            return
        if math.isfinite(rss_mb):
            self.figures.put(f"scale.{name}.feature_rss_mb", rss_mb)
            self.memory.append((world, rss_mb))

    def keep(self, what: str, world: World, found: dict[str, float], of_the_ladder: bool) -> None:
        name = f"scale.{name_of(world)}.{what}"
        for figure, value in found.items():
            self.figures.put(f"{name}.{figure}", value)
        if what == "ingest":
            self.figures.put(f"{name}.events_per_s", world.events / found["seconds"])
        if what == "index":
            self.bytes_per_item = found["bytes_per_item"]
            self.exact[float(world.items)] = bool(found["exact"])
        size = float(getattr(world, GROWS_WITH[what]))
        if of_the_ladder and all(size != seen for seen, *_ in self.points[what]):  # the first world of a size
            self.points[what].append((size, found["cpu_s"], found["peak_mb"]))
        self.console.print(
            f"{name_of(world)} {what}: {found['seconds']:.4g} s, CPU {found['cpu_s']:.4g} s, {found['peak_mb']:,.0f} MB",
            highlight=False,
        )

    def grown(self) -> dict[str, Growth]:
        """By step; a step that takes next to nothing everywhere is not judged by its noise. Small catalogues are searched by
        another kind of index than large ones, and only what is of one kind grows."""
        found = {}
        for what, points in self.points.items():
            told = [(size, cpu_s) for size, cpu_s, _ in points if cpu_s > 0]
            if what in ("index", "request"):
                alike = [(size, cpu_s) for size, cpu_s in told if not self.exact.get(size)]
                told = alike if len(alike) > 1 else [(s, c) for s, c in told if self.exact.get(s)]
            if len({size for size, _ in told}) > 1 and (
                what in ("train", "request") or max(c for _, c in told) > LEAST_S
            ):
                found[what] = growth(*zip(*told, strict=True))
        return found


def step(what: str, folder: Path) -> dict[str, float]:
    """What the step's own process measured; StepFailed when it did not end well, or not at all."""
    log = folder / f"{what}.log"
    command = [sys.executable, "-m", "bench.scale.steps", what, str(folder)]
    try:
        with log.open("wb") as stream:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stream, timeout=STEP_S)
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{what}: not done after {STEP_S:g} s") from None
    if done.returncode:
        why = "killed, perhaps for want of memory" if done.returncode == -signal.SIGKILL else last_line(log)
        raise StepFailed(f"{what}: {why}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def main(argv: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    scale, began = Scale(Console()), time.monotonic()
    try:
        measure(scale, chosen)
    except (KeyboardInterrupt, SystemExit) as stopped:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # pressed once more, it would cut the writing short
        scale.wrong.append("stopped before its end")
        left = f"the worlds that were made stay in {ROOT}"
        if scale.figures.values:
            left = f"what was measured is in {keep(scale, INCOMPLETE, began)}, and {left}"
        scale.console.print(f"stopped; {left}", highlight=False, soft_wrap=True)
        return int(stopped.code or 0) if isinstance(stopped, SystemExit) else 130
    grown = scale.grown()
    summary(scale, grown)
    kept = keep(scale, INCOMPLETE if scale.wrong else OUT, began)
    report(scale, grown, kept)
    if chosen.plot and not scale.wrong:
        drawn(scale.points, GROWS_WITH, PLOT)
    if not chosen.keep:
        shutil.rmtree(ROOT, ignore_errors=True)
    return 1 if scale.wrong or not all(found.fine for found in grown.values()) else 0


def measure(scale: Scale, chosen: argparse.Namespace) -> None:
    """Every world that was asked for."""
    for world in worlds(chosen.most):
        scale.world(world, chosen.steps)
    if not chosen.no_memory:
        for world in lopsided():
            scale.world(world, ["ingest"][: len(chosen.steps)], of_the_ladder=False)


def keep(scale: Scale, file: Path, began: float) -> Path:
    """Write the figures, and beside them on what they were measured and what was wrong. A whole run makes what an earlier
    one left incomplete needless."""
    scale.figures.put("scale.run.seconds", time.monotonic() - began)
    about = {**machine(), "date": time.strftime("%Y-%m-%d", time.gmtime()), "wrong": scale.wrong}
    scale.figures.save(file)
    about_file(file).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    if file == OUT:
        INCOMPLETE.unlink(missing_ok=True)
        about_file(INCOMPLETE).unlink(missing_ok=True)
    return file


def about_file(figures: Path) -> Path:
    return figures.with_suffix(".machine.json")


def summary(scale: Scale, grown: dict[str, Growth]) -> None:
    """Exponents and memory, as figures."""
    for what, found in grown.items():
        scale.figures.put(f"scale.growth.{what}.exponent", found.exponent)
        scale.figures.put(f"scale.growth.{what}.last", found.last)
        scale.figures.put(f"scale.growth.{what}.bound", found.bound)
    if len(scale.memory) > 3:
        worlds_, rss_mb = zip(*scale.memory, strict=True)
        found_mb = per_million(
            [w.items for w in worlds_], [w.people for w in worlds_], [w.events for w in worlds_], rss_mb
        )
        for what, mb in found_mb.items():
            scale.figures.put(f"scale.memory.feature.{what}_mb", mb)
    if math.isfinite(scale.bytes_per_item):
        for what, mb in columns_mb_per_million(scale.bytes_per_item).items():
            scale.figures.put(f"scale.memory.columns.{what}_mb", mb)


def report(scale: Scale, grown: dict[str, Growth], kept: Path) -> None:
    values = scale.figures.values
    shown = Table("step", "grows with", "exponent", "between the largest", "n log n would be", "", title_justify="left")
    for what, found in grown.items():
        verdict = "[green]fine[/]" if found.fine else "[red]worse[/]"
        numbers = (f"{found.exponent:.2f}", f"{found.last:.2f}", f"≤ {found.bound:.2f}")
        shown.add_row(what, GROWS_WITH[what], *numbers, verdict)
    scale.console.print(shown)
    rates = [value for name, value in values.items() if name.endswith("ingest.events_per_s")]
    if rates:
        met = "met" if max(rates) >= AIM_EVENTS_PER_S else "not met"
        scale.console.print(f"ingest: at best {max(rates):,.0f} events/s, aim ≥ {AIM_EVENTS_PER_S:,}: {met}")
    for name, mb in values.items():
        if name.startswith("scale.memory."):
            scale.console.print(f"{name.removeprefix('scale.memory.')} (per million): {mb:,.0f} MB")
    for line in scale.wrong:
        scale.console.print(f"[red]wrong:[/] {line}")
    if kept == INCOMPLETE:
        scale.console.print(
            f"not whole, so {OUT} stays as it was, and make capacity does not use this run", soft_wrap=True
        )
    scale.console.print(f"written: {kept} and {about_file(kept)}", soft_wrap=True)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="bench.scale", description=__doc__.splitlines()[0])
    options.add_argument("--most", type=int, default=MOST, help="events of the largest world; up to 100000000")
    options.add_argument(
        "--steps", nargs="*", choices=GROWS_WITH, default=list(GROWS_WITH), help="of all, in this order"
    )
    options.add_argument("--no-memory", action="store_true", help="leave out the worlds that tell users from events")
    options.add_argument("--plot", action="store_true", help=f"draw {PLOT}")
    options.add_argument("--keep", action="store_true", help=f"leave the worlds in {ROOT}")
    return options
