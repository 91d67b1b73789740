"""`make capacity QPS=20000`: what it takes to answer so many requests a second, with the arithmetic (docs/capacity.md)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from rich.console import Console
from rich.table import Table

from bench.capacity.figures import GPU, Measurements, costs
from bench.capacity.model import Need, Wanted, needs, on_gpus
from winnow.errors import NotFound

NOT_COUNTED = "Redis, Kafka, MLflow, Triton and the jobs of training come on top"
HELP = {
    "qps": "requests a second at the peak",
    "items": "of the catalogue",
    "users": "with a history",
    "events_per_user": "in the log",
    "utilisation": "share of a pod's cores that may be busy at the peak",
    "headroom": "above the peak, and above the memory that was computed",
    "zones": "of the cluster, of which one may be lost; 1: none",
    "cores": "that a pod may use",
}


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 with one line that says which figure is missing or which number makes no sense."""
    chosen = parser().parse_args(argv)
    console = Console()
    measured = Measurements.read()
    try:
        wanted = Wanted(**{field.name: getattr(chosen, field.name) for field in fields(Wanted)})
        found = needs(wanted, costs(measured))
        cards = counted(wanted, found, measured, needed=chosen.gpu)
    except (NotFound, ValueError) as wrong:
        console.print(
            f"error: {wrong.detail if isinstance(wrong, NotFound) else wrong}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return 2
    if chosen.json:
        print(json.dumps(document(wanted, found, measured, cards), indent=1))
    else:
        show(console, wanted, found, measured, cards)
    return 0


def counted(wanted: Wanted, found: dict[str, Need], measured: Measurements, needed: bool) -> str:
    """Count cards for the ranker into `found`; the arithmetic, or why there is none. NotFound where they are `needed` and
    nobody measured what a card does."""
    try:
        per_gpu_s = measured.get(GPU)
    except NotFound as absent:
        if needed:
            raise
        return f"not counted: {absent.detail}"
    found["ranking"] = on_gpus(wanted, found["ranking"], per_gpu_s)
    return found["ranking"].gpu_sums


def document(wanted: Wanted, found: Mapping[str, Need], measured: Measurements, cards: str) -> dict[str, object]:
    return {
        "cards": cards,
        "wanted": asdict(wanted),
        "services": {service: asdict(need) for service, need in found.items()},
        "all": totals(found),
        "figures": {name: asdict(figure) for name, figure in measured.used.items()},
        "not_counted": NOT_COUNTED,
    }


def totals(found: Mapping[str, Need]) -> dict[str, float]:
    return {
        "pods": sum(need.pods for need in found.values()),
        "cores": sum(need.cores for need in found.values()),
        "memory_mb": sum(need.all_memory_mb for need in found.values()),
        "gpus": sum(need.gpus for need in found.values()),
    }


def show(console: Console, wanted: Wanted, found: Mapping[str, Need], measured: Measurements, cards: str) -> None:
    title = f"{wanted.qps:,.0f} requests/s, {wanted.items:,} items, {wanted.users:,} users"
    shown = Table("service", "pods", "cores", "GB a pod", "GB", "busy", "GPUs", title=title, title_justify="left")
    for column in shown.columns[1:]:
        column.justify = "right"
    for service, need in found.items():
        memory = (f"{need.memory_mb / 1024:,.1f}", f"{need.all_memory_mb / 1024:,.0f}")
        shown.add_row(service, f"{need.pods:,}", f"{need.cores:,.0f}", *memory, f"{need.busy:.0%}", str(need.gpus))
    all_ = totals(found)
    shown.add_section()
    sums = (
        f"{all_['pods']:,.0f}",
        f"{all_['cores']:,.0f}",
        "",
        f"{all_['memory_mb'] / 1024:,.0f}",
        "",
        f"{all_['gpus']:.0f}",
    )
    shown.add_row("all", *sums)
    console.print(shown)
    for service, need in found.items():
        console.print(f"{service}: {need.sums}", highlight=False)
    console.print(f"ranking's models on cards: {cards}", highlight=False, markup=False)
    for source in dict.fromkeys(figure.source for figure in measured.used.values()):
        names = [name for name, figure in measured.used.items() if figure.source == source]
        console.print(f"{len(names)} figures from {source}", highlight=False)
    console.print(NOT_COUNTED)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="bench.capacity", description=__doc__.splitlines()[0])
    for field in fields(Wanted):
        kind = int if field.type == "int" else float
        required = field.name == "qps"
        flag = f"--{field.name.replace('_', '-')}"
        default = None if required else field.default
        options.add_argument(flag, type=kind, required=required, default=default, help=HELP[field.name])
    options.add_argument("--gpu", action="store_true", help="an error where nobody measured what a card ranks")
    options.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    return options
