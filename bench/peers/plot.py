"""docs/quality-latency.svg: how good a list is against how long somebody waits for it, in process and over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SIZE_IN = (8.0, 4.6)
OWN, OTHER = "#1b6ca8", "#c8553d"
FACES = (("one_p50_ms", "o", "in process"), ("http_p50_ms", "s", "over HTTP"))
"""The figure that is the latency, its mark, and what it is called."""

Point = tuple[str, float, float, float]
"""Whose, its median latency in milliseconds, NDCG@10 and the standard error of that."""


def points(figures: Mapping[str, float], latency: str) -> list[Point]:
    """Of figures `peers.NAME.…`, those peers that have this latency."""
    names = [name.split(".")[1] for name in figures if name.endswith(f".{latency}")]
    return [
        (
            name,
            figures[f"peers.{name}.{latency}"],
            figures[f"peers.{name}.ndcg_at_10"],
            figures[f"peers.{name}.ndcg_error"],
        )
        for name in names
    ]


def drawn(figures: Mapping[str, float], path: Path) -> None:
    """Write the SVG; the same figures give the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "winnow", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = figure.subplots()
        for latency, mark, face in FACES:
            for n, (name, ms, ndcg, error) in enumerate(points(figures, latency)):
                colour = OWN if name.startswith("winnow") else OTHER
                label = face if n == 0 else None
                axes.errorbar(ms, ndcg, yerr=error, marker=mark, color=colour, capsize=3, linestyle="none", label=label)
                axes.annotate(name, (ms, ndcg), xytext=(6, 5 + 9 * (n % 2)), textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.set_xlabel("median latency of one request, ms")
        axes.set_ylabel("NDCG@10, ± one standard error")
        axes.margins(x=0.15)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None})
