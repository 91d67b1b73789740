"""The plot of a replay: hit rate by month of what was retrained and what was not, and below it what retraining gained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_IN = (8.0, 5.6)
LOOKS: dict[str, dict[str, Any]] = {
    "retrained": {"label": "retrained every month", "color": "#1b6ca8", "marker": "o", "linewidth": 2.0},
    "never": {"label": "never retrained", "color": "#c8553d", "marker": "s", "linewidth": 2.0},
    "bought before": {"label": "bought most often before", "color": "#777777", "linestyle": "--"},
    "popularity": {"label": "popularity", "color": "#777777", "linestyle": ":"},
}
NOISE = 1.96  # standard errors: what chance exceeds once in twenty times


def drawn(document: Mapping[str, Any], path: Path) -> None:
    """Write the SVG; the same document gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "winnow", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        rates, gains = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        draw_rates(rates, document)
        draw_gains(gains, document)
        figure.savefig(path, format="svg", metadata={"Date": None})


def draw_rates(axes: Axes, document: Mapping[str, Any]) -> None:
    rows = document["months"]
    names = [row["month"] for row in rows]
    for series, looks in LOOKS.items():
        if series in rows[0]["hr@20"]:
            axes.plot(names, [row["hr@20"][series] for row in rows], **looks)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("HR@20 of the next basket")
    axes.set_title(f"{document['data']}, replayed month by month", loc="left")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, ncols=2)


def draw_gains(axes: Axes, document: Mapping[str, Any]) -> None:
    rows = document["months"]
    gains, errors = zip(*(row["gain"]["hr@20"] for row in rows), strict=True)
    noise = [NOISE * error for error in errors]
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.errorbar([row["month"] for row in rows], gains, yerr=noise, fmt="o", color="#1b6ca8", capsize=3)
    axes.set_ylabel("gain, ± 95 %")
    axes.set_xlabel("month of the basket")
    axes.tick_params(axis="x", rotation=45)
    axes.grid(axis="y", alpha=0.3)
