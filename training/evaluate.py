"""How good the rankings are: the platform's two stages, through their ports, beside simple baselines.

Published protocol: the whole catalogue is ranked, what a person has acted on is left out, ties fall by a fixed random
permutation. `retrieval` is the candidates' own order; `funnel` is what the ranker makes of them. Sampled negatives are
never used (Krichene and Rendle 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from training.baselines import BASELINES, PUBLISHED, Baseline
from training.dataset import Dataset
from training.metrics import auc, calibration_error, log_loss
from training.models.contract import Scores
from training.questions import Question, questions
from training.split import Mask, Split
from winnow.features import Ints
from winnow.ports import Ranking, RankQuery, Retrieval, RetrieveQuery
from winnow.types import Candidates, Floats, Predictions

Metrics = dict[str, float]
Places = Sequence[Ints]
"""Per question the item rows of a ranking, best first."""

HR_AT = (1, 5, 10, 20)
NDCG_AT = (5, 10, 20)
DEEPEST = 20
TOLERANCE = 0.0005  # of a published value: how ties fall
TRACKS = {"new": False, "rebuy": True}  # of a protocol where people buy again: which part of the basket counts


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """`candidates` per request, `batch` requests at once, `people` at most (0: all), `seed` of the tie rule."""

    candidates: int = 500
    batch: int = 32
    people: int = 0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the platform answered: places by retrieval's order and by the ranker's, and the ranker's column P(click)
    with its labels."""

    retrieved: Places
    ranked: Places
    predicted: Floats
    labels: Floats


async def evaluate(
    dataset: Dataset,
    parts: Split,
    retrieval: Retrieval,
    ranking: Ranking,
    settings: EvaluationSettings = EvaluationSettings(),
    progress: Progress | None = None,
) -> dict[str, Metrics]:
    """Metrics by model: popularity, markov1, itemknn, ease, retrieval, funnel, and the ranker's own under `ranker`."""
    asked = questions(dataset, parts, settings.people)
    repeat = dataset.repeats
    found = {
        name: measured(asked, baseline_places(model(), dataset, parts, asked, settings, repeat), dataset, repeat)
        for name, model in BASELINES.items()
    }
    kept = await ask(asked, retrieval, ranking, settings, repeat, progress)
    found["retrieval"] = measured(asked, kept.retrieved, dataset, repeat)
    found["funnel"] = measured(asked, kept.ranked, dataset, repeat)
    found["ranker"] = {
        "auc": auc(kept.predicted, kept.labels),
        "log_loss": log_loss(kept.predicted, kept.labels),
        "ece": calibration_error(kept.predicted, kept.labels),
    }
    if repeat:
        fresh = await ask(asked, retrieval, ranking, settings, False, progress)
        new = [question.only(seen=False) for question in asked]
        found["retrieval"] |= track(new, fresh.retrieved, "new")
        found["funnel"] |= track(new, fresh.ranked, "new")
        for name, model in BASELINES.items():
            found[name] |= track(new, baseline_places(model(), dataset, parts, asked, settings, False), "new")
    return {name: {metric: round(value, 6) for metric, value in metrics.items()} for name, metrics in found.items()}


# ---------------------------------------------------------------------------------------------- rankings


def baseline_places(
    model: Baseline,
    dataset: Dataset,
    parts: Split,
    asked: Sequence[Question],
    settings: EvaluationSettings,
    repeat: bool,
) -> list[Ints]:
    """A baseline's rankings; it is fitted on everything before the test."""
    items, starts = by_person(dataset, ~parts.test)
    model.fit(items, starts, len(dataset.items))
    order = np.random.default_rng(settings.seed).permutation(len(dataset.items))
    places: list[Ints] = []
    for start in range(0, len(asked), 256):
        batch = asked[start : start + 256]
        scores = model.scores([question.history for question in batch])
        for row, question in enumerate(batch):
            if not repeat:
                scores[row, question.history] = -np.inf
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
    retrieved, ranked, predicted, labels = [], [], [], []
    for start in range(0, len(asked), settings.batch):
        batch = asked[start : start + settings.batch]
        found = await retrieve_for(batch, retrieval, settings.candidates, repeat)
        judged = await rank_for(batch, found, ranking)
        for one, candidates, predictions in zip(batch, found, judged, strict=True):
            rows = row_of(candidates)
            retrieved.append(rows[:DEEPEST])
            ranked.append(best_of(rows, predictions.scores)[:DEEPEST])
            predicted.append(predictions.heads[:, 0])
            labels.append(np.isin(rows, one.relevant))
        if progress is not None and bar is not None:
            progress.advance(bar, len(batch))
    return Outcome(retrieved, ranked, np.concatenate(predicted), np.concatenate(labels).astype(np.float32))


