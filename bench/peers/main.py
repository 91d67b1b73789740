"""`make bench-peers`: Winnow and its peers on one machine in one run, into build/bench-peers.json and a table for the README.

Everybody knows the same acts and is asked for ten unseen items of the same people, on one thread. What differs is said
with the figures: a peer scores one model in process, Winnow's platform reads the person's features, asks five sources,
ranks, arranges and explains, over HTTP.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.figures import Figures, machine
from bench.peers.platform import platform_row
from bench.peers.plot import drawn
from bench.peers.question import question
from bench.peers.roster import ROSTER
from bench.peers.rows import feature_rows
from bench.peers.table import markdown, tables
from bench.peers.trial import Limits, Row, trial
from training.data import open_source
from winnow.errors import WinnowError

OUT = Path("build/bench-peers.json")
ROOT = Path("build/peers")
EVERYBODY = ("platform", "features", *(peer.key for peer in ROSTER))
QUICK = Limits(window_s=3.0)


def main(argv: Sequence[str] | None = None) -> int:
    """0 also when a peer failed: its row says so. 1 when Winnow did, 2 when the data set is absent."""
    chosen = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is then stopped
    console, began = Console(), time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {text}", highlight=False)

    try:
        asked = question(open_source(chosen.data), ROOT / "data" / chosen.data, chosen.people)
    except WinnowError as absent:
        console.print(f"error: {absent.detail}", markup=False)
        return 2
    limits = QUICK if chosen.quick else Limits()
    models: list[Row] = []
    if "platform" in chosen.only:
        models.append(platform_row(asked, ROOT, chosen.preset, limits, say))
        say(told(models[-1]))
    for peer in (peer for peer in ROSTER if peer.key in chosen.only):
        models.append(trial(peer, asked, ROOT, limits))
        say(told(models[-1]))
    features = feature_rows() if "features" in chosen.only else []
    for row in features:
        say(told(row))
    about = {"data": chosen.data, "people": len(asked.answers), "preset": chosen.preset, "rate": limits.rate}
    save(models, features, about)
    if chosen.plot:
        drawn(json.loads(OUT.read_text(encoding="utf-8")), chosen.plot)
    for shown in tables(models, features):
        console.print(shown)
    console.print(f"written: {OUT}, {OUT.with_suffix('.machine.json')} and {OUT.with_suffix('.md')}")
    return 1 if any(row.fault and row.key.startswith("winnow") for row in models) else 0


def told(row: Row) -> str:
    if row.fault:
        return f"[red]{row.title} failed:[/] {row.fault}"
    shown = ", ".join(f"{name} {value:.3g}" for name, value in row.figures.items() if name.endswith(("_ms", "_10")))
    return f"{row.title}: {shown}"


def save(models: Sequence[Row], features: Sequence[Row], about: dict[str, object]) -> None:
    """Figures by dotted names; the machine, the circumstances and what failed beside them; the table for the README."""
    figures = Figures()
    for part, rows in (("peers", models), ("rows", features)):
        for row in rows:
            figures.put(f"{part}.{row.key}.failed", bool(row.fault))
            for name, value in row.figures.items():
                figures.put(f"{part}.{row.key}.{name}", value)
    figures.save(OUT)
    failed = {row.key: row.fault for row in (*models, *features) if row.fault}
    about = {**machine(), **about, "failed": failed, "date": time.strftime("%Y-%m-%d", time.gmtime())}
    OUT.with_suffix(".machine.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    OUT.with_suffix(".md").write_text(markdown(models, features, about), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="bench.peers", description=__doc__.splitlines()[0])
    options.add_argument("--data", default="ml-100k", help="a data set that `winnow ingest` knows (ml-100k, ml-1m)")
    options.add_argument("--people", type=int, default=1_000, help="who are asked for, at most")
    options.add_argument("--preset", choices=("quick", "full"), default="quick", help="of Winnow's training")
    options.add_argument("--only", nargs="+", choices=EVERYBODY, default=EVERYBODY, help="of those that are compared")
    options.add_argument("--quick", action="store_true", help="shorter windows: for trying out, not for quoting")
    options.add_argument("--plot", type=Path, help="where the plot goes, for example docs/quality-latency.svg")
    return options
