"""How good the rankings are: the platform's two stages, through their ports, beside simple baselines.

Published protocol: the whole catalogue is ranked, what a person has acted on is left out, ties fall by a fixed random
permutation. `retrieval` is the candidates' own order; `funnel` is what the ranker makes of them. Sampled negatives are
never used (Krichene and Rendle 2020). Everybody who ranks is asked the same questions: as they are, of items that are new
to the person where people buy again, and by newcomers of whom only the newest few acts are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from training import tested_predictions
from training.dataset import Dataset
from training.found import Found
from training.intervals import Columns, Estimate, coverage
from training.measures import PAGE, Novelty, Places, columns, track
from training.questions import Question, newcomer, questions
from training.rankings import EvaluationSettings, Platform, Rankings, Scorer, fitted_baselines, ranked_by
from training.split import Split
from winnow.features import Ints
from winnow.ports import Ranking, Retrieval

COLD = (0, 1, 3, 10)  # acts that are known of a newcomer


async def evaluate(
    dataset: Dataset,
    parts: Split,
    retrieval: Retrieval,
    ranking: Ranking,
    settings: EvaluationSettings = EvaluationSettings(),
    progress: Progress | None = None,
    models: Mapping[str, Scorer] = {},
) -> Found:
    """Columns by who ranks: the baselines, `models` (already fitted on what is not tested), retrieval, funnel; and the
    ranker's own figures under `ranker`."""
    asked = questions(dataset, parts, settings.people)
    found = Found(len(asked))
    examined = Examined(dataset, asked, settings, Novelty(dataset, ~parts.test))
    for name, model in (fitted_baselines(dataset, ~parts.test) | dict(models)).items():
        await examined.add(found, ranked_by(name, model, dataset, settings), progress)
    platform = Platform(retrieval, ranking, settings, progress)
    await examined.add(found, platform, progress)
    found.whole["ranker"] = tested_predictions.measured(asked, platform.first, dataset, parts.train)
    return found


@dataclass(frozen=True, eq=False)
class Examined:
    """The questions, and what is made of the answers."""

    dataset: Dataset
    asked: Sequence[Question]
    settings: EvaluationSettings
    novelty: Novelty

    async def add(self, found: Found, rankings: Rankings, progress: Progress | None = None) -> None:
        """Ask one of those who rank everything."""
        repeat = self.dataset.repeats
        for name, places in (await rankings(self.asked, repeat)).items():
            found.columns[name] = columns(self.asked, places, self.novelty, repeat)
            found.whole[name] = {"coverage@10": self.coverage(places)}
        if repeat:
            for name, places in (await rankings(self.asked, False)).items():
                found.columns[name] |= track(self.asked, places, "new", seen=False)
        known = self.veterans()
        for kept in COLD if len(known) else ():
            young = [newcomer(self.asked[n], kept) for n in known]
            for name, places in (await rankings(young, repeat)).items():
                found.columns[name] |= self.cold(young, known, places, kept)
                found.whole[name][f"cold{kept}_coverage@10"] = self.coverage(places)

    def veterans(self) -> Ints:
        """Which questions are also asked by newcomers: of people with more acts than the longest of their histories."""
        long = np.flatnonzero([len(question.history) >= max(COLD) for question in self.asked])
        most = self.settings.newcomers
        return long[np.linspace(0, len(long) - 1, most).astype(np.int64)] if len(long) > most else long

    def cold(self, young: Sequence[Question], known: Ints, places: Places, kept: int) -> Columns:
        """Columns over all questions, NaN but for those of newcomers."""
        found: Columns = {}
        for name, own in columns(young, places, self.novelty, repeat=False).items():
            found[f"cold{kept}_{name}"] = np.full(len(self.asked), np.nan)
            found[f"cold{kept}_{name}"][known] = own
        return found

    def coverage(self, places: Places) -> Estimate:
        available = sum(item.available for item in self.dataset.items)
        return coverage([one[:PAGE] for one in places], available)
