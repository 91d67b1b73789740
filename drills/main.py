"""`make drill`: run the drills, print their tables, write build/drill.json."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from drills.interleavings import Interleavings, interleavings
from drills.outages import RATE, Row, failures, outages
from drills.platform import platform
from drills.promotions import Promotions, promotions
from parts.stack import PARTS

OUT = Path("build/drill.json")
LOG_WIDTH = 160  # of tables that nobody watches
DRILLS = ("interleavings", "promotions", "outages")


def main(argv: Sequence[str] | None = None) -> int:
    """0 when everything held, else 1."""
    arguments = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is then stopped
    console, started = Console(width=None if sys.stdout.isatty() else LOG_WIDTH), time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {text}", highlight=False, soft_wrap=True)

    told: dict[str, Any] = {}
    parts = tuple(name for name in PARTS if name not in arguments.without)
    with platform(say, parts) as running:
        if "interleavings" in arguments.only:
            keep(console, told, "interleavings", interleavings(running, say, arguments.steps))
        if "promotions" in arguments.only:
            keep(console, told, "promotions", promotions(running, say, arguments.rounds))
        if "outages" in arguments.only:
            rows = outages(running, say, arguments.seconds, tuple(arguments.parts), arguments.rate)
            told["outages"] = [asdict(row) | {"held": row.held} for row in rows]
            console.print(of_outages(rows))
    write(told)
    held = all(one["held"] for found in told.values() for one in (found if isinstance(found, list) else [found]))
    console.print(f"{'all of it held' if held else 'NOT ALL OF IT HELD'}; written: {OUT}")
    return 0 if held else 1


def write(told: dict[str, Any]) -> None:
    """Beside what other drills left."""
    before = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    part = OUT.with_suffix(".part")
    part.write_text(json.dumps(before | told, indent=1) + "\n", "utf-8")
    part.replace(OUT)


def of_outages(rows: Sequence[Row]) -> Table:
    columns = ("part", "fault", "requests", "failed", "left out", "p50 ms", "p99 ms", "limit ms", "well again s", "")
    made = Table(*columns, title="outages", title_justify="left")
    for row in rows:
        left_out = ", ".join(f"{stage} {share:.0%}" for stage, share in row.skipped.items())
        figures = (f"{row.p50_ms:.0f}", f"{row.p99_ms:.0f}", f"{row.limit_ms:.0f}", f"{row.recovery_s:.1f}")
        made.add_row(row.part, row.fault, str(row.requests), failures(row), left_out, *figures, verdict(row.held))
    return made


def keep(console: Console, told: dict[str, Any], name: str, found: Interleavings | Promotions) -> None:
    """One drill's figures, shown and kept."""
    told[name] = asdict(found) | {"held": found.held}
    made = Table("figure", "value", title=name, title_justify="left")
    for figure, value in asdict(found).items():
        made.add_row(figure, f"{value:.2f}" if isinstance(value, float) else str(value))
    made.add_row("", verdict(found.held))
    console.print(made)


def verdict(held: bool) -> str:
    return "[green]held[/]" if held else "[red]not held[/]"


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="drills", description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--only", nargs="+", choices=DRILLS, default=list(DRILLS), help="some of the drills")
    options.add_argument("--seconds", type=float, default=30.0, help="length of each outage")
    options.add_argument("--rate", type=float, default=RATE, help="requests a second during outages")
    options.add_argument("--parts", nargs="+", default=[], help="only outages of these")
    options.add_argument("--without", nargs="+", default=[], choices=PARTS, help="parts that are not started")
    options.add_argument("--steps", type=int, default=10_000, help="events and requests that interleave")
    options.add_argument("--rounds", type=int, default=20, help="promotions, each with its rollback")
    return options
