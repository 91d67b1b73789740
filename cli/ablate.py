"""`winnow evaluate --ablate`: what a part of the funnel is worth, by leaving it out, over the bundles of one evaluation.

`sources`: candidates from all sources of retrieval but one, and from one alone. `slate`: what each way to make a page
varied costs in NDCG and brings, over its strength. Nothing is trained anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress
from rich.table import Table

from cli.console import table
from cli.evaluated import Document, shown, span
from cli.models import Workshop
from winnow.artifacts import Bundle

if TYPE_CHECKING:
    from services.retrieval.service import RetrievalService
    from training.intervals import Columns

PLOT = Path("docs/diversity-ndcg.svg")


class Part(StrEnum):
    """What can be left out of a funnel."""

    SOURCES = "sources"
    SLATE = "slate"


@dataclass(frozen=True)
class Funnel:
    """A trained funnel, and how many people are asked (0: all)."""

    workshop: Workshop
    retrieval: Bundle
    ranking: Bundle
    people: int


def ablated(part: Part, name: str, funnel: Funnel, progress: Progress) -> tuple[dict[str, Any], Table]:
    """What was found, and its table; of the slate a plot too."""
    from cli import slate_curve

    if part is Part.SOURCES:
        document = source_mix(funnel, progress)
        return document, source_table(name, document)
    document = slate_curve.measured(funnel, progress)
    slate_curve.drawn(name, document, PLOT)
    return document, slate_curve.slate_table(name, document)


def source_mix(funnel: Funnel, progress: Progress) -> dict[str, Any]:
    """Recall of all candidates and NDCG@10 of their order: all sources, each left out, each alone."""
    from training.questions import questions
    from training.rankings import EvaluationSettings
    from training.source_mix import answered, mix

    asked = questions(funnel.workshop.dataset, funnel.workshop.parts, funnel.people)
    with ExitStack() as stack:
        variants = Variants(funnel, stack)
        names = proposing(variants)
        bar = progress.add_task("sources", total=len(asked) * (1 + 2 * len(names)))

        def ask(only: tuple[str, ...]) -> Columns:
            service = variants.only(only)
            return asyncio.run(answered(asked, service, EvaluationSettings(), lambda n: progress.advance(bar, n)))

        every = ask(names)
        without = {name: ask(tuple(other for other in names if other != name)) for name in names}
        alone = {name: ask((name,)) for name in names}
    return {"people": len(asked), "candidates": EvaluationSettings().candidates, **mix(every, without, alone)}


class Variants:
    """Retrieval services that share one loaded bundle and differ in their sources."""

    def __init__(self, funnel: Funnel, stack: ExitStack) -> None:
        from services.retrieval.build import load_bundle
        from winnow.catalogue import Catalogue

        self._catalogue, self._stack = Catalogue(), stack
        self._catalogue.upsert(funnel.workshop.dataset.items)
        self.whole = self._built(())
        self._model = load_bundle(self.whole, funnel.retrieval)
        self.whole.use(self._model)
        self.repeats = funnel.workshop.dataset.repeats

    def only(self, names: tuple[str, ...]) -> RetrievalService:
        service = self._built(names)
        service.use(self._model)
        return service

    def _built(self, names: tuple[str, ...]) -> RetrievalService:
        from services.retrieval.build import build
        from services.retrieval.settings import Settings

        return self._stack.enter_context(closing(build(Settings(), self._catalogue, names)))


def proposing(variants: Variants) -> tuple[str, ...]:
    """Sources that can have something to say of a person without a request's words."""
    silent = {"text"} if variants.repeats else {"text", "again"}
    return tuple(name for name in variants.whole.source_names if name not in silent)


def source_table(name: str, document: Document) -> Table:
    """One row a source."""
    found: Mapping[str, Any] = document["sources"]
    title = f"{name}: recall@{document['candidates']} {shown(document['all']['recall'])} with all sources"
    made = table(
        title, "source", "#alone", "#without it", "#adds", "#95 %", "#NDCG@10 alone", "#adds to NDCG@10", "#95 %"
    )
    for source, one in found.items():
        recall, order = one["recall"], one["ndcg@10"]
        made.add_row(
            source,
            shown(recall["alone"]),
            shown(recall["without"]),
            f"{recall['adds']['mean']:+.4f}",
            span(recall["adds"]),
            shown(order["alone"]),
            f"{order['adds']['mean']:+.4f}",
            span(order["adds"]),
        )
    return made
