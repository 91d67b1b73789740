"""Tables of what an evaluation found (`cli.evaluate.reported`), and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from cli.console import table

COLUMNS = ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "coverage@10", "novelty@10")
TRACKS = ("new_hr@10", "new_ndcg@10", "rebuy_hr@10", "rebuy_ndcg@10", "revenue_ndcg@10")
COLD = (0, 1, 3, 10)
HEADS = ("click", "convert", "value")

Document = Mapping[str, Any]


def ranking_tables(name: str, document: Document) -> list[Table]:
    """Rankings, gains over the best baseline, newcomers, the ranker, aims; the first always there."""
    made = [
        rankings(f"{name}: whole catalogue ranked, mean ± half of the 95 % interval", document, COLUMNS),
        rankings(f"{name}: tracks", document, TRACKS),
        seeds(name, document),
        gains(name, document),
        newcomers(name, document),
        ranker(name, document),
        aims(name, document),
    ]
    return [made[0], *(one for one in made[1:] if one.row_count)]


def rankings(title: str, document: Document, wanted: Sequence[str]) -> Table:
    """One row a model, one column a metric; empty where no metric is there."""
    models = {model: found for model, found in document["models"].items() if model != "ranker"}
    columns = [column for column in wanted if column in models["funnel"]]
    made = table(title, "model", *(f"#{column}" for column in columns))
    made.columns[0].no_wrap = True
    for model, found in models.items() if columns else ():
        made.add_row(model, *(shown(found.get(column)) for column in columns))
    return made


def gains(name: str, document: Document) -> Table:
    made = table(f"{name}: in pairs against the best baseline", "model", "metric", "baseline", "#gain", "#95 %")
    for model, found in document["gains"].items():
        for metric, one in found.items():
            if not metric.startswith("cold") and one["mean"] is not None:
                made.add_row(model, metric, one["baseline"], f"{one['mean']:+.4f}", span(one))
    return made


def seeds(name: str, document: Document) -> Table:
    """What each training gave, where there were several; baselines differ by how ties fall."""
    numbers = document["seeds"] if len(document["seeds"]) > 1 else []
    made = table(f"{name}: NDCG@10 by seed", "model", *(f"#{seed}" for seed in numbers), "#spread")
    for model, found in document["models"].items() if numbers else ():
        if "ndcg@10" in found:
            one = found["ndcg@10"]
            made.add_row(model, *(f"{value:.4f}" for value in one["seeds"]), f"{one['spread']:.4f}")
    return made


def newcomers(name: str, document: Document) -> Table:
    """NDCG@10 and coverage by how many acts are known."""
    kept = [acts for acts in COLD if f"cold{acts}_ndcg@10" in document["models"]["funnel"]]
    title = f"{name}: newcomers, NDCG@10 (coverage@10) by acts known"
    made = table(title, "model", *(f"#{acts}" for acts in kept))
    for model, found in document["models"].items() if kept else ():
        if f"cold{kept[0]}_ndcg@10" in found:
            cells = [(found.get(f"cold{n}_ndcg@10"), found.get(f"cold{n}_coverage@10")) for n in kept]
            made.add_row(model, *(f"{shown(gain)} ({shown(covered, error=False)})" for gain, covered in cells))
    return made


def ranker(name: str, document: Document) -> Table:
    """Rows: all candidates, then each segment."""
    found = document["models"].get("ranker", {})
    measures = [f"{m}_{head}" for head in HEADS for m in ("auc", "log_loss", "ece") if f"{m}_{head}" in found]
    made = table(f"{name}: the ranker's predictions of the test part", "candidates", *(f"#{m}" for m in measures))
    segments = [metric.removeprefix("ece_click").strip() for metric in found if metric.startswith("ece_click")]
    for segment in segments:
        made.add_row(segment or "all", *(shown(found.get(f"{m} {segment}".strip())) for m in measures))
    return made


def aims(name: str, document: Document) -> Table:
    made = table(f"{name}: aims", "aim", "measured", "met")
    for one in document["aims"]:
        made.add_row(one["aim"], one["measured"], "yes" if one["met"] else "no")
    return made


def shown(figure: Mapping[str, Any] | None, error: bool = True) -> str:
    """A mean, with half its interval."""
    if figure is None or figure["mean"] is None:
        return "-"
    if not error or figure["low"] is None:
        return f"{figure['mean']:.4f}"
    return f"{figure['mean']:.4f}±{figure['mean'] - figure['low']:.4f}"


def span(figure: Mapping[str, Any]) -> str:
    return "-" if figure["low"] is None else f"[{figure['low']:+.4f}, {figure['high']:+.4f}]"