async def retrieve_for(
    asked: Sequence[Question], retrieval: Retrieval, candidates: int, repeat: bool
) -> list[Candidates]:
    """What retrieval answers to each question, in one request."""
    return await retrieval.retrieve(
        [RetrieveQuery(one.state, candidates, one.context, include_seen=repeat) for one in asked]
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


# ---------------------------------------------------------------------------------------------- metrics


def measured(asked: Sequence[Question], places: Places, dataset: Dataset, repeat: bool) -> Metrics:
    """HR, NDCG and coverage; where people buy again also by revenue, and for what they had bought before."""
    found = rates(asked, places)
    shown = np.unique(np.concatenate([one[:10] for one in places])) if len(places) else np.empty(0)
    available = sum(item.available for item in dataset.items)
    found["coverage@10"] = len(shown) / max(available, 1)
    if repeat:
        found["revenue_ndcg@10"] = mean([ndcg(q, p, 10, q.paid) for q, p in zip(asked, places, strict=True)])
        found |= track([question.only(seen=True) for question in asked], places, "rebuy")
    return found


def track(asked: Sequence[Question], places: Places, name: str) -> Metrics:
    """Rates over the questions that have an answer in this track."""
    pairs = [(q, p) for q, p in zip(asked, places, strict=True) if len(q.relevant)]
    some = rates([q for q, _ in pairs], [p for _, p in pairs])
    return {f"{name}_{metric}": value for metric, value in some.items()} | {f"{name}_people": float(len(pairs))}


def rates(asked: Sequence[Question], places: Places) -> Metrics:
    """HR@k: a right item among the first k. NDCG@k: with binary gains, against the best order there could be."""
    pairs = list(zip(asked, places, strict=True))
    found = {f"hr@{k}": mean([float(np.isin(p[:k], q.relevant).any()) for q, p in pairs]) for k in HR_AT}
    found |= {
        f"ndcg@{k}": mean([ndcg(q, p, k, np.ones(len(q.relevant), np.float32)) for q, p in pairs]) for k in NDCG_AT
    }
    return found


def ndcg(question: Question, places: Ints, k: int, gains: Floats) -> float:
    """Discounted gain of the first k places over the most there could be; `gains` per relevant item."""
    if not len(question.relevant):
        return 0.0
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    gain_of = dict(zip(question.relevant.tolist(), gains.tolist(), strict=True))
    got = np.array([gain_of.get(int(row), 0.0) for row in places[:k]])
    ideal = np.sort(gains)[::-1][:k]
    return float((got * discounts[: len(got)]).sum() / (ideal * discounts[: len(ideal)]).sum())


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def check_published(name: str, found: Mapping[str, Metrics]) -> str:
    """One line that holds the baselines against the values published for ml-1m; nothing for other data sets."""
    if name != "ml-1m":
        return ""
    pairs = [f"{model} {found[model]['ndcg@10']:.4f} ({value:.4f})" for model, value in PUBLISHED.items()]
    same = all(abs(found[model]["ndcg@10"] - value) <= TOLERANCE for model, value in PUBLISHED.items())
    return f"NDCG@10 of the baselines {'is' if same else 'IS NOT'} as published: " + ", ".join(pairs)


def averaged(runs: Sequence[dict[str, Metrics]]) -> dict[str, Metrics]:
    """The mean of several seeds' metrics."""
    return {
        model: {metric: mean([run[model][metric] for run in runs]) for metric in metrics}
        for model, metrics in runs[0].items()
    }
