"""Is a challenger worse than the champion? Both answer the same questions, and the answers are compared in pairs.

The questions are the latest acts, which teach neither: each person's first act of the part `calibrate`, from what was
known before it. A difference counts when it is larger than chance would make it (a paired z-test, one-sided). A
retrieval model is measured by its own order and by what it finds at all, a ranker over the candidates that the serving
retrieval gives it. Which version is which, and what follows from the verdict, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset
from training.intervals import Columns
from training.measures import column, plain_ndcg
from training.metrics import log_losses
from training.questions import Question, questions
from training.rankings import Catalogued, best_of, rank_for, retrieve_for
from training.split import Split
from winnow.ports import Ranking, Retrieval
from winnow.types import Candidates

Numbers = npt.NDArray[np.float64]

CHANCE_Z = 2.33  # a difference that equal models show once in a hundred times
LEAST = 30  # questions, below which nothing can be said
NDCG, RECALL, LIKELIHOOD = "ndcg@10", "recall@100", "log_likelihood"


@dataclass(frozen=True, slots=True)
class GateSettings:
    """`people` asked at most, `candidates` per question, `batch` questions at once."""

    people: int = 1_000
    candidates: int = 500
    batch: int = 32


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of both models over the same questions; `error` is the standard error of the mean difference."""

    name: str
    champion: float
    challenger: float
    error: float

    @property
    def difference(self) -> float:
        return self.challenger - self.champion

    @property
    def worse(self) -> bool:
        """Beyond noise."""
        return self.difference < -CHANCE_Z * self.error

    def __str__(self) -> str:
        noise = CHANCE_Z * self.error
        return f"{self.name} {self.champion:.4f} -> {self.challenger:.4f} ({self.difference:+.4f}, noise {noise:.4f})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found; ids of bundles. Without enough questions nothing is measured and nothing is worse."""

    champion: str
    challenger: str
    questions: int
    measures: tuple[Measure, ...]

    @property
    def worse(self) -> tuple[Measure, ...]:
        return tuple(measure for measure in self.measures if measure.worse)

    def __str__(self) -> str:
        if not self.measures:
            return f"not comparable: {self.questions} held-out acts, {LEAST} are needed"
        word = "worse" if self.worse else "not worse"
        return f"{word} than {self.champion} over {self.questions} questions: {'; '.join(map(str, self.measures))}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"worse": [measure.name for measure in self.worse], "words": str(self)}


def held_out(dataset: Dataset, parts: Split, settings: GateSettings) -> list[Question]:
    """Questions about the part that teaches no model."""
    return questions(dataset, replace(parts, test=parts.calibrate), settings.people)


def compared(names: tuple[str, str], champion: Mapping[str, Numbers], challenger: Mapping[str, Numbers]) -> Verdict:
    """The verdict on two models' columns over the same questions; `names` are the bundles of both."""
    asked = len(next(iter(champion.values())))
    if asked < LEAST:
        return Verdict(*names, asked, ())
    measures = tuple(
        Measure(name, float(before.mean()), float(challenger[name].mean()), standard_error(challenger[name] - before))
        for name, before in champion.items()
    )
    return Verdict(*names, asked, measures)


def standard_error(differences: Numbers) -> float:
    return float(differences.std(ddof=1) / np.sqrt(len(differences)))


async def measured_retrieval(asked: Sequence[Question], retrieval: Retrieval, settings: GateSettings) -> Columns:
    """How early the right items come, and whether they come at all."""
    found = await candidates_of(asked, retrieval, settings)
    places = [*map(Catalogued(asked), found)]
    return {
        NDCG: column(plain_ndcg(question, place, 10) for question, place in zip(asked, places, strict=True)),
        RECALL: column(
            float(np.isin(question.relevant, place[:100]).mean()) for question, place in zip(asked, places, strict=True)
        ),
    }


async def measured_ranking(
    asked: Sequence[Question], found: Sequence[Candidates], ranking: Ranking, settings: GateSettings
) -> Columns:
    """How early the right items come among the same candidates, and how likely the model held what happened."""
    row_of, gains, likelihoods = Catalogued(asked), [], []
    for start in range(0, len(asked), settings.batch):
        batch = slice(start, start + settings.batch)
        judged = await rank_for(asked[batch], found[batch], ranking)
        for question, candidates, predictions in zip(asked[batch], found[batch], judged, strict=True):
            rows = row_of(candidates)
            gains.append(plain_ndcg(question, best_of(rows, predictions.scores), 10))
            happened = np.isin(rows, question.relevant)
            likelihoods.append(-float(log_losses(predictions.heads[:, 0], happened).sum()))
    return {NDCG: column(gains), LIKELIHOOD: column(likelihoods)}


async def candidates_of(asked: Sequence[Question], retrieval: Retrieval, settings: GateSettings) -> list[Candidates]:
    """What retrieval answers, question by question."""
    found: list[Candidates] = []
    for start in range(0, len(asked), settings.batch):
        batch = asked[start : start + settings.batch]
        found += await retrieve_for(batch, retrieval, settings.candidates, batch[0].dataset.repeats)
    return found
