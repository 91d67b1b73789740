"""`winnow evaluate`: how good the rankings are, beside simple baselines, by the published protocol.

Models are trained in a home of their own, on the data set without its test part; the funnel that is measured is the
serving retrieval and ranking services, in this process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from cli.console import bars, note, show, table
from cli.homes import BUILD, AsJson, Data, evaluation_home
from cli.ingest import ingested
from cli.models import Workshop, check_preset, retrieval_service

if TYPE_CHECKING:
    from training.evaluate import Metrics

REPORT = BUILD / "evaluate.json"
COLUMNS = ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "coverage@10")
TRACKS = ("new_ndcg@10", "rebuy_ndcg@10", "revenue_ndcg@10")

Preset = Annotated[str, typer.Option("--preset", help="full, or quick for a first impression.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, max=10, help="Train this often and print the mean.")]
People = Annotated[int, typer.Option("--people", min=0, help="Ask for this many people only; 0: all.")]


def evaluate(
    data: Data = "ml-100k", preset: Preset = "full", seeds: Seeds = 1, people: People = 0, as_json: AsJson = False
) -> None:
    """Rank the whole catalogue for held-out acts; print the table and write build/evaluate.json."""
    from training.evaluate import averaged

    check_preset(preset)
    home = evaluation_home(data)
    with bars(disable=as_json) as progress:
        summary = ingested(data, home, progress)
        runs = [one_run(home, summary.digest, preset, seed, people, progress) for seed in range(seeds)]
    found = averaged(runs)
    remember(summary.name, found)
    show({summary.name: found}, drawn(summary.name, found), as_json)
    if not as_json:
        ranker = ", ".join(f"{name} {value:.4f}" for name, value in found["ranker"].items())
        note(f"ranker on the test part, P(click): {ranker}; {seeds} seed(s), written to {REPORT}")


def one_run(home: Path, content: str, preset: str, seed: int, people: int, progress: Progress) -> dict[str, Metrics]:
    """Train both models for evaluation and measure them."""
    from services.ranking.build import build, load_bundle
    from services.ranking.settings import Settings
    from training.evaluate import EvaluationSettings
    from training.evaluate import evaluate as measure
    from winnow.catalogue import Catalogue

    workshop = Workshop(home, content, purpose="evaluate", preset=preset, seed=seed)
    retrieval_bundle = workshop.retrieval(progress)
    shown = workshop.impressions(retrieval_bundle, progress)
    ranking_bundle = workshop.ranking(retrieval_bundle, shown, progress)
    catalogue = Catalogue()
    catalogue.upsert(workshop.dataset.items)
    settings = EvaluationSettings(people=people, seed=seed)
    with (
        retrieval_service(workshop.dataset, retrieval_bundle) as retrieval,
        closing(build(Settings(), catalogue)) as ranking,
    ):
        ranking.use(load_bundle(ranking, ranking_bundle))
        return asyncio.run(measure(workshop.dataset, workshop.parts, retrieval, ranking, settings, progress))


def remember(name: str, found: Mapping[str, Any], report: Path = REPORT) -> None:
    """Add what was found of this data set to a report, beside what was of others."""
    document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    document[name] = found
    report.parent.mkdir(parents=True, exist_ok=True)
    beside = report.with_suffix(".tmp")
    beside.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
    beside.replace(report)


def drawn(name: str, found: dict[str, Metrics]) -> Table:
    """One row a model, one column a metric."""
    columns = [c for c in (*COLUMNS, *TRACKS) if c in found["funnel"]]
    made = table(f"{name}: whole catalogue ranked", "model", *(f"#{column}" for column in columns))
    for model, metrics in found.items():
        if model != "ranker":
            made.add_row(model, *(f"{metrics[column]:.4f}" for column in columns))
    return made
