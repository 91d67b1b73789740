"""Who ranks, asked in batches: models that give scores, and the platform's two stages through their ports.

The whole catalogue is ranked, what must not come back is left out, ties fall by a fixed random permutation. What is asked
and what is made of the answers is not known here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from rich.progress import Progress

from training.baselines import BASELINES, WHERE_REPEATED, Baseline
from training.dataset import Dataset
from training.measures import Places
from training.models.contract import Scores
from training.questions import Question
from training.split import Mask, Split
from winnow.features import Ints
from winnow.ports import Ranking, RankQuery, Retrieval, RetrieveQuery
from winnow.types import Candidates, Floats, Predictions

Rankings = Callable[[Sequence[Question], bool], Awaitable[Mapping[str, Places]]]
"""(questions, whether what was acted on may come back) → by the name of who ranks, their rankings."""

DEEPEST = 20


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """`candidates` per request, `batch` requests at once, `people` at most (0: all), `newcomers` of them at most, `seed`
    of the tie rule."""

    candidates: int = 500
    batch: int = 32
    people: int = 0
    newcomers: int = 1_500
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the platform answered: places by retrieval's order and by the ranker's; of every candidate, one question's
    after another's from `starts` on, its row (r,) and what the ranker predicted (r, 3)."""

    retrieved: Places
    ranked: Places
    rows: Ints
    heads: Floats
    starts: Ints


class Scorer(Protocol):
    """What gives every item a score for a history: a baseline, or a model that keeps the contract."""

    def scores(self, histories: Sequence[Ints]) -> Scores: ...


def fitted_baselines(dataset: Dataset, known: Mask) -> dict[str, Scorer]:
    """The simple models, fitted on the acts `known`."""
    models = BASELINES | WHERE_REPEATED if dataset.repeats else BASELINES
    items, starts = by_person(dataset, known)
    return {name: model().fit(items, starts, len(dataset.items)) for name, model in models.items()}


def ranked_by(name: str, model: Scorer, dataset: Dataset, settings: EvaluationSettings) -> Rankings:
    """The rankings of one model that gives scores."""

    async def rankings(asked: Sequence[Question], repeat: bool) -> Mapping[str, Places]:
        return {name: places_by(model, dataset, asked, settings, repeat)}

    return rankings


def baseline_places(
    model: Baseline,
    dataset: Dataset,
    parts: Split,
    asked: Sequence[Question],
    settings: EvaluationSettings,
    repeat: bool,
) -> list[Ints]:
    """A baseline's rankings; it is fitted on everything before the test."""
    model.fit(*by_person(dataset, ~parts.test), len(dataset.items))
    return places_by(model, dataset, asked, settings, repeat)


def places_by(
    model: Scorer, dataset: Dataset, asked: Sequence[Question], settings: EvaluationSettings, repeat: bool
) -> list[Ints]:
    """The rankings of a fitted model; where nothing may come back, without what the person has acted on."""
    order = np.random.default_rng(settings.seed).permutation(len(dataset.items))
    places: list[Ints] = []
    for start in range(0, len(asked), 256):
        batch = asked[start : start + 256]
        scores = model.scores([question.history for question in batch])
        for row, question in enumerate(batch):
            if not repeat:
                scores[row, question.history] = -np.inf
            scores[row, question.left_out] = -np.inf
        places += list(best(scores, order))
    return places


def best(scores: Scores, order: Ints) -> Ints:
    """(b, 20) best item rows of (b, N) scores; equal ones as they come in `order`, a permutation of the items."""
    top = np.argsort(-scores[:, order], axis=1, kind="stable")[:, :DEEPEST]
    return order[top]


def best_of(rows: Ints, scores: Floats) -> Ints:
    """Item rows, those of the highest scores first; equal ones as they came."""
    return rows[np.argsort(-scores, kind="stable")]


def by_person(dataset: Dataset, mask: Mask) -> tuple[Ints, Ints]:
    """Item rows of the acts in `mask`, one person after another, and where each person begins."""
    acts = dataset.log.order[mask[dataset.log.order]]
    counts = np.bincount(dataset.acts.user[acts], minlength=len(dataset.people))
    return dataset.acts.item[acts], np.concatenate([[0], np.cumsum(counts)])


@dataclass
class Platform:
    """The rankings of both stages; `first` keeps the whole outcome of the first questions."""

    retrieval: Retrieval
    ranking: Ranking
    settings: EvaluationSettings
    progress: Progress | None = None
    _first: Outcome | None = None

    async def __call__(self, asked: Sequence[Question], repeat: bool) -> Mapping[str, Places]:
        outcome = await ask(asked, self.retrieval, self.ranking, self.settings, repeat, self.progress)
        self._first = self._first or outcome
        return {"retrieval": outcome.retrieved, "funnel": outcome.ranked}

    @property
    def first(self) -> Outcome:
        assert self._first is not None
        return self._first


async def ask(
    asked: Sequence[Question],
    retrieval: Retrieval,
    ranking: Ranking,
    settings: EvaluationSettings,
    repeat: bool,
    progress: Progress | None = None,
) -> Outcome:
    """Ask both stages every question, in batches."""
    row_of = Catalogued(asked)
    bar = None if progress is None else progress.add_task("funnel", total=len(asked))
    retrieved, ranked, every, heads = [], [], [], []
    for start in range(0, len(asked), settings.batch):
        batch = asked[start : start + settings.batch]
        found = await retrieve_for(batch, retrieval, settings.candidates, repeat)
        judged = await rank_for(batch, found, ranking)
        for candidates, predictions in zip(found, judged, strict=True):
            rows = row_of(candidates)
            retrieved.append(rows[:DEEPEST])
            ranked.append(best_of(rows, predictions.scores)[:DEEPEST])
            every.append(rows)
            heads.append(predictions.heads)
        if progress is not None and bar is not None:
            progress.advance(bar, len(batch))
    starts = np.concatenate([[0], np.cumsum([len(rows) for rows in every])]).astype(np.int64)
    return Outcome(retrieved, ranked, np.concatenate(every), np.concatenate(heads), starts)


async def retrieve_for(
    asked: Sequence[Question], retrieval: Retrieval, candidates: int, repeat: bool
) -> list[Candidates]:
    """What retrieval answers to each question, in one request."""
    return await retrieval.retrieve(
        [
            RetrieveQuery(
                one.state,
                candidates,
                one.context,
                exclude=tuple(one.dataset.item_ids[one.left_out].tolist()),
                include_seen=repeat,
            )
            for one in asked
        ]
    )


async def rank_for(asked: Sequence[Question], found: Sequence[Candidates], ranking: Ranking) -> list[Predictions]:
    """What the ranker makes of them, scored by P(click), in one request."""
    return await ranking.rank(
        [
            RankQuery(one.state, candidates, one.context, {"click": 1.0})
            for one, candidates in zip(asked, found, strict=True)
        ]
    )


class Catalogued:
    """Item rows of the data set behind the ids of an answer; -1 for an item that it does not hold."""

    def __init__(self, asked: Sequence[Question]) -> None:
        self._row_of = {item_id: row for row, item_id in enumerate(asked[0].dataset.item_ids)} if asked else {}

    def __call__(self, candidates: Candidates) -> Ints:
        return np.fromiter((self._row_of.get(i, -1) for i in candidates.item_ids), np.int64, count=len(candidates))
