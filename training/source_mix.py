"""What each source of candidates adds: the share of right items found with all of them, without one, and by one alone.

The same bundle answers every time; only which sources are asked differs. Who builds such services is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from training.found import rounded
from training.intervals import Columns, of_mean
from training.measures import column, plain_ndcg
from training.questions import Question
from training.rankings import Catalogued, EvaluationSettings, retrieve_for
from winnow.ports import Retrieval

RECALL, NDCG = "recall", "ndcg@10"
Advance = Callable[[int], None]
"""Told how many questions were answered."""


async def answered(
    asked: Sequence[Question],
    retrieval: Retrieval,
    settings: EvaluationSettings = EvaluationSettings(),
    advance: Advance = lambda _: None,
) -> Columns:
    """Per question the share of its right items among all candidates, and NDCG@10 of their own order."""
    row_of, recalls, gains = Catalogued(asked), [], []
    for start in range(0, len(asked), settings.batch):
        batch = asked[start : start + settings.batch]
        found = await retrieve_for(batch, retrieval, settings.candidates, batch[0].dataset.repeats)
        for question, candidates in zip(batch, found, strict=True):
            rows = row_of(candidates)
            recalls.append(float(np.isin(question.relevant, rows).mean()))
            gains.append(plain_ndcg(question, rows, 10))
        advance(len(batch))
    return {RECALL: column(recalls), NDCG: column(gains)}


def mix(every: Columns, without: Mapping[str, Columns], alone: Mapping[str, Columns]) -> dict[str, Any]:
    """As JSON by source: what it finds alone, what is found without it, and what leaving it out loses, in pairs."""
    return {
        "all": {name: of_mean(own).to_json() for name, own in every.items()},
        "sources": {
            source: {
                name: {
                    "alone": of_mean(alone[source][name]).to_json(),
                    "without": of_mean(without[source][name]).to_json(),
                    "adds": of_mean(own - without[source][name]).to_json(),
                }
                for name, own in every.items()
            }
            | {"nothing else finds": rounded(float((own_alone(every, without[source])).mean()))}
            for source in without
        },
    }


def own_alone(every: Columns, without: Columns) -> Any:
    """(q,) whether a question loses something without the source."""
    return every[RECALL] > without[RECALL]
