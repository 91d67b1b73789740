"""`make bench`: measure, print the table, write build/bench.json and build/bench.machine.json."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.features import features_here
from bench.figures import machine, show
from bench.hop import hop_here
from bench.plan import QUICK, Bench, Lengths
from bench.secured import secured_here
from bench.slates import slates_here
from bench.worlds import MEASURED, WORLDS, World, prepare
from winnow.artifacts import open_bundle
from winnow.errors import FailedPrecondition, NotFound

OUT = Path("build/bench.json")
CACHE = Path("build/bench")


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every answer was right, else 1; a missed aim and an absent data set are printed, not errors."""
    arguments = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is then stopped
    console = Console()
    started = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {text}", highlight=False)

    bench = Bench(QUICK if arguments.quick else Lengths(), say)
    worlds = run(bench, arguments.worlds)
    if worlds:
        features(bench, worlds[0])
        slates(bench)
        hop(bench, worlds[0])
        security(bench, worlds[0])
    bench.figures.put("e2e.faults", sum(bench.faults.values()))
    bench.figures.put("run.seconds", time.monotonic() - started)
    bench.figures.put("run.quick", arguments.quick)
    bench.figures.put("run.other_cpu_percent", 100 * float(np.mean(bench.noise)))
    bench.figures.save(OUT)
    OUT.with_suffix(".machine.json").write_text(json.dumps(machine(), indent=1) + "\n", encoding="utf-8")
    report(bench, console)
    return 1 if bench.faults else 0


def run(bench: Bench, names: Sequence[str]) -> list[World]:
    """Measure every world whose data set is here."""
    measured = []
    for name in names:
        try:
            world = prepare(name, CACHE, bench.say)
        except NotFound as absent:
            bench.say(f"[red]{name} left out:[/] {absent.detail}")
            continue
        bench.world(world)
        measured.append(world)
    return measured


def features(bench: Bench, world: World) -> None:
    """What it costs to have the features of a person and of items, and how soon a write shows in them."""
    try:
        found = features_here(open_bundle(world.ranking, "ranking"))
    except FailedPrecondition as absent:
        bench.say(f"[red]features left out:[/] {absent.detail}")
        return
    for name, figure in found.items():
        bench.figures.put(name, figure)
    medians = ", ".join(f"{name.split('.', 1)[1]} {ms:.2f}" for name, ms in found.items() if name.endswith("p50_ms"))
    bench.say(f"features: {medians}")


def slates(bench: Bench) -> None:
    """What it costs to arrange a page with every stage on."""
    for name, ms in slates_here().items():
        bench.figures.put(name, ms)
    shown = {name: ms for name, ms in bench.figures.values.items() if name.startswith("slate.")}
    bench.say("arranging 200: " + ", ".join(f"{name.rpartition('.')[2]} {ms:.2f}" for name, ms in shown.items()))


def hop(bench: Bench, world: World) -> None:
    """What it costs to ask Triton instead of computing here."""
    try:
        found = hop_here(open_bundle(world.ranking, "ranking"), CACHE / "triton")
    except FailedPrecondition as absent:
        bench.say(f"[red]Triton left out:[/] {absent.detail}")
        return
    for name, ms in found.items():
        bench.figures.put(name, ms)
    medians = ", ".join(f"{name.split('.')[-1]} {ms:.2f}" for name, ms in found.items() if "p99" not in name)
    bench.say(f"the cross network over 500 candidates: {medians}")


def security(bench: Bench, world: World) -> None:
    """What it costs to let nobody in: certificates, keys, limits and the audit log, on against off."""
    for name, ms in secured_here(world.home, world.people, CACHE / "secured").items():
        bench.figures.put(name, ms)
    shown = bench.figures.values
    cost = shown["security.on.cost_p50_ms"]
    bench.say(f"TLS, keys and audit: {shown['security.off.p50_ms']:.1f} ms without, {cost:+.2f} ms with all of it")


def report(bench: Bench, console: Console) -> None:
    about = machine()
    noise = bench.figures.values["run.other_cpu_percent"]
    console.print(
        f"\n{about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB; the generator shares them; commit {about['commit']}"
    )
    console.print(f"other programs used {noise:.0f} % of the machine meanwhile")
    show(console, bench.figures.values)
    for fault, times in bench.faults.items():
        console.print(f"  [red]wrong answers:[/] {times} × {fault}")
    console.print(f"written: {OUT} and {OUT.with_suffix('.machine.json')}")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="shorter windows: for trying out, not for quoting")
    options.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(MEASURED), help="data sets to measure on")
    return options
