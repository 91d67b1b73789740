"""Train any model of the catalogue and leave a retrieval bundle.

The story: lay the acts of `split.train` out person by person, fit, ask for the first held-out act of each person, seal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from training.dataset import Dataset
from training.evaluate import best, mean, ndcg
from training.interactions import interactions_of
from training.model_bundle import write_model_bundle
from training.models.catalogue import make
from training.models.contract import Model
from training.questions import Question, questions
from training.split import Mask, Split
from winnow.artifacts import Bundle
from winnow.features import Ints

PEOPLE = 2_000  # asked at most for a bundle's metrics
BATCH = 256
AT = (10, 20)


def train(
    dataset: Dataset,
    parts: Split,
    name: str,
    settings: Mapping[str, Any],
    seed: int,
    target: Path,
    progress: Progress | None = None,
) -> Bundle:
    """Fit on `parts.train`, measure on `parts.calibrate`, seal a bundle in `target/<id>`. The same data, settings and
    seed give the same bundle on the same machine. NotFound and InvalidArgument name what is wrong with what was asked."""
    model = fitted(dataset, parts.train, name, settings, seed, progress)
    asked = questions(dataset, replace(parts, test=parts.calibrate), PEOPLE)
    return write_model_bundle(dataset, parts.train, model, target, metrics=measured(model, asked))


def fitted(
    dataset: Dataset,
    known: Mask,
    name: str,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Model:
    """A model of the catalogue that knows the acts `known` and nothing else."""
    return make(name, settings, seed).fit(interactions_of(dataset, known), progress)


def measured(model: Model, asked: Sequence[Question], seed: int = 0) -> dict[str, float]:
    """HR and NDCG of a fitted model's own order, the whole catalogue ranked; what a person had acted on is left out
    where people do not act on a thing again, and equal scores fall by a permutation of this seed."""
    if not asked:
        return {}
    pairs = list(zip(asked, ranked(model, asked, seed), strict=True))
    found = {f"hr_at_{k}": mean([float(np.isin(p[:k], q.relevant).any()) for q, p in pairs]) for k in AT}
    found |= {f"ndcg_at_{k}": mean([ndcg(q, p, k, np.ones(len(q.relevant), np.float32)) for q, p in pairs]) for k in AT}
    return {name: round(value, 6) for name, value in found.items()}


def ranked(model: Model, asked: Sequence[Question], seed: int) -> list[Ints]:
    """The best items of each question, as rows."""
    dataset = asked[0].dataset
    order = np.random.default_rng(seed).permutation(len(dataset.items))
    places: list[Ints] = []
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        scores = model.scores([question.history for question in batch])
        if not dataset.repeats:
            for row, question in enumerate(batch):
                scores[row, question.history] = -np.inf
        places += list(best(scores, order))
    return places
