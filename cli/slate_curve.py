"""What each way to make a page varied costs in NDCG and brings: a curve over its strength.

The pages are the funnel's, over the candidates of one evaluation; the stages are the gateway's own
(services/gateway/slate.py), each by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import Progress
from rich.table import Table

from cli.console import table
from cli.evaluated import Document, shown
from cli.models import retrieval_service
from winnow.catalogue import Mask
from winnow.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cli.ablate import Funnel
    from training.diversity import Variety
    from training.questions import Question
    from training.rankings import Outcome
    from winnow.features import Ints

SIZE_IN = (8.0, 5.0)
PAGE = 10
SHOWN = ("ndcg@10", "distance@10", "categories@10", "duplicates@10", "novelty@10", "age_days@10", "new@10")
COLOURS = {
    "mmr": "#1b6ca8",
    "dpp": "#c8553d",
    "caps": "#3a7d44",
    "freshness": "#8e5ea2",
    "new items": "#b58900",
    "duplicates": "#222222",
}


@dataclass(frozen=True, eq=False)
class Page:
    """One question's candidates, as columns: item rows, scores, vectors, first categories, youth, whether they are new."""

    rows: Ints
    scores: Floats
    vectors: Floats
    group: Ints
    youth: Floats
    new: Mask

    @property
    def order(self) -> Ints:
        return np.argsort(-self.scores, kind="stable")


Apply = Callable[[Page, float], "Ints"]
"""(page, strength) → places of its candidates, best first."""


def stages() -> dict[str, tuple[tuple[float, ...], Apply]]:
    """By name the strengths to try, from weak to strong, and what the stage does."""
    from services.gateway import slate

    return {
        "mmr": (
            (0.05, 0.1, 0.2, 0.3, 0.5, 0.7),
            lambda p, s: slate.mmr(p.order, p.scores, p.vectors, PAGE, s),
        ),
        "dpp": (
            (0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
            lambda p, s: slate.dpp(p.order, p.scores, p.vectors, PAGE, s),
        ),
        "caps": ((5, 4, 3, 2, 1), lambda p, s: slate.capped(p.order, p.group, int(s))),
        "freshness": (
            (0.05, 0.1, 0.2, 0.5),
            lambda p, s: slate.freshened(p.order, p.scores, p.youth, s),
        ),
        "new items": ((0.05, 0.1, 0.2), lambda p, s: slate.with_share(p.order, p.new, s)),
        "duplicates": (
            (0.98, 0.95, 0.9, 0.8),
            lambda p, s: slate.without_duplicates(p.order, p.vectors, s),
        ),
    }


def measured(funnel: Funnel, progress: Progress) -> dict[str, Any]:
    """Means with intervals by stage and strength; `none` is the page as it is ranked."""
    from training.diversity import Variety
    from training.measures import Novelty
    from training.questions import questions

    dataset, parts = funnel.workshop.dataset, funnel.workshop.parts
    asked = questions(dataset, parts, funnel.people)
    outcome, vectors = answered(funnel, asked, progress)
    variety = Variety(dataset, vectors, Novelty(dataset, ~parts.test))
    pages = paged(asked, outcome, variety)
    every: dict[str, list[tuple[float, Apply]]] = {"none": [(0.0, as_ranked)]}
    for name, (strengths, apply) in stages().items():
        every[name] = [(strength, apply) for strength in strengths]
    bar = progress.add_task("slates", total=sum(len(points) for points in every.values()))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in every}
    base = variety.columns(asked, [page.rows[page.order] for page in pages])
    for name, points in every.items():
        for strength, apply in points:
            columns = variety.columns(asked, [page.rows[apply(page, strength)] for page in pages])
            found[name].append(point(strength, columns, base))
            progress.advance(bar)
    return {"people": len(asked), "stages": found}


def as_ranked(page: Page, strength: float) -> Ints:
    return page.order


def point(strength: float, columns: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """One strength: means, and how far NDCG and distance are from the page as it is ranked, in pairs."""
    from training.intervals import of_mean

    gains = {f"gained {name}": of_mean(columns[name] - base[name]).to_json() for name in ("ndcg@10", "distance@10")}
    return {"strength": strength, **{name: of_mean(own).to_json() for name, own in columns.items()}, **gains}


def answered(funnel: Funnel, asked: Sequence[Question], progress: Progress) -> tuple[Outcome, Floats]:
    """What both services answer, and the items' vectors."""
    from services.ranking.build import build, load_bundle
    from services.ranking.settings import Settings
    from training.rankings import EvaluationSettings, ask
    from winnow.catalogue import Catalogue

    dataset, catalogue = funnel.workshop.dataset, Catalogue()
    catalogue.upsert(dataset.items)
    with (
        retrieval_service(dataset, funnel.retrieval) as retrieval,
        closing(build(Settings(), catalogue)) as ranking,
    ):
        ranking.use(load_bundle(ranking, funnel.ranking))
        outcome = asyncio.run(ask(asked, retrieval, ranking, EvaluationSettings(), dataset.repeats, progress))
        return outcome, retrieval.vectors


def paged(asked: Sequence[Question], outcome: Outcome, variety: Variety) -> list[Page]:
    """Candidates with the columns that stages read; the score is P(click)."""
    from services.retrieval.sources.fresh import youth

    items, pages = asked[0].dataset.items if asked else (), []
    names = sorted({category for item in items for category in item.categories})
    code = {name: n for n, name in enumerate(names)}
    group = np.array([code[item.categories[0]] if item.categories else -1 for item in items], np.int64)
    for n, question in enumerate(asked):
        span = slice(outcome.starts[n], outcome.starts[n + 1])
        rows, at = outcome.rows[span], float(question.dataset.acts.at[question.before])
        young = youth(variety.created, at)(rows)
        new = variety.new(rows, at)
        pages.append(Page(rows, outcome.heads[span, 0], variety.vectors[rows], group[rows], young, new))
    return pages


def slate_table(name: str, document: Document) -> Table:
    columns = [column for column in SHOWN if column in document["stages"]["none"][0]]
    made = table(f"{name}: what a slate stage costs and brings", "stage", "#strength", *(f"#{c}" for c in columns))
    for stage, points in document["stages"].items():
        for one in points:
            made.add_row(stage, f"{one['strength']:g}", *(shown(one[column]) for column in columns))
    return made


def drawn(name: str, document: Document, path: Path) -> None:
    """Write the SVG; the same document gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "winnow", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        draw(figure.subplots(), name, document)
        figure.savefig(path, format="svg", metadata={"Date": None})


def draw(axes: Axes, name: str, document: Document) -> None:
    """One line a stage, from the page as it is ranked to the strongest."""
    base = document["stages"]["none"][0]
    for stage, points in document["stages"].items():
        if stage != "none":
            whole = [base, *points]
            x, y = ([one[metric]["mean"] for one in whole] for metric in ("distance@10", "ndcg@10"))
            axes.plot(x, y, marker="o", markersize=4, color=COLOURS[stage], label=stage)
            axes.annotate(
                f"{points[-1]['strength']:g}", (x[-1], y[-1]), fontsize=8, textcoords="offset points", xytext=(5, 2)
            )
    error = base["ndcg@10"]["mean"] - base["ndcg@10"]["low"]
    axes.errorbar(base["distance@10"]["mean"], base["ndcg@10"]["mean"], yerr=error, fmt="s", color="black", capsize=3)
    axes.set_xlabel("distance of two items of a page, 1 - cosine")
    axes.set_ylabel("NDCG@10")
    axes.set_title(f"{name}, {document['people']} people: variety against NDCG; square: as ranked, ± 95 %", loc="left")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
