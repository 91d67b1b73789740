"""What a ranker's training saw, as histograms that its bundle keeps: serving measures drift against them (`winnow.drift`).

Scores are those of whole lists, as serving ranks them; a person's numbers are those of the same lists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from training.impressions import Impressions
from training.lists import Lists
from winnow.drift import Reference
from winnow.types import Floats

SCORE = "score"
LISTS = 400  # of which scores are taken, spread over all: 200,000 scores fix a decile well enough


def reference_of(impressions: Impressions, scores: Callable[[Lists], Floats]) -> dict[str, Any]:
    """`facts.reference`; nothing where no list was kept whole. `scores(lists)`: P(click) of each row."""
    lists = impressions.calibrate
    if not len(lists.item):
        return {}
    names = [feature.name for feature in impressions.schemas.user.numeric]
    columns = [scores(some_of(lists, LISTS)), *lists.user_numbers.T]
    return Reference.of((SCORE, *names), columns).to_json()


def some_of(lists: Lists, at_most: int) -> Lists:
    """At most so many lists, evenly."""
    chosen = np.unique(np.linspace(0, len(lists) - 1, min(at_most, len(lists))).astype(np.int64))
    rows = np.concatenate([np.arange(lists.starts[one], lists.starts[one + 1]) for one in chosen])
    sizes = np.diff(lists.starts)[chosen]
    return Lists(
        user_ids=lists.user_ids[chosen],
        user_numbers=lists.user_numbers[chosen],
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        item=lists.item[rows],
        candidates=lists.candidates[rows],
        click=lists.click[rows],
        convert=lists.convert[rows],
        value=lists.value[rows],
        weight=lists.weight[rows],
    )
