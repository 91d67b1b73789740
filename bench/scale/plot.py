"""docs/scaling.svg: CPU time and peak memory of every step against the size of the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_IN = (10.0, 4.6)
COLOURS = {
    "ingest": "#1b6ca8",
    "load": "#c8553d",
    "features": "#4c9f70",
    "train": "#8e5ea2",
    "index": "#d4a017",
    "request": "#444444",
}

Points = Mapping[str, Sequence[tuple[float, float, float]]]
"""By step: (what it grows with, CPU seconds, peak MB) of each world."""


def drawn(points: Points, units: Mapping[str, str], path: Path) -> None:
    """Write the SVG; the same points give the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "winnow", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        times, memories = figure.subplots(1, 2)
        panel(times, points, units, 1, "CPU, s (training and request: one of them)")
        panel(memories, points, units, 2, "peak memory of the process, MB")
        times.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def panel(axes: Axes, points: Points, units: Mapping[str, str], column: int, label: str) -> None:
    for step, found in points.items():
        ordered = sorted(found)
        sizes, values = [point[0] for point in ordered], [point[column] for point in ordered]
        axes.plot(sizes, values, marker="o", color=COLOURS[step], label=f"{step}, by {units[step]}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("events or items")
    axes.set_title(label, loc="left", fontsize=10)
    axes.grid(alpha=0.3)
