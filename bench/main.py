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

from bench.figures import machine, show
from bench.plan import QUICK, Bench, Lengths
from bench.worlds import WORLDS, prepare
from winnow.errors import NotFound

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
    run(bench, arguments.worlds)
    bench.figures.put("e2e.faults", sum(bench.faults.values()))
    bench.figures.put("run.seconds", time.monotonic() - started)
    bench.figures.put("run.quick", arguments.quick)
    bench.figures.put("run.other_cpu_percent", 100 * float(np.mean(bench.noise)))
    bench.figures.save(OUT)
    OUT.with_suffix(".machine.json").write_text(json.dumps(machine(), indent=1) + "\n", encoding="utf-8")
    report(bench, console)
    return 1 if bench.faults else 0


def run(bench: Bench, names: Sequence[str]) -> None:
    """Measure every world whose data set is here."""
    for name in names:
        try:
            world = prepare(name, CACHE, bench.say)
        except NotFound as absent:
            bench.say(f"[red]{name} left out:[/] {absent.detail}")
            continue
        bench.world(world)


def report(bench: Bench, console: Console) -> None:
    about = machine()
    noise = bench.figures.values["run.other_cpu_percent"]
    console.print(f"\n{about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB; the generator shares them")
    console.print(f"other programs used {noise:.0f} % of the machine meanwhile")
    show(console, bench.figures.values)
    for fault, times in bench.faults.items():
        console.print(f"  [red]wrong answers:[/] {times} × {fault}")
    console.print(f"written: {OUT} and {OUT.with_suffix('.machine.json')}")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="shorter windows: for trying out, not for quoting")
    options.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS), help="data sets to measure on")
    return options
