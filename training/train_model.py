"""Train any model of the catalogue and leave a retrieval bundle.

The story: lay the acts of `split.train` out person by person, fit, ask for the first held-out act of each person, seal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from training.dataset import Dataset
from training.interactions import interactions_of
from training.intervals import of_mean
from training.measures import rates
from training.model_bundle import write_model_bundle
from training.models.catalogue import make
from training.models.contract import Model
from training.questions import Question, questions
from training.rankings import EvaluationSettings, places_by
from training.split import Mask, Split
from winnow.artifacts import Bundle

PEOPLE = 2_000  # asked at most for a bundle's metrics
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
    repeat = asked[0].dataset.repeats
    found = rates(asked, places_by(model, asked[0].dataset, asked, EvaluationSettings(seed=seed), repeat))
    return {f"{name}_at_{k}": round(of_mean(found[f"{name}@{k}"]).value, 6) for name in ("hr", "ndcg") for k in AT}
